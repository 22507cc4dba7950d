"""The same information measured in other ways, when another attribute is known, and level by level of a hierarchy."""

from __future__ import annotations

import itertools
from html import escape

import numpy as np

from sigmascope.analysis.onset import onsets
from sigmascope.report.figures import agreement_figure, conditional_figure, estimators_figure, tree_figure
from sigmascope.report.findings import Findings
from sigmascope.report.section import Pictures, Section, figure, holds, onset_table, shows
from sigmascope.report.table import number

_ENOUGH = 64  # draws for a verdict on agreement: below, four standard errors are crossed by chance


_CONDITIONAL = (
    "I(B; Y | A) = I(A, B; Y) − I(A; Y): what the noisy image still tells about an attribute when another is known. "
    "Where the full curve lies above the dashed one, knowing the other helps to read it."
)


def _conditional(pictures: Pictures, found: Findings) -> list[str]:
    """What the noisy image adds about one attribute once another is known."""
    table = onset_table(onsets([given for given, _ in found.conditionals]))
    return [figure(pictures["conditional"], "Conditional", _CONDITIONAL), table]


def _tree(pictures: Pictures, found: Findings) -> list[str]:
    """Levels of a hierarchy, and where the shares of two of them cross."""
    crossings = []
    for above, below in itertools.pairwise(found.curves):
        ahead = above.per_draw / above.ceiling - below.per_draw / below.ceiling
        z = ahead.mean(1) / np.maximum(ahead.std(1, ddof=1) / ahead.shape[1] ** 0.5, 1e-12)
        sign = np.where(np.abs(z) > 3, np.sign(z), 0)
        some = np.flatnonzero(sign)
        turns = [int(k) for j, k in itertools.pairwise(some) if sign[j] != sign[k]]
        names = f"{escape(above.attribute)} and {escape(below.attribute)}"
        where = ", ".join(f"σ {number(float(above.sigma[k]))}" for k in turns)
        if turns:
            crossings.append(f"{names} cross by {where}")
    caption = (
        "Left: the share of its entropy that is known of the first node of each level. No order of these shares is "
        "laid down: a leaf can be ahead of the root. Right: information about all nodes of a level together; here a "
        "level below always holds what the levels above it do. Of the shares on the left, seen beyond three standard "
        f"errors: {'; '.join(crossings) or 'no two neighbouring levels cross'}."
    )
    return [figure(pictures["tree"], "Levels of the hierarchy", caption)]


def _agreement(pictures: Pictures, found: Findings) -> list[str]:
    """The same information measured in other ways, and the largest difference found."""
    lines, estimators = [], list(dict.fromkeys(a.estimator for a in found.agreements))
    for estimator in estimators:
        mine = [a for a in found.agreements if a.estimator == estimator]
        worst = max(mine, key=lambda a: abs(a.largest[0]))
        share, error, sigma = worst.largest
        farthest = max(mine, key=lambda a: a.errors_apart)
        verdict = (
            f"with fewer than {_ENOUGH} draws, standard errors are too rough for a verdict"
            if found.results.sizes["draw"] < _ENOUGH
            else "they agree within four standard errors at every level"
            if farthest.errors_apart <= 4
            else "it lies below by more than four standard errors, as a bound may: more --levels raise it"
            if estimator in found.estimators("lower bound") and all(a.errors_above <= 4 for a in mine)
            else "<strong>this is more than four standard errors: one of the two is wrong here</strong>"
        )
        lines.append(
            f"<p>{escape(estimator)}: the largest difference is {100 * share:+.2f} ± {196 * error:.2f} % of H(A) "
            f"({escape(worst.attribute)}, σ {number(sigma)}); in standard errors of the paired difference, "
            f"{farthest.errors_apart:.1f} ({escape(farthest.attribute)}): {verdict}.</p>"
        )
    together = f"All ways on one axis; bands are 95 %. {escape(' '.join(found.words(estimators)))}"
    apart = "The difference from the posterior's measure on the same draws, with its 95 % band."
    return [
        *lines,
        figure(pictures["estimators"], "Every estimator", together),
        figure(pictures["agreement"], "Agreement", apart),
    ]


CONDITIONAL = Section(
    "When another attribute is known",
    _conditional,
    shows("conditional", lambda few: conditional_figure(few.conditionals)),
    lambda found: bool(found.conditionals),
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
    lambda found: {
        "estimators": estimators_figure(found.few.curves, found.few.others),
        "agreement": agreement_figure(found.few.agreements, found.few.curves),
    },
    lambda found: bool(found.agreements),
)
