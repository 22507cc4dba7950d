"""What advice says of redraws and of forks against what happens, under the law that each advice names.

    python benchmarks/advised.py --json benchmarks/advised.json [--model mnist-ddpm.pth --digits mnist-10k.npz]

Two models, each in a pipeline's clothes: an exact one of pictures whose law is known, and a DDPM of digits that nobody
here trained.  A study of each, by forks labelled by the nearest other item and along the model's own path, is asked for
advice; then images and generations of which the study knew nothing are redrawn from the levels advised, and a judge
that never saw a parent says what became of them: the true attribute of the exact law, and of digits a small
convolutional network trained on others.  A third trial is of two points studied down to a level at which they are still
half open.  Without --model the digits are left out.  (The digits take some three minutes of one core.)
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from mnist_network import read_model  # type: ignore[import-not-found]

from sigmascope.adapters.foreign import Foreign, Unit
from sigmascope.adapters.models import LoadedModel
from sigmascope.analysis.advice import View
from sigmascope.analysis.onset import Quantity
from sigmascope.core import Denoiser, LabelledData
from sigmascope.data import from_array, load
from sigmascope.exact.gaussian import MixtureDenoiser
from sigmascope.information.forks import count_labels
from sigmascope.information.keeping import kept_of_counts, sure_of_counts
from sigmascope.noise import Discrete
from sigmascope.sample import Streams, final, fork, rows, sample, start
from sigmascope.sample.forks import levels_below
from sigmascope.studies.advice_kinds import Advice
from sigmascope.studies.advising import Advisor
from sigmascope.studies.labelling import Nearest
from sigmascope.studies.options import DataOptions, ForkOptions, Sampling
from sigmascope.studies.run import run_subject
from sigmascope.studies.spec import ForeignSpec
from sigmascope.studies.study import study
from sigmascope.studies.subjects.opened import Opened
from sigmascope.studies.subjects.sampler import open_sampler

P, CHILDREN, STEP = 0.9, 4, 0.3  # kept; of each generation that is looked at; of a sampler, in ln sigma
APART, SCALE = 2.0, 0.05  # of the exact laws: half their distance in their standard deviations, and one of these
DIGIT_LOW, PARENTS = 0.05, 160
Judge = Callable[[Tensor], Tensor]


class Overlapping(Denoiser):
    """The exact denoiser of pictures of four pixels, the first of two normal laws, the others of one."""

    attributes = ()
    event = (1, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        means = torch.tensor([[-APART, 0, 0, 0], [APART, 0, 0, 0]], dtype=torch.float64)
        self.exact = MixtureDenoiser(torch.ones(2) / 2, means, torch.ones(2), {"side": [0, 1]})

    def forward(self, y: Tensor, sigma: Tensor, known: object = None) -> Tensor:
        result: Tensor = self.exact(((y - 0.5) / SCALE).flatten(1), sigma / SCALE).reshape(y.shape) * SCALE + 0.5
        return result


@dataclass
class Subject:
    """A model with what it is tried on.

    Args:
        name: of the trial.
        opened: the model as a pipeline.
        spec: of its study.
        parents: images of which the study knew nothing, and their values.
        judge: of clean values.
    """

    name: str
    opened: Opened
    spec: ForeignSpec
    parents: tuple[Tensor, Tensor]
    judge: Judge


def dressed(network: Foreign, low: float) -> Opened:
    """A network as a pipeline that a study opens."""
    top = float(network.schedule.sigma(network.schedule.noise_time)) / network.unit.scale
    return Opened(LoadedModel("tried", "DDPM", network, "", low, top))


def study_of(data: Path, attribute: str, model: str, sampling: Sampling, forking: ForkOptions) -> ForeignSpec:
    """A study by forks."""
    what = DataOptions(str(data), (attribute,))
    return ForeignSpec(what, sampling, ("forks", "own_path"), model=f"diffusers:{model}", forking=forking)


def exact(folder: Path) -> Subject:
    """The exact model; the attribute is the side of the middle on which the first pixel lies."""
    law, schedule, rng = Overlapping(), Discrete.linear(), np.random.default_rng(0)

    def network(x: Tensor, time: Tensor, _: object) -> Tensor:
        t = time.double().numpy()
        sigma = torch.from_numpy(schedule.sigma(t))[:, None, None, None]
        y = x.double() / torch.from_numpy(schedule.alpha(t))[:, None, None, None]
        result: Tensor = (y - (2 * law((y + 1) / 2, sigma.flatten() / 2) - 1)) / sigma
        return result

    x = rng.normal(size=(4000 + 8 * PARENTS, 4))
    x[:, 0] += APART * rng.choice([-1, 1], len(x))
    v = (0.5 + SCALE * x).reshape(-1, 1, 2, 2).astype(np.float32)
    side = (v[:, 0, 0, 0] > 0.5).astype(int)
    np.savez(folder / "exact.npz", images=v[:4000], side=side[:4000])
    sampling = Sampling(draws=256, levels=10, sigma_max=0.6, sigma_min=0.012)
    spec = study_of(folder / "exact.npz", "side", "exact", sampling, ForkOptions(forks=16, steps=24))
    parents = torch.from_numpy(v[4000:]), torch.from_numpy(side[4000:])
    opened = dressed(Foreign(network, law.event, schedule, "epsilon", unit=Unit(2.0, -1.0)), 0.006)
    return Subject("exact model", opened, spec, parents, lambda y: (y[:, 0, 0, 0] > 0.5).long())


def digits(model: Path, data: Path, draws: int) -> Subject:
    """The DDPM of digits, its study on all of them but the parents, and a judge trained on neither's parents."""
    network, schedule = read_model(model)
    whole = load(str(data), ["digit"])
    foreign = Foreign(
        network, whole.event, schedule, "epsilon", clock=lambda t: t / 1000, unit=Unit(1.0, -0.5)
    )  # fmt: skip
    opened = dressed(foreign, DIGIT_LOW)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(5))
    fresh, others = order[:PARENTS], order[PARENTS:]
    half = len(others) // 2
    folder = Path(tempfile.mkdtemp())
    images = whole.source.take(others[:half]).permute(0, 2, 3, 1)
    np.savez(folder / "digits.npz", images=(255 * images).round().byte().numpy(),
             digit=whole.labels["digit"][others[:half]].numpy())  # fmt: skip
    judge = trained(whole.source.take(others[half:]), whole.labels["digit"][others[half:]])
    parents = whole.source.take(fresh), whole.labels["digit"][fresh]
    say(f"judge right on {float((judge(parents[0]) == parents[1]).double().mean()):.3f} of the parents")
    sampling = Sampling(draws=draws, levels=8, sigma_max=4.0, sigma_min=0.12)
    spec = study_of(folder / "digits.npz", "digit", "mnist-ddpm", sampling, ForkOptions(forks=12, steps=14))
    return Subject("DDPM of digits", opened, spec, parents, judge)


