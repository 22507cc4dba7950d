"""Figures can be read: no text is cut off or covers another, axes show where curves move, and plot draws into axes."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from diffusers import DDPMScheduler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

import sigmascope
from asked import study
from sigmascope.adapters.diffusers.units import ruler_of
from sigmascope.analysis.onset import Quantity
from sigmascope.errors import InputError
from sigmascope.report.comparison import comparison_figure
from sigmascope.report.figures import moving, sigma_ticks
from sigmascope.report.table import brief, plus_minus
from sigmascope.studies.compare import comparisons

LONG = "an attribute with a name that no column has room for"


def labelled(seed=0, n=240):
    """Pictures with a bright block: its place, its colour, and an attribute of many values with a long name."""
    rng = np.random.default_rng(seed)
    place, colour = rng.integers(0, 3, n), rng.integers(0, 3, n)
    images = rng.uniform(0, 0.2, (n, 6, 6, 3)).astype(np.float32)
    for k in range(n):
        images[k, 2 * place[k] : 2 * place[k] + 2, :, colour[k]] += 0.5
    return images, {"place": place, "colour": colour, LONG: rng.integers(0, 20, n)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The results of two studies, and every figure of the page of the first."""
    figures = {}

    def rendered(figure, kind):
        figures[len(figures)] = figure
        return kind.encode()

    images, labels = labelled()
    names = ["place", "colour", LONG, "place+colour"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sigmascope.report.page.rendered", rendered)
        options = {"draws": 16, "levels": 12, "pairs": True, "estimators": ("posterior", "score_gap", "forks")}
        out = tmp_path_factory.mktemp("figures") / "out"
        first = study(images, labels=labels, attributes=names, forks=24, out=out, **options)
    second = study(*labelled(1), attributes=["place", "colour"], draws=16, levels=12)
    kept = {id(f): f for f in figures.values()}.values()
    return first, second, list(kept)


def texts_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is seen, with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    found = []
    for ax in [*figure.axes, *(child for a in figure.axes for child in a.child_axes)]:
        if not ax.axison or not ax.get_visible():
            continue
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            seen = [t for t in axis.get_major_ticks() if min(limits) <= t.get_loc() <= max(limits)]
            found += [label for t in seen for label in (t.label1, t.label2) if label.get_visible()]
        found += [ax.xaxis.label, ax.yaxis.label, ax.title, ax._left_title]  # type: ignore[attr-defined]
        if (legend := ax.get_legend()) is not None:
            found += [*legend.get_texts(), legend.get_title()]
    for legend in figure.legends:
        found += [*legend.get_texts(), legend.get_title()]
    found += figure.texts + [x for x in (figure._suptitle, figure._supxlabel, figure._supylabel) if x is not None]
    boxes = {id(t): (t.get_text(), t.get_window_extent(renderer)) for t in found if t.get_text().strip()}
    return list(boxes.values())


def faults(figure: Figure) -> list[str]:
    """Texts that leave the figure, and pairs of texts that cover each other by more than two pixels."""
    texts = texts_of(figure)
    width, height = figure.canvas.get_width_height()
    cut = [t for t, b in texts if b.x0 < -1 or b.y0 < -1 or b.x1 > width + 1 or b.y1 > height + 1]
    faults = [f"{t!r} is cut off" for t in cut]
    for (one, a), (two, b) in itertools.combinations(texts, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if across > 2 and down > 2:
            faults.append(f"{one!r} covers {two!r}")
    return faults


def test_no_text_of_a_page_is_cut_off_or_covers_another(drawn):
    _, _, figures = drawn
    assert len(figures) >= 10
    for figure in figures:
        assert faults(figure) == []
        sizes = [t.get_fontsize() for ax in figure.axes for t in ax.get_xticklabels() if t.get_text()]
        assert min(sizes, default=9) >= 8


def test_a_figure_that_cannot_be_read_is_noticed():
    figure = Figure(figsize=(3, 2))
    ax = figure.subplots()
    ax.set_xticks(range(20), ["a long label"] * 20)
    assert any("covers" in f for f in faults(figure))
    ax.set_xticks([])
    ax.set_title("a title that is much too long for a figure of three inches")
    assert any("cut off" in f for f in faults(figure))


def test_a_comparison_is_not_cut_off_and_names_its_difference(drawn):
    first, second, _ = drawn
    figure = comparison_figure(comparisons(first, second), ("A: a folder with a name that goes on and on", "B: other"))
    assert faults(figure) == []
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names[0].startswith("A: a folder")
    assert any(n.startswith("A − B") for n in names)


def test_the_difference_of_estimators_has_a_legend(drawn):
    _, _, figures = drawn
    panels = [f for f in figures if any("minus posterior" in ax._left_title.get_text() for ax in f.axes)]
    assert len(panels) == 1
    assert [t.get_text() for t in panels[0].axes[0].get_legend().get_texts()][:2] == ["place", "colour"]


def test_ceilings_are_drawn_beside_conditional_curves(drawn):
    first, _, figures = drawn
    figure = next(f for f in figures if f.axes[0].get_legend() and "the other is known" in _title(f.axes[0]))
    levels = {round(float(line.get_ydata()[0]), 6) for line in figure.axes[0].lines if len(line.get_ydata()) == 2}
    for name in ("place", "colour"):
        given = next(n for n in ("place", "colour") if n != name)
        assert round(sigmascope.conditional(first, name, given).ceiling, 6) in levels


def _title(ax):
    return ax.get_legend().get_title().get_text()


def test_axes_show_where_curves_move(drawn):
    first, _, _ = drawn
    low, high = sorted(sigmascope.plot(first).get_xlim())
    curves = first.information.sel(estimator="posterior")
    share = (curves / curves.max("sigma")).values
    inside = (first.sigma.values >= low) & (first.sigma.values <= high)
    assert low > float(first.sigma.min())  # all is decided long before the last level
    assert np.all((share[:, ~inside] < 0.06) | (share[:, ~inside] > 0.94))


def test_the_range_in_which_curves_move():
    sigma = np.geomspace(100, 0.01, 41)
    rise = 1 / (1 + (sigma / 1.0) ** 4)
    low, high = moving(sigma, rise)
    assert 0.2 < low < 0.5
    assert 2 < high < 5
    bump = rise * (1 - rise)
    assert moving(sigma, np.stack([bump, 0 * bump]))[0] < 0.5
    assert moving(sigma, 0 * rise) == (0.01, 100.0)


@pytest.mark.parametrize("low", [0.01, 0.3, 0.9, 7.0])
@pytest.mark.parametrize("ratio", [1.4, 3.0, 30.0, 1e4, 1e7])
@pytest.mark.parametrize("most", [5, 8])
def test_ticks_are_few_and_round(low, ratio, most):
    ticks = sigma_ticks(low, low * ratio, most)
    assert len(ticks) <= most
    assert len(ticks) >= 2 or ratio < 2
    assert all(float(f"{t:.1e}") == pytest.approx(t) for t in ticks)


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (0.30512, 0.0134, "0.305 ± 0.013"), (12.345, 0.61, "12.3 ± 0.6"), (-10.97, 13.62, "−11 ± 14"),
        (1234.5, 56.0, "1234 ± 56"), (0.00001, 0.0021, "0.0000 ± 0.0021"), (0.5, 0.0, "0.5"), (0.5, np.nan, "0.5"),
    ],
)  # fmt: skip
def test_values_are_rounded_by_their_error(value, half, text):
    assert plus_minus(value, half) == text


