"""Decoding of encoded pictures with pillow: upright, without transparency, all of one size."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

import sigmascope.distributed as distributed
from sigmascope.core import InputError
from sigmascope.data.files import error_words
from sigmascope.data.memory import require

Pictures = Callable[[range], Iterable[tuple[str, Callable[[], bytes]]]]
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats that are decoded; others that pillow supports can start programs."""
WHITE = "white"
_GROUNDS = {WHITE: (255, 255, 255), "black": (0, 0, 0)}
_PIXELS = 1 << 25  # of one picture; a header can say any number
_COLOURS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
_GREY = {"1", "L", "LA"}
_BITS = 258  # tag of a TIFF file: bits of each channel


class Decoded(NamedTuple):
    """Pictures of one size, uint8, shape (items, height, width, channels); a share of None stands for all of them."""

    images: np.ndarray
    share: range | None
    notes: tuple[str, ...]


@dataclass
class _ChannelRanges:
    """Smallest and largest value of each channel over pictures, in the files and after decoding."""

    transparent: int = 0
    stored: dict[str, tuple[int, int]] = field(default_factory=dict)
    decoded: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, other: _ChannelRanges) -> None:
        self.transparent += other.transparent
        for ranges, more in ((self.stored, other.stored), (self.decoded, other.decoded)):
            for channel, (low, high) in more.items():
                before = ranges.get(channel, (low, high))
                ranges[channel] = min(low, before[0]), max(high, before[1])


def ground_colour(ground: str) -> tuple[int, int, int]:
    """The colour of ``white``, ``black`` or ``#rrggbb``, red, green and blue from 0 to 255."""
    if ground in _GROUNDS:
        return _GROUNDS[ground]
    if re.fullmatch(r"#[0-9a-fA-F]{6}", ground):
        red, green, blue = bytes.fromhex(ground[1:])
        return red, green, blue
    raise InputError(f"ground is {ground!r}: expected white, black or #rrggbb, e.g. --ground '#808080'")


def decode_all(count: int, pictures: Pictures, name: str, ground: str = WHITE) -> Decoded:
    """Decode pictures into one uint8 array (items, height, width, channels), on each rank its share of them.

    Pictures are turned by their EXIF orientation, and transparent pixels are laid on the ground.  Grey pictures have
    one channel, all others three.  Memory is checked once the size of the first is known.  InputError, with the name of
    the picture, where one cannot be decoded, would lose a channel, or differs in size.
    """
    if not count:
        raise InputError(f"{name}: there is no picture")
    share, colour = distributed.rows(count), ground_colour(ground)
    first, read = next(iter(pictures(range(1))))
    picture = _decode(first, read, name, colour, _ChannelRanges())
    require(len(share) * picture.nbytes, f"{name} decoded", "use a machine with more, or smaller pictures")
    own, ranges = np.empty((0, 0, 0, 0), dtype=np.uint8), _ChannelRanges()

    def decode() -> tuple[int, _ChannelRanges]:
        nonlocal own
        own = _decoded(share, pictures, (first, picture), name, colour, ranges)
        return own.shape[3], ranges

    by_rank = distributed.together(decode)
    channels, whole = max(c for c, _ in by_rank), _ChannelRanges()
    for _, part in by_rank:
        whole.add(part)
    if own.shape[3] < channels:
        own = np.repeat(own, channels, axis=3)
    notes = (f"the transparency of {whole.transparent} pictures is laid on {ground}",) if whole.transparent else ()
    _require_kept(whole, name, notes)
    return Decoded(own, None if distributed.world() == 1 else share, notes)


def _require_kept(ranges: _ChannelRanges, name: str, notes: Sequence[str]) -> None:
    """Refuse pictures where a channel varies in the files and is constant after decoding."""
    flat = {c for c, (low, high) in ranges.decoded.items() if low == high}
    varied = [c for c, (low, high) in ranges.stored.items() if low < high]
    lost = [c for c in varied if c in flat] or (varied if varied and len(flat) == len(ranges.decoded) else [])
    if lost:
        reason = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(
            f"{name}: the channel {lost[0]} holds something in the files and nothing once they are decoded{reason}: "
            f"{'choose another --ground' if notes else 'store the pictures as plain RGB or grey ones'}"
        )


