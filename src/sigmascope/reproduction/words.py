"""Words of a reproduction: captions, and what its numbers say."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from sigmascope.core import Curve
from sigmascope.report.table import describe, number
from sigmascope.reproduction.found import Found
from sigmascope.reproduction.tables import Verdict

_ENOUGH = 64  # draws for a verdict on agreement
_PAPER_TAU = 0.4
_PAPER_AGREES, _PAPER_VARIES = ("shape", "wall_hue", "floor_hue", "object_hue"), ("orientation", "scale")


def captions(found: Found) -> dict[str, str]:
    """A caption for each figure, HTML."""
    learned = "model" in found.stages
    draws = found.stages["curves"].sizes["draw"]
    curves = f"{draws} draws; bands are 95 %."
    by = f" The model's forks are labelled by {escape(str(found.stages['model-forks'].labeller))}." if learned else ""
    marked = " Thin dots: where the model's own page marks its score gap as biased." if learned else ""
    followed = "followed by the generative SDE" if not found.settings["quick"] else "drawn at once from the same law"
    return {
        "figure-1-systems": "Both halves are simulated. Left: a hidden switch X sets the slope of a path Y, which a "
        "Brownian motion blurs; the Wonham filter π gives the probability of each position. Right: the image on its "
        "way from noise is the measurement; the filter π lives on all items of the data, and the denoiser is the mean "
        "of the items under π. Nothing hidden is drawn: path and filter are driven by the same innovation. In colour, "
        "what is still open of each attribute.",
        "figure-2-schedule": "One image under the variance-exploding schedule, contrast reduced as noise grows. Below "
        "each panel, what the exact filter holds open of each attribute: 0 is settled, the entropy H(A) of the "
        "attribute is not decided at all.",
        "figure-3-three-measurements": "The paper's three measurements, each in its own unit: information by the gap "
        f"between denoisers{' of the learned model' if learned else ''}; entropy of the labels of independent "
        f"continuations; accuracy of linear classifiers. {curves}{marked}",
        "figure-3-in-nats": "The same three as what they are, one quantity in nats: the forked entropy is H(A) − I, "
        "and H(A) less a probe's cross-entropy is a lower bound of I, of what can be read linearly. Grey: the exact "
        f"filter with its band. {curves} Dotted in grey: H(A).{marked}{by}",
        "figure-4-forks": f"Four children of the state of one generation (that of Figure 1) at five intensities, "
        f"{followed}. P(agree): how probable it was, by the exact filter, that four children agree.",
        "figure-5-probes": "Logistic regression of each attribute on "
        f"{escape(str(found.stages['probes'].attrs['reader']))}, on the noisy image itself, and random guess by the "
        f"frequencies; trained on {found.stages['probes'].attrs['train']} draws, judged on "
        f"{found.stages['probes'].attrs['test']} others.",
        "beyond-numerics": "The score gap, the MMSE gap and the forks less the exact posterior measure, on the same "
        "draws, as a share of H(A): paired differences with 95 % bands, which hold the chance of the draws, of the "
        "children, of the random directions and the error of the quadrature.",
        "beyond-u-turn": "There and back: an image is noised to σ and a clean one is drawn from there. Dots: how often "
        "it kept the attribute (95 %); lines: how probable it is that two such children agree. For an exact filter "
        "the two are equal, since the image itself is a child of its noisy version.",
        "beyond-deterministic": "Along paths of the probability-flow ODE: how much, in nats, the filter at σ holds for "
        "the value with which the path will end, H(A) + E ln p(end | Y = y). Dashed: the information, which is the "
        "same of stochastic paths. The end of a deterministic path is a function of each of its points, so this is "
        "no information about the end (that is H(A) at every σ), but how early the filter guesses it.",
        "beyond-null": "Eight random labels, given to the items: an attribute of nothing. Every estimator should say 0 "
        "as long as many items are possible (grey); where the filter identifies the item, it knows the item's label "
        "too. That rise is memory, and true.",
        "beyond-grain": "The scenes with a fine texture on the floor, one more attribute: it is written in the finest "
        f"detail, and rises last. {found.stages['grain'].sizes['draw'] if 'grain' in found.stages else 0} draws.",
        "beyond-second": "A second data set: what is known of each attribute (left), and what is still open (right), "
        "by the exact filter of its items, and as a lower bound for the population that they come from.",
    }


def findings(found: Found, verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """What the numbers say, HTML paragraphs by section."""
    said = {
        "agreement": _agreement(found, verdicts),
        "three": _at_paper_tau(found),
        "forks": _forks(found),
        "beyond-u-turn": _turn(found),
        "beyond-deterministic": _deterministic(found),
        "beyond-null": _null(found),
        "beyond-grain": _grain(found),
        "beyond-second": _second(found),
    }
    return {k: [f"<p>{x}</p>" for x in v] for k, v in said.items()}


def _agreement(found: Found, verdicts: Sequence[Verdict]) -> list[str]:
    draws = found.stages["curves"].sizes["draw"]
    if draws < _ENOUGH:
        return [f"With {draws} draws, standard errors are too rough for a verdict on agreement."]
    said = []
    for name in dict.fromkeys(v.measurement for v in verdicts):
        mine = [v for v in verdicts if v.measurement == name]
        far = max(mine, key=lambda v: v.apart)
        bad = ", ".join(f"{escape(v.attribute)} ({v.apart:.1f})" for v in mine if not v.agrees)
        words = "stays below the exact curve" if mine[0].bound else "agrees with the exact curve"
        if not bad:
            said.append(f"<strong>{escape(name)}</strong> {words} (at most {far.apart:.1f} standard errors off).")
        elif name.startswith("model"):
            said.append(
                f"<strong>{escape(name)}</strong> differs from the exact curve, in standard errors: {bad}. A network "
                "errs, and its error does not average out; its own page, <code>model/report.html</code>, marks where."
            )
        else:
            said.append(
                f"<strong>{escape(name)}</strong> does not agree, in standard errors: {bad}. Table 5 says where."
            )
    return ["Against the exact filter, at all levels: " + " ".join(said)]


def _at_paper_tau(found: Found) -> list[str]:
    low, high = found.ends
    sigma = low * (high / low) ** _PAPER_TAU
    known = {c.attribute: _at(c, sigma) for c in found.exact["posterior"]}
    settled = [f"{escape(n)} {100 * x:.0f} %" for n, x in sorted(known.items(), key=lambda t: -t[1])]
    return [f"At τ = {_PAPER_TAU:g} (σ {number(sigma)}) the exact filter knows, of H(A): {', '.join(settled)}."]


def _at(c: Curve, sigma: float) -> float:
    return float(np.interp(np.log(sigma), np.log(c.sigma[::-1]), c.value[::-1])) / c.ceiling


def _forks(found: Found) -> list[str]:
    forks, turn = found.stages["forks"], found.stages["turn"]
    at = int(np.abs(forks.tau.values - _PAPER_TAU).argmin())
    names = [str(n) for n in forks.attribute.values]
    agree = [n for j, n in enumerate(names) if len(set(forks.label.values[j, at].tolist())) == 1]
    vary = [n for n in names if n not in agree]
    text = f"At τ = {_PAPER_TAU:g} the four children agree in {_and(agree)}" + (
        f" and vary in {_and(vary)}." if vary else "."
    )
    x = np.log(turn.sigma.values[::-1])
    s = np.log(float(forks.sigma.values[at]))
    means = []
    for n in names:
        each = turn.agree4.sel(attribute=n).values[::-1].astype(float)
        per_draw = np.array([np.interp(s, x, each[:, i]) for i in range(each.shape[1])])
        means.append(f"{escape(n)} {per_draw.mean():.2f} ± {1.96 * per_draw.std(ddof=1) / len(per_draw) ** 0.5:.2f}")
    more = f"Over many images, the probability that four children agree at this level: {', '.join(means)}."
    if set(_PAPER_AGREES) | set(_PAPER_VARIES) <= set(names):
        more += (
            " The paper shows one example of a learned network on 3D Shapes, whose children agree in shape and the "
            "three hues and vary in orientation and scale."
        )
    return [text, more]


def _turn(found: Found) -> list[str]:
    of = found.stages["turn"]
    apart = of.kept_probability.values.astype(float) - of.agree.values.astype(float)
    error = np.maximum(apart.std(2, ddof=1) / apart.shape[2] ** 0.5, 1e-6)
    far = float((np.abs(apart.mean(2)) / error).max())
    text = f"The two differ by at most {far:.1f} standard errors of their paired difference, at all levels."
    return [text]


def _deterministic(found: Found) -> list[str]:
    of, exact = found.stages["deterministic"], {c.attribute: c for c in found.exact["posterior"]}
    said = []
    for name in of.attribute.values:
        c, gained = exact[str(name)], of.gained.sel(attribute=name).values
        true = np.interp(np.log(of.sigma.values[::-1]), np.log(c.sigma[::-1]), c.value[::-1])[::-1]
        apart, error = gained.mean(1) - true, gained.std(1, ddof=1) / gained.shape[1] ** 0.5
        k = int(np.abs(apart).argmax())
        level = number(float(of.sigma[k]))
        said.append(f"{escape(str(name))} {apart[k]:+.2f} ± {1.96 * error[k]:.2f} at σ {level}")
    return [f"Largest differences from the information, nats, over {of.sizes['path']} paths: {'; '.join(said)}."]


def _null(found: Found) -> list[str]:
    of = found.stages["curves"]
    if not found.null or "effective_items" not in of:
        return []
    items = np.median(of.effective_items.values, -1)[: len(found.null[0].sigma)]
    many = items > 1000
    said = []
    for c in found.null:
        if many.any():
            k = int(np.abs(c.value * many).argmax())
            said.append(f"{escape(c.estimator)} {c.value[k]:+.4f} ± {1.96 * c.error[k]:.4f}")
    if not said:
        return []
    text = f"Where more than 1,000 items are possible, the largest that each estimator says, nats: {'; '.join(said)}."
    if "model" in found.stages and "null_score_gap" in found.stages["model"]:
        m = found.stages["model"]
        k = int(np.abs(m.null_score_gap.values).argmax())
        text += (
            f" The learned model's score gap of random labels that were trained along is at most "
            f"{float(m.null_score_gap[k]):.3f} ± {1.96 * float(m.null_score_gap_stderr[k]):.3f}, at σ "
            f"{number(float(m.sigma[k]))}."
        )
    return [text]


def _grain(found: Found) -> list[str]:
    if "grain" not in found.onsets:
        return []
    table = found.onsets["grain"]
    last, before = table[-1], table[-2]
    words = f"Half of {escape(last.attribute)} is known at σ {describe(last.at[1])}, last of all; before it comes "
    return [words + f"{escape(before.attribute)}, σ {describe(before.at[1])}."]


def _second(found: Found) -> list[str]:
    if "second-empirical" not in found.others:
        return []
    said = []
    for law in ("empirical", "heldout"):
        curves = found.others[f"second-{law}"]
        peak = [f"{escape(c.attribute)} {c.value.max():.3f} of {c.ceiling:.3f} nats" for c in curves]
        said.append(f"{WORDS_OF_LAW[law]}: at most {', '.join(peak)}.")
        if len(curves) == 2:
            fine, coarse = sorted(curves, key=lambda c: -c.ceiling)
            ahead = coarse.per_draw / coarse.ceiling - fine.per_draw / fine.ceiling
            z = ahead.mean(1) / np.maximum(ahead.std(1, ddof=1) / ahead.shape[1] ** 0.5, 1e-12)
            k = int(np.abs(np.where(fine.value > 0.05 * fine.ceiling, z, 0)).argmax())
            which = coarse if z[k] > 0 else fine
            said.append(
                f"As a share of its entropy, {escape(which.attribute)} is ahead at σ {number(float(fine.sigma[k]))} "
                f"(by {abs(100 * ahead.mean(1)[k]):.1f} points, {abs(z[k]):.1f} standard errors)."
                if abs(z[k]) > 3
                else "As shares of their entropies, neither is ahead by three standard errors."
            )
            if law == "heldout":  # of bounds, which each may lie low, nothing is demanded
                continue
            left = (fine.ceiling - fine.value) - (coarse.ceiling - coarse.value)
            least = round(float(left.min()), 3) + 0.0
            said.append(
                f"In nats, {escape(coarse.attribute)} never has more open than {escape(fine.attribute)}: "
                f"the smallest difference is {least:.3f}, and theory demands none below 0."
            )
    return [" ".join(said)]


WORDS_OF_LAW = {"empirical": "Of exactly these items", "heldout": "Of their population, as a lower bound"}


def _and(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    said = [escape(n) for n in names]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
