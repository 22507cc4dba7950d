"""The estimators that come with the package.  A new one is a file here and a line below."""

from __future__ import annotations

from sigmascope.information.estimator import CONDITIONAL, EXACT, SAMPLER, Derived, derived, register
from sigmascope.information.estimators.bounds import Classifier, Filter, FilterOfModel, Likelihood
from sigmascope.information.estimators.forks import ForksOfLaw, ForksOfSampler
from sigmascope.information.estimators.gaps import MmseGap, MmseGapOfModel, ScoreGap, ScoreGapOfModel
from sigmascope.information.estimators.heldout import HeldOut
from sigmascope.information.estimators.own_path import OwnPathOfModel, OwnPathOfSampler
from sigmascope.information.estimators.posterior import Posterior, PosteriorOfData
from sigmascope.information.estimators.probes import Probes

BUILT_IN = (
    Posterior(), ScoreGap(), MmseGap(), Filter(), ForksOfLaw(),
    HeldOut(),
    ScoreGapOfModel(), MmseGapOfModel(), FilterOfModel(), Likelihood(), Classifier(),
    ForksOfSampler(), OwnPathOfSampler(), Probes(), PosteriorOfData(), OwnPathOfModel(),
)  # fmt: skip
"""In the order of help and messages."""
for _estimator in BUILT_IN:
    register(_estimator)

_OF_MODELS = (CONDITIONAL, SAMPLER)
derived(
    Derived(
        "bound", (CONDITIONAL,), "lower bound",
        "bound: the best of the lower bounds at this or a higher noise level, chosen on other draws.",
        "best lower bound", 0,
    )
)  # fmt: skip
derived(
    Derived(
        "heldout", _OF_MODELS, "lower bound",
        "heldout: kernel filters of other labelled items, with no network. A lower bound of what noisy images tell, "
        "which binds whatever the model.",
        "lower bound of the data alone", 5,
    )
)  # fmt: skip
derived(
    Derived(
        "probes:noisy", _OF_MODELS, "lower bound",
        "probes:noisy: logistic regression on the noisy values. A lower bound, of what is usable linearly.",
        "probes on noisy values (bound)", 6,
    )
)  # fmt: skip
derived(
    Derived(
        "probes:features", _OF_MODELS, "lower bound",
        "probes:features: the same on what the network sees in them, block by block, averaged over pixels.",
        "probes on the network's features (bound)", 2,
    )
)  # fmt: skip

__all__ = ["BUILT_IN", "CONDITIONAL", "EXACT", "SAMPLER"]
