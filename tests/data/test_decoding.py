"""Pictures come out as they are shown: upright, on a ground that is named, with all that they hold; or are refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageOps

from asked import study
from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.data import load

RNG = np.random.default_rng(0)
SIDE = 6
COLOUR = RNG.integers(0, 256, (SIDE, SIDE + 2, 3), dtype=np.uint8)
GREY = COLOUR[:, :, 0]
ALPHA = RNG.integers(1, 255, GREY.shape, dtype=np.uint8)
EXIF = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(root, pictures: dict[str, list[bytes]], suffix: str = ".png"):
    for name, of in pictures.items():
        (root / name).mkdir(parents=True)
        for i, data in enumerate(of):
            (root / name / f"{i}{suffix}").write_bytes(data)
    return root


def decoded(tmp_path, data: bytes, where: str, ground: str = "white") -> np.ndarray:
    """The one picture, beside another of its size, through a folder or a parquet file: (channels, rows, columns)."""
    with Image.open(io.BytesIO(data)) as image:
        turned = ImageOps.exif_transpose(image)
    other = encoded(Image.fromarray(RNG.integers(0, 256, (turned.height, turned.width), dtype=np.uint8)))
    if where == "folder":
        path = write(tmp_path / "d", {"a": [data], "b": [other]})
    else:
        path = tmp_path / "x.parquet"
        image = pa.array([{"bytes": b, "path": None} for b in (data, other)])
        pq.write_table(pa.table({"image": image, "a": [0, 1]}), path)
    loaded = load(str(path), ground=ground)
    return (255 * loaded.source.read(0, 1)[0]).round().numpy().astype(np.uint8)


def laid(pixels: np.ndarray, alpha: np.ndarray, ground: tuple[int, int, int]) -> np.ndarray:
    """Pixels on a ground, by the definition of alpha."""
    share = alpha[:, :, None] / 255.0
    return pixels * share + np.array(ground) * (1 - share)


def alpha_png(mode: str) -> bytes:
    pixels = GREY if mode == "LA" else COLOUR
    image = Image.fromarray(pixels, "L" if mode == "LA" else "RGB")
    image.putalpha(Image.fromarray(ALPHA))
    return encoded(image)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "where"),
    [("JPEG", "folder"), ("JPEG", "parquet"), ("PNG", "folder"), ("TIFF", "folder"), ("WEBP", "folder")],
)
def test_orientation(tmp_path, kind, orientation, where):
    smooth = Image.fromarray(COLOUR).resize((16, 8))
    exif = Image.Exif()
    exif[EXIF] = orientation
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    data = encoded(smooth, kind, exif=exif, **options)
    # What each value says, by the standard: where row 0 and column 0 of the stored picture are seen.
    turn = {
        1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1), 7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
        8: lambda p: np.rot90(p, 1),
    }[orientation]  # fmt: skip
    with Image.open(io.BytesIO(encoded(smooth, kind, **options))) as image:
        stored = np.asarray(image.convert("RGB"))
    found = decoded(tmp_path, data, where).transpose(1, 2, 0)
    assert np.array_equal(found, turn(stored))


@pytest.mark.parametrize(("ground", "rgb"), [("white", (255,) * 3), ("black", (0,) * 3), ("#10a0F0", (16, 160, 240))])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette", "colour key", "grey key", "GIF", "WEBP"])
@pytest.mark.filterwarnings("ignore")
def test_transparency(tmp_path, mode, ground, rgb):
    alpha = ALPHA
    pixels: np.ndarray = np.repeat(GREY[:, :, None], 3, 2) if mode in ("LA", "grey key") else COLOUR
    if mode in ("RGBA", "LA"):
        data = alpha_png(mode)
    elif mode == "WEBP":
        image = Image.fromarray(COLOUR)
        image.putalpha(Image.fromarray(ALPHA))
        data = encoded(image, "WEBP", lossless=True, exact=True)
    elif mode in ("palette", "GIF"):
        index = (np.arange(GREY.size).reshape(GREY.shape) % 5).astype(np.uint8)
        colours = RNG.integers(0, 256, (5, 3), dtype=np.uint8)
        image = Image.fromarray(index, "P")
        image.putpalette(colours.tobytes())
        pixels, alpha = colours[index], np.where(index == 2, 0, 255).astype(np.uint8)
        data = encoded(image, "PNG" if mode == "palette" else "GIF", transparency=2)
    elif mode == "colour key":
        key = tuple(map(int, COLOUR[2, 3]))
        alpha = np.where((COLOUR[2, 3] == COLOUR).all(2), 0, 255).astype(np.uint8)
        data = encoded(Image.fromarray(COLOUR), transparency=key)
    else:
        alpha = np.where(GREY[2, 3] == GREY, 0, 255).astype(np.uint8)
        data = encoded(Image.fromarray(GREY), transparency=int(GREY[2, 3]))
    found = decoded(tmp_path, data, "folder", ground).astype(float).transpose(1, 2, 0)
    grey = mode in ("LA", "grey key") and len(set(rgb)) == 1
    assert found.shape[2] == (1 if grey else 3)
    np.testing.assert_allclose(found, laid(pixels, alpha, rgb)[:, :, : found.shape[2]], atol=1.0)


def deep_png(colours: int) -> bytes:
    """A PNG of 16 bits a channel: grey (1), grey with alpha (2), RGB (3) or RGBA (4)."""
    rows = RNG.integers(0, 65536, (SIDE, SIDE, colours)).astype(">u2")

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, {1: 0, 2: 4, 3: 2, 4: 6}[colours], 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + r.tobytes() for r in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bomb_png(side: int) -> bytes:
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head
    return body + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + struct.pack(">I", 0) + b"IDAT" + b"\0\0\0\0"


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)) for _ in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def eps() -> bytes:
    return encoded(Image.fromarray(COLOUR), "EPS")


def clear_png() -> bytes:
    image = Image.fromarray(COLOUR)
    image.putalpha(0)
    return encoded(image)


KEPT = {
    "1-bit": (encoded(Image.fromarray(GREY > 99)), 255 * (GREY > 99).astype(np.uint8)[:, :, None]),
    "grey": (encoded(Image.fromarray(GREY)), GREY[:, :, None]),
    "RGB": (encoded(Image.fromarray(COLOUR)), COLOUR),
    "BMP": (encoded(Image.fromarray(COLOUR), "BMP"), COLOUR),
    "PPM": (encoded(Image.fromarray(COLOUR), "PPM"), COLOUR),
    "PGM": (encoded(Image.fromarray(GREY), "PPM"), GREY[:, :, None]),
    "TIFF": (encoded(Image.fromarray(COLOUR), "TIFF"), COLOUR),
    "TIFF, packed": (encoded(Image.fromarray(COLOUR), "TIFF", compression="tiff_lzw"), COLOUR),
    "WEBP": (encoded(Image.fromarray(COLOUR), "WEBP", lossless=True), COLOUR),
    "CMYK": (
        encoded(Image.fromarray(255 - COLOUR).convert("RGB").convert("CMYK"), "TIFF"),
        255 - (255 - (255 - COLOUR)),
    ),
}


@pytest.mark.parametrize("where", ["folder", "parquet"])
@pytest.mark.parametrize("kind", KEPT)
def test_kinds_that_come_out_whole(tmp_path, kind, where):
    data, pixels = KEPT[kind]
    if kind == "CMYK":
        with Image.open(io.BytesIO(data)) as image:
            c, m, y, k = np.asarray(image).astype(int).transpose(2, 0, 1)
        pixels = np.stack([(255 - x) * (255 - k) / 255 for x in (c, m, y)], 2)
    np.testing.assert_allclose(decoded(tmp_path, data, where).transpose(1, 2, 0), pixels, atol=1.0)


REFUSED = {
    "16-bit grey": (deep_png(1), "more than 8 bits"),
    "16-bit grey and alpha": (deep_png(2), "more than 8 bits"),
    "16-bit RGB": (deep_png(3), "more than 8 bits"),
    "16-bit RGBA": (deep_png(4), "more than 8 bits"),
    "16-bit TIFF": (encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"), "more than 8 bits"),
    "float TIFF": (encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "more than 8 bits"),
    "16-bit PPM": (b"P6 2 2 65535\n" + bytes(range(24)), "more than 8 bits"),
    "LAB": (encoded(Image.fromarray(COLOUR, "LAB"), "TIFF"), "mode LAB: expected grey, RGB"),
    "GIF of several pictures": (animated("GIF"), "it holds 3 pictures"),
    "TIFF of several pictures": (animated("TIFF"), "it holds 3 pictures"),
    "PNG of several pictures": (animated("PNG"), "it holds 3 pictures"),
    "EPS, which is a program": (eps(), "cannot be decoded"),
    "PDF": (encoded(Image.fromarray(COLOUR), "PDF"), "cannot be decoded"),
    "bomb": (bomb_png(8000), r"8000 × 8000: at most"),
    "large bomb": (bomb_png(30000), "cannot be decoded"),
    "larger bomb": (bomb_png(2_000_000_000), "cannot be decoded"),
    "empty": (b"", "cannot be decoded"),
    "text": (b"<svg/>", "cannot be decoded"),
    "transparent everywhere": (clear_png(), "transparent everywhere"),
    "half of a PNG": (encoded(Image.fromarray(COLOUR))[:80], "cannot be decoded"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["folder", "parquet"])
@pytest.mark.parametrize("kind", REFUSED)
def test_kinds_that_are_refused(tmp_path, kind, where, capfd):
    data, words = REFUSED[kind]
    if where == "folder":
        path = write(tmp_path / "d", {"a": [data], "b": [data]})
    else:
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"image": [{"bytes": b, "path": None} for b in (data, data)], "a": [0, 1]}), path)
    with pytest.raises(InputError, match=words) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
    assert main(["study", str(path), "--out", str(tmp_path / "out")]) == 2
    assert len(capfd.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_eps_starts_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a program was started"))
    monkeypatch.setattr("os.system", lambda *a: pytest.fail("a program was started"))
    with pytest.raises(InputError, match="cannot be decoded"):
        load(str(write(tmp_path, {"a": [eps()], "b": [eps()]})))


def stencil(colour: tuple[int, int, int], size: int) -> bytes:
    image = Image.new("RGBA", (SIDE, SIDE), (*colour, 0))
    image.paste((*colour, 255), (0, 0, size, size))
    return encoded(image)


def test_decoding_that_leaves_nothing(tmp_path):
    """White shapes on white: what tells them apart is in alpha alone."""
    shapes = {"a": [stencil((255, 255, 255), 2)], "b": [stencil((255, 255, 255), 4)]}
    path = write(tmp_path / "white", shapes)
    with pytest.raises(InputError, match=r"channel A holds something in the files and nothing once .*another --ground"):
        load(str(path))
    assert load(str(path), ground="black").event == (3, SIDE, SIDE)
    green = {"a": [stencil((0, 255, 0), 2)], "b": [stencil((0, 200, 0), 4)]}
    assert load(str(write(tmp_path / "green", green)), ground="black").event == (3, SIDE, SIDE)
    same = {"a": [encoded(Image.fromarray(COLOUR))], "b": [encoded(Image.fromarray(COLOUR))]}
    with pytest.raises(InputError, match="all 2 images are alike"):
        load(str(write(tmp_path / "same", same)))
    ink = [np.dstack([RNG.integers(0, 99, (4, 4, 3), dtype=np.uint8), np.full((4, 4), 255, np.uint8)]) for _ in "ab"]
    black = {n: [encoded(Image.fromarray(x, "CMYK"), "TIFF")] for n, x in zip("ab", ink, strict=True)}
    with pytest.raises(InputError, match="channel C holds something"):
        load(str(write(tmp_path / "ink", black)))


def test_the_ground_is_stated_and_kept(tmp_path, capsys):
    shapes = {c: [stencil((40 * i, 9, 9), k + 1) for k in range(4)] for i, c in enumerate("abc")}
    path = str(write(tmp_path / "d", shapes))
    options = ["--draws", "8", "--levels", "4"]
    assert main(["study", path, *options, "--ground", "#204060", "--out", str(tmp_path / "o")]) == 0
    words = "the transparency of 12 pictures is laid on #204060"
    assert words in capsys.readouterr().err
    assert words in (tmp_path / "o" / "report.html").read_text()
    assert 'ground = "#204060"' in (tmp_path / "o" / "spec.toml").read_text()
    assert main(["study", "--spec", str(tmp_path / "o" / "spec.toml"), "--dry-run"]) == 0
    assert words in capsys.readouterr().out
    assert main(["study", path, *options, "--out", str(tmp_path / "o")]) == 2
    assert "its ground is '#204060', not 'white'" in capsys.readouterr().err
    on_white = study(path, draws=8, levels=4)
    assert (
        on_white.attrs["data_fingerprint"] != study(path, draws=8, levels=4, ground="black").attrs["data_fingerprint"]
    )
    for command in (["generate", path, "--n", "2", "--steps", "2"], ["fork", path, "--seeds", "2", "--forks", "4"]):
        assert main([*command, "--ground", "black", "--out", str(tmp_path / command[0])]) == 0
        assert 'ground = "black"' in next((tmp_path / command[0]).glob("*.toml")).read_text()


def test_a_model_keeps_the_ground_of_its_training(tmp_path, capsys):
    shapes = {c: [stencil((40 * i, 9, 9), k + 1) for k in range(4)] for i, c in enumerate("abc")}
    path, model = str(write(tmp_path / "d", shapes)), str(tmp_path / "m")
    small = ["--network", "mlp", "--width", "8", "--depth", "1", "--steps", "2", "--batch", "4"]
    assert main(["train", path, *small, "--ground", "black", "--out", model]) == 0
    capsys.readouterr()
    assert main(["study", path, "--model", model, "--dry-run"]) == 0
    assert 'ground = "black"' in capsys.readouterr().out
    assert main(["study", path, "--model", model, "--ground", "#010203", "--dry-run"]) == 2
    assert "it was trained with --ground black" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "ground", "words"),
    [
        ("pictures", "purple", "expected white, black or #rrggbb"),
        ("pictures", "#12345", "expected white, black or #rrggbb"),
        ("scenes", "black", "leave it out for other data"),
        ("hierarchy", "black", "leave it out for other data"),
        ("x.npz", "black", "leave it out for other data"),
        ("x.npz", "none", "expected white, black or #rrggbb"),
    ],
)
def test_grounds_that_cannot_be(tmp_path, capsys, data, ground, words):
    np.savez(tmp_path / "x.npz", images=RNG.random((4, 2, 2)), a=[0, 1, 0, 1])
    write(tmp_path / "pictures", {"a": [alpha_png("LA")], "b": [alpha_png("RGBA")]})
    where = data if data in ("scenes", "hierarchy") else str(tmp_path / data)
    assert main(["study", where, "--ground", ground, "--dry-run"]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.strip().splitlines()) == 1


def test_pictures_turned_by_their_orientation_are_those_stored_upright(tmp_path):
    """The numbers of a study do not depend on how a camera was held."""
    for c in ("left", "right"):
        (tmp_path / "turned" / c).mkdir(parents=True)
        (tmp_path / "upright" / c).mkdir(parents=True)
        for i in range(6):
            pixels = np.full((16, 16), 40, np.uint8)
            (pixels[:, :8] if c == "left" else pixels[:, 8:])[...] = 150 + i
            exif = Image.Exif()
            exif[EXIF] = 3 if i % 2 else 1
            stored = Image.fromarray(pixels[::-1, ::-1].copy() if i % 2 else pixels)
            stored.save(tmp_path / "turned" / c / f"{i}.png", exif=exif)
            Image.fromarray(pixels).save(tmp_path / "upright" / c / f"{i}.png")
    turned, upright = load(str(tmp_path / "turned")), load(str(tmp_path / "upright"))
    assert torch.equal(turned.source.read(0, 12), upright.source.read(0, 12))
    assert turned.fingerprint == upright.fingerprint
