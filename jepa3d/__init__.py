"""jepa3d: 3D-JEPA from raw archive to final tables.

Dimension names used in every signature
    B  shapes in a batch          P  points of a cloud          N  patches (tokens) of a shape
    K  points of a patch          D  width of a token           C  context patches, T  target patches
    M  target blocks              F  width of a pooled feature  L  any sequence length

Floors (a module imports from lower floors only; `lint-imports` checks it)
    0  problem seeds layout plugins params/ graph        standard library, pydantic, yaml
    1  ops/ parallel progress log                        pure functions
    2  results/                                          our own files and their records
    3  formats/ fetch/                                   files of others, touched with care; the network
    4  nets/ encoders/ pretrained                        torch modules; an encoder as a file and as a user loads it
       loggers/                                          where a curve goes beside its own file
    5  train/                                            batches, the loop, several ranks, fine-tuning
    6  datasets/ objectives/ tasks/                      plugins, one file each
    7  project                                           params.yaml, checked against the plugins
    8  report/ launch/                                   the pages of a study; submitted jobs
    9  stages/ tools/                                    one module a verb; what users ask beside the verbs
   10  cli __main__                                      the command line
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from jepa3d.pretrained import LoadedEncoder

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder"]


def load_encoder(path: str | Path, which: Literal["context", "target"] = "context") -> LoadedEncoder:
    """The pretrained encoder in an `encoder.safetensors`, frozen and ready: `load_encoder(path).embed(points)`.

    `which` chooses the context encoder or its EMA copy. Raises `Problem` for a file that is not one of ours.
    """
    from jepa3d.pretrained import load  # torch is imported only when it is needed

    return load(path, which)
