r"""At which noise level does a public DDPM of handwritten digits decide the digit?

    python examples/mnist_ddpm.py mnist-ddpm.pth mnist-10k.npz OUT [--draws 64] [--quick]

Forks of the model (from noised real digits and from noised values of its own), probes of its features, a classifier of
noisy digits, and the exact filter of the data stand side by side in one figure.  OUT gets ``report/*.png``,
``results.csv`` and ``results.json``; the same command gives the same numbers.

The model is described in mnist_network.py, with how its definition was checked.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mnist_figures
import numpy as np
import torch
from mnist_network import TIMES, losses, read_model
from torch import Tensor

import sigmascope
from sigmascope.adapters import Featured, Foreign, Unit
from sigmascope.analysis.onset import SHARES, Quantity
from sigmascope.core import Attribute, Curve, Draws, InputError, LabelledData, generator
from sigmascope.information.entropies import zhang
from sigmascope.information.forks import count_labels, forks, forks_by_sampling
from sigmascope.information.probes import classifier_bound, probes
from sigmascope.learn.classifier import NoisyClassifier
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Items
from sigmascope.noise import Discrete, sigma_grid
from sigmascope.sample.forks import fork, levels_below
from sigmascope.sample.schemes import Ancestral, final, sample, start
from sigmascope.streams import Streams

LOWEST = 0.08  # where children are read: far below the level at which a digit is settled
FAINT = 0.3  # noise that the classifier of clean values is trained with, at most
CLEAN = 0.05  # share of real digits that count as unclear
HIGH, LOW = 10.0, 0.25  # levels of the curves
BLOCKS = tuple(f"blocks.{k}" for k in range(4))
_VALUES, _NOISE, _SAMPLE = 71, 72, 74  # uses of the seed


def train(source: Items, steps: int, width: int, highest: float, seed: int) -> NoisyClassifier:
    """A classifier of digits at all noise levels up to a highest."""
    settings = Settings(
        network="unet", width=width, depth=3, steps=steps, batch=128, learning_rate=3e-3, warmup=50, average=200,
        sigma_min=LOWEST, sigma_max=highest, null=0, seed=seed,
    )  # fmt: skip
    trainer = ClassifierTrainer(source, settings)
    for k in range(steps):
        trainer.step()
        if not (k + 1) % 100:
            say(f"classifier up to sigma {highest:g}: {k + 1} of {steps} steps")
    return trainer.averaged.eval().requires_grad_(False)


class Reader:
    """Labels clean images by the classifier, and keeps its labels and how sure it was of each."""

    def __init__(self, classifier: NoisyClassifier) -> None:
        self.classifier = classifier
        self.labels: list[Tensor] = []
        self.sure: list[Tensor] = []

    def __call__(self, values: Tensor) -> Tensor:
        q = self.classifier.log_posterior(values, torch.full((len(values),), LOWEST), "digit").exp()
        sure, labels = q.max(1)
        self.labels.append(labels)
        self.sure.append(sure)
        return labels


class Forked:
    """Forks of some draws at some levels: the curve, and the children's labels and how sure they are."""

    def __init__(
        self, model: Featured, digit: Attribute, draws: Draws, sigma: np.ndarray, reader: Reader,
        children: int, step: float, seed: int, name: str,
    ) -> None:  # fmt: skip
        reader.labels.clear()
        reader.sure.clear()
        parts = []
        for s in sigma.tolist():
            say(f"{name}: {len(draws)} draws, {children} children, sigma {s:.3g}")
            parts.append(
                forks_by_sampling(
                    model, digit, draws, np.array([s]), children, reader, seed=seed, scheme=Ancestral(),
                    lowest=LOWEST, steps=steps(s, step),
                )
            )  # fmt: skip
        shape = (len(sigma), len(draws), children)
        self.digit, self.sigma, self.parent = digit, sigma, draws.labels["digit"]
        self.labels, self.sure = torch.stack(reader.labels).reshape(shape), torch.stack(reader.sure).reshape(shape)
        gauge = np.concatenate([np.asarray(c.quadrature_error) for c in parts])
        each = np.concatenate([c.per_draw for c in parts])
        self.curve = Curve.of_draws(
            "digit", name, sigma, each, digit.entropy, kind="estimate", quadrature_error=gauge
        )  # fmt: skip

    def with_none(self, clear: float, prior: Tensor) -> Curve:
        """The same with an eleventh value, of children that are no clear digit."""
        labels = torch.where(self.sure < clear, len(self.digit.values), self.labels)
        counts = count_labels(labels.permute(2, 0, 1), len(self.digit.values) + 1)
        of = Attribute("digit", (*self.digit.values, "none"), prior)
        entropies = forks(of, self.sigma, counts)
        return Curve.of_draws("digit", f"{self.curve.estimator}, or none", self.sigma, entropies.per_draw, of.entropy,
                              kind="estimate", quadrature_error=entropies.quadrature_error)  # fmt: skip

    def agreement(self, clear: float) -> dict[str, list[list[float]]]:
        """Shares with their standard errors, by level: of children with their parent's digit, of pairs of siblings with
        the same, and of children that are clear digits."""
        counts = count_labels(self.labels.permute(2, 0, 1), len(self.digit.values)).double()
        k = self.labels.shape[2]
        each = {
            "parent": (self.labels == self.parent[None, :, None]).double().mean(2),
            "siblings": (counts * (counts - 1)).sum(2) / (k * (k - 1)),
            "clear": (self.sure >= clear).double().mean(2),
        }
        each["parent less siblings"] = each["parent"] - each["siblings"]
        return {
            name: [[float(m), float(s)] for m, s in zip(x.mean(1), x.std(1) / math.sqrt(x.shape[1]), strict=True)]
            for name, x in each.items()
        }


