# `make all` sets up and runs the study that params.yaml chooses; `make test` sets up and runs the tests.
PYTHON ?= python3
VENV   ?= .venv
CORES  ?= all
FLAGS  ?=
FUZZ   ?=
BIN     = $(VENV)/bin
READY   = $(VENV)/ready
unexport PYTHONDONTWRITEBYTECODE # what is imported is compiled once; pip would compile ten times as much

.PHONY: all setup test test-slow test-slurm campaign fuzz lint docs record push pull gc clean help

all: $(READY)             ## build the chosen study: tables in results/report/index.html
	@. $(BIN)/activate && snakemake --cores $(CORES) all $(FLAGS)

setup: $(READY)           ## only make the environment

test: $(READY)            ## the unit tests, under two minutes
	@. $(BIN)/activate && pytest -n auto -m "not slow and not slurm and not dvc"

test-slow: $(READY)       ## end to end and DVC tests
	@. $(BIN)/activate && pytest -n auto --dist loadfile -m "slow or dvc" --durations=12

test-slurm: $(READY)      ## on a real Slurm, which they start; needs the package slurm-wlm
	@. $(BIN)/activate && pytest -rs -m slurm

campaign: $(READY)        ## the long fault campaign on a real Slurm: docs/cluster.md gets its table
	@. $(BIN)/activate && python tests/slurm/campaign.py --table docs/cluster.md

fuzz: $(READY)            ## 10,000 mutated files over every reader; make fuzz FUZZ="--seconds 300 --count 1000000"
	@. $(BIN)/activate && python tests/fuzz/fuzz.py $(FUZZ)

lint: $(READY)            ## formatting, lint, types, floors
	@. $(BIN)/activate && ruff format --check . && ruff check . && mypy && lint-imports && snakefmt --check Snakefile workflow

docs: $(READY)            ## write what is made from code and numbers: drawings, verdicts, claims, tables
	@. $(BIN)/activate && python docs/draw.py && python docs/judge.py && python docs/tables.py

record: $(READY)          ## after `make all`: let DVC know what the results are
	@. $(BIN)/activate && python workflow/versions.py record

push: $(READY)            ## share the files of this version through the DVC remote
	@. $(BIN)/activate && python workflow/versions.py push

pull: $(READY)            ## this commit's results, from the DVC remote, so that nothing has to be done again
	@. $(BIN)/activate && python workflow/versions.py pull

gc: $(READY)              ## remove finished resume states, and what no commit and no experiment of DVC's cache needs
	@. $(BIN)/activate && jepa3d tidy && dvc gc --all-commits --all-experiments --force

clean:                    ## remove everything that was computed; the environment stays
	rm -rf results/raw results/canonical results/patches results/pretrain results/.state results/tensorboard \
	  results/features results/evals results/studies results/report results/records results/logs results/benchmarks \
	  .snakemake

help:                     ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 14

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"jepa3d needs Python 3.11 to 3.13; {sys.executable} is {v[0]}.{v[1]}: give another with make PYTHON=python3.12 all")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --requirement requirements.lock
	$(BIN)/pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
	@touch $@
