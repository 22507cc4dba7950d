"""Two studies compared: intervals cover, pairing is found and matters, what cannot be compared is refused."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from asked import study
from problems import Line, four_points, two_points
from sigmascope.analysis import comparison as module
from sigmascope.core import InputError
from sigmascope.noise import sigma_grid
from sigmascope.report.comparison import comparison_figure, comparison_text, words
from sigmascope.report.table import onset_csv
from sigmascope.studies.compare import compare, comparisons
from sigmascope.studies.results import table_of

SIGMA = sigma_grid(40.0, 0.025, 26)
H = 2.0


def results(
    per_draw: dict[tuple[str, str], np.ndarray],
    sigma: np.ndarray = SIGMA,
    *,
    kind: dict[str, str] | None = None,
    seed: int = 0,
    items: np.ndarray | None = None,
    quadrature: float = 0.0,
    ceiling: float = H,
) -> xr.Dataset:
    """A Dataset as a study makes it, of contributions of draws by (attribute, estimator)."""
    names, ways = (list(dict.fromkeys(k[i] for k in per_draw)) for i in (0, 1))
    draws = next(iter(per_draw.values())).shape[1]
    nothing = np.full((len(sigma), draws), np.nan)
    each = np.stack([[per_draw.get((n, e), nothing) for e in ways] for n in names])
    good = np.isfinite(each)
    count = np.maximum(good.sum(3), 1)
    value = np.where(good.any(3), np.where(good, each, 0).sum(3) / count, np.nan)
    spread = np.where(good, each - value[..., None], 0.0)
    axes = ("attribute", "estimator", "sigma")
    return xr.Dataset(
        {
            "information": (axes, value),
            "stderr": (axes, np.sqrt((spread**2).sum(3) / np.maximum(count - 1, 1) / count) + 0 * value),
            "information_per_draw": ((*axes, "draw"), each),
            "quadrature_error": (axes, np.full(value.shape, quadrature)),
            "ceiling": ("attribute", np.full(len(names), ceiling)),
            "kind": ("estimator", [(kind or {}).get(e, "exact") for e in ways]),
            "item": ("draw", np.arange(draws) if items is None else items),
        },
        coords={"attribute": names, "estimator": ways, "sigma": sigma},
        attrs={"seed": seed, "data_name": "made", "data_words": "nothing"},
    )


SHARED, OWN, WIDTH = 0.6, 0.25, 0.35


def steps(where: np.ndarray, sigma: np.ndarray = SIGMA) -> np.ndarray:
    """Each draw learns H about its own ln sigma."""
    return H / (1 + np.exp((np.log(sigma)[:, None] - where) / WIDTH))


def mean_step(middle: float, spread: float, sigma: np.ndarray = SIGMA) -> np.ndarray:
    x, w = np.polynomial.hermite_e.hermegauss(120)
    return steps(middle + spread * x, sigma) @ w / math.sqrt(2 * math.pi)


def pair_of(seed: int, shift: float, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws that both studies see, each with an error of its own: half of A is at exp(shift), of B at 1."""
    rng = np.random.default_rng(seed)
    shared = SHARED * rng.normal(size=draws)
    return tuple(steps(m + shared + OWN * rng.normal(size=draws)) for m in (shift, 0.0))


RUNS = 200


def runs(how: str) -> dict[str, np.ndarray]:
    found: dict[str, list] = {"shift": [], "gap": [], "width": [], "gap_width": [], "error": [], "p": []}
    truth = {s: mean_step(s, math.hypot(SHARED, OWN)) - mean_step(0.0, math.hypot(SHARED, OWN)) for s in (0.0, 0.25)}
    inside = slice(8, 18)
    for seed in range(RUNS):
        shift = 0.25 * (seed % 2)
        a, b = pair_of(seed, shift, 60)
        if how == "shuffled":
            b = b[:, np.random.default_rng(seed).permutation(60)]
        one, two = (results({("a", "posterior"): x}, seed=seed) for x in (a, b))
        (c,) = comparisons(one, two, resamples=250, pair=False if how == "unpaired" else None)
        assert c.paired == (how != "unpaired")
        found["shift"].append(c.shift.low <= shift <= c.shift.high)
        found["gap"].append(((c.low <= truth[shift]) & (truth[shift] <= c.high))[inside])
        found["width"].append(c.shift.high - c.shift.low)
        found["gap_width"].append((c.high - c.low)[inside])
        found["error"].append((c.difference - truth[shift])[inside])
        found["p"].append(c.a_earlier)
    return {k: np.array(x) for k, x in found.items()}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, np.ndarray]]:
    return {how: runs(how) for how in ("paired", "unpaired", "shuffled")}


