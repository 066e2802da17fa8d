"""jepa3d: 3D-JEPA from raw archive to final tables.

Dimension names used in every signature
    B  shapes in a batch          P  points of a cloud          N  patches (tokens) of a shape
    K  points of a patch          D  width of a token           C  context patches, T  target patches
    M  target blocks              F  width of a pooled feature  L  any sequence length

Floors (a module imports from lower floors only; `lint-imports` checks it)
    0  problem validation bases config yaml_file plugins layout seeds published
       cluster leftover                                         standard library, pydantic, yaml
    1  ops/ foreign/ store records parallel progress fetch/     pure functions; files of others, ours, and from afar
    2  nets/                                                    torch modules
    3  batches fit tuning monitor parts interchange             engines
       ranks launch/                                            several ranks; submitted jobs
    4  datasets/ objectives/ tasks/                             plugins, one file each
    5  report/ stages/                                          stages: one module a verb: read, one pure call, write
       doctor encode provenance trace tidy                      what users ask beside the seven verbs
    6  __main__                                                 the command line
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from jepa3d.nets.pretrained import LoadedEncoder

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder"]


def load_encoder(path: str | Path, which: Literal["context", "target"] = "context") -> LoadedEncoder:
    """The pretrained encoder in an `encoder.safetensors`, frozen and ready: `load_encoder(path).embed(points)`.

    `which` chooses the context encoder or its EMA copy. Raises `Problem` for a file that is not one of ours.
    """
    from jepa3d.nets.pretrained import load  # torch is imported only when it is needed

    return load(path, which)