def steps(sigma: float, step: float) -> int:
    """Levels of a continuation, each at most ``step`` in ln sigma below the one before."""
    return max(2, math.ceil(math.log(sigma / LOWEST) / step))


def generate(model: Featured, schedule: Discrete, count: int, step: float, seed: int) -> Tensor:
    """Values of the model from noise alone, at its last timestep."""
    top = float(schedule.sigma(schedule.noise_time)) * (1 - 1e-9)
    parts = []
    for i in range(0, count, 64):
        some = min(64, count - i)
        noise = Streams(seed, [(_SAMPLE, i + k) for k in range(some)], model.event)
        y = start(model, top, noise())
        levels = [top, *levels_below(10 * HIGH, LOWEST, steps(10 * HIGH, step))]
        parts.append(final(sample(model, y, levels, Ancestral(), noise=noise)).y)
        say(f"samples: {i + some} of {count}")
    return torch.cat(parts).float()


def real_draws(source: Items, count: int, seed: int, stream: int, *, out: bool) -> Draws:
    """Draws of digits, kept out of the classifier's training or not."""
    items = source.pick(count, generator(seed, _VALUES, stream), out)
    noise = torch.randn(count, *source.event, generator=generator(seed, _NOISE, stream))
    return Draws(items, source.data.source.take(items), noise, {"digit": source.labels["digit"][items]})


def frequencies(labels: Tensor, count: int) -> Tensor:
    return torch.bincount(labels, minlength=count).double() / len(labels)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def onset_of(curve: Curve, schedule: Discrete, seed: int) -> dict[str, Any]:
    """Noise levels and timesteps at which shares of the digit are known, with 95 % intervals; null: not reached.

    Few children make labels look too alike; ``half, at the least`` has all of the gauge of that taken off.
    """
    levels = sigmascope.onsets([curve], seed=seed)[0].at
    table = {f"{share:g}": _quantity(q, schedule) for share, q in zip(SHARES, levels, strict=True)}
    if curve.quadrature_error is not None:
        lower = curve.per_draw - curve.quadrature_error[:, None]
        least = replace(curve, per_draw=lower, value=lower.mean(1))
        table["half, at the least"] = _quantity(sigmascope.onsets([least], seed=seed)[0].at[1], schedule)
    return table


def _quantity(q: Quantity, schedule: Discrete) -> dict[str, list[float | None]]:
    inside = [x if LOWEST < x < schedule.sigma(schedule.noise_time) else None for x in (q.value, q.low, q.high)]
    return {"sigma": inside, "timestep": [None if x is None else float(schedule.time(x)) for x in inside]}


