"""A folder as a reader of the documents has it: each file that a command names, small and made on the spot."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from conftest import ROOT

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SPRITES = {"skin": 6, "bottomwear": 6, "topwear": 6, "hair": 6, "action": 3, "direction": 3, "frame": 3}
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pictures(count: int, values: int, *event: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of 8 bits that show their label, and the labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % values
    faces = rng.uniform(0, 200, (values, *event))
    return (faces[label] + rng.uniform(0, 50, (count, *event))).astype(np.uint8), label


def my_images(path: Path, side: int = 8) -> None:
    """`images`, `digit`, and `slant`, a number that shows in them."""
    images, digit = pictures(120, 10, side, side)
    slant = np.random.default_rng(1).uniform(0, 1, len(images))
    images[:, : side // 2] = np.clip(images[:, : side // 2] + 40 * slant[:, None, None], 0, 255)
    np.savez(path, images=images, digit=digit, slant=slant)


def my_digits(path: Path) -> None:
    """The same without `slant`."""
    images, digit = pictures(60, 10, 8, 8)
    np.savez(path, images=images, digit=digit)


def spec_of_my_images(path: Path) -> None:
    """What a study of these leaves in its folder."""
    import sigmascope

    few = sigmascope.Sampling(draws=16, levels=6)
    if not (path.parent / "my-images.npz").exists():
        my_images(path.parent / "my-images.npz")
    sigmascope.study(path.parent / "my-images.npz", attributes=["digit"], sampling=few, out=path.parent / "was")
    shutil.copy(path.parent / "was" / path.name, path)


def sprites(path: Path) -> None:
    """Each value of each attribute in some pictures."""
    images, label = pictures(216, 6, 8, 8, 3)
    np.savez(path, images=images, **{name: (label + np.arange(216) // 6) % n for name, n in SPRITES.items()})


def cifar(path: Path) -> None:
    """Encoded pictures and named classes, as in the parquet of the Hugging Face image layout."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    images, label = pictures(200, 10, 32, 32, 3)
    rows = []
    for pixels in images:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    table = pa.table({"image": pa.array(rows), "label_class": pa.array(label, pa.int8())})
    pq.write_table(table.replace_schema_metadata({"class_names": ",".join(CIFAR)}), path)


def shapes3d(path: Path) -> None:
    """The layout of the file of 3D Shapes."""
    images, shape = pictures(64, 4, 64, 64, 3)
    rng = np.random.default_rng(2)
    labels = np.stack([*rng.integers(0, 2, (4, 64)), shape, rng.integers(0, 2, 64)], 1).astype(np.float64)
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = images, labels


def mnist(path: Path) -> None:
    images, digit = pictures(100, 10, 28, 28)
    np.savez(path, images=images, digit=digit)


def mnist_ddpm(path: Path) -> None:
    """A state dict of the shapes that the example's network has, with random weights."""
    net: dict[str, torch.Tensor] = {}
    sizes = ((1, 16), (16, 32), (32, 32), (32, 16))
    for k, (a, b) in enumerate(sizes):
        net |= {f"blocks.{k}.net.0.weight": torch.randn(b, a, 7, 7) / 50, f"blocks.{k}.net.0.bias": torch.zeros(b)}
        net |= {f"blocks.{k}.net.1.{n}": torch.ones(b, 28, 28) for n in ("weight", "bias")}
    net |= {"blocks.4.weight": torch.randn(1, 16, 3, 3) / 50, "blocks.4.bias": torch.zeros(1)}
    for k, (a, b) in enumerate(((32, 128), (128, 128), (128, 128), (128, 16))):
        net |= {f"time_embed.{2 * k}.weight": torch.randn(b, a) / 50, f"time_embed.{2 * k}.bias": torch.zeros(b)}
    beta = torch.linspace(1e-4, 0.02, 1000)
    state = {"frequencies": torch.ones(16), "alpha_t": torch.cumprod(1 - beta, 0), "beta_t": beta}
    torch.save({f"gt.{k}": v for k, v in net.items()} | state, path)


def pixels_pipeline(path: Path) -> None:
    """A DDPM of 8 × 8 pixels that is given nothing."""
    from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    DDPMPipeline(net, DDIMScheduler()).save_pretrained(path, safe_serialization=True)


def text_pipeline(path: Path) -> None:
    """A Stable Diffusion of 16 × 16 pixels."""
    import pipes

    pipes.stable(path)


