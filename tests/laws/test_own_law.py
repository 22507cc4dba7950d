"""Forks of an exact model in a pipeline's clothes: labels that do not know the parent, and the model's own path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from asked import study
from sigmascope.adapters.diffusers.opening import Pipeline
from sigmascope.adapters.foreign import Foreign, Unit
from sigmascope.core import Denoiser
from sigmascope.data import from_array
from sigmascope.exact.gaussian import MixtureDenoiser
from sigmascope.information.jobs.conditional_path import ConditionalPathJob
from sigmascope.information.keeping import kept_of_counts, kept_of_parents, sure_of_counts
from sigmascope.noise import Discrete
from sigmascope.studies import labelling
from sigmascope.studies.labelling import Nearest
from sigmascope.studies.laws import NOISED, OWN_PATH
from sigmascope.studies.results import path_curves

M, SCALE, MIDDLE = 0.7, 0.05, 0.5  # half the distance of two unit normal laws; a unit of them in pixels; their middle
SIGMA, SIDED = np.geomspace(3.0, 0.12, 4), np.geomspace(3.0, 0.3, 4)


class Pictures(Denoiser):
    """The exact denoiser of pictures of four pixels, whose first one is of two overlapping normal laws ``apart``."""

    attributes = ()
    event = (1, 2, 2)

    def __init__(self, apart: float) -> None:
        super().__init__()
        means = torch.tensor([[-apart, 0, 0, 0], [apart, 0, 0, 0]], dtype=torch.float64)
        self.exact = MixtureDenoiser(torch.ones(2) / 2, means, torch.ones(2), {"sign": [0, 1]})

    def forward(self, y, sigma, known=None):
        return self.exact(((y - MIDDLE) / SCALE).flatten(1), sigma / SCALE).reshape(y.shape) * SCALE + MIDDLE


class Config(dict):
    """Of a scheduler."""


class Scheduler:
    config = Config(kind="linear")


def items(n: int, seed: int, apart: float = M) -> tuple[np.ndarray, np.ndarray]:
    """Draws of the law with the component that each is of."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 4))
    x[:, 0] += apart * (2 * a - 1)
    return (MIDDLE + SCALE * x).reshape(n, 1, 2, 2).astype(np.float32), a


@pytest.fixture
def dressed(monkeypatch):
    """Lets a study open the exact denoiser as a pipeline."""

    def dress(apart: float = M) -> None:
        exact, schedule = Pictures(apart), Discrete.linear()

        def network(x, time, _):
            t = time.double().numpy()
            sigma = torch.from_numpy(schedule.sigma(t))[:, None, None, None]
            y = x.double() / torch.from_numpy(schedule.alpha(t))[:, None, None, None]
            return (y - (2 * exact((y + 1) / 2, sigma.flatten() / 2) - 1)) / sigma

        foreign = Foreign(network, Pictures.event, schedule, "epsilon", unit=Unit(2.0, -1.0))
        pipe = Pipeline("exact", "Exact", foreign, Scheduler())
        monkeypatch.setattr("sigmascope.adapters.models.load_pipeline", lambda *_, **__: pipe)

    return dress


def component_kept(sigma: float) -> float:
    """Probability that a redraw's component is the parent's: E[p² + (1 − p)²], by quadrature."""
    spread = np.hypot(1.0, sigma)
    y = np.linspace(-M - 9 * spread, M + 9 * spread, 20_001)
    each = np.stack([0.5 * stats.norm.pdf(y, m, spread) for m in (-M, M)])
    return float((each**2 / each.sum(0)).sum() * (y[1] - y[0]))


def side_kept(sigma: float, apart: float = M) -> float:
    """Probability that a redraw's first pixel lies on the same side of the middle."""
    spread = np.hypot(1.0, sigma)
    y = np.linspace(-apart - 9 * spread, apart + 9 * spread, 20_001)
    each = np.stack([0.5 * stats.norm.pdf(y, m, spread) for m in (-apart, apart)])
    share = each / each.sum(0)
    mean = [m + (y - m) / spread**2 for m in (-apart, apart)]
    right = sum(p * stats.norm.cdf(m / (sigma / spread)) for p, m in zip(share, mean, strict=True))
    return float((each.sum(0) * (right**2 + (1 - right) ** 2)).sum() * (y[1] - y[0]))


