"""The classifier of noisy values that a study of another program's model trains on its labelled items."""

from __future__ import annotations

import torch

from sigmascope.core import InputError, LabelledData
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Items
from sigmascope.studies.spec import ForeignSpec

_HELD_OUT, _FEWEST_ITEMS = 0.2, 16  # items that the study is measured on: share, and fewest


def classifier_trainer(data: LabelledData, spec: ForeignSpec, device: torch.device) -> ClassifierTrainer | None:
    """The training of the classifier on most of the items, at its beginning; None where none is asked for.

    Args:
        data: labelled, as values of the network.
        spec: the study, within the levels of its model.
        device: of the classifier.

    Raises: InputError where too few items are left to measure on.
    """
    steps, s = spec.classifying.classifier_steps, spec.sampling
    if not steps:
        return None
    settings = Settings(
        steps=steps, warmup=min(Settings.warmup, steps // 4), sigma_min=s.sigma_min, sigma_max=s.sigma_max, seed=s.seed,
        holdout=_HELD_OUT, null=0,
    )  # fmt: skip
    source = Items(data, holdout=_HELD_OUT, null=0, seed=s.seed)
    if int(source.kept_out.sum()) < _FEWEST_ITEMS:
        raise InputError(
            f"{spec.inputs.data}: a classifier needs items to be measured on, and a fifth of {len(data)} are fewer "
            f"than {_FEWEST_ITEMS}: leave out --classifier-steps"
        )
    return ClassifierTrainer(source, settings, device)
