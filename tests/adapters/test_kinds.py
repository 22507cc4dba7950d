"""A kind of pipelines is one record: one of a test's own is opened, studied and shown, and no folder can make one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import ConfigMixin, DDPMScheduler, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from sigmascope.adapters.diffusers import kinds
from sigmascope.adapters.diffusers.folders import INDEX
from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest
from sigmascope.adapters.diffusers.pipelines import load_pipeline
from sigmascope.cli import main
from sigmascope.core import Attribute, InputError
from sigmascope.noise import Discrete

SHADES = ("dark", "grey", "light")
PIXELS = (0.1, 0.45, 0.9)


class Blobs(ModelMixin, ConfigMixin):
    """What an ideal network of three plain pictures says of x: the noise in it, given one of them or, given 3, none."""

    @register_to_config
    def __init__(self, side: int = 4, shades: int = 3) -> None:
        super().__init__()
        self.shade = nn.Parameter(2 * torch.tensor(PIXELS[:shades]) - 1)

    def forward(self, x: torch.Tensor, step: torch.Tensor, shade: torch.Tensor) -> torch.Tensor:
        own, t = Discrete.linear(), step.double().numpy()
        sigma = torch.from_numpy(own.sigma(t))[:, None]
        y = x.double().flatten(1) / torch.from_numpy(own.alpha(t))[:, None]
        clean = self.shade.detach().double()
        far = (y[:, None] - clean[:, None]).square().sum(2)
        free = (torch.softmax(-0.5 * far / sigma**2, 1) * clean).sum(1)
        mean = torch.where(shade < 3, clean[shade.clamp_max(2)], free)[:, None]
        return ((y - mean) / sigma).reshape(x.shape).to(x)


class BlobPipeline(DiffusionPipeline):
    """Of a network that no pipeline of diffusers has, in a part that none of them calls so."""

    def __init__(self, painter: Blobs, scheduler: DDPMScheduler) -> None:
        super().__init__()
        self.register_modules(painter=painter, scheduler=scheduler)


class Other(ModelMixin, ConfigMixin):
    """A class that stands beside one of a kind."""

    @register_to_config
    def __init__(self, side: int = 4) -> None:
        super().__init__()


class _Painter(nn.Module):
    def __init__(self, painter: Blobs) -> None:
        super().__init__()
        self.painter = painter

    def forward(self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return self.painter(x, time, label)


def read(pipe: Any, asked: PipelineRequest) -> PipelineNetwork:
    side = pipe.painter.config.side
    a = Attribute("shade", SHADES, torch.full((3,), 1 / 3, dtype=torch.float64))
    return PipelineNetwork(_Painter(pipe.painter), (1, side, side), a, 3)


BLOBS = Kind("blobs", "painter", read, networks=("Blobs",), latent=False, own=(BlobPipeline, Blobs))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "blobs"
    BlobPipeline(Blobs(), DDPMScheduler()).save_pretrained(path, safe_serialization=True)
    return path


@pytest.fixture
def known():
    yield kinds.register(BLOBS)
    kinds.unregister(BLOBS)


def test_a_kind_of_ones_own_is_studied_to_a_page(folder, known, tmp_path, capsys):
    data = tmp_path / "shades.npz"
    shade = np.arange(60) % 3
    images = np.broadcast_to(np.array(PIXELS)[shade, None, None], (60, 4, 4)).astype(np.float32)
    np.savez(data, images=images, shade=np.array(SHADES)[shade])
    out, options = tmp_path / "out", ["--draws", "32", "--levels", "6", "--sigma-max", "8", "--sigma-min", ".1"]
    command = ["study", str(data), "--model", f"diffusers:{folder}", *options]
    command += ["--estimators", "score_gap,posterior", "--budget", "4000"]
    assert main([*command, "--dry-run"]) == 0
    assert "dark   → class 0" in capsys.readouterr().out
    assert main([*command, "--out", str(out)]) == 0
    found = xr.load_dataset(out / "results.nc", engine="h5netcdf").sel(attribute="shade")
    gap, exact = (found.information.sel(estimator=e).values for e in ("score_gap", "posterior"))
    assert exact[-1] > 1.0 > 0.1 > exact[0]
    error = np.hypot(*(found.stderr.sel(estimator=e).values for e in ("score_gap", "posterior")))
    assert (np.abs(gap - exact) < 4 * error + 0.01).all()
    assert "blobs" in (out / "report.html").read_text(encoding="utf-8")


def test_a_kind_is_known_once_it_is_registered(folder, known):
    kinds.unregister(BLOBS)
    with pytest.raises(InputError, match="no such pipeline"):
        load_pipeline(folder)
    kinds.register(BLOBS)
    assert load_pipeline(folder).denoiser.attributes[0].values == SHADES
    with pytest.raises(ValueError, match="'blobs' is a kind already"):
        kinds.register(BLOBS)


def test_a_folder_loads_no_class_but_those_of_a_kind(folder, known):
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    assert index["painter"] == [__name__, "Blobs"]
    for library, named in ((__name__, "Other"), ("os", "Blobs"), (f"{__name__}.x", "Blobs"), ("", "Blobs")):
        (folder / INDEX).write_text(json.dumps(index | {"painter": [library, named]}), encoding="utf-8")
        with pytest.raises(InputError, match="code of its own"):
            load_pipeline(folder)
    (folder / INDEX).write_text(json.dumps(index | {"_class_name": "Other"}), encoding="utf-8")
    with pytest.raises(InputError, match="no such pipeline"):
        load_pipeline(folder)


def test_weights_of_a_kind_are_its_own(folder, known):
    from safetensors.torch import load_file, save_file

    (weights,) = (folder / "painter").glob("*.safetensors")
    save_file({**load_file(weights), "more": torch.zeros(2)}, weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match="its weights hold 'more', which the network does not have"):
        load_pipeline(folder)


@pytest.mark.parametrize(
    ("pipeline", "parts", "wanted"),
    [
        ("DDPMPipeline", {"unet": "UNet2DModel"}, "UNet2DModel"),
        ("Whatever", {"unet": "UNet2DModel", "vae": "AutoencoderKL"}, "UNet2DModel"),
        ("DiTPipeline", {"transformer": "DiTTransformer2DModel"}, "DiT"),
        ("DiTPipeline", {"transformer": "Transformer2DModel"}, "DiT"),
        ("StableDiffusionPipeline", {"unet": "UNet2DConditionModel"}, "Stable Diffusion"),
        ("StableDiffusionXLPipeline", {"unet": "UNet2DConditionModel"}, "Stable Diffusion XL"),
        ("FluxPipeline", {"transformer": "FluxTransformer2DModel"}, "Flux"),
        ("StableDiffusion3Pipeline", {"transformer": "SD3Transformer2DModel"}, "Stable Diffusion 3"),
        ("PixArtAlphaPipeline", {"transformer": "PixArtTransformer2DModel"}, "PixArt-alpha"),
        ("PixArtSigmaPipeline", {"transformer": "PixArtTransformer2DModel"}, "PixArt-sigma"),
        ("SanaPipeline", {"transformer": "SanaTransformer2DModel"}, "Sana"),
        ("SanaSprintPipeline", {"transformer": "SanaTransformer2DModel"}, None),
        ("AuraFlowPipeline", {"transformer": "AuraFlowTransformer2DModel"}, "AuraFlow"),
        ("Lumina2Pipeline", {"transformer": "Lumina2Transformer2DModel"}, "Lumina 2"),
        ("DDPMPipeline", {"unet": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ("StableDiffusionUpscalePipeline", {"unet": "UNet2DConditionModel", "tokenizer": "CLIPTokenizer"}, None),
        ("StableVideoDiffusionPipeline", {"unet": "UNetSpatioTemporalConditionModel"}, "Stable Video Diffusion"),
        ("IFPipeline", {"unet": "UNet2DConditionModel"}, "IF"),
        ("IFImg2ImgSuperResolutionPipeline", {}, "IF"),
        ("Kandinsky3Pipeline", {"unet": "Kandinsky3UNet"}, None),
        ("BlobPipeline", {"painter": "Blobs"}, None),
        (None, {}, None),
    ],
)
def test_which_kind_a_pipeline_is_of(pipeline, parts, wanted):
    found = kinds.kind_of(pipeline, parts)
    assert (found and found.name) == wanted
