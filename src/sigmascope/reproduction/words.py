"""Captions of a reproduction, and sentences about its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from sigmascope.core import Curve
from sigmascope.report.table import describe, number, plus_minus
from sigmascope.reproduction.reproduced import Reproduced
from sigmascope.reproduction.tables import Verdict

_ENOUGH = 64  # draws for a verdict on agreement
_PAPER_TAU = 0.4
_PAPER_AGREES, _PAPER_VARIES = ("shape", "wall_hue", "floor_hue", "object_hue"), ("orientation", "scale")


def captions(results: Reproduced) -> dict[str, str]:
    """A caption for each figure, HTML."""
    learned = "model" in results.stages
    draws, probes = results.stages["curves"].sizes["draw"], results.stages["probes"].attrs
    curves = f"{draws} draws; bands are 95 %."
    labels = f" Labels of the model's forks: {escape(str(results.stages['model-forks'].labeller))}." if learned else ""
    marked = " Thin dots: where the page of the model marks its score gap as biased." if learned else ""
    drawn = "made by the generative SDE" if not results.settings["quick"] else "drawn from the posterior"
    return {
        "figure-1-systems": "Both halves are simulated. Left: a hidden switch X sets the slope of a path Y, which "
        "Brownian motion blurs; the Wonham filter π gives the probability of each position. Right: the noisy image is "
        "the measurement; the filter π is a distribution over all items of the data, and the denoiser is their mean "
        "under π. Path and filter are driven by the same innovation, and no hidden item is drawn. In colour: the "
        "entropy that is left of each attribute.",
        "figure-2-schedule": "One image under the variance-exploding schedule, with contrast reduced as noise grows. "
        "Below each panel, the entropy that the exact filter leaves of each attribute: 0 means decided, H(A) means "
        "undecided.",
        "figure-3-three-measurements": "The three measurements of the paper, each in its own unit: information by the "
        f"gap between denoisers{' of the learned model' if learned else ''}; entropy of the labels of independent "
        f"continuations; accuracy of linear classifiers. {curves}{marked}",
        "figure-3-in-nats": "The same three measurements as one quantity in nats: the entropy across forks is "
        "H(A) − I, and H(A) minus the cross-entropy of a probe is a lower bound of I, the part that a linear "
        "classifier reads. "
        f"Grey: the exact filter with its band. {curves} Dotted in grey: H(A).{marked}{labels}",
        "figure-4-forks": f"Four continuations of the state of one generation (that of Figure 1) at five intensities, "
        f"{drawn}. P(agree): the probability, by the exact filter, that four continuations agree.",
        "figure-5-probes": f"Logistic regression of each attribute on {escape(str(probes['reader']))}, on the noisy "
        f"image itself, and random guess by the frequencies; trained on {probes['train']} draws, tested on "
        f"{probes['test']} others.",
        "beyond-numerics": "The score gap, the MMSE gap and the forks minus the exact posterior estimate, on the same "
        "draws, as a share of H(A): paired differences with 95 % bands, which include the chance of the draws, of the "
        "continuations and of the random directions, and the error of the quadrature.",
        "beyond-u-turn": "There and back: an image is noised to σ and a clean one is drawn from there. Dots: how often "
        "the new image has the attribute's old value (95 %); lines: the probability that two continuations agree. For "
        "an exact filter the two are equal, since the image itself is a continuation of its noisy version.",
        "beyond-deterministic": "Along paths of the probability-flow ODE: H(A) + E ln p(end | Y = y), the information "
        "in nats by which the filter at σ favours the value with which the path ends. Dashed: the information, which "
        "is the same for stochastic paths. The end of a deterministic path is a function of each of its points, so "
        "this is not the information about the end (that is H(A) at every σ), but a measure of how early the filter "
        "predicts it.",
        "beyond-null": "Eight random labels of the items: an attribute that the image does not depend on. Every "
        "estimator should give 0 as long as many items are possible (grey). Where the filter identifies the item, the "
        "item's label is known too: that rise is memory, and it is real.",
        "beyond-grain": "The scenes with a fine texture on the floor as a further attribute: it is in the finest "
        "detail, and rises last. "
        f"{results.stages['grain'].sizes['draw'] if 'grain' in results.stages else 0} draws.",
        "beyond-second": "A second data set: the information about each attribute (left) and the entropy that is left "
        "(right), by the exact filter of its items, and as a lower bound for the population that they come from.",
    }


def findings(results: Reproduced, verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """Sentences about the numbers, as HTML paragraphs by section."""
    sentences = {
        "agreement": _agreement(results, verdicts),
        "three": _at_paper_tau(results),
        "forks": _forks(results),
        "beyond-u-turn": _turn(results),
        "beyond-deterministic": _deterministic(results),
        "beyond-null": _null(results),
        "beyond-grain": _grain(results),
        "beyond-second": _second(results),
    }
    return {k: [f"<p>{x}</p>" for x in v] for k, v in sentences.items()}


def _agreement(results: Reproduced, verdicts: Sequence[Verdict]) -> list[str]:
    draws = results.stages["curves"].sizes["draw"]
    if draws < _ENOUGH:
        return [f"With {draws} draws, standard errors are too rough for a verdict on agreement."]
    sentences = []
    for name in dict.fromkeys(v.measurement for v in verdicts):
        rows = [v for v in verdicts if v.measurement == name]
        largest = max(v.errors_apart for v in rows)
        bad = ", ".join(f"{escape(v.attribute)} ({v.errors_apart:.1f})" for v in rows if not v.agrees)
        words = "stays below the exact curve" if rows[0].bound else "agrees with the exact curve"
        if not bad:
            text = f"{words} (at most {largest:.1f} standard errors off)."
        elif name.startswith("model"):
            text = (
                f"differs from the exact curve, in standard errors: {bad}. A network errs, and its error does not "
                "average out; its own page, <code>model/report.html</code>, marks where."
            )
        else:
            text = f"does not agree, in standard errors: {bad}. Table 5 shows where."
        sentences.append(f"<strong>{escape(name)}</strong> {text}")
    return ["Against the exact filter, at all levels: " + " ".join(sentences)]


def _at_paper_tau(results: Reproduced) -> list[str]:
    low, high = results.ends
    sigma = low * (high / low) ** _PAPER_TAU
    shares = {c.attribute: _share_at(c, sigma) for c in results.exact["posterior"]}
    listed = [f"{escape(n)} {100 * x:.0f} %" for n, x in sorted(shares.items(), key=lambda t: -t[1])]
    return [f"Shares of H(A) that are known at τ = {_PAPER_TAU:g} (σ {number(sigma)}): {', '.join(listed)}."]


def _share_at(c: Curve, sigma: float) -> float:
    return float(np.interp(np.log(sigma), np.log(c.sigma[::-1]), c.value[::-1])) / c.ceiling


def _forks(results: Reproduced) -> list[str]:
    forks, turn = results.stages["forks"], results.stages["turn"]
    at = int(np.abs(forks.tau.values - _PAPER_TAU).argmin())
    names = [str(n) for n in forks.attribute.values]
    agree = [n for j, n in enumerate(names) if len(set(forks.label.values[j, at].tolist())) == 1]
    vary = [n for n in names if n not in agree]
    text = f"At τ = {_PAPER_TAU:g} the four continuations agree in {_and(agree)}" + (
        f" and vary in {_and(vary)}." if vary else "."
    )
    x = np.log(turn.sigma.values[::-1])
    s = np.log(float(forks.sigma.values[at]))
    means = []
    for n in names:
        each = turn.agree4.sel(attribute=n).values[::-1].astype(float)
        per_draw = np.array([np.interp(s, x, each[:, i]) for i in range(each.shape[1])])
        error = 1.96 * per_draw.std(ddof=1) / len(per_draw) ** 0.5
        means.append(f"{escape(n)} {plus_minus(per_draw.mean(), error)}")
    more = f"Over many images, the probability that four continuations agree at this level: {', '.join(means)}."
    if set(_PAPER_AGREES) | set(_PAPER_VARIES) <= set(names):
        more += (
            " The paper shows one example of a learned network on 3D Shapes: its continuations agree in shape and the "
            "three hues and vary in orientation and scale."
        )
    return [text, more]


def _turn(results: Reproduced) -> list[str]:
    turn = results.stages["turn"]
    difference = turn.kept_probability.values.astype(float) - turn.agree.values.astype(float)
    error = np.maximum(difference.std(2, ddof=1) / difference.shape[2] ** 0.5, 1e-6)
    largest = float((np.abs(difference.mean(2)) / error).max())
    return [f"The two differ by at most {largest:.1f} standard errors of their paired difference, at all levels."]


def _deterministic(results: Reproduced) -> list[str]:
    stage, exact = results.stages["deterministic"], {c.attribute: c for c in results.exact["posterior"]}
    differences = []
    for name in stage.attribute.values:
        c, gained = exact[str(name)], stage.gained.sel(attribute=name).values
        true = np.interp(np.log(stage.sigma.values[::-1]), np.log(c.sigma[::-1]), c.value[::-1])[::-1]
        value, error = gained.mean(1) - true, gained.std(1, ddof=1) / gained.shape[1] ** 0.5
        k = int(np.abs(value).argmax())
        level = number(float(stage.sigma[k]))
        differences.append(f"{escape(str(name))} {plus_minus(value[k], 1.96 * error[k])} at σ {level}")
    paths = stage.sizes["path"]
    return [f"Largest differences from the information, nats, over {paths} paths: {'; '.join(differences)}."]


def _null(results: Reproduced) -> list[str]:
    curves = results.stages["curves"]
    if not results.null or "effective_items" not in curves:
        return []
    many = np.median(curves.effective_items.values, -1)[: len(results.null[0].sigma)] > 1000
    if not many.any():
        return []
    largest = []
    for c in results.null:
        k = int(np.abs(c.value * many).argmax())
        largest.append(f"{escape(c.estimator)} {plus_minus(c.value[k], 1.96 * c.error[k])}")
    text = f"Where more than 1,000 items are possible, the largest value of each estimator, nats: {'; '.join(largest)}."
    if "model" in results.stages and "null_score_gap" in results.stages["model"]:
        m = results.stages["model"]
        k = int(np.abs(m.null_score_gap.values).argmax())
        value = plus_minus(float(m.null_score_gap[k]), 1.96 * float(m.null_score_gap_stderr[k]))
        text += (
            f" The score gap of the learned model about random labels, which it was trained with, is at most {value}, "
            f"at σ {number(float(m.sigma[k]))}."
        )
    return [text]


def _grain(results: Reproduced) -> list[str]:
    if "grain" not in results.onsets:
        return []
    before, last = results.onsets["grain"][-2:]
    return [
        f"Half of {escape(last.attribute)} is known at σ {describe(last.at[1])}, last of all; before it comes "
        f"{escape(before.attribute)}, σ {describe(before.at[1])}."
    ]


def _second(results: Reproduced) -> list[str]:
    if "second-empirical" not in results.others:
        return []
    sentences = []
    for law in ("empirical", "heldout"):
        curves = results.others[f"second-{law}"]
        peaks = [f"{escape(c.attribute)} {c.value.max():.3f} of {c.ceiling:.3f} nats" for c in curves]
        sentences.append(f"{WORDS_OF_LAW[law]}: at most {', '.join(peaks)}.")
        if len(curves) == 2:
            fine, coarse = sorted(curves, key=lambda c: -c.ceiling)
            ahead = coarse.per_draw / coarse.ceiling - fine.per_draw / fine.ceiling
            z = ahead.mean(1) / np.maximum(ahead.std(1, ddof=1) / ahead.shape[1] ** 0.5, 1e-12)
            k = int(np.abs(np.where(fine.value > 0.05 * fine.ceiling, z, 0)).argmax())
            leader = coarse if z[k] > 0 else fine
            sentences.append(
                f"As a share of its entropy, {escape(leader.attribute)} is ahead at σ {number(float(fine.sigma[k]))} "
                f"(by {abs(100 * ahead.mean(1)[k]):.1f} points, {abs(z[k]):.1f} standard errors)."
                if abs(z[k]) > 3
                else "As shares of their entropies, neither is ahead by three standard errors."
            )
            if law == "heldout":  # bounds may each lie low, so their order shows nothing
                continue
            left = (fine.ceiling - fine.value) - (coarse.ceiling - coarse.value)
            least = round(float(left.min()), 3) + 0.0
            sentences.append(
                f"In nats, {escape(coarse.attribute)} never has more entropy left than {escape(fine.attribute)}: "
                f"the smallest difference is {least:.3f}, and in theory none is below 0."
            )
    return [" ".join(sentences)]


WORDS_OF_LAW = {"empirical": "Of exactly these items", "heldout": "Of their population, as a lower bound"}


def _and(names: Sequence[str]) -> str:
    if not names:
        return "no attribute"
    escaped = [escape(n) for n in names]
    return escaped[0] if len(escaped) == 1 else f"{', '.join(escaped[:-1])} and {escaped[-1]}"
