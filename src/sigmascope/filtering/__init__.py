r"""Nonlinear filtering of continuously observed paths, :math:`dY = H(Y, X, t)\,dt + dW`.

>>> import torch
>>> from sigmascope import filtering as f
>>> rates = torch.tensor([[-1.0, 1.0], [2.0, -2.0]])
>>> chain = f.FiniteSystem(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0], [1.0]]), rates)
>>> g = torch.Generator().manual_seed(0)
>>> path = f.simulate(chain, f.uniform_times(5.0, 500), paths=100, generator=g)
>>> account = f.run(f.WonhamFilter(chain), path)
>>> account.mean.shape
torch.Size([501, 100, 2])

Float64 throughout, batched over paths.  Systems: :class:`FiniteSystem`, :class:`LinearSystem`,
:class:`DiffusionSystem`, :class:`BenesSystem`.  Filters share :meth:`Filter.init`, :meth:`Filter.step`,
:meth:`Filter.mean`, :meth:`Filter.log_evidence`, and are driven by :func:`run`.
"""

from sigmascope.filtering.diffusion import BenesSystem, DiffusionSystem, grid_system
from sigmascope.filtering.filters import Filter, Filtered, known_path, run
from sigmascope.filtering.finite import FiniteSystem
from sigmascope.filtering.finite_filters import KushnerFilter, WonhamFilter, ZakaiFilter, prior_given
from sigmascope.filtering.gaussian_filters import BenesFilter, KalmanBucyFilter
from sigmascope.filtering.information import (
    InformationInTime,
    gaussian_information,
    gaussian_state_information,
    information_by_gap,
    information_by_ratio,
)
from sigmascope.filtering.innovation import (
    TestResult,
    innovation,
    martingale_test,
    normality_test,
    quadratic_variation_test,
    whiteness_test,
)
from sigmascope.filtering.joint import simulate_joint
from sigmascope.filtering.linear import LinearSystem, riccati
from sigmascope.filtering.particle import ParticleFilter, WeightsVanished
from sigmascope.filtering.systems import CoarseStepWarning, NoInformation, Path, System, simulate, uniform_times

__all__ = [
    "BenesFilter",
    "BenesSystem",
    "CoarseStepWarning",
    "DiffusionSystem",
    "Filter",
    "Filtered",
    "FiniteSystem",
    "InformationInTime",
    "KalmanBucyFilter",
    "KushnerFilter",
    "LinearSystem",
    "NoInformation",
    "ParticleFilter",
    "Path",
    "System",
    "TestResult",
    "WeightsVanished",
    "WonhamFilter",
    "ZakaiFilter",
    "gaussian_information",
    "gaussian_state_information",
    "grid_system",
    "information_by_gap",
    "information_by_ratio",
    "innovation",
    "known_path",
    "martingale_test",
    "normality_test",
    "prior_given",
    "quadratic_variation_test",
    "riccati",
    "run",
    "simulate",
    "simulate_joint",
    "uniform_times",
    "whiteness_test",
]