BAND = 4 * math.sqrt(0.95 * 0.05 / RUNS)


def test_paired_intervals_cover(found):
    for what in ("shift", "gap"):
        assert abs(found["paired"][what].mean() - 0.95) < BAND, what
    assert np.all(np.abs(found["paired"]["gap"].mean(0) - 0.95) < BAND)
    # Coverage alone would let intervals pass that are too wide.
    said, seen = found["paired"]["gap_width"].mean(0) / (2 * 1.96), found["paired"]["error"].std(0, ddof=1)
    assert said == pytest.approx(seen, rel=4 / math.sqrt(2 * RUNS))


def test_pairs_matter(found):
    """Without pairs, and with wrong ones, intervals are much too wide: they never miss."""
    for how in ("unpaired", "shuffled"):
        assert found[how]["shift"].mean() > 0.995
        assert found[how]["gap"].mean() > 0.995
        wider = math.hypot(SHARED, OWN) / OWN
        assert found[how]["width"].mean() / found["paired"]["width"].mean() == pytest.approx(wider, rel=0.1)
        assert found[how]["gap_width"].mean() / found["paired"]["gap_width"].mean() > 2


def test_the_probability_is_calibrated(found):
    """Where both decide at the same level it is uniform; where A is earlier it says so."""
    tie, early = found["paired"]["p"][::2], found["paired"]["p"][1::2]
    n = len(tie)
    assert tie.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * n))
    assert tie.var() == pytest.approx(1 / 12, rel=0.35)
    assert early.mean() > 0.99
    assert found["unpaired"]["p"][::2].var() < 0.03  # too unsure


def test_few_draws_cover_too(monkeypatch):
    """Ends moved out as Student's t asks; without that, intervals of 6 draws miss too often."""

    def coverage() -> float:
        hits = []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            one, two = (results({("a", "posterior"): 1.0 + 0.3 * rng.normal(size=(2, 6))}, SIGMA[:2]) for _ in "ab")
            (c,) = comparisons(one, two, resamples=250)
            hits.append((c.low <= 0) & (c.high >= 0))
        return float(np.mean(hits))

    band = 4 * math.sqrt(0.95 * 0.05 / 400)
    assert abs(coverage() - 0.95) < band
    monkeypatch.setattr(module, "ends_of", lambda draws: [0.025, 0.975])
    assert coverage() < 0.95 - band


def test_pairs_are_found():
    a, b = pair_of(0, 0.3, 40)
    one = results({("a", "posterior"): a}, seed=3)

    def joined(**change) -> bool:
        other = {"seed": 3} | change
        return comparisons(one, results({("a", "posterior"): b}, **other), resamples=50)[0].paired

    assert joined()
    assert not joined(seed=4)
    assert not joined(items=np.arange(40)[::-1].copy())
    fewer = results({("a", "posterior"): b[:, :30]}, seed=3)
    assert not comparisons(one, fewer, resamples=50)[0].paired
    unnamed = [results({("a", "posterior"): x}, seed=3).drop_vars("item") for x in (a, b)]
    assert not comparisons(*unnamed, resamples=50)[0].paired
    # The draws are the same whatever the levels.
    x = np.log(sigma_grid(30.0, 0.03, 31))
    moved = results({("a", "posterior"): steps(np.zeros(40), np.exp(x))}, np.exp(x), seed=3)
    (c,) = comparisons(one, moved, resamples=50)
    assert c.paired
    assert c.interpolated


def known(line: Line, name: str, sigma: np.ndarray) -> xr.Dataset:
    value = np.array([line.information(name, s) for s in sigma])
    many = np.repeat(value[:, None], 40_000, 1)  # of few draws that are alike, a rare other one may have been missed
    return results({(name, "posterior"): many}, sigma, ceiling=line.entropy(name))


