"""Encoders: patches in, tokens out; one file each, found by its name.

The contract of `encoders/<kind>.py`:

    class Config(params.Model)                     its entry in params.yaml, and what it says of itself
    def build(config) -> nets.encoder.Encoder      the network, with weights drawn from torch's generator

Reading params.yaml imports the file. Those here import torch only when a network is built, so that Snakemake starts
quickly (a network is in the file with a leading underscore, which is no kind); a file of your own may import it at its
top and hold both.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jepa3d import plugins
from jepa3d.params import Model

if TYPE_CHECKING:
    from jepa3d.nets.encoder import Encoder


def build(model: Model) -> Encoder:
    """The encoder of an entry, its weights drawn from torch's generator."""
    encoder: Encoder = plugins.find(sys.modules[__name__], model.kind).build(model)
    return encoder
