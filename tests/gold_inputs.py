"""What the battery of gold.py runs on: small data and pipelines with random weights, the same every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

COLOURS = ("red", "green", "blue")
LABELLER = "def colour(images):\n    return images.mean((2, 3)).argmax(1)\n"


def blocks(path: Path) -> None:
    """240 pictures of 6 × 6 pixels: a bright block, its place, its colour, and how bright it is, a real number."""
    rng = np.random.default_rng(0)
    place, colour = rng.integers(0, 3, 240), rng.integers(0, 3, 240)
    slant = rng.uniform(0, 1, 240)
    images = rng.integers(0, 30, (240, 6, 6, 3), dtype=np.uint8)
    for k in range(240):
        images[k, 2 * place[k] : 2 * place[k] + 2, :, colour[k]] += np.uint8(100 + 100 * slant[k])
    np.savez(path, images=images, place=place, colour=np.array(COLOURS)[colour], slant=slant)


def blobs(path: Path) -> None:
    """600 points in 6 dimensions around six centres: two attributes."""
    rng = np.random.default_rng(0)
    side, slot = rng.integers(0, 2, 600), rng.integers(0, 3, 600)
    v = 0.3 * rng.normal(size=(600, 6))
    v[:, 0] += 4.0 * (side - 0.5)
    v[np.arange(600), 1 + slot] += 1.0
    np.savez(path, images=v.astype(np.float32), side=side, slot=slot)


def _pictures(side: int) -> dict[str, np.ndarray]:
    """60 pictures in three colours, each brighter or darker."""
    rng = np.random.default_rng(5)
    colour, bright = rng.integers(0, 3, 60), rng.integers(0, 2, 60)
    v = rng.uniform(0.0, 0.3, (60, side, side, 3))
    for k in range(3):
        v[colour == k, :, :, k] += 0.25 + 0.4 * bright[colour == k, None, None]
    return {"images": (255 * v).round().astype(np.uint8), "colour": np.array(COLOURS)[colour], "bright": bright}


def samples(path: Path) -> None:
    """Arrays that depend on each other: numbers in columns, and classes."""
    rng = np.random.default_rng(8)
    kind, (a, noise) = rng.integers(0, 3, 300), rng.normal(size=(2, 300))
    b = a**2 + kind + noise
    np.savez(path, x=np.stack([a, noise], 1), y=b, a=a, b=b, kind=kind)


def folder(path: Path) -> None:
    """Pictures as PNG, a folder for each colour."""
    from PIL import Image

    made = _pictures(8)
    for k, (pixels, colour) in enumerate(zip(made["images"], made["colour"], strict=True)):
        (path / colour).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path / colour / f"{k:02}.png")


def tabled(path: Path) -> None:
    """Pictures as PNG, with a table of their attributes, one of them a real number."""
    from PIL import Image

    made = _pictures(8)
    path.mkdir()
    rows = ["file_name,bright,shade"]
    for k, pixels in enumerate(made["images"]):
        Image.fromarray(pixels).save(path / f"{k:02}.png")
        rows.append(f"{k:02}.png,{made['bright'][k]},{pixels.mean():.3f}")
    (path / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def parquet(path: Path) -> None:
    """Encoded pictures and their class, in the layout of Hugging Face's files."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    made, rows = _pictures(8), []
    for pixels in made["images"]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    classes = pa.array([COLOURS.index(c) for c in made["colour"]], pa.int8())
    table = pa.table({"image": pa.array(rows), "label_class": classes})
    pq.write_table(table.replace_schema_metadata({"class_names": ",".join(COLOURS)}), path)


def shapes(path: Path) -> None:
    """The layout of the file of 3D Shapes, with 48 pictures of 64 × 64 pixels."""
    import h5py

    rng = np.random.default_rng(2)
    labels = np.stack([*rng.integers(0, 2, (4, 48)), np.arange(48) % 4, rng.integers(0, 2, 48)], 1)
    faces = rng.uniform(0, 200, (4, 64, 64, 3))
    images = faces[labels[:, 4]] + rng.uniform(0, 50, (48, 64, 64, 3))
    images[:, :20] += 5.0 * labels[:, 0, None, None, None]
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = images.astype(np.uint8), labels.astype(np.float64)


def sprites(path: Path, shared: Path) -> None:
    """Every ninth of the real sprites, at half their side, four of their attributes, and their mean brightness."""
    with np.load(shared / "data" / "lpc-sprites.npz") as file:
        images = file["images"][::9, ::2, ::2]
        own = {name: file[name][::9] for name in ("skin", "hair", "action", "direction")}
    np.savez(path, images=images, **own, brightness=images.mean((1, 2, 3)))


def digits(path: Path, shared: Path) -> None:
    """The first 1,200 of the real digits, at half their side."""
    with np.load(shared / "data" / "mnist-10k.npz") as file:
        np.savez(path, images=file["images"][:1200, ::2, ::2], digit=file["digit"][:1200])


def pixel_pipeline(path: Path, classes: int | None) -> None:
    """A pipeline of 4 × 4 pixels with random weights, given a class or nothing."""
    import torch
    from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=4, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        num_class_embeds=classes,
    )  # fmt: skip
    DDPMPipeline(net, DDIMScheduler()).save_pretrained(path, safe_serialization=True)


def latent_pipeline(path: Path) -> None:
    """A DiT of 8 × 8 pixels, given a class, that works in the latents of an autoencoder, with random weights."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2, sample_size=8, scaling_factor=0.3,
    )  # fmt: skip
    net = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=4,
        num_embeds_ada_norm=3, norm_num_groups=4,
    )  # fmt: skip
    DiTPipeline(net, vae, DDIMScheduler(clip_sample=False)).save_pretrained(path, safe_serialization=True)


def text_pipeline(path: Path, kind: str) -> None:
    """A tiny text-to-image pipeline of :mod:`pipes`."""
    import importlib

    getattr(importlib.import_module("pipes"), kind)(path)


MAKERS: dict[str, Callable[[Path], None]] = {
    "blocks.npz": blocks,
    "blobs.npz": blobs,
    "pictures.npz": lambda path: np.savez(path, **_pictures(4)),
    "wider.npz": lambda path: np.savez(path, **_pictures(8)),
    "samples.npz": samples,
    "images.npz": lambda path: np.savez(path, images=_pictures(16)["images"][:3]),
    "folder": folder,
    "tabled": tabled,
    "pictures.parquet": parquet,
    "shapes.h5": shapes,
    "latent": latent_pipeline,
    "labels.py": lambda path: path.write_text(LABELLER, encoding="utf-8") and None,
    "free": lambda path: pixel_pipeline(path, None),
    "classes": lambda path: pixel_pipeline(path, 4),
    "all-classes": lambda path: pixel_pipeline(path, 3),
    "stable": lambda path: text_pipeline(path, "stable"),
    "xl": lambda path: text_pipeline(path, "xl"),
    "flux": lambda path: text_pipeline(path, "flux"),
}
"""By name, how each is made."""
REAL: dict[str, Callable[[Path, Path], None]] = {"sprites.npz": sprites, "digits.npz": digits}
"""Of the real data beside the checkout."""


def ready(folder: Path, name: str, shared: Path) -> bool:
    """Make an input unless it is there.

    Returns: whether it is there now; what is made of real data wants these beside the checkout.
    """
    path = folder / name
    if path.exists():
        return True
    folder.mkdir(parents=True, exist_ok=True)
    if name in MAKERS:
        MAKERS[name](path)
    elif (shared / "data").is_dir():
        REAL[name](path, shared)
    return path.exists()