def test_other_levels_by_interpolation():
    """Two points at ±1 and ±2: the same curve, a factor of 2 apart in sigma; on two grids."""
    one, two = sigma_grid(60.0, 0.05, 33), sigma_grid(90.0, 0.1, 40)
    (c,) = comparisons(known(two_points(1.0), "sign", one), known(two_points(2.0), "sign", two), resamples=20)
    assert c.shift.value == pytest.approx(-math.log(2), abs=4e-3)
    assert [q.value for q in c.half] == pytest.approx([0.979, 1.958], rel=4e-3)
    assert (c.sigma[0], c.sigma[-1]) == (60.0, pytest.approx(0.1))
    assert np.all(np.diff(c.sigma) < 0)
    truth = [two_points(1.0).information("sign", s) - two_points(2.0).information("sign", s) for s in c.sigma]
    assert c.difference == pytest.approx(np.array(truth), abs=2e-3)
    assert c.interpolated
    assert "interpolated" in comparison_text([c])
    assert c.a_earlier == 0.0
    assert words(c).startswith("B decides sign earlier: half at σ 1.96 (1.96 to 1.96) against 0.979")


def test_half_outside_the_common_levels_is_not_compared():
    """A goes down to 0.1 and is half known at 0.979; B ends at 1.5, where less than half is known."""
    one, two = sigma_grid(60.0, 0.1, 30), sigma_grid(60.0, 1.5, 16)
    (c,) = comparisons(known(two_points(1.0), "sign", one), known(two_points(1.0), "sign", two), resamples=20)
    assert [q.value for q in c.half] == [0.0, 0.0]
    assert math.isnan(c.shift.value)
    assert math.isnan(c.a_earlier)
    assert words(c) == "sign: neither reaches half within the levels that both have"
    (c,) = comparisons(known(two_points(2.0), "sign", one), known(two_points(1.0), "sign", two), resamples=20)
    assert c.half[0].value == pytest.approx(1.958, rel=4e-3)
    assert (c.a_earlier, c.earlier, c.half[1].value) == (1.0, "A", 0.0)
    assert words(c).startswith("A decides sign earlier: half at σ 1.96 (1.96 to 1.96) against not reached")


def test_errors_that_draws_share_widen_the_interval():
    a, b = pair_of(1, 0.0, 40)
    plain, wide = (
        comparisons(*(results({("a", "posterior"): x}, quadrature=q) for x in (a, b)), resamples=200)[0]
        for q in (0.0, 0.1)
    )
    for end in ("low", "high"):
        lengths = [np.abs(getattr(c, end) - c.difference) for c in (plain, wide)]
        assert lengths[1] == pytest.approx(np.sqrt(lengths[0] ** 2 + 2 * (1.96 * 0.1) ** 2), rel=1e-9)


KINDS = {"score_gap": "estimate", "mmse_gap": "estimate", "likelihood": "lower bound", "filter": "lower bound"}


def test_the_best_estimator_is_taken():
    a, b = pair_of(2, 0.1, 20)
    ways = ("score_gap", "mmse_gap", "likelihood", "filter", "posterior")
    scale = {"filter": 0.8, "likelihood": 0.9}

    def study(x: np.ndarray, some, trusted=()) -> xr.Dataset:
        noisy = 0.1 * np.random.default_rng(0).normal(size=x.shape)
        of = {("a", e): scale.get(e, 1.0) * x + (noisy if e == "mmse_gap" else 0) for e in some}
        made = results(of, kind=KINDS)
        if trusted is None:
            return made
        mark = np.stack([[np.full(len(SIGMA), e in trusted) for e in some]])
        return made.assign(trusted=(("attribute", "estimator", "sigma"), mark))

    def taken(some, trusted, estimator="", others=None) -> str:
        one, two = study(a, some, trusted), study(b, others or some, trusted)
        return comparisons(one, two, estimator, resamples=20)[0].estimator

    assert taken(ways, None) == "posterior"
    assert taken(ways[:4], None) == "likelihood"  # the tighter bound, before an estimate
    assert taken(ways[:4], ["mmse_gap"]) == "mmse_gap"
    assert taken(ways[:4], ["mmse_gap", "score_gap"]) == "score_gap"  # the surer estimate
    assert taken(ways[:2], None) == "score_gap"
    assert taken(ways[:4], None, "filter") == "filter"
    assert taken(ways, None, others=ways[:4]) == "likelihood"
    assert taken(ways, None, "posterior:filter", others=ways[:4]) == "posterior:filter"
    one, two = study(a, ways, None), study(b, ways[:4], ["mmse_gap"])  # trusted in one alone
    assert comparisons(one, two, resamples=20)[0].estimator == "likelihood"
    partly = two.trusted.copy()
    partly.loc[{"estimator": "mmse_gap", "sigma": SIGMA[3]}] = False
    assert comparisons(two.assign(trusted=partly), two, resamples=20)[0].estimator == "likelihood"
    said = comparison_text(
        comparisons(study(a, ways, None), study(b, ways[:4], None), "posterior:filter", resamples=20)
    )
    assert "their difference bounds nothing" in said
    with pytest.raises(InputError, match="study B has no estimator 'posterior' of 'a': choose among score_gap"):
        taken(ways, None, "posterior", others=ways[:4])
    with pytest.raises(InputError, match=r"no estimator in both studies .* --estimator score_gap:filter"):
        taken(ways[:1], None, others=("filter",))


