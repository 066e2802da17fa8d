"""3D-JEPA from raw archive to final tables. `snakemake --cores all all` builds the study that params.yaml chooses.

Every rule is one `jepa3d VERB ...`: any line that Snakemake prints can be copied and run by hand. Nothing
that is imported here imports torch, so a dry run needs none.
"""

import os
import shlex
import sys
from pathlib import Path

from jepa3d import graph, project
from jepa3d.launch import environment, leftover
from jepa3d.layout import Layout
from jepa3d.problem import Problem
from snakemake.exceptions import WorkflowError

# Only *where* things are and *which study* is made may come from the command line (--config); *what* is computed stands
# in params.yaml.
PARAMS_FILE = config.get("params", "params.yaml")
RESULTS = config.get("results", "results")
CLUSTER = config.get(
    "cluster", ""
)  # a file like slurm/cluster.yaml: pretraining is submitted to Slurm
TUNING_CLUSTER = config.get("tuning", "")  # another: long fine-tunings are, too
GPUS = int(config.get("gpus", 0))  # of one ordinary job that runs an encoder, on Slurm

try:
    PARAMS = project.load(PARAMS_FILE, config.get("study"))
except Problem as problem:
    raise WorkflowError(str(problem))

LAYOUT = Layout(Path(RESULTS))
STUDY = PARAMS.study
GRAPH = graph.Graph(PARAMS, LAYOUT)
JOBS = GRAPH.jobs()
REPORT = JOBS[-1]


include: "workflow/rules/common.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/convert.smk"
include: "workflow/rules/patchify.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.report.output,


# On Slurm these run beside Snakemake: compute nodes often have no network, and a training's launcher only waits.
localrules:
    download,
    pretrain,
    evaluate_launched,


onstart:
    claim(workflow)
    # The first stage of dvc.yaml checks for all.
    if "JEPA3D_CHECKED" not in os.environ:
        shell(f"{JEPA3D} check")