def of(per_draw) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors over draws, by level."""
    each = per_draw.values[0]
    return each.mean(1), each.std(1, ddof=1) / each.shape[1] ** 0.5


def forked(path, **more):
    options = {"draws": 160, "levels": 4, "forks": 12, "steps": 24, "estimators": "forks", "attributes": "sign"}
    options |= {"sigma_max": SCALE * SIGMA[0], "sigma_min": SCALE * SIGMA[-1]}
    return study(str(path), model="diffusers:x", **{**options, **more})


@pytest.fixture
def data(tmp_path):
    """A file of draws of the law; with ``copies`` each has some that differ from it by little."""

    def write(copies: int = 0):
        v, a = items(3000, 1)
        jitter = 1e-4 * np.random.default_rng(2).normal(size=(copies + 1, *v.shape))
        jitter[0] = 0
        path = tmp_path / "pictures.npz"
        np.savez(path, images=(v + jitter).reshape(-1, *v.shape[1:]).astype(np.float32), sign=np.tile(a, copies + 1))
        return path

    return write


@pytest.mark.parametrize("copies", [0, 2])
def test_what_redraws_keep_is_the_truth_by_the_default_labels(dressed, data, copies):
    """The labels are random given a picture, as far as the two laws overlap: the parent's own would be kept for sure at
    little noise, where a redraw's is the parent's in 69 of 100."""
    dressed()
    results = forked(data(copies))
    truth = np.array([component_kept(s) for s in SIGMA])
    assert truth[0] < 0.54
    assert truth[-1] < 0.7
    seen, error = of(results.kept_per_draw)
    assert np.abs((seen - truth) / error).max() < 2
    assert "the parent's item" in results.attrs["labeller"]
    assert results.kept_per_draw.attrs["law"] == results.attrs["law"] == NOISED
    assert set(results.left_out.values.tolist()) >= {1 + copies}
    right, spread = float(results.labeller_right[0]), float(results.labeller_right_stderr[0])
    assert abs(right - component_kept(1e-3)) < 3 * spread


def test_the_parents_own_item_would_tell_its_label(dressed, data, monkeypatch):
    """Labels of the nearest item, the parent's among them: kept in nearly all at little noise."""
    dressed()
    whole = Nearest.__call__
    monkeypatch.setattr(Nearest, "__call__", lambda self, values, parents=None: whole(self, values))
    seen, error = of(forked(data()).kept_per_draw)
    truth = np.array([component_kept(s) for s in SIGMA])
    assert ((seen - truth) / error)[-1] > 8


def test_near_copies_would_tell_it_too(dressed, data, monkeypatch):
    dressed()
    monkeypatch.setattr(labelling, "_gaps", lambda d: torch.zeros(len(d), dtype=torch.int64))
    seen, error = of(forked(data(2)).kept_per_draw)
    assert ((seen - np.array([component_kept(s) for s in SIGMA])) / error)[-1] > 8


def test_what_is_a_near_copy():
    """Copies are left out, also many equal ones; classes that are narrow, or cells of a design, are not."""
    rng = np.random.default_rng(0)
    far = rng.normal(size=(80, 12))
    label = rng.integers(0, 2, 80)
    copied = from_array(np.concatenate([far, far[:40] + 1e-3 * rng.normal(size=(40, 12))]),
                        {"a": np.concatenate([label, label[:40]])})  # fmt: skip
    found = Nearest(copied).left_out(torch.arange(120))
    assert found.tolist() == [2] * 40 + [1] * 40 + [2] * 40
    many = from_array(np.concatenate([far, np.repeat(far[:1], 50, 0)]), {"a": np.concatenate([label, [label[0]] * 50])})
    assert Nearest(many).left_out(torch.tensor([0, 1, 100])).tolist() == [51, 1, 51]
    narrow = np.repeat(10 * far[:8], 10, 0) + 0.1 * rng.normal(size=(80, 12))
    classes = from_array(narrow, {"a": np.repeat(np.arange(8), 10)})
    assert Nearest(classes).left_out(torch.arange(80)).tolist() == [1] * 80
    assert bool(Nearest(classes).right("a", torch.arange(80)).all())
    uneven = from_array(np.concatenate([0.01 * far, 10 + far]), {"a": np.repeat([0, 1], 80)})
    assert Nearest(uneven).left_out(torch.arange(160)).tolist() == [1] * 160


