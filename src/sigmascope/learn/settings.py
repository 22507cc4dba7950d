"""Settings of a training: network, schedule, noise levels, seed.  This module imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from sigmascope.arguments import arg
from sigmascope.errors import InputError
from sigmascope.limits import MOST_SEED, check_levels, refuse, shown, within

NETWORKS = ("auto", "unet", "mlp")
NOISES = ("adaptive", "lognormal")
PRECISIONS = ("auto", "float32", "bfloat16")
_MOST = {"width": 65_536, "depth": 64, "steps": 10**9, "batch": 1 << 20, "warmup": 10**9, "average": 10**9}
_MOST_LOG = 100.0  # of mean and spread of ln sigma
NULL = "null"
"""Name of the attribute of random labels, a control that is trained along."""
NULL_NUMBER = "null number"
"""Name of the attribute with the numbers of a real-valued attribute in random order, a control of the same kind."""


@dataclass(frozen=True)
class Settings:
    """Settings that, with the data, determine the weights of a learned denoiser."""

    network: Annotated[str, arg("NETWORK", None)] = "auto"
    """unet (of diffusers, for images), mlp (for vectors, and for images that all have the same framing), or auto."""
    width: int = 0
    """Channels of the first level of the U-Net, or units of a layer of the mlp; 0: the default of the network."""
    depth: int = 0
    """Levels of the U-Net, or blocks of the mlp; 0: the default of the network."""
    steps: int = 20_000
    """Steps of the optimiser. The learning rate falls to zero at the last one."""
    batch: int = 128
    """Values in each step."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    warmup: int = 500
    """Steps over which the learning rate rises to its peak."""
    weight_decay: float = 1e-4
    """Weight decay of matrices; vectors have none."""
    average: int = 2_000
    """Largest number of steps over which the weights of the finished model are averaged."""
    noise: Annotated[str, arg("NOISE", None)] = "adaptive"
    """Noise levels of training: adaptive (half of them even in ln sigma, half where the score gap is large, as measured
    during training) or lognormal."""
    sigma_min: float = 0.01
    """Smallest noise level of training."""
    sigma_max: float = 90.0
    """Largest noise level of training."""
    log_mean: float = 0.0
    """Mean of ln sigma for --noise lognormal, with sigma in units of the scale of the data."""
    log_std: float = 1.6
    """Standard deviation of ln sigma for --noise lognormal."""
    holdout: float = 0.1
    """Share of the items that is kept out of training, for measurements."""
    null: int = 8
    """Values of an extra attribute of random labels, which is a control; 0 leaves it out. For real-valued attributes it
    is the numbers of the first of them in random order."""
    precision: Annotated[str, arg("PRECISION", None)] = "auto"
    """Precision of matrix products: float32, bfloat16, or auto (bfloat16 on a GPU). Weights stay in float32."""
    seed: int = 0
    """Seed of weights, batches and noise."""

    def check(self) -> Settings:
        """The settings themselves, if they are valid.

        Raises: InputError for a setting that no training can have.
        """
        for name, choices in (("network", NETWORKS), ("noise", NOISES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}: expected {', '.join(choices)}")
        for name, low in (("width", 0), ("depth", 0), ("steps", 1), ("batch", 1), ("warmup", 0), ("average", 1)):
            if getattr(self, name) < low:
                raise InputError(f"{name} is {shown(getattr(self, name))}: at least {low} is needed")
            within(name, getattr(self, name), low, _MOST[name])
        self._check_noise()
        if not 0 <= self.holdout <= 0.9:
            raise InputError(f"holdout is {self.holdout:g}: a share from 0 to 0.9 can be kept out of training")
        if self.null and not 2 <= self.null <= 1000:
            raise InputError(f"null is {shown(self.null)}: it needs 2 to 1000 values, or 0 to be left out")
        if not 0 <= self.seed <= MOST_SEED:
            raise InputError(f"seed is {shown(self.seed)}: it must not be negative, and less than 2^63")
        return self

    def _check_noise(self) -> None:
        """Check the learning rate and the distribution of the noise levels."""
        for name in ("learning_rate", "sigma_min", "sigma_max", "log_std"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} is {getattr(self, name):g}: it must be finite and greater than 0")
        within("log_mean", self.log_mean, -_MOST_LOG, _MOST_LOG)
        within("log_std", self.log_std, 0, _MOST_LOG)
        if self.noise != "lognormal":
            refuse(self, dict.fromkeys(("log_mean", "log_std"), "--noise lognormal"), f"--noise {self.noise}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError("weight_decay must be finite and not negative, and log_mean finite")
        if self.sigma_min >= self.sigma_max:
            raise InputError(
                f"sigma_min is {self.sigma_min:g} and sigma_max is {self.sigma_max:g}: sigma_min must be the smaller"
            )
        check_levels("sigma_max", "sigma_min", self.sigma_max, self.sigma_min)
