"""What curves alone tell: onsets, comparisons, advice, trust, recognition of items."""

from sigmascope.analysis.advice import View, sampler_levels
from sigmascope.analysis.comparison import Comparison, Estimate, Side, compared, matched
from sigmascope.analysis.memorisation import collapse, gaussian_collapse, recognised_at
from sigmascope.analysis.onset import Onset, Quantity, onsets
from sigmascope.analysis.trust import Trust, judge, rule

__all__ = [
    "Comparison",
    "Estimate",
    "Onset",
    "Quantity",
    "Side",
    "Trust",
    "View",
    "collapse",
    "compared",
    "gaussian_collapse",
    "judge",
    "matched",
    "onsets",
    "recognised_at",
    "rule",
    "sampler_levels",
]
