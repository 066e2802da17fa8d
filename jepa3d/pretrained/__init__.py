"""The finished encoder as a file and as a user loads it (section 8): clouds in, features out."""

from __future__ import annotations

from jepa3d.pretrained.encoder import LoadedEncoder, for_training, in_one
from jepa3d.pretrained.file import FIRST_STAGE, check_shape, load, save
from jepa3d.pretrained.preparation import Preparation

__all__ = ["FIRST_STAGE", "LoadedEncoder", "Preparation", "check_shape", "for_training", "in_one", "load", "save"]
