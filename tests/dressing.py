"""An exact network of some pictures in a pipeline's clothes."""

from __future__ import annotations

import numpy as np
import torch

from sigmascope.adapters.diffusers.opening import Pipeline
from sigmascope.adapters.foreign import Foreign, Unit
from sigmascope.core import Attribute
from sigmascope.data import from_array
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.noise import Discrete

COLOURS = ("red", "green", "blue")


def pictures(folder, n=60):
    """Small pictures of three colours, each brighter or darker; as a file."""
    rng = np.random.default_rng(5)
    colour, bright = rng.integers(0, 3, n), rng.integers(0, 2, n)
    v = rng.uniform(0.0, 0.3, (n, 4, 4, 3))
    for k in range(3):
        v[colour == k, :, :, k] += 0.25 + 0.4 * bright[colour == k, None, None]
    path = folder / "pictures.npz"
    np.savez(path, images=(255 * v).round().astype(np.uint8), colour=np.array(COLOURS)[colour], bright=bright)
    return path


class Exact:
    """What an ideal network of these pictures says of x: the noise in it, given a class or nothing (the last index).

    Args:
        path: of the pictures.
        order: its classes, in their order; None: that of the data.
        weights: of the pictures, as it makes them; None: all the same.
    """

    def __init__(self, path, order=None, weights=None):
        with np.load(path) as file:
            images, labels = file["images"], file["colour"]
        self.data = from_array(images.transpose(0, 3, 1, 2), {"colour": labels}, weights=weights)
        self.exact, self.schedule = FiniteDenoiser(self.data), Discrete.linear()
        own = self.data.attributes[0].values
        self.classes = torch.tensor([own.index(v) for v in order or own])  # its class k is this value of the data

    def __call__(self, x, time, label):
        t = time.double().numpy()
        sigma = torch.from_numpy(self.schedule.sigma(t))[:, None, None, None]
        y = x.double() / torch.from_numpy(self.schedule.alpha(t))[:, None, None, None]
        known = None
        if label is not None:
            given = torch.where(label == 3, -1, self.classes[label.clamp_max(2)])
            known = {"colour": given}
        d = self.exact((y + 1) / 2, sigma.flatten() / 2, known)
        return ((y - (2 * d - 1)) / sigma).float()


class Config(dict):
    """Of a scheduler."""


class Scheduler:
    config = Config(kind="linear")


def dressed(network: Exact, classes: bool, names=COLOURS, empty=True) -> Pipeline:
    """A pipeline of this network, which knows classes or none."""
    a = Attribute("class", tuple(names), torch.full((3,), 1 / 3, dtype=torch.float64)) if classes else None
    foreign = Foreign(
        network, (3, 4, 4), network.schedule, "epsilon", attribute=a, null=3 if classes and empty else None,
        unit=Unit(2.0, -1.0),
    )  # fmt: skip
    return Pipeline("exact", "Exact", foreign, Scheduler())
