"""Advice is kept: what is read off the curves of scenes is what happens when the exact filter of them is run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from asked import study
from sigmascope.cli import main
from sigmascope.core import Curve, Denoiser
from sigmascope.data import draw_items, from_array, load
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.forks import count_labels
from sigmascope.information.keeping import kept, kept_at_least, kept_of_counts, sure
from sigmascope.noise import karras_grid, sigma_grid
from sigmascope.sample import Euler, Heun, Streams, final, rows, sample, start
from sigmascope.sample.forks import fork, levels_below
from sigmascope.sample.guidance import Guided
from sigmascope.studies.advising import KINDS, Advisor

ITEMS, N, P = 1500, 160, 0.9
KEEP, REDRAW = "floor_hue", "orientation"
TOP, LAST = 60.0, 0.02


@pytest.fixture(scope="module")
def scenes():
    """Some of the scenes as a law of their own, with its exact study."""
    full = load("scenes", size=16)
    at = torch.randperm(len(full), generator=torch.Generator().manual_seed(0))[:ITEMS]
    names = {a.name: [a.values[i] for i in full.labels[a.name][at].tolist()] for a in full.attributes}
    data = from_array(full.source.take(at).numpy(), names, name="some scenes")
    results = study(data, draws=256, levels=32, estimators="posterior", sigma_max=TOP, sigma_min=LAST)
    return data, FiniteDenoiser(data), Advisor(results, P)


def labels(exact, y, sigma=LAST):
    found = exact.all_log_posteriors(y.double(), torch.full((len(y),), sigma, dtype=torch.float64))
    return {n: p.argmax(1) for n, p in found.items()}


def same(a, b) -> tuple[float, float]:
    """Share that agrees, and its standard error (of half an observation more, that none is certain)."""
    p = float((a == b).double().mean())
    q = (p * len(a) + 0.5) / (len(a) + 1)
    return p, (q * (1 - q) / len(a)) ** 0.5


def redrawn(scenes, sigma, denoiser=None, known=None):
    """Images of the data, noised to a level and redrawn from there: their own labels, and those of the redraws."""
    data, exact, _ = scenes
    d = draw_items(data, N, 99)
    y = d.v.double() + sigma * d.noise.double()
    states = sample(denoiser or exact, y, levels_below(sigma, LAST, 20), noise=Streams(5, rows(N), data.event),
                    known=known(d) if known else None)  # fmt: skip
    return d.labels, labels(exact, final(states).y)


def test_the_advised_strength_keeps_and_redraws(scenes):
    """SDEdit at the advised level keeps the floor's hue in 90 % of the images, and redraws the others as often as it
    says; at twice the level it keeps it in far fewer, so that the advised one is not merely small."""
    advice, _ = scenes[2].keep(KEEP, [REDRAW, "shape"])
    own, after = redrawn(scenes, advice.high.value)
    p, error = same(own[KEEP], after[KEEP])
    assert abs(p - P) < 3 * error + 0.02  # the interval of the level itself is worth some .02
    assert p > P - 3 * error
    for name, (share, spread) in advice.redraws.items():
        q, chance = same(own[name], after[name])
        assert abs((1 - q) - share) < 3 * np.hypot(chance, spread), name
    assert advice.redraws[REDRAW][0] > 4 * (1 - P)
    own, after = redrawn(scenes, 2 * advice.high.value)
    assert same(own[KEEP], after[KEEP])[0] < P - 0.2


def test_forks_at_the_advised_point_share_and_vary(scenes):
    """On paths that are generated from noise: pairs of children agree in A, and vary in B, as often as was said."""
    data, exact, advisor = scenes
    _, advice = advisor.keep(KEEP, [REDRAW])
    streams = Streams(3, rows(64), data.event)
    parents = final(sample(exact, start(exact, TOP, streams()), levels_below(TOP, advice.high.value, 16, zero=False),
                           noise=streams)).y  # fmt: skip
    children = final(fork(exact, parents, levels_below(advice.high.value, LAST, 16), 4, 1)).y
    found = labels(exact, children)
    for name, wanted, spread in ((KEEP, P, 0.02), (REDRAW, 1 - advice.redraws[REDRAW][0], advice.redraws[REDRAW][1])):
        size = int(found[name].max()) + 1
        each = kept_of_counts(count_labels(found[name].reshape(64, 4).T, size))
        error = float(each.std()) / 8
        assert abs(float(each.mean()) - wanted) < 3 * np.hypot(error, spread), name


def test_early_exit_is_right_in_nine_of_ten(scenes):
    data, exact, advisor = scenes
    at = advisor.early_exit(KEEP).high.value
    d = draw_items(data, 400, 7)
    p, error = same(labels(exact, d.v.double() + at * d.noise.double(), at)[KEEP], d.labels[KEEP])
    assert abs(p - 0.9) < 3 * error + 0.02
    p, _ = same(labels(exact, d.v.double() + 2 * at * d.noise.double(), 2 * at)[KEEP], d.labels[KEEP])
    assert p < 0.75


class Away(Denoiser):
    """A negative prompt, of weight 3: D + 3 (D − D_a)."""

    def __init__(self, exact):
        super().__init__()
        self.exact = exact

    def forward(self, y, sigma, known=None):
        free = self.exact(y, sigma)
        return free + 3.0 * (free - self.exact(y, sigma, known))


def test_a_negative_prompt_is_too_late_below_the_advised_level(scenes):
    advice = scenes[2].negative(KEEP)

    def against(d):
        return {KEEP: d.labels[KEEP]}

    own, after = redrawn(scenes, advice.high.value, Away(scenes[1]), against)
    p, error = same(own[KEEP], after[KEEP])
    assert p > P - 3 * error
    own, after = redrawn(scenes, 3 * advice.high.value, Away(scenes[1]), against)
    assert same(own[KEEP], after[KEEP])[0] < 0.3


class Between(Denoiser):
    """Conditional the attribute between two levels, and nothing elsewhere."""

    def __init__(self, exact, low, high):
        super().__init__()
        self.exact, self.low, self.high = exact, low, high

    def forward(self, y, sigma, known=None):
        there = self.low <= float(sigma[0]) <= self.high
        return self.exact(y, sigma, known if there else None)


def generated(scenes, denoiser, given):
    """Share of images generated from noise that have what they were given."""
    data, exact, _ = scenes
    streams = Streams(7, rows(N), data.event)
    states = sample(denoiser, start(exact, TOP, streams()), levels_below(TOP, LAST, 28), noise=streams,
                    known={KEEP: given})  # fmt: skip
    return same(labels(exact, final(states).y)[KEEP], given)


def conditional_values():
    return torch.randint(10, (N,), generator=torch.Generator().manual_seed(3))


def test_what_is_learned_in_the_advised_range_is_all_there_is(scenes):
    """A model that knows the attribute only within the range makes what it is given; one that knows it only above it,
    hardly more often than by chance, .1.  (Below, an exact model still obeys, and tears down what is there.)
    """
    _, advice = scenes[2].interval(KEEP)
    low, high = advice.low.value, advice.high.value
    given = conditional_values()
    assert generated(scenes, Between(scenes[1], low, high), given)[0] > 0.9
    assert generated(scenes, Between(scenes[1], high, 1e9), given)[0] < 0.25


def test_guidance_acts_within_the_advised_interval(scenes):
    """Guidance of weight 2 moves images as much within the interval alone; outside it hardly moves them."""
    data, exact, advisor = scenes
    advice, _ = advisor.interval(KEEP)
    low, high = advice.low.value, advice.high.value
    given = {KEEP: conditional_values()}

    def run(denoiser):
        streams = Streams(7, rows(N), data.event)
        y = start(exact, TOP, streams())
        levels = levels_below(TOP, LAST, 24)
        return final(sample(denoiser, y, levels, Heun(), known=given)).y

    plain, whole, inside = run(Guided(exact, 0.0)), run(Guided(exact, 2.0)), run(Guided(exact, 2.0, low, high))
    above, below = run(Guided(exact, 2.0, high, 1e9)), run(Guided(exact, 2.0, 0.0, low))

    def moved(y):
        return float(((y - plain) ** 2).flatten(1).sum(1).mean())

    assert moved(inside) > 0.65 * moved(whole)
    assert moved(above) < 0.4 * moved(whole)
    assert moved(below) < 0.05 * moved(whole)


def test_the_advised_steps_come_nearer_to_the_fine_solution(scenes):
    """Twelve Euler steps of the ODE (DDIM) by the advice, against twelve even in ln sigma and twelve of EDM's, from the
    same noise: at most two thirds of the error."""
    data, exact, advisor = scenes
    y = start(exact, TOP, Streams(11, rows(N), data.event)())

    def run(levels, scheme):
        return final(sample(exact, y, [*map(float, levels), 0.0], scheme)).y

    fine = run(sigma_grid(TOP, LAST, 80), Heun())
    grids = {
        "advised": advisor.steps(12).levels,
        "even": sigma_grid(TOP, LAST, 12),
        "edm": karras_grid(TOP, LAST, 12),
    }
    off = {name: ((run(levels, Euler()) - fine) ** 2).flatten(1).sum(1) for name, levels in grids.items()}
    for name in ("even", "edm"):
        gain = off[name] - off["advised"]
        assert float(gain.mean()) > 2 * float(gain.std()) / N**0.5, name
        assert float(off["advised"].mean()) < 0.67 * float(off[name].mean()), name


def test_what_a_redraw_keeps_by_hand():
    """Two values at odds 3 to 1: kept with 9/16 + 1/16, read off with 3/4; and e^(I − H) is below."""
    log_p = torch.tensor([[0.75, 0.25], [1.0, 0.0]]).log()
    assert torch.allclose(kept(log_p), torch.tensor([0.625, 1.0], dtype=torch.float64))
    assert torch.allclose(sure(log_p), torch.tensor([0.75, 1.0], dtype=torch.float64))
    h = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert kept_at_least(np.array([np.log(2) - h]), np.log(2))[0] == pytest.approx(np.exp(-h))
    assert np.exp(-h) < 0.625


def test_pairs_of_children_are_without_bias():
    """The mean over draws of 5 children is the sum of squares; that of squared shares would be .2 (1 − it) above."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    drawn = torch.multinomial(p, 5 * 40_000, True, generator=torch.Generator().manual_seed(0)).reshape(5, -1)
    each = kept_of_counts(count_labels(drawn, 3))
    assert abs(float(each.mean()) - 0.38) < 4 * float(each.std()) / 200
    assert abs(float(each.mean()) - 0.38) < 0.02 < 0.2 * 0.62


