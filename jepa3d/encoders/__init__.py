"""Encoders: patches in, tokens out; one file each, found by its name.

The contract of `encoders/<kind>.py`, which is `Plugin`:

    class Config(params.Model)                     its entry in params.yaml, and what it says of itself
    def build(config) -> nets.encoder.Encoder      the network, with weights drawn from torch's generator

Reading params.yaml imports the file. Those here import torch only when a network is built, so that Snakemake starts
quickly (a network is in the file with a leading underscore, which is no kind); a file of your own may import it at its
top and hold both.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol, TypeVar

from jepa3d import plugins
from jepa3d.params import Model

if TYPE_CHECKING:
    from jepa3d.nets.encoder import Encoder

C = TypeVar("C", bound=Model, contravariant=True)


class Plugin(Protocol[C]):
    """What the module of a kind of encoder must have."""

    @property
    @abstractmethod
    def Config(self) -> type[Model]:  # noqa: N802 (a class)
        """Its entry in params.yaml, and what it says of itself."""

    @abstractmethod
    def build(self, config: C, /) -> Encoder:
        """The network, with weights drawn from torch's generator."""


def build(model: Model) -> Encoder:
    """The encoder of an entry, its weights drawn from torch's generator."""
    plugin: Plugin[Model] = plugins.find(sys.modules[__name__], model.kind)
    return plugin.build(model)
