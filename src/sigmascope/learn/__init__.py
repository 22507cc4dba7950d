"""Training of networks: denoisers given any subset of the attributes, and classifiers of noisy data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.learn.classifier import NoisyClassifier as NoisyClassifier
    from sigmascope.learn.classifying import ClassifierTrainer as ClassifierTrainer
    from sigmascope.learn.frames import Frame as Frame
    from sigmascope.learn.networks import Architecture as Architecture
    from sigmascope.learn.neural import NeuralDenoiser as NeuralDenoiser
    from sigmascope.learn.settings import Settings as Settings
    from sigmascope.learn.sources import Items as Items
    from sigmascope.learn.sources import Law as Law
    from sigmascope.learn.sources import Source as Source
    from sigmascope.learn.training import Trainer as Trainer

_HOMES = {
    "Architecture": "sigmascope.learn.networks",
    "ClassifierTrainer": "sigmascope.learn.classifying",
    "Frame": "sigmascope.learn.frames",
    "Items": "sigmascope.learn.sources",
    "Law": "sigmascope.learn.sources",
    "NeuralDenoiser": "sigmascope.learn.neural",
    "NoisyClassifier": "sigmascope.learn.classifier",
    "Settings": "sigmascope.learn.settings",
    "Source": "sigmascope.learn.sources",
    "Trainer": "sigmascope.learn.training",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