def _decoded(
    share: range,
    pictures: Pictures,
    first: tuple[str, np.ndarray],
    name: str,
    colour: tuple[int, int, int],
    ranges: _ChannelRanges,
) -> np.ndarray:
    """The pictures of this rank."""
    shown, like = first
    out = np.empty((len(share), *like.shape), dtype=np.uint8)
    for i, (label, read) in enumerate(pictures(share)):
        picture = _decode(label, read, name, colour, ranges)
        if picture.shape[2] == 1 and out.shape[3] == 3:
            picture = np.repeat(picture, 3, axis=2)
        if picture.shape[2] == 3 and out.shape[3] == 1:  # a grey picture came first: all become colour ones
            out = np.repeat(out, 3, axis=3)
        if picture.shape != out.shape[1:]:
            raise InputError(
                f"{name}: {label} is {_size(picture)} and {shown} is {_size(like)}: all pictures must have one size; "
                "resize or crop them first"
            )
        out[i] = picture
    return out


def _decode(
    label: str, read: Callable[[], bytes], name: str, colour: tuple[int, int, int], ranges: _ChannelRanges
) -> np.ndarray:
    """One picture, uint8, shape (height, width, channels)."""
    data = read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture that matters raises an error
            with Image.open(io.BytesIO(data), formats=_formats()) as opened:
                _check_header(opened, data)
                image = ImageOps.exif_transpose(opened)
                return _pixels(image, colour, ranges)
    except MemoryError:
        raise
    except Exception as error:  # a damaged picture raises anything
        raise InputError(f"{name}: {label} cannot be decoded ({error_words(error)}): remove or replace it") from error


@cache
def _formats() -> tuple[str, ...]:
    """The formats that this build of pillow supports."""
    Image.init()
    return tuple(f for f in FORMATS if f in Image.OPEN)


def _check_header(image: Image.Image, data: bytes) -> None:
    """Refuse, before decoding, a picture that would take much memory or lose precision, by ValueError."""
    if image.width * image.height > _PIXELS:
        raise ValueError(f"its header gives {image.width} × {image.height}: at most {_PIXELS:,} pixels are read")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a photograph with its preview
        raise ValueError(f"it holds {getattr(image, 'n_frames', 1)} pictures: store each in a file of its own")
    if image.mode not in _COLOURS or _deep(image, data):
        if image.mode.startswith(("I", "F")) or _deep(image, data):
            raise ValueError(f"mode {image.mode}: more than 8 bits a channel; store the pixels as an .npz of floats")
        raise ValueError(f"mode {image.mode}: expected grey, RGB, a palette or CMYK")


def _deep(image: Any, data: bytes) -> bool:
    """Whether a channel has more than 8 bits, which pillow cuts off."""
    if image.format == "PNG":
        return data[24] > 8
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS, (1,))
        return bool(max(bits if isinstance(bits, tuple) else (bits,)) > 8)
    if image.format == "PPM" and image.tile:
        args = image.tile[0][3]
        return isinstance(args, tuple) and isinstance(args[-1], int) and args[-1] > 255
    return False


def _pixels(image: Image.Image, colour: tuple[int, int, int], ranges: _ChannelRanges) -> np.ndarray:
    """The pixels of a picture, on the ground where it is transparent."""
    grey, own = image.mode in _GREY, _ChannelRanges()
    if _transparent(image):
        layer = image.convert("RGBA")
        stored = np.asarray(layer)
        visible = stored[stored[:, :, 3] > 0]
        if not len(visible) and np.ptp(stored[:, :, :3], axis=(0, 1)).any():
            raise ValueError("it is transparent everywhere, and its colours would be lost; remove its transparency")
        own.transparent = int(stored[:, :, 3].min() < 255)
        own.stored = _ranges(visible, ("R", "G", "B")) | _ranges(stored[:, :, 3:].reshape(-1, 1), ("A",))
        grey = grey and len(set(colour)) == 1
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (*colour, 255)), layer)
    elif image.mode not in ("1", "L", "RGB"):  # these lose nothing
        own.stored = _ranges(np.asarray(image).reshape(image.width * image.height, -1), image.getbands())
    pixels = np.asarray(image.convert("L" if grey and image.mode != "RGBA" else "RGB"))
    pixels = pixels[:, :, None] if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, : 1 if grey else 3])
    own.decoded = _ranges(pixels.reshape(-1, pixels.shape[2]), ("grey",) if grey else ("R", "G", "B"))
    ranges.add(own)
    return pixels


def _ranges(values: np.ndarray, channels: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Smallest and largest value of each channel, of values of shape (pixels, channels)."""
    if not len(values):
        return {}
    low, high = values.min(0).tolist(), values.max(0).tolist()
    return {c: (low[i], high[i]) for i, c in enumerate(channels)}


def _transparent(image: Image.Image) -> bool:
    """Whether a picture has an alpha channel, or a transparent colour or entry of its palette."""
    palette = image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")
    return image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info or palette


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} × {picture.shape[0]}"
