"""The model of a training, found by its name, the settings of its loss, and the labeler of what comes out."""

from dataclasses import fields, replace
from typing import Any

import torch

from hmsa_label.labelers.model_registry import find_model
from hmsa_label.labelers.training import TrainableModel
from hmsa_label.pipeline.teacher.user_code import look_here_for
from hmsa_label.pipeline.training.config import TrainConfig


def model_of(config: TrainConfig) -> tuple[TrainableModel, TrainConfig]:
    """The model that is trained, and the config with the settings of its loss filled in.

    Settings of another model's loss are taken for none if nobody changed them.

    Raises:
        ValueError: nobody knows the model, or its loss does not take the settings that were given, or weights of
            pixels.
    """
    look_here_for(config.model.name)
    model, given = find_model(config.model.name), config.objective
    if isinstance(given, model.settings):
        config.check_weights()
        return model, config
    if given is not None and given != type(given)():
        changed = (part.name for part in fields(given) if getattr(given, part.name) != part.default)
        own = ", ".join(part.name for part in fields(model.settings)) or "none"
        raise ValueError(
            f"the model {config.model.name} has no settings {', '.join(changed)}; those of its loss are {own}"
        )
    config = replace(config, objective=model.settings())
    config.check_weights()
    return model, config


def labeler_of(config: TrainConfig, num_classes: int) -> tuple[str, dict[str, Any]]:
    """(name, options) of the labeler that predicts with a trained network as its validation did.

    Raises:
        ValueError: as `model_of`.
    """
    model, config = model_of(config)
    with torch.device("meta"):
        net = model.build(num_classes, model.describe(config.objective))
    return model.labeler, model.labeler_options(net, config.objective)