def write(out: Path, curves: Sequence[Curve], schedule: Discrete, results: Mapping[str, Any]) -> None:
    with (out / "results.csv").open("w", newline="", encoding="utf-8") as file:
        sheet = csv.writer(file)
        sheet.writerow(
            ["estimator", "kind", "sigma", "timestep", "information_nats", "stderr", "bias_gauge", "ceiling"]
        )
        for c in curves:
            gauge = np.zeros(len(c.sigma)) if c.quadrature_error is None else c.quadrature_error
            for row in zip(c.sigma, schedule.time(c.sigma), c.value, c.stderr, gauge, strict=True):
                sheet.writerow([c.estimator, c.kind, *(f"{x:.5g}" for x in row), f"{c.ceiling:.5g}"])
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("digits", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--draws", type=int, default=64, help="noisy digits that are forked, of each kind")
    parser.add_argument("--children", type=int, default=12, help="continuations of each; at least 11")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a rough look, in a minute")
    args = parser.parse_args()
    began, quick, seed = time.monotonic(), args.quick, args.seed
    draws = min(args.draws, 12) if quick else args.draws
    torch.set_num_threads(1)
    try:
        run(args, draws, 5 if quick else 25, quick, seed)
    except InputError as error:
        sys.exit(f"error: {error}")
    say(f"{time.monotonic() - began:.0f} s; see {args.out / 'report'}")


def run(args: argparse.Namespace, draws: int, levels: int, quick: bool, seed: int) -> None:
    if draws < 2 or args.children < 11:
        raise InputError(f"{draws} draws and {args.children} children came: pass at least 2 and 11")
    (args.out / "report").mkdir(parents=True, exist_ok=True)
    data: LabelledData = sigmascope.load(args.digits, ["digit"])
    network, schedule = read_model(args.model)
    foreign = Foreign(
        network, data.event, schedule, "epsilon", clock=lambda t: t / 1000, unit=Unit(1.0, -0.5)
    )  # fmt: skip
    model = Featured(foreign, BLOCKS, cells=2)
    source = Items(data, holdout=0.2, null=0, seed=seed)
    digit = data.attributes[0]
    sigma = sigma_grid(HIGH, LOW, levels)
    coarse = sigma[1:-1] if quick else sigma[[3, 6, 8, 10, 12, 14, 16, 18, 21]]  # forks cost most

    variant_losses = losses(args.model, real_draws(source, 16 if quick else 64, seed, 1, out=True).v, seed)
    say(f"epsilon loss at {TIMES}: {', '.join(f'{x:.4f}' for x in variant_losses['as in the docstring'])}")
    classifier = train(source, 180 if quick else 400, 12 if quick else 16, FAINT, seed)  # of clean values
    kept = torch.from_numpy(np.flatnonzero(source.kept_out))
    reader = Reader(classifier)
    right = (reader(data.source.take(kept)) == data.labels["digit"][kept]).double()
    clear = float(reader.sure[0].quantile(CLEAN))
    accuracy = [float(right.mean()), float(right.std()) / math.sqrt(len(right))]
    say(f"classifier: {100 * accuracy[0]:.2f} % of {len(kept)} digits kept out; clear from {clear:.3f}")

    values = generate(model, schedule, max(draws, 48 if quick else 256), 0.4 if quick else 0.2, seed)
    labels, sure = reader(values), reader.sure[-1]
    unclear = (sure < clear).double()
    own = Attribute("digit", digit.values, frequencies(labels, 10))
    real = real_draws(source, draws, seed, 2, out=True)
    noise = torch.randn(draws, *data.event, generator=generator(seed, _NOISE, 3))
    made = Draws(torch.arange(draws), values[:draws], noise, {"digit": labels[:draws]})
    step = 0.5 if quick else 0.3
    forked = {
        name: Forked(model, of, d, coarse, reader, args.children, step, seed, name)
        for name, of, d in (("forks of real digits", digit, real), ("forks of its own values", own, made))
    }
    with_none = frequencies(torch.where(sure < clear, 10, labels), 11)
    own_forks = forked["forks of its own values"]
    curves = [*exact_filter(data, levels, quick, seed), *bounds(model, source, coarse, sigma, quick, seed)]
    curves += [*(f.curve for f in forked.values()), own_forks.with_none(clear, with_none)]
    if (clean := (sure[:draws] >= clear).numpy()).sum() >= 2:
        of_clean = float(zhang(torch.bincount(labels[sure >= clear], minlength=10)[None])[0])
        parts = own_forks.curve.per_draw[:, clean] - own.entropy + of_clean
        curves.append(Curve.of_draws("digit", "forks of its clear values", coarse, parts, of_clean, kind="estimate"))
    results = {
        "epsilon_loss": {"timesteps": TIMES, "variants": variant_losses},
        "classifier": {"accuracy": accuracy, "held_out": len(kept), "clear_from": clear},
        "samples": {
            "count": len(values),
            "unclear": [float(unclear.mean()), float(unclear.std()) / math.sqrt(len(values))],
            "digits": torch.bincount(labels, minlength=10).tolist(),
            "entropy": own.entropy,
        },
        "ceiling": digit.entropy,
        "onsets": {c.estimator: onset_of(c, schedule, seed) for c in curves},
        "agreement": {n: {"sigma": coarse.tolist(), **f.agreement(clear)} for n, f in forked.items()},
    }
    write(args.out, curves, schedule, results)
    report(args.out / "report", model, classifier, curves, results, schedule, real, made, values, (labels, sure, clear))
    for name, at in results["onsets"].items():
        (half, *ends), (t, *_) = at["0.5"]["sigma"], at["0.5"]["timestep"]
        if half:
            low, high = ("-" if x is None else f"{x:.3g}" for x in ends)
            print(f"{name:32} half of the digit at sigma {half:.3g} ({low} to {high}), t = {t:.0f}")


def exact_filter(data: LabelledData, levels: int, quick: bool, seed: int) -> list[Curve]:
    """What the filter of exactly these digits knows, and what one of the others knows of digits held out."""
    curves = []
    for law, name in (("empirical", "exact filter of these digits"), ("heldout", "filter, digits held out")):
        say(f"exact filter: {law}")
        study = sigmascope.study(
            data,
            estimators="posterior" if law == "empirical" else "",
            sampling=sigmascope.Sampling(64 if quick else 1024, levels, sigma_min=LOW, sigma_max=HIGH, seed=seed),
            options=sigmascope.ExactOptions(law=law),
        )
        curves.append(replace(sigmascope.to_curves(study)[0], estimator=name))
    return curves


def bounds(
    model: Featured, source: Items, coarse: np.ndarray, sigma: np.ndarray, quick: bool, seed: int
) -> list[Curve]:
    """Probes and a classifier, trained on digits and judged on others."""
    digit = source.attributes[0]
    training = real_draws(source, 600 if quick else 3000, seed, 4, out=False)
    test = real_draws(source, 300 if quick else 1000, seed, 5, out=True)
    curves = []
    for where in ("noisy", "features"):
        say(f"probes of {where}")
        reader = model if where == "features" else None
        curves.append(probes([digit], training, test, coarse, where, denoiser=reader, shares=(1.0,))["digit"].curve)
    classifier = train(source, 80 if quick else 700, 12 if quick else 16, HIGH, seed)
    return [*curves, classifier_bound(classifier, [digit], test, sigma)["digit"]]


def report(
    folder: Path, model: Featured, classifier: NoisyClassifier, curves: Sequence[Curve], results: Mapping[str, Any],
    schedule: Discrete, real: Draws, made: Draws, values: Tensor, read: tuple[Tensor, Tensor, float],
) -> None:  # fmt: skip
    """The three figures."""
    labels, sure, clear = read
    mnist_figures.curves(curves, results, schedule).savefig(folder / "curves.png", dpi=110)
    mnist_figures.samples(values, labels, sure, clear).savefig(folder / "samples.png", dpi=110)
    first = int((sure[: len(made)] >= clear).int().argmax())
    trees = []
    for name, draws, i in (("a real digit", real, 0), ("a digit that the model made", made, first)):
        levels = []
        for s in (4.0, 2.0, 1.2, 0.7, 0.3):
            y = draws.v[i : i + 1].double() + s * draws.noise[i : i + 1].double()
            ends = final(fork(model, y, levels_below(s, LOWEST, steps(s, 0.25)), 8, 0, Ancestral())).y
            mean = model(y, torch.full((1,), s, dtype=torch.float64))
            reader = Reader(classifier)
            levels.append((s, y[0, 0], mean[0, 0], ends[:, 0], reader(ends), reader.sure[0] >= clear))
        trees.append((name, levels))
    mnist_figures.trees(trees, schedule).savefig(folder / "forks.png", dpi=110)


if __name__ == "__main__":
    main()
