"""Sections on other estimators of the same information, on conditional information, and on a hierarchy's levels."""

from __future__ import annotations

import itertools
from html import escape

import numpy as np

from sigmascope.analysis.onset import onsets
from sigmascope.report.figures import agreement_figure, conditional_figure, estimators_figure, tree_figure
from sigmascope.report.findings import Findings
from sigmascope.report.section import Pictures, Section, figure, holds, onset_table, shows
from sigmascope.report.table import number, plus_minus

_ENOUGH = 64  # draws for a verdict on agreement: with fewer, chance exceeds four standard errors
_CONDITIONAL = (
    "I(B; Y | A) = I(A, B; Y) − I(A; Y): the information about an attribute when another one is known. Where the full "
    "curve lies above the dashed one, knowing the other helps to read it. Dotted: the entropy that is left to learn, "
    "H(B | A); sparsely dotted: H(B)."
)


def _conditional(pictures: Pictures, findings: Findings) -> list[str]:
    """The information about one attribute when another is known."""
    table = onset_table(onsets([given for given, _ in findings.conditionals]))
    return [figure(pictures["conditional"], "Conditional information", _CONDITIONAL), table]


def _tree(pictures: Pictures, findings: Findings) -> list[str]:
    """The levels of a hierarchy, and where the shares of two of them cross."""
    crossings = []
    for above, below in itertools.pairwise(findings.curves):
        ahead = above.per_draw / above.ceiling - below.per_draw / below.ceiling
        z = ahead.mean(1) / np.maximum(ahead.std(1, ddof=1) / ahead.shape[1] ** 0.5, 1e-12)
        sign = np.where(np.abs(z) > 3, np.sign(z), 0)
        turns = [int(k) for j, k in itertools.pairwise(np.flatnonzero(sign)) if sign[j] != sign[k]]
        if turns:
            where = ", ".join(f"σ {number(float(above.sigma[k]))}" for k in turns)
            crossings.append(f"{escape(above.attribute)} and {escape(below.attribute)} cross by {where}")
    caption = (
        "Left: the share of its entropy that is known of the first node of each level. These shares can come in any "
        "order: a leaf can be ahead of the root. Right: the information about all nodes of a level together; it is "
        "never less than that about a level above. Crossings of neighbours on the left beyond three standard errors: "
        f"{'; '.join(crossings) or 'none'}."
    )
    return [figure(pictures["tree"], "Levels of the hierarchy", caption)]


def _agreement(pictures: Pictures, findings: Findings) -> list[str]:
    """The same information by other estimators, and the largest differences."""
    lines, estimators = [], list(dict.fromkeys(a.estimator for a in findings.agreements))
    for estimator in estimators:
        agreements = [a for a in findings.agreements if a.estimator == estimator]
        widest = max(agreements, key=lambda a: abs(a.largest[0]))
        share, error, sigma = widest.largest
        farthest = max(agreements, key=lambda a: a.errors_apart)
        verdict = (
            f"with fewer than {_ENOUGH} draws there is no verdict, because the standard errors are too rough"
            if findings.results.sizes["draw"] < _ENOUGH
            else "the two agree: no level differs by more than four standard errors"
            if farthest.errors_apart <= 4
            else "the estimator lies below by more than four standard errors, as a bound may; more --levels raise it"
            if estimator in findings.estimators("lower bound") and all(a.errors_above <= 4 for a in agreements)
            else "<strong>this is more than four standard errors: one of the two is wrong here</strong>"
        )
        lines.append(
            f"<p>{escape(estimator)} minus posterior: the largest difference is {plus_minus(100 * share, 196 * error)} "
            f"% of H(A) ({escape(widest.attribute)}, σ {number(sigma)}). The largest in standard errors is "
            f"{farthest.errors_apart:.1f} ({escape(farthest.attribute)}): {verdict}.</p>"
        )
    together = f"All estimators on one axis; bands are 95 %. {escape(' '.join(findings.words(estimators)))}"
    difference = "The difference from the posterior estimate on the same draws, with its 95 % band."
    return [
        *lines,
        figure(pictures["estimators"], "Every estimator", together),
        figure(pictures["agreement"], "Differences between estimators", difference),
    ]


CONDITIONAL = Section(
    "When another attribute is known",
    _conditional,
    shows("conditional", lambda few: conditional_figure(few.conditionals)),
    lambda findings: bool(findings.conditionals),
)
TREE = Section(
    "Level by level",
    _tree,
    shows("tree", lambda few: tree_figure(few.curves, few.results)),
    holds("whole_information"),
)
AGREEMENT = Section(
    "Measured in other ways",
    _agreement,
    lambda findings: {
        "estimators": estimators_figure(findings.few.curves, findings.few.others),
        "agreement": agreement_figure(findings.few.agreements, findings.few.curves),
    },
    lambda findings: bool(findings.agreements),
)
