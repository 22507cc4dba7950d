"""The estimators that come with the package.  A new one is a file here and a line below."""

from __future__ import annotations

from dataclasses import replace

from sigmascope.information.estimator import CONDITIONAL, EXACT, SAMPLER, Derived, derived, register
from sigmascope.information.estimators.bounds import Classifier, ClassifierOfSampler, Filter, FilterOfModel, Likelihood
from sigmascope.information.estimators.forks import ForksOfLaw, ForksOfSampler
from sigmascope.information.estimators.gaps import MmseGap, MmseGapOfModel, ScoreGap, ScoreGapOfModel
from sigmascope.information.estimators.gaussian import Gaussian
from sigmascope.information.estimators.heldout import HeldOut
from sigmascope.information.estimators.own_path import OwnPathOfModel, OwnPathOfSampler
from sigmascope.information.estimators.posterior import Posterior, PosteriorOfData
from sigmascope.information.estimators.probes import Probes

BUILT_IN = (
    Posterior(), ScoreGap(), MmseGap(), Filter(), ForksOfLaw(),
    HeldOut(),
    ScoreGapOfModel(), MmseGapOfModel(), FilterOfModel(), Likelihood(), Classifier(),
    ForksOfSampler(), OwnPathOfSampler(), Probes(), PosteriorOfData(), OwnPathOfModel(),
    ClassifierOfSampler(),
    Gaussian(),
)  # fmt: skip
"""In the order of help and messages."""
for _estimator in BUILT_IN:
    register(_estimator)

_HELDOUT = Derived(
    "heldout", (CONDITIONAL,), "lower bound",
    "heldout: a lower bound from kernel filters of other labelled items, without a network. It holds whatever the "
    "model.",
    "lower bound of the data alone", "the lower bound of the data alone", 5,
)  # fmt: skip
for _curve in (
    Derived(
        "probes:noisy", (CONDITIONAL, SAMPLER), "lower bound",
        "probes:noisy: a lower bound by logistic regression on the noisy values, of the information that a linear "
        "classifier can use.",
        "probes on noisy values (bound)", "probes on noisy values", 6,
    ),
    Derived(
        "probes:features", (CONDITIONAL, SAMPLER), "lower bound",
        "probes:features: the same on the network's features of the noisy values, block by block, averaged over "
        "pixels.",
        "probes on the network's features (bound)", "probes on the network's features", 2,
    ),
    _HELDOUT,
    replace(_HELDOUT, subjects=(SAMPLER,), label="the data alone (bound)"),
    Derived(
        "bound", (CONDITIONAL,), "lower bound",
        "bound: the largest of the lower bounds at this noise level or a higher one, chosen on other draws.",
        "best lower bound", "the best lower bound", 0,
    ),
    Derived("posterior", (SAMPLER,), "exact", label="exact filter of data", colour=6),
):  # fmt: skip
    derived(_curve)

__all__ = ["BUILT_IN", "CONDITIONAL", "EXACT", "SAMPLER"]