def fake(kind="lower bound", per_draw=None):
    """Results of one attribute of two values whose information rises by steps of ln sigma."""
    from sigmascope.core import Attribute
    from sigmascope.studies.results import to_dataset
    from sigmascope.studies.spec import spec_of

    data = from_array(np.random.default_rng(0).normal(size=(8, 2)), {"a": [0, 1] * 4})
    a: Attribute = data.attributes[0]
    sigma = np.array([8.0, 4.0, 2.0, 1.0])
    if per_draw is None:
        per_draw = np.repeat(np.log(2) * np.array([0.0, 0.5, 0.9, 1.0])[:, None], 8, 1)
    curve = Curve.of_draws("a", "bound", sigma, per_draw, a.entropy, kind=kind)
    results = to_dataset([curve], data, data.attributes, torch.arange(8), spec_of(data="x"))
    results.attrs["main_estimator"] = "bound"
    return results


def test_bounds_give_advice_on_the_safe_side():
    """Of a lower bound P_keep is at least e^(I − H): .5, .71, .93, 1 at the four levels."""
    advisor = Advisor(fake(), 0.9)
    assert np.allclose(advisor.noised.keeping("a")[0], [0.5, 2**-0.5, 2**-0.1, 1.0])
    at = advisor.keep("a", [])[0]
    assert 2.0 < at.high.value < 2.4
    assert "by the bound" in at.formula
    assert at.high.low < at.high.value < at.high.high  # all draws are alike; so few may have missed a rare loss