def scheduler_folder(name: str) -> Callable[[Path], None]:
    """A pipeline's folder without weights, with the scheduler that docs/units.md names."""

    def make(path: Path) -> None:
        kind, scheduler = units()[name]
        scheduler.save_pretrained(path / "scheduler")
        index = {"_class_name": kind, "scheduler": ["diffusers", type(scheduler).__name__]}
        if kind != "DDPMPipeline":
            index["vae"] = ["diffusers", "AutoencoderKL"]
        (path / "model_index.json").write_text(json.dumps(index))

    return make


UNITS = ("ddpm", "stable-diffusion", "heun", "zero-snr", "sd3", "flux", "edm", "svd")
"""The folders of docs/units.md."""


def units() -> dict[str, tuple]:
    """Of each of them, the class of its pipeline and its scheduler."""
    import diffusers as d

    return {
        "ddpm": ("DDPMPipeline", d.DDPMScheduler()),
        "stable-diffusion": (
            "StableDiffusionPipeline",
            d.PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False),
        ),
        "heun": ("StableDiffusionXLPipeline", d.HeunDiscreteScheduler(**BETAS)),
        "zero-snr": (
            "StableDiffusionPipeline",
            d.DDIMScheduler(
                **BETAS, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
            ),
        ),
        "sd3": ("StableDiffusion3Pipeline", d.FlowMatchEulerDiscreteScheduler(shift=3.0)),
        "flux": ("FluxPipeline", d.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)),
        "edm": ("DDPMPipeline", d.EDMEulerScheduler()),
        "svd": (
            "StableVideoDiffusionPipeline",
            d.EulerDiscreteScheduler(
                **BETAS, timestep_type="continuous", prediction_type="v_prediction", use_karras_sigmas=True,
                sigma_min=0.002, sigma_max=700.0,
            ),
        ),
    }  # fmt: skip


def study(path: Path) -> None:
    """A finished study of the scenes; its page is not drawn."""
    shutil.copytree(_study(), path)


@cache
def _study() -> Path:
    import sigmascope

    path = Path(tempfile.mkdtemp()) / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda self, target, **_: target.write(b""))
        few, small = sigmascope.Sampling(draws=16, levels=8), sigmascope.DataOptions(size=16)
        sigmascope.study("scenes", sampling=few, options=small, out=path)
    return path


def two_arrays(path: Path) -> None:
    """Arrays x and y, and the information that they share, in nats."""
    x, noise = np.random.default_rng(0).normal(size=(2, 300))
    np.savez(path, x=x, y=0.6 * x + 0.8 * noise, nats=-np.log(0.8))


def arrays_in_a_folder(path: Path) -> None:
    """A folder with one file of such arrays."""
    path.mkdir()
    two_arrays(path / "pair.npz")


def my_model(path: Path) -> None:
    """A module beside the data, whose function returns a network of 8 × 8 pixels and ten classes."""
    text = (ROOT / "docs" / "guides" / "model.md").read_text(encoding="utf-8")
    path.with_name("mymodel.py").write_text(re.findall(r"```python\n(.*?)```", text, re.S)[0], encoding="utf-8")


FILES: dict[str, Callable[[Path], None]] = {
    "my-images.npz": my_images,
    "samples.npz": two_arrays,
    "my-tasks": arrays_in_a_folder,
    "lpc-sprites.npz": sprites,
    "cifar10-train.parquet": cifar,
    "3dshapes.h5": shapes3d,
    "mnist-10k.npz": mnist,
    "mnist-ddpm.pth": mnist_ddpm,
    "mymodel:build": my_model,
    "my-pipeline": pixels_pipeline,
    "my-stable-diffusion": text_pipeline,
    **{name: scheduler_folder(name) for name in UNITS},
}
"""How each file is made that the documents name without a command that makes it."""


class Folder:
    """A reader's working folder: a checkout without its data, and what commands name.

    Args:
        path: of the folder.
        more: files that this document's commands find there, by their path.
    """

    def __init__(self, path: Path, more: dict[str, Callable[[Path], None]] | None = None) -> None:
        self.path, self._makers = path, FILES | (more or {})
        for name in ("benchmarks", "examples"):
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("*.json", "*.csv", "__pycache__"))
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, path / name)
        (path / "docs" / "figures").mkdir(parents=True)
        (path / "tests").symlink_to(ROOT / "tests")

    def provide(self, command: str) -> None:
        """Make the files that a command names and that are not there."""
        made_by_it = re.findall(r"(?:--out|--json|--state|>)[ =](\S+)", command)
        for word in shlex.split(command):
            name = word.removeprefix("diffusers:")
            make = self._makers.get(name)
            if make is not None and name not in made_by_it and not (self.path / name).exists():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                make(self.path / name)
