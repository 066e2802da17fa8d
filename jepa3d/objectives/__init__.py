"""What a run trains: one file each, found by its name.

The contract of `objectives/<kind>.py`:

    class Config(FrozenModel)                                    its `objective:` entry in params.yaml; has `kind`
    class Objective(train.objective.Base)                        __init__(config, setup: train.objective.Setup)
    def unfit(config, model: params.Model) -> str | None         may be left out: why a model cannot be trained so

`train/objective.py` says what the base class may be asked: the loss of a batch at a share of the training, what follows
a step, what does not decay, the encoders that are saved.
"""