def test_holes_are_left_out():
    """Levels and draws without numbers, and estimators without a curve of an attribute."""
    a, b = pair_of(3, 0.2, 30)
    full = comparisons(*(results({("a", "posterior"): x}) for x in (a, b)), resamples=100)[0]
    wide = np.concatenate([a, np.full((len(SIGMA), 5), np.nan)], 1)
    holes = results({("a", "posterior"): wide, ("b", "filter"): wide}, items=np.r_[np.arange(30), [-1] * 5])
    (c,) = comparisons(holes, results({("a", "posterior"): b}), resamples=100)
    assert (c.paired, c.estimator) == (True, "posterior")
    assert c.shift == full.shift
    holes.information_per_draw[..., 2, :] = np.nan
    holes.information[..., 2] = np.nan
    (c,) = comparisons(holes, results({("a", "posterior"): b}), resamples=100)
    assert SIGMA[2] not in c.a.sigma
    assert c.shift.value == pytest.approx(full.shift.value, abs=1e-2)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two studies of small images, in one of which the bar is fainter, and one of other images."""
    rng = np.random.default_rng(0)
    bar, tone = rng.integers(0, 4, 800), rng.integers(0, 3, 800)
    base = rng.normal(size=(800, 6, 6)) * 0.05
    base[:, 4:] += tone[:, None, None] / 3
    root = tmp_path_factory.mktemp("studies")
    for name, strength, draws in (("clear", 1.0, 40), ("faint", 0.4, 40), ("few", 0.4, 24)):
        images = base.copy()
        images[np.arange(800), bar] += strength
        labels = {"bar": bar, "tone": tone}
        options = {"draws": draws, "levels": 24, "sigma_max": 30.0, "estimators": "posterior"}
        if name == "clear":  # with all that a study writes; of the others, what is read
            study(images.astype(np.float32), labels, out=root / name, **options)
        else:
            stored(study(images.astype(np.float32), labels, **options), root / name)
    stored(study(base.astype(np.float32), {"other": tone}, draws=8, levels=6), root / "other")
    return root


def stored(study: xr.Dataset, folder: Path) -> None:
    folder.mkdir()
    study.to_netcdf(folder / "results.nc", engine="h5netcdf")
    (folder / "onset.csv").write_text(onset_csv(table_of(study)))


def test_files_of_a_comparison(studies, tmp_path):
    out = tmp_path / "out"
    said = compare(studies / "clear", studies / "faint" / "results.nc", out)
    assert {p.name for p in out.iterdir()} == {
        "compare.toml",
        *(f"comparison.{k}" for k in ("csv", "json", "png", "svg")),
    }
    assert "A decides bar earlier" in said
    assert "tone: no difference shown" in said
    assert "Paired: the same items and seed, of data that differ" in said
    with (out / "comparison.csv").open() as file:
        rows = {r["attribute"]: r for r in csv.DictReader(file)}
    assert set(rows) == {"bar", "tone"}
    assert rows["bar"]["estimator"] == "posterior"
    # A bar of 0.4 in place of 1 is seen at 0.4 of the noise.
    assert float(rows["bar"]["shift_low"]) < math.log(1 / 0.4) < float(rows["bar"]["shift_high"])
    assert float(rows["bar"]["largest_difference_low"]) > 0.3
    for side, name in (("a", "clear"), ("b", "faint")):  # as on the page of each study
        with (studies / name / "onset.csv").open() as file:
            page = {r["attribute"]: r for r in csv.DictReader(file)}
        for end in ("", "_low", "_high"):
            assert rows["bar"][f"sigma_50_{side}{end}"] == page["bar"][f"sigma_50{end}"]
    table = json.loads((out / "comparison.json").read_text())
    assert table["studies"]["A"]["draws"] == 40
    halves = [r["half"]["A"]["sigma"] for r in table["attributes"]]
    assert halves == sorted(halves, reverse=True)
    assert len(table["attributes"][0]["difference"]["value"]) == 24
    before = (out / "comparison.csv").read_bytes(), (out / "comparison.svg").read_bytes()
    assert compare(studies / "clear", studies / "faint" / "results.nc", out) == said
    assert before == ((out / "comparison.csv").read_bytes(), (out / "comparison.svg").read_bytes())


def test_other_draws_are_independent(studies, tmp_path):
    said = compare(studies / "clear", studies / "few", tmp_path / "out")
    assert "Not paired: the draws differ" in said
    assert "A decides bar earlier" in said


def test_the_figure_shows_both_and_their_difference(studies):
    one, two = (xr.load_dataset(studies / n / "results.nc", engine="h5netcdf") for n in ("clear", "faint"))
    found = comparisons(one, two, resamples=100)
    figure = comparison_figure(found, ("A: clear", "B: faint"))
    names = ["A: clear", "B: faint", "A − B, with its 95 % band", "dotted: entropy H", "bar: σ at half of H, 95 %"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == names
    drawn = [ax for ax in figure.axes if ax.lines]
    assert len(drawn) == 2 * len(found)
    for c, upper in zip(found, drawn[: len(found)], strict=True):
        assert upper.get_title(loc="left") == c.attribute
        assert (
            upper.lines[0].get_linestyle()
            != next(k for k in upper.lines if k.get_label() == "B: faint").get_linestyle()
        )


@pytest.mark.parametrize(
    ("a", "b", "estimator", "words"),
    [
        ("clear", "nowhere", "", "nowhere: no such study"),
        ("clear", "begun", "", r"begun: the study in it is not finished: finish it: sigmascope study --spec"),
        ("empty", "clear", "", "empty: it holds no study"),
        ("clear", "text.nc", "", "text.nc: cannot be read"),
        ("clear", "foreign.nc", "", "the results lack"),
        ("clear", "other", "", "no attribute is in both studies: A has bar, tone, B has other"),
        ("clear", "faint", "forks", "study A has no estimator 'forks' of 'bar': choose among posterior"),
    ],
)
def test_refused(studies, tmp_path, a, b, estimator, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "spec.toml").write_text("")
    (tmp_path / "text.nc").write_text("no results")
    xr.Dataset({"x": ("y", [1.0])}).to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    one, two = (studies / n if (studies / n).exists() else tmp_path / n for n in (a, b))
    with pytest.raises(InputError, match=words) as refusal:
        compare(one, two, tmp_path / "out", estimator)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_levels_apart_are_refused():
    one, two = (known(four_points(), "coarse", s) for s in (sigma_grid(60.0, 10.0, 8), sigma_grid(9.0, 0.1, 8)))
    with pytest.raises(InputError, match=r"do not overlap \(60 to 10 and 9 to 0.1\)"):
        comparisons(one, two)


def test_folders_of_something_else_are_left_alone(studies, tmp_path):
    with pytest.raises(InputError, match=r"holds no compare\.toml"):
        compare(studies / "clear", studies / "faint", studies / "clear")
    compare(studies / "clear", studies / "faint", tmp_path / "out")
    with pytest.raises(InputError, match="it holds another comparison"):
        compare(studies / "faint", studies / "clear", tmp_path / "out")
    with pytest.raises(InputError, match="pass --out FOLDER"):
        compare(studies / "faint", studies / "clear", "")
    with pytest.raises(InputError, match="pass the folders of both"):
        compare(studies / "faint", "", tmp_path / "new")
