"""Every path under results/: for the rules, the stages and the tests, so that no path is written twice.

The names with braces are Snakemake's wildcards: `Layout("results").canonical("{dataset}")` is a rule's pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths of one results folder. Every method returns a path relative to where `results` is."""

    results: Path = Path("results")

    def raw(self, dataset: str) -> Path:
        return self.results / "raw" / dataset

    def source(self, dataset: str) -> Path:
        return self.raw(dataset) / "SOURCE.json"

    def canonical(self, dataset: str) -> Path:
        return self.results / "canonical" / f"{dataset}.h5"

    def audit(self, dataset: str) -> Path:
        return self.results / "canonical" / f"{dataset}.audit.json"

    def patches(self, scheme: str, dataset: str) -> Path:
        return self.results / "patches" / scheme / f"{dataset}.h5"

    def pretrain(self, run: str, seed: int | str) -> Path:
        return self.results / "pretrain" / run / f"seed{seed}"

    def encoder(self, run: str, seed: int | str) -> Path:
        return self.pretrain(run, seed) / "encoder.safetensors"

    def run_config(self, run: str, seed: int | str) -> Path:
        return self.pretrain(run, seed) / "config.json"

    def curve(self, run: str, seed: int | str) -> Path:
        return self.pretrain(run, seed) / "curve.jsonl"

    def state(self, run: str, seed: int | str) -> Path:
        """Resume state: undeclared to Snakemake, which deletes the declared outputs of a failed rule."""
        return self.results / ".state" / run / f"seed{seed}"

    def features(self, run: str, seed: int | str, dataset: str) -> Path:
        return self.results / "features" / run / f"seed{seed}" / f"{dataset}.h5"

    def evaluation(self, run: str, seed: int | str, name: str) -> Path:
        return self.results / "evals" / run / f"seed{seed}" / f"{name}.json"

    @property
    def metrics(self) -> Path:
        return self.results / "metrics.json"

    @property
    def report(self) -> Path:
        return self.results / "report" / "index.html"

    @property
    def plots(self) -> Path:
        return self.results / "plots"
