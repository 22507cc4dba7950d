"""Encoded pictures: decoded by pillow, all of one size."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from sigmascope.core import InputError
from sigmascope.data.memory import require


def decode_all(count: int, sources: Iterator[tuple[str, Callable[[], bytes]]], name: str) -> np.ndarray:
    """Decode pictures into one uint8 array (items, height, width, channels).

    Grey pictures have one channel, all others three.  Memory is checked after the first.

    Args:
        count: how many pictures come.
        sources: for each, what to call it and a function that gives its bytes.
        name: of the data, for messages.

    Raises: InputError, naming the picture, where one cannot be decoded or differs in size.
    """
    out: np.ndarray | None = None
    first = ""
    for i, (label, read) in enumerate(sources):
        picture = _decode(label, read, name)
        if out is None:
            require(count * picture.nbytes, f"{name} decoded", "use a machine with more, or smaller pictures")
            out, first = np.empty((count, *picture.shape), dtype=np.uint8), label
        if picture.shape[2] == 1 and out.shape[3] == 3:
            picture = np.repeat(picture, 3, axis=2)
        if picture.shape[2] == 3 and out.shape[3] == 1:  # a grey picture came first: all become colour ones
            out = np.repeat(out, 3, axis=3)
        if picture.shape != out.shape[1:]:
            raise InputError(
                f"{name}: {label} is {_size(picture)} and {first} is {_size(out[0])}: all pictures must have one size; "
                "resize or crop them first"
            )
        out[i] = picture
    if out is None:
        raise InputError(f"{name}: there is no picture")
    return out


def _decode(label: str, read: Callable[[], bytes], name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(read())) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(
                    f"mode {image.mode}: more than 8 bits a channel; store the pixels as an .npz of floats"
                )
            grey = image.mode in ("1", "L", "LA")
            return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB")))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name}: {label} cannot be decoded ({reason}): remove or replace it") from error


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} × {picture.shape[0]}"


def file_bytes(path: Path) -> Callable[[], bytes]:
    """A function that reads a file."""
    return path.read_bytes
