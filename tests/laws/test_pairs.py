"""What the noisy image tells of two attributes twice, and only together: against quadrature, and in a study."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

import sigmascope
from asked import study
from problems import Line, four_points
from sigmascope.analysis.memorisation import collapse
from sigmascope.cli import main
from sigmascope.core import Curve, InputError
from sigmascope.data import draw_items, from_array
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.information.jobs.pairs import joint_columns, joint_data, pair_block, pair_memory
from sigmascope.information.jobs.passes import Collected
from sigmascope.information.pairs import interaction
from sigmascope.information.posterior import posterior
from sigmascope.studies.prediction import predict
from sigmascope.studies.spec import read_spec, spec_of
from sigmascope.studies.subjects.openings import of_data

LEVELS = np.array([30.0, 16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.05])


def joined(line: Line, first: str, second: str) -> Line:
    """The line with one more label: both at once."""
    both = line.labels[first] * 10 + line.labels[second]
    code = np.unique(both, return_inverse=True)[1]
    return Line(line.points, {**line.labels, "both": code}, line.weights)


def redundant() -> Line:
    """Five points, unequal; the attributes often agree, and one combination does not occur."""
    labels = {"first": np.array([0, 0, 1, 1, 1]), "second": np.array([0, 0, 0, 1, 1])}
    return Line(np.array([-6.0, -5.0, 0.0, 3.0, 7.0]), labels, np.array([0.3, 0.1, 0.1, 0.2, 0.3]))


CASES = [(four_points(), "coarse", "alternate"), (redundant(), "first", "second")]


def truth(line: Line, first: str, second: str, levels: np.ndarray = LEVELS) -> np.ndarray:
    whole = joined(line, first, second)
    return np.array([whole.information(first, s) + whole.information(second, s) for s in levels]) - np.array(
        [whole.information("both", s) for s in levels]
    )


def measured(line: Line, first: str, second: str, draws: int, levels: np.ndarray = LEVELS) -> list[Curve]:
    data = joined(line, first, second).data()
    work = Collected(FiniteDenoiser(data), draw_items(data, draws, 1), levels, None)
    while not work.done:
        work.step()
    return [posterior(data.attribute(n), levels, work.log_posterior(n)[:-1]) for n in ("both", first, second)]


@pytest.mark.parametrize(("line", "first", "second"), CASES, ids=["synergy", "redundancy"])
def test_interaction_by_quadrature(line, first, second):
    curves = measured(line, first, second, 6000)
    found, expected = interaction(*curves), truth(line, first, second)
    # Nearly decided, a draw in thousands carries the difference: then its error is not seen either.
    assert np.all(np.abs(found.value - expected)[:5] < 4 * found.stderr[:5])
    assert np.all(np.abs(found.value - expected)[5:] < 4 * found.stderr[5:] + 1e-3)
    assert found.stderr.max() < 0.05 * np.abs(expected).max()
    assert np.abs(expected).max() > 0.02
    # Independent attributes are synergistic, and the two that agree are redundant in the end.
    assert found.ceiling == pytest.approx(expected[-1] if first == "first" else 0.0, abs=1e-6)
    # A draw gives I(A; B) - I(A; B | Y = y), never above I(A; B).
    each = curves[1].per_draw + curves[2].per_draw - curves[0].per_draw
    assert each.max() < found.ceiling + 1e-9
    # The informations move together from draw to draw: the error of their difference is smaller than if they did not.
    apart = np.sqrt(sum(c.stderr**2 for c in curves))
    assert np.all(found.stderr[2:6] < 0.6 * apart[2:6])
    value, error, sigma = found.largest
    j = int(np.abs(found.value).argmax())
    assert (value, error, sigma) == (found.value[j], found.error[j], LEVELS[j])


@pytest.mark.parametrize(("line", "first", "second"), CASES, ids=["synergy", "redundancy"])
@pytest.mark.parametrize("draws", [64, 150])
def test_interaction_covers_the_truth(line, first, second, draws):
    """Intervals of 200 blocks of draws hold the truth down to a twentieth of the largest interaction.

    The counter-test: of synergy, which few draws carry once each attribute is nearly known, standard errors fail.
    """
    levels = np.geomspace(16.0, 1.6, 10)
    curves, expected = measured(line, first, second, 200 * draws, levels), truth(line, first, second, levels)

    def part(c: Curve, k: int) -> Curve:
        return Curve.of_draws(c.attribute, "posterior", levels, c.per_draw[:, k::200], c.ceiling)

    blocks = [interaction(*(part(c, k) for c in curves)) for k in range(200)]
    off = np.stack([np.abs(b.value - expected) for b in blocks])
    held, plain = (
        (off <= 1.96 * np.stack(e)).mean(0) for e in zip(*((b.error, b.stderr) for b in blocks), strict=True)
    )
    share = np.abs(expected) / np.abs(expected).max()
    some = (share > 0.05) & (share < 0.95 if first == "first" else share <= 1.0)
    chance = 3.1 * math.sqrt(0.92 * 0.08 / 200)
    assert some.sum() >= 3
    assert np.all(held[some] > 0.92 - chance), held
    assert held[some & (share > 0.2)].mean() < 0.98
    if first == "coarse":
        assert plain[some].min() < 0.92 - chance, plain


def test_what_cannot_be_subtracted_is_refused():
    both, first, second = measured(*CASES[0], 16)
    with pytest.raises(ValueError, match="same levels and draws"):
        interaction(both.at_levels(np.arange(3)), first, second)
    bound = Curve.of_draws("first", "posterior", LEVELS, first.per_draw, first.ceiling, kind="lower bound")
    with pytest.raises(ValueError, match="bounds"):
        interaction(both, bound, second)


def images(items: int = 700, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Small pictures of three attributes: two that agree often, one that is read with the help of the first."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 3, items)
    b = np.where(rng.random(items) < 0.7, a, (a + 1) % 3)  # a, or the next: a third of the combinations is not there
    c = rng.integers(0, 2, items)
    pixels = 0.2 * rng.normal(size=(items, 5, 5))
    pixels[:, 0] += a[:, None]
    pixels[:, 1] += 0.5 * b[:, None]
    pixels[:, 2] += 0.4 * (c ^ (a > 0))[:, None]
    return pixels.astype(np.float32), {"a": a, "b": b, "c": c}, rng.uniform(0.5, 1.0, items)


@pytest.fixture(scope="module")
def both_ways():
    pixels, labels, weights = images()
    options = {"labels": labels, "weights": weights, "draws": 40, "levels": 12}
    return study(pixels, pairs=True, **options), study(pixels, **options)


def test_pairs_leave_the_other_numbers_alone(both_ways):
    with_pairs, without = both_ways
    for name in without.data_vars:
        assert np.array_equal(with_pairs[name], without[name], equal_nan=name == "value_before_next"), name
    assert set(with_pairs.data_vars) - set(without.data_vars) == {"pair_interaction", "pair_stderr", "pair_ceiling"}


def test_pairs_of_a_study_are_those_of_joint_attributes(both_ways):
    """The same as from a study of a, b and a+b on the same draws, by the chain rule."""
    pixels, labels, weights = images()
    found = both_ways[0]
    for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
        names = [first, second, f"{first}+{second}"]
        joint = study(pixels, labels, weights=weights, attributes=names, draws=40, levels=12)
        curves = {c.attribute: c for c in sigmascope.to_curves(joint)}
        expected = interaction(curves[names[2]], curves[first], curves[second])
        for one, other in ((first, second), (second, first)):
            mine = found.sel(first=one, second=other)
            assert np.allclose(mine.pair_interaction, expected.value, atol=2e-6)
            assert np.allclose(mine.pair_stderr, expected.error, atol=2e-6)
            assert float(mine.pair_ceiling) == pytest.approx(expected.ceiling, abs=1e-9)
    alone = found.sel(estimator="posterior", attribute="b")
    itself = found.sel(first="b", second="b")
    assert np.array_equal(itself.pair_interaction, alone.information)
    assert float(itself.pair_ceiling) == float(alone.ceiling)


def test_values_of_a_study_add_up_to_its_curves(both_ways):
    found = both_ways[1]
    for name in found.attribute.values:
        mine = found.isel(value=np.flatnonzero(found.value_attribute == name))
        weights = np.exp(-mine.value_ceiling.values)
        assert weights.sum() == pytest.approx(1.0)
        expected = found.information.sel(attribute=name, estimator="posterior")
        assert np.allclose(weights @ mine.value_information.values, expected, atol=1e-12)
        assert np.all(mine.value_half_low <= mine.value_half)
        assert np.all(mine.value_half <= mine.value_half_high)


def test_effective_items_of_a_study_are_dense_ones(both_ways):
    pixels, labels, weights = images()
    found = both_ways[1]
    data = from_array(pixels, labels, weights=weights)
    draws = draw_items(data, 40, 0)
    x, w = pixels.reshape(len(pixels), -1).astype(np.float64), weights / weights.sum()
    for j, s in enumerate(found.sigma.values):
        y = (draws.v.double() + s * draws.noise.double()).numpy().reshape(40, -1)
        logit = np.log(w) - ((y[:, None] - x) ** 2).sum(2) / (2 * s**2)
        p = np.exp(logit - logit.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        assert np.allclose(found.effective_items[j], 1.0 / (p**2).sum(1), rtol=1e-4)
    at = collapse(found.sigma.values, found.effective_items.values)
    assert (float(found.identified_sigma), float(found.identified_sigma_low)) == (at.value, at.low)
    assert np.allclose(found.effective_items_limit, 1.0)
    assert at.reached


def test_combinations_that_do_not_occur_have_no_column():
    pixels, labels, _ = images()
    data = from_array(pixels, labels)
    joint = joint_data(data, data.attributes)
    assert [len(a.values) for a in joint.attributes] == [6, 6, 6]
    assert joint_columns(data, data.attributes) == 18
    for a in joint.attributes:
        first, second = a.parts
        for k, value in enumerate(a.values):
            x, y = value.split(" + ")
            assert float(a.prior[k]) == pytest.approx(
                ((labels[first] == int(x)) & (labels[second] == int(y))).mean(), abs=1e-12
            )


def test_names_with_plus_signs_are_not_taken_for_one_another():
    pixels, labels, _ = images()
    plain = {"a": labels["a"], "x": labels["b"], "y": labels["c"], "z": np.arange(700) % 4}
    hostile = dict(zip(("a", "b+c", "a+b", "c"), plain.values(), strict=True))
    one, other = (study(pixels, named, pairs=True, draws=16, levels=6) for named in (plain, hostile))
    assert other["first"].values.tolist() == list(hostile)
    assert np.array_equal(one.pair_interaction, other.pair_interaction)


def test_blocks_and_memory_count_the_joint_values():
    assert pair_block(1300, 40, 256) * 1300 * 41 * 8 <= 1.01e8
    assert pair_block(1300, 40, 256) >= 100
    assert pair_block(4, 10, 24) == 24
    pixels, labels, _ = images()
    wide = {**labels, "u": np.arange(700) % 60, "v": np.arange(700) % 59}
    data = from_array(pixels, wide)
    spec = spec_of(data="x", draws=256)
    more = predict(data, spec_of(data="x", draws=256, pairs=True)).additional - predict(data, spec).additional
    whole = pair_memory(data, data.attributes, 40, 256)
    assert 0.5 * whole < more <= whole  # of a peak over phases, of which that of the passes becomes the highest
    assert more > 3 * 8 * 41 * pair_block(joint_columns(data, data.attributes), 40, 256) * 700
    assert predict(data, spec_of(data="x", draws=256, pairs=True)).products == 2 * predict(data, spec).products


def test_pairs_from_the_command_and_again(tmp_path, monkeypatch, capsys):
    """The page names them; a stopped study goes on to the same numbers; the specification repeats them."""
    pixels, labels, _ = images()
    np.savez(tmp_path / "set.npz", images=pixels, **labels)
    command = ["study", str(tmp_path / "set.npz"), "--pairs", "--draws", "24", "--levels", "8"]
    command += ["--estimators", "posterior"]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    page = (tmp_path / "whole" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Pairs of attributes</h2>" in page
    assert "The most redundant information is on a and b: 0." in page
    assert (tmp_path / "whole" / "figures" / "pair_curves.svg").exists()
    assert read_spec(tmp_path / "whole" / "spec.toml").pairs

    monkeypatch.setattr("sigmascope.studies.run.write_page", lambda *_: None)  # one page is enough
    monkeypatch.setattr("sigmascope.studies.run.CHECKPOINT_SECONDS", 0.0)
    step, steps = PosteriorPass.step, []

    def stop_at_the_second_pass(self):
        if steps and steps[-1] is not self:
            raise KeyboardInterrupt
        steps.append(self)
        step(self)

    monkeypatch.setattr(PosteriorPass, "step", stop_at_the_second_pass)
    assert main([*command, "--out", str(tmp_path / "broken")]) == 130
    monkeypatch.setattr(PosteriorPass, "step", step)
    done = []
    monkeypatch.setattr(PosteriorPass, "step", lambda self: (done.append(self), step(self)))
    assert main([*command, "--out", str(tmp_path / "broken")]) == 0
    assert len(set(map(id, done))) == 1  # the pass for single attributes was not done again
    monkeypatch.setattr(PosteriorPass, "step", step)
    spec = str(tmp_path / "whole" / "spec.toml")
    assert main(["study", "--spec", spec, "--out", str(tmp_path / "again")]) == 0
    files = [tmp_path / d / "results.nc" for d in ("whole", "broken", "again")]
    one, two, three = (xr.load_dataset(f, engine="h5netcdf") for f in files)
    assert xr.testing.assert_identical(one, two) is None
    assert xr.testing.assert_identical(one, three) is None
    capsys.readouterr()
    other = [c for c in command if c != "--pairs"]
    assert main([*other, "--out", str(tmp_path / "whole")]) == 2
    assert "its pairs is True, not False" in capsys.readouterr().err


def test_a_specification_from_before_pairs_reads(tmp_path):
    text = "\n".join(line for line in spec_of(data="scenes").resolve().to_toml().splitlines() if "pairs" not in line)
    (tmp_path / "old.toml").write_text(text)
    assert read_spec(tmp_path / "old.toml") == spec_of(data="scenes").resolve()


def test_pairs_that_are_none_are_refused(capsys):
    pixels, labels, _ = images(60)
    with pytest.raises(InputError, match="two attributes, and a is studied"):
        study(pixels, {"a": labels["a"]}, pairs=True, draws=4, levels=4)
    with pytest.raises(InputError, match="two attributes, and none is studied"):
        study(pixels, labels, attributes="a+b,b+c", pairs=True, draws=4, levels=4)
    with pytest.raises(InputError, match="lower bounds"):
        study(pixels, labels, law="heldout", pairs=True, draws=16, levels=4)
    assert main(["study", "hierarchy:v=4,m=2,s=2,L=2", "--pairs", "--out", "unused", "--dry-run"]) == 2
    assert "leave out --pairs" in capsys.readouterr().err
    with pytest.raises(InputError, match="study two"):  # before a folder is made
        of_data(spec_of(data="x", pairs=True), from_array(pixels, {"a": labels["a"]}))
    one = study(pixels, labels, attributes="a,b,a+b", pairs=True, draws=4, levels=4)
    assert one["first"].values.tolist() == ["a", "b"]


def test_attributes_of_many_values_are_not_looked_at_one_by_one():
    pixels, _, _ = images(300)
    found = study(pixels, {"many": torch.arange(300) % 65, "few": torch.arange(300) % 64}, draws=4, levels=4)
    assert set(found.value_attribute.values) == {"few"}
    alone = study(pixels, {"many": torch.arange(300) % 65}, draws=4, levels=4)
    assert "value_information" not in alone
