"""What a run trains: one file each, found by its name.

The contract of `objectives/<kind>.py`:

    class Config(FrozenModel)                                    its `objective:` entry in params.yaml; has `kind`
    class Objective(train.objective.Base)                        __init__(config, model, classes)
    def unfit(config, model: params.Model) -> str | None         may be left out: why a model cannot be trained so
"""