def test_items_that_are_the_only_ones_of_their_kind_label_their_children():
    """Points with a name each, and all combinations of two factors once: the nearest other item is another one."""
    pairs = np.stack(np.meshgrid(np.arange(12.0), 1.5 * np.arange(12)), -1).reshape(-1, 2)
    for data in (
        from_array(np.array([[-1.0], [1.0]]), {"a": [0, 1]}),
        from_array(3.0 * np.eye(10), {"a": np.arange(10)}),
        from_array(pairs, {"a": np.tile(np.arange(12), 12), "b": np.repeat(np.arange(12), 12)}),
    ):
        found, every = Nearest(data), torch.arange(len(data))
        assert not found.leaves_out
        assert "including the parent's item" in found.words
        assert torch.equal(found(data.source.take(every), every)["a"], data.labels["a"])
    rare = from_array(np.random.default_rng(0).normal(size=(60, 3)), {"a": [0] * 29 + [1] * 30 + [2]})
    assert Nearest(rare).leaves_out


def test_items_without_weight_label_nothing():
    v, weights = np.array([[0.0], [0.1], [1.0], [2.0]]), np.array([1.0, 0.0, 1.0, 1.0])
    data = from_array(v, {"a": [0, 1, 0, 1]}, weights=weights)
    assert Nearest(data)(torch.tensor([[0.1]]))["a"].tolist() == [0]
    assert Nearest(data)(torch.tensor([[0.1], [1.9]]), torch.tensor([0, 3]))["a"].tolist() == [0, 0]


def test_what_children_keep_by_hand():
    counts = torch.tensor([[[3, 1, 0], [0, 2, 2]]])
    assert kept_of_parents(counts, torch.tensor([0, 1]))[0].tolist() == [0.75, 0.5]
    # Of 3 and 1: each of the three has two siblings like it against one, the single one has none. Of 2 and 2: one
    # against two for all.
    assert sure_of_counts(counts)[0].tolist() == [0.75, 0.0]
    assert sure_of_counts(torch.tensor([[1, 1, 0], [2, 1, 0]])).tolist() == [0.0, pytest.approx(1 / 3)]


def test_a_siblings_majority_is_between_what_is_kept_and_what_is_sure():
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    drawn = torch.multinomial(p.expand(20_000, 3), 9, True, generator=torch.Generator().manual_seed(0))
    counts = torch.nn.functional.one_hot(drawn, 3).sum(1)
    sure, kept = sure_of_counts(counts), kept_of_counts(counts)
    error = float(sure.std()) / 20_000**0.5
    assert float(kept.mean()) + 5 * error < float(sure.mean()) < 0.5 - 5 * error


LABELLER = "def side(images):\n    return (images[:, 0, 0, 0] > 0.5).long()\n"
ALONG = {"estimators": "forks,own_path", "labeller": "sides:side", "sigma_min": SCALE * SIDED[-1]}