@pytest.mark.parametrize(
    ("level", "text"),
    [
        ((0.6234, 0.58, 0.661), "0.623 (0.580 to 0.661)"), ((2.3051, 2.3049, 2.3052), "2.31 (2.30 to 2.31)"),
        ((0.004, 0.00002, 1.2), "0.004 (0.00002 to 1.20)"), ((12.3, 4.0, 40.0), "12 (4 to 40)"),
    ],
)  # fmt: skip
def test_levels_are_rounded_by_their_intervals(level, text):
    assert brief(Quantity(*level)) == text


def test_plot_draws_into_axes(drawn):
    first, _, _ = drawn
    ax = Figure().subplots()
    assert sigmascope.plot(first, ax) is ax
    own = sigmascope.plot(first, labels={"place": "where"}, x="snr_db")
    assert own.figure is not None
    names = [t.get_text() for t in own.get_legend().get_texts()]
    assert names[0] == "where"
    line = next(x for x in own.lines if len(x.get_ydata()) == first.sizes["sigma"])
    np.testing.assert_allclose(line.get_xdata(), -20 * np.log10(first.sigma.values))
    left, right = own.get_xlim()
    assert left < right  # generation runs to the right, as the signal grows
    colours = ["red", "green", "blue", "black"]
    painted = sigmascope.plot(first, colors=colours, labels=list("abcd"), estimator="forks")
    curves = [x for x in painted.lines if len(x.get_ydata()) == first.sizes["sigma"]]
    assert [x.get_color() for x in curves] == colours
    np.testing.assert_array_equal(curves[0].get_ydata(), first.information.sel(estimator="forks").values[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "time"}, "expected 'sigma', 'snr_db' or 'timestep'"),
        ({"x": "timestep"}, "not of a pipeline"),
        ({"labels": ["a"]}, "labels has 1 entries: expected 4"),
        ({"labels": {"smell": "a"}}, "labels name 'smell'"),
        ({"colors": {"place": "red"}}, "colors lack 'colour'"),
        ({"colors": "red"}, "colors has 3 entries"),
    ],
)
def test_plot_refuses(drawn, options, message):
    with pytest.raises(InputError, match=message):
        sigmascope.plot(drawn[0], **options)


def test_plot_over_timesteps(drawn, tmp_path):
    DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    index = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    results = drawn[0].assign_attrs(model=f"diffusers:{tmp_path}")
    ax = sigmascope.plot(results, x="timestep")
    steps = np.asarray(next(x for x in ax.lines if len(x.get_ydata()) == results.sizes["sigma"]).get_xdata())
    inside = np.isfinite(steps)
    assert inside.sum() >= 6
    assert np.all(np.diff(steps[inside]) < 0)  # generation runs down
    k = int(np.flatnonzero(inside)[2])
    ruler = ruler_of(f"diffusers:{tmp_path}", 50)
    assert steps[k] == pytest.approx(ruler.of_sigma(float(results.sigma[k])).timestep)
    left, right = ax.get_xlim()
    assert left > right
