"""The denoiser in single precision against that in double."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sigmascope.core import InputError
from sigmascope.data import from_array, load_scenes
from sigmascope.exact.finite import streaming
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel import with_torch as plain


@pytest.fixture(scope="module")
def scenes():
    """3,000 scenes of 16 pixels, many of them much alike."""
    data = load_scenes(16)
    items = torch.arange(0, 480_000, 161)
    labels = {a.name: data.labels[a.name][items].numpy() for a in data.attributes}
    return FiniteDenoiser(from_array(data.source.take(items).numpy(), labels))


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def small_tiles(request, monkeypatch):
    """Several tiles, on one thread or several."""
    monkeypatch.setattr(streaming, "_ROWS", 256)
    monkeypatch.setattr(streaming, "workers", lambda device: request.param)


def asked(denoiser, sigma, seed=0, rows=12):
    g = torch.Generator().manual_seed(seed)
    v = denoiser.data.source.take(torch.randint(len(denoiser.data), (rows,), generator=g))
    return v + sigma * torch.randn(v.shape, generator=g), torch.full((rows,), sigma)


def error(denoiser, y, level, known=None):
    """Largest norm of a row's error, as a share of the range of a pixel and the root of their number."""
    assert y.dtype == torch.float32
    apart = denoiser(y, level, known).double() - denoiser(y.double(), level.double(), known)
    return float(apart.flatten(1).norm(dim=1).max()) / denoiser.data.size**0.5


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize("sigma", [0.005, 0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 10.0, 200.0])
def test_as_exact_as_single_precision_allows(scenes, monkeypatch, sigma, compiled):
    if not compiled:
        monkeypatch.setattr(streaming, "compiler", lambda: plain)
    y, level = asked(scenes, sigma)
    assert error(scenes, y, level) < 1e-5
    known = {"shape": torch.arange(12) % 5 - 1, "floor_hue": torch.full((12,), 3)}
    assert error(scenes, y, level, known) < 1e-5


@pytest.mark.usefixtures("small_tiles")
def test_rows_of_all_levels_at_once(scenes):
    parts = [asked(scenes, s, seed=i, rows=2) for i, s in enumerate((0.01, 0.1, 0.3, 1.0, 4.0, 30.0))]
    y, level = (torch.cat(x) for x in zip(*parts, strict=True))
    assert error(scenes, y, level) < 1e-5
    alone = torch.cat([scenes(a[None], b[None]) for a, b in zip(y, level, strict=True)])
    assert float((scenes(y, level) - alone).abs().max()) < 1e-5


def test_both_regimes_are_met(scenes):
    """The test above sees rows that are listed and rows that are not."""
    y, _ = asked(scenes, 1.0)
    flat = y.flatten(1).double() - scenes.centre
    for sigma, listed in ((0.02, True), (3.0, False)):
        run = streaming._Pass(scenes, flat, torch.full((12,), sigma, dtype=torch.float64), [])
        assert bool((run.exact == listed).all())


def test_crowded_rows_are_done_in_double_precision(scenes, monkeypatch):
    y, level = asked(scenes, 0.05)
    monkeypatch.setattr(streaming, "_LISTED", 0)
    called = []
    double = FiniteDenoiser._in_double

    def counted(self, flat, sigma, given):
        called.append(len(flat))
        return double(self, flat, sigma, given)

    monkeypatch.setattr(FiniteDenoiser, "_in_double", counted)
    got = scenes(y, level, {"shape": torch.full((12,), 1)})
    assert called
    assert called[0] > 0
    monkeypatch.undo()
    truth = scenes(y.double(), level.double(), {"shape": torch.full((12,), 1)})
    assert float((got - truth).abs().max()) < 1e-6


@pytest.mark.parametrize("pixels", [255.0, 1.0])
@pytest.mark.parametrize("sigma", [0.005, 0.5, 5.0, 50.0])
def test_weights_duplicates_and_ranges(sigma, pixels):
    rng = np.random.default_rng(0)
    x = (pixels * rng.random((300, 64))).astype(np.float32)
    x[10:20] = x[0]
    x[20] = x[1] + 1e-3
    weights = rng.random(300) * (np.arange(300) % 7 > 0)
    denoiser = FiniteDenoiser(from_array(x, {"a": np.arange(300) % 3}, weights=weights))
    g = torch.Generator().manual_seed(1)
    y = torch.from_numpy(x[:20]) + sigma * torch.randn(20, 64, generator=g)
    y[-1], y[-2] = 1e5, 0.0
    assert error(denoiser, y, torch.full((20,), sigma)) < 1e-5 * pixels


def test_what_no_item_has_is_refused():
    x = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    denoiser = FiniteDenoiser(from_array(x, {"a": [0, 0, 1, 1], "b": [0, 1, 1, 1]}))
    known = {"a": torch.tensor([0, 1]), "b": torch.tensor([0, 0])}
    with pytest.raises(InputError, match="no item has the attributes"):
        denoiser(torch.zeros(2, 3), torch.ones(2), known)