def trained(v: Tensor, label: Tensor) -> Judge:
    """A small convolutional network of digits, trained on these."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 24, 5, 2, 2), nn.ReLU(), nn.Conv2d(24, 48, 5, 2, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(48 * 49, 96), nn.ReLU(), nn.Dropout(0.3), nn.Linear(96, 10),
    )  # fmt: skip
    steps, batch = 700, 128
    descent = torch.optim.AdamW(net.parameters(), 2e-3)
    falling = torch.optim.lr_scheduler.OneCycleLR(descent, 4e-3, steps)
    for _ in range(steps):
        at = torch.randint(len(v), (batch,))
        x = v[at] + 0.1 * torch.rand(()) * torch.randn(batch, *v.shape[1:])
        loss = nn.functional.cross_entropy(net(x), label[at], label_smoothing=0.05)
        descent.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        descent.step()
        falling.step()
    net.eval().requires_grad_(False)
    return lambda y: net(y.float()).argmax(1)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def down(high: float, low: float, zero: bool = True) -> list[float]:
    return levels_below(high, low, max(int(np.ceil(np.log(high / low) / STEP)), 2), zero=zero)


def redrawn(of: Subject, sigma: float) -> Tensor:
    """The parents, noised to a level and redrawn from there once."""
    v = of.parents[0]
    noise = torch.randn(v.shape, generator=torch.Generator().manual_seed(3))
    y = v.double() + sigma * noise.double()
    streams = Streams(17, rows(len(v)), v.shape[1:])
    return final(sample(of.opened.denoiser, y, down(sigma, of.opened.model.lowest), noise=streams)).y


def states(of: Subject, sigmas: Sequence[float]) -> dict[float, Tensor]:
    """What generations from noise are at some levels on their way."""
    model, top = of.opened.denoiser, (of.opened.model.highest or 90.0) * (1 - 1e-9)
    streams = Streams(23, rows(len(of.parents[0])), model.event)
    found, y, high = {}, start(model, top, streams()), top
    for sigma in sorted(set(sigmas), reverse=True):
        y = final(sample(model, y, down(high, sigma, zero=False), noise=streams)).y
        found[sigma], high = y, sigma
    return found


def forked(of: Subject, y: Tensor, sigma: float, children: int = CHILDREN) -> Tensor:
    """How often the children of states at a level have each value, shape (generations, values)."""
    parts = []
    for i in range(0, len(y), 32):
        ends = fork(of.opened.denoiser, y[i : i + 32], down(sigma, of.opened.model.lowest), children, 29,
                    first_parent=i)  # fmt: skip
        parts.append(of.judge(final(ends).y).reshape(-1, children).T)
    return count_labels(torch.cat(parts, 1), 10)


def share(each: Tensor) -> tuple[float, float]:
    """A mean with its standard error, which is of half an observation more than there are, so that none is certain."""
    p, n = float(each.double().mean()), len(each)
    q = (p * n + 0.5) / (n + 1)
    spread = min(float(each.double().std()), (q * (1 - q)) ** 0.5) if p not in (0.0, 1.0) else (q * (1 - q)) ** 0.5
    return p, spread / n**0.5


def tried(of: Subject) -> list[dict[str, Any]]:
    """Every advice about one attribute: what it says and what is seen, with the law of each."""
    say(f"{of.name}: the study")
    studied, spec = open_sampler(of.spec, of.opened, False, None)
    results = run_subject(studied, spec, None, True)[0]
    name = str(results.attribute.values[0])
    advisor = Advisor(results, P)
    keep, fork_at = advisor.keep(name, [])
    found = []

    def row(advice: Advice, what: str, sigma: float, said: tuple[float, float], seen: tuple[float, float]) -> None:
        found.append({"model": of.name, "advice": advice.kind, "law": advice.law, "what": what, "sigma": sigma,
                      "said": said, "seen": seen})  # fmt: skip
        print(line(found[-1]), flush=True)

    def said_of(view: View, which: str, sigma: float) -> tuple[float, float]:
        return view.at(view.keeping(name, which), sigma)

    high = level(keep.high)
    after = redrawn(of, high)
    stays = share(of.judge(after) == of.parents[1])
    row(keep, "a redraw keeps it", high, said_of(advisor.noised, "kept", high), stays)
    if isinstance(studied.label, Nearest):
        found[-1] |= by_nearest(studied.data, name, of.parents, after)
        found[-1]["nearest_right"] = float(results.labeller_right[0])
    forking, view = advisor.forking, advisor.generated
    guide, exit_ = advisor.interval(name)[0], advisor.early_exit(name)
    end = level(guide.low) or float(view.sigma[-1])
    below = max(end / 2, of.opened.model.lowest * 1.01)
    at = {"fork": level(fork_at.high), "exit": level(exit_.high), "end": end, "below": below}
    visited = states(of, [s for s in at.values() if s])
    counts = {k: forked(of, visited[s], s) for k, s in at.items() if s and k != "exit"}
    if at["fork"]:
        said = said_of(forking, "kept", at["fork"])
        row(fork_at, "two children share it", at["fork"], said, share(kept_of_counts(counts["fork"])))
    if at["exit"]:
        said = said_of(forking, "sure", at["exit"])
        some = visited[at["exit"]][::2]  # a guess is better the more siblings it is made from: as many as in the study
        seen_ = share(sure_of_counts(forked(of, some, at["exit"], spec.forking.forks)))
        row(exit_, "the commonest of its siblings is right", at["exit"], said, seen_)
    kept, error = said_of(view, "kept", end)
    for k, what in (("end", "a redraw from its end changes it"), ("below", "a redraw from half of that, at most")):
        seen, chance = share(kept_of_counts(counts[k]))
        row(guide, what, at[k], (1 - kept, error), (1 - seen, chance))
    return found


def by_nearest(data: LabelledData, name: str, parents: tuple[Tensor, Tensor], after: Tensor) -> dict[str, Any]:
    """What redraws of parents keep by the labels of the nearest item, among others and among the parents as well."""
    a, own = data.attribute(name), parents[1]
    values = torch.cat([data.source.read(0, len(data)), parents[0]])
    label = [a.values[i] for i in [*data.labels[name].tolist(), *own.tolist()]]
    every = Nearest(from_array(values.numpy(), {name: label}))(after)[name]
    return {
        "seen_by_nearest_other": share(Nearest(data)(after)[name] == own),
        "seen_by_nearest_of_all": share(every == own),
    }


def ends_early(folder: Path) -> list[dict[str, Any]]:
    """Two points at a distance of 2, studied down to sigma = 1: .46 of H is known there."""
    rng = np.random.default_rng(4)
    np.savez(folder / "two.npz", images=np.array([-1.0, 1.0]).reshape(2, 1, 1, 1), side=[0, 1])
    results = study(folder / "two.npz", estimators="posterior", sampling=Sampling(4096, 16, sigma_min=1.0))
    advisor = Advisor(results, P)
    guide, _ = advisor.interval("side")
    view = advisor.generated
    said, error = view.at(view.keeping("side"), 1.0)
    side = rng.choice([-1, 1], 4096)
    again = rng.random(4096) < 1 / (1 + np.exp(-2 * (side + rng.normal(size=4096))))
    seen = share(torch.from_numpy(again != (side > 0)))
    found = {
        "model": "two points", "advice": guide.kind, "law": guide.law, "sigma": 1.0,
        "what": "a redraw from the last level changes it", "said": (1 - said, error), "seen": seen,
        "end_is_shown": level(guide.low) > 0,
    }  # fmt: skip
    print(line(found))
    return [found]


def level(q: Quantity | None) -> float:
    """The level of an advice; 0 where it is not reached."""
    return q.value if q is not None and q.reached else 0.0


def line(r: dict[str, Any]) -> str:
    (said, error), (seen, chance) = r["said"], r["seen"]
    apart = (seen - said) / max(np.hypot(error, chance), 1e-9)
    return (
        f"{r['model']:<15} {r['advice']:<18} sigma {r['sigma']:<7.3g} {r['what']}: said {said:.3f} ± {error:.3f}, "
        f"seen {seen:.3f} ± {chance:.3f} ({apart:+.1f})"
    )


def main() -> None:
    """Print the comparisons; write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--digits", type=Path)
    parser.add_argument("--draws", type=int, default=40, help="noisy digits of the study, and generations")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        found = [*ends_early(Path(made)), *tried(exact(Path(made)))]
    if a.model and a.digits:
        found += tried(digits(a.model, a.digits, a.draws))
    if a.json:
        a.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