@pytest.fixture
def sided(tmp_path, monkeypatch):
    """A labeller of the side on which the first pixel lies, as a user writes one."""
    (tmp_path / "sides.py").write_text(LABELLER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(apart: float = M):
        v, _ = items(3000, 1, apart)
        np.savez("sided.npz", images=v, sign=(v[:, 0, 0, 0] > 0.5).astype(int))
        return "sided.npz"

    return write


def test_along_its_own_path_an_exact_model_is_as_on_noised_data(dressed, sided):
    """The states that it visits have the law of noised data: the same is kept, and the curves begin at 0."""
    dressed()
    results = forked(sided(), **ALONG)
    truth = np.array([side_kept(s) for s in SIDED])
    for name, law in (("kept_per_draw", NOISED), ("path_kept_per_draw", OWN_PATH)):
        seen, error = of(results[name])
        assert np.abs((seen - truth) / (error + 2e-3)).max() < 2.5, name
        assert results[name].attrs["law"] == law
    own, noised = path_curves(results)["sign"], results.information.sel(estimator="forks").values[0]
    assert np.abs(own.value - noised).max() < 3 * np.hypot(own.error.max(), results.stderr.values.max())
    assert own.ceiling == pytest.approx(np.log(2), abs=0.01)
    assert own.value[-1] > 0.7 * own.ceiling
    sure, _ = of(results.path_sure_per_draw)
    assert (sure >= truth - 0.05).all()
    counted = results.attrs["network_calls"]
    assert (
        counted > forked("sided.npz", labeller="sides:side", sigma_min=ALONG["sigma_min"]).attrs["network_calls"] * 1.9
    )


def test_what_is_open_at_the_last_level_stays_open(dressed, sided):
    """A study that ends early, at a level where a tenth of the redraws change: its children go on below it."""
    dressed()
    results = forked(sided(), **{**ALONG, "levels": 2, "sigma_min": SCALE * 0.5})
    assert side_kept(0.5) < 0.9
    for name in ("kept_per_draw", "path_kept_per_draw", "shared_per_draw"):
        seen, error = of(results[name])
        assert abs(seen[-1] - side_kept(0.5)) < 2.5 * error[-1] + 2e-3, name


def test_another_model_has_a_path_of_its_own(dressed, sided):
    """A model whose laws lie three times as far apart as those of the data: what its path has decided is decided at
    more noise than in noised data, and only the path says so."""
    far = 3 * M
    dressed(far)
    results = forked(sided(), **ALONG)
    own = np.array([side_kept(s, far) for s in SIDED])
    data = np.array([side_kept(s) for s in SIDED])
    seen, error = of(results.path_kept_per_draw)
    assert np.abs((seen - own) / (error + 2e-3)).max() < 2.5
    assert ((seen - data) / error)[1] > 5
    noised, spread = of(results.kept_per_draw)
    assert ((own - noised) / spread)[1] > 5


@pytest.mark.filterwarnings("ignore")
def test_the_path_goes_on_where_it_was_stopped(dressed, sided, tmp_path, monkeypatch):
    import sigmascope.studies.run as compute
    from sigmascope.information.jobs.forking import OwnPathJob

    dressed()
    path = sided()
    monkeypatch.setattr(compute, "CHECKPOINT_SECONDS", 0.0)
    more = {**ALONG, "draws": 50, "steps": 6, "forks": 6}
    whole = forked(path, **more, out=tmp_path / "whole")
    own, done = OwnPathJob.step, []

    def step(self):
        if len(done) == 6:
            raise KeyboardInterrupt
        done.append(1)
        own(self)

    monkeypatch.setattr(OwnPathJob, "step", step)
    with pytest.raises(KeyboardInterrupt):
        forked(path, **more, out=tmp_path / "part")
    monkeypatch.setattr(OwnPathJob, "step", own)
    assert forked(path, **more, out=tmp_path / "part").identical(whole)


def information(sigma: float, apart: float = M) -> float:
    """What a noisy value tells of its component, by quadrature."""
    spread = np.hypot(1.0, sigma)
    y = np.linspace(-apart - 9 * spread, apart + 9 * spread, 20_001)
    each = np.stack([0.5 * stats.norm.pdf(y, m, spread) for m in (-apart, apart)])
    share = each / each.sum(0)
    return float(np.log(2) + (each * np.log(np.maximum(share, 1e-300))).sum() * (y[1] - y[0]))


class Conditional(Denoiser):
    """A mixture that is given its component with an error: that of laws ``given`` times as far apart."""

    def __init__(self, given: float = 1.0) -> None:
        super().__init__()
        self.free, self.knowing = Pictures(M).exact, Pictures(given * M).exact
        self.event, self.attributes = (4,), self.free.attributes

    def forward(self, y, sigma, known=None):
        return self.free(y, sigma) if known is None else self.knowing(y, sigma, {"sign": known["sign"]})


def along_conditional(denoiser: Denoiser, sigma: np.ndarray, draws: int = 128):
    work = ConditionalPathJob(denoiser, 40.0, sigma, denoiser.attributes, draws, 0)
    while not work.done:
        work.step()
    return work.result_for(denoiser.attributes[0]).curve


def test_the_gap_along_conditional_generations_is_the_information_of_an_exact_model():
    """Levels a factor of 5 apart are refined; what lies above the first of them is counted."""
    sigma = np.array([2.5, 0.5, 0.1])
    curve = along_conditional(Conditional(), sigma)
    truth = np.array([information(s) for s in sigma])
    assert np.abs((curve.value - truth) / curve.stderr).max() < 3
    assert (curve.stderr < 0.08 * truth).all()


def test_of_a_network_in_error_it_is_the_relative_entropy_of_its_paths():
    """Given values of laws twice as far apart: P(path | value) from the unconditional one is known in closed form."""
    sigma = np.array([2.5, 0.5, 0.1])
    curve = along_conditional(Conditional(2.0), sigma, 128)
    truth = []
    for s in sigma:
        spread = np.hypot(1.0, s)
        y = np.linspace(2 * M - 9 * spread, 2 * M + 9 * spread, 20_001)
        mine = stats.norm.pdf(y, 2 * M, spread)
        whole = sum(0.5 * stats.norm.pdf(y, m, spread) for m in (-M, M))
        truth.append(float((mine * np.log(mine / whole)).sum() * (y[1] - y[0])))
    assert np.abs((curve.value - truth) / curve.stderr).max() < 3
    exact = np.array([information(s) for s in sigma])
    assert ((curve.value - exact) / curve.stderr).min() > 5