def test_levels_that_are_not_reached_are_said():
    low = fake(per_draw=np.zeros((4, 8)) + 0.01)
    advice = Advisor(low, 0.9).keep("a", [])[0]
    assert not advice.high.reached
    assert advice.words == ""
    assert advice.reason.startswith("P_keep is not shown to reach 0.9: at the last level, σ 1.00, it is at least 0.5")
    (said,) = [a for a in Advisor(low, 0.9).all(["a"], ["a"], 4) if a.kind == "left_out"]
    assert said.words.count("is not shown to reach 0.9") == 2  # P_keep and P_sure, each once


def test_the_command_in_words_json_and_units(tmp_path, capsys):
    from diffusers import DDIMScheduler

    from sigmascope.adapters.diffusers.units import Ruler

    out = tmp_path / "study"
    options = ["--draws", "32", "--levels", "16", "--estimators", "posterior"]
    data = tmp_path / "d.npz"
    rng = np.random.default_rng(0)
    v, a = rng.normal(size=(200, 3, 4, 4)), rng.integers(0, 2, 200)
    np.savez(data, images=(v + 4 * a[:, None, None, None]).astype(np.float32), a=a, b=rng.integers(0, 3, 200))
    assert main(["study", str(data), *options, "--out", str(out)]) == 0
    scheduler = tmp_path / "pipe"
    DDIMScheduler().save_pretrained(scheduler / "scheduler")
    (scheduler / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", "scheduler": ["diffusers"]}))
    capsys.readouterr()
    assert main(["advise", str(out), "--keep", "a", "--redraw", "b", "--words"]) == 0
    words = capsys.readouterr().out
    for kind in KINDS:
        assert kind.replace("_", " ") in words
    given = ["advise", str(out), "--model", f"diffusers:{scheduler}", "--json", "--out", str(tmp_path / "advice.json")]
    assert main(given) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert "its unit of noise levels is not known: pixels from 0 to 1 are assumed" in printed.err
    assert found == json.loads((tmp_path / "advice.json").read_text(encoding="utf-8"))
    assert len(found) == 2 * 6 + 1
    one = next(f for f in found if f["kind"] == "sdedit_strength" and f["attribute"] == "a")
    from sigmascope.adapters.foreign import Unit

    level = Ruler(DDIMScheduler(), 50, Unit(2.0, -1.0)).of_sigma(one["high"]["value"])
    assert one["units"]["high"]["timestep"] == pytest.approx(level.timestep)
    assert one["units"]["high"]["strength"] == level.strength_at_most  # "at most σ" begins there or below


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no study is named"),
        (["nowhere"], "holds no finished study"),
        (["STUDY", "--keep", "hue"], "has no attribute 'hue': choose among a"),
        (["STUDY", "--keep", "a", "--redraw", "a"], "name two attributes"),
        (["STUDY", "--probability", "1.5"], "expected one from 0.5 to below 1"),
        (["STUDY", "--estimator", "magic"], "no estimator is called 'magic'"),
        (["STUDY", "--steps", "1"], "at least 2 are needed"),
        (["STUDY", "--model", "diffusers:nowhere"], "there is no such folder"),
    ],
)
def test_what_cannot_be_advised(options, said, tmp_path, capsys):
    fake().to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    assert main(["advise", *(str(tmp_path) if o == "STUDY" else o for o in options)]) == 2
    words = capsys.readouterr().err.strip()
    assert said in words
    assert "\n" not in words
