"""Encoded pictures: decoded by pillow, all of one size."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, UnidentifiedImageError

from sigmascope import ranks
from sigmascope.core import InputError
from sigmascope.data.memory import require

Pictures = Callable[[range], Iterable[tuple[str, Callable[[], bytes]]]]


def decode_all(count: int, pictures: Pictures, name: str) -> tuple[np.ndarray, range | None]:
    """Decode pictures into one uint8 array (items, height, width, channels): in a run of several, each rank its share.

    Grey pictures have one channel, all others three.  Memory is checked after the first.

    Args:
        count: how many pictures there are.
        pictures: of a range of them, what to call each and a function that gives its bytes.
        name: of the data, for messages.

    Returns: the pictures, and which of them they are where they are not all.

    Raises: InputError, naming the picture, where one cannot be decoded or differs in size.
    """
    if not count:
        raise InputError(f"{name}: there is no picture")
    share = ranks.rows(count)
    first, read = next(iter(pictures(range(1))))
    picture = _decode(first, read, name)
    require(len(share) * picture.nbytes, f"{name} decoded", "use a machine with more, or smaller pictures")
    own = np.empty((0, 0, 0, 0), dtype=np.uint8)

    def decode() -> int:
        nonlocal own
        own = _decoded(share, pictures, (first, picture), name)
        return own.shape[3]

    channels = max(ranks.together(decode))
    if own.shape[3] < channels:
        own = np.repeat(own, channels, axis=3)
    return own, None if ranks.world() == 1 else share


def _decoded(share: range, pictures: Pictures, first: tuple[str, np.ndarray], name: str) -> np.ndarray:
    """The pictures of this rank."""
    shown, like = first
    out = np.empty((len(share), *like.shape), dtype=np.uint8)
    for i, (label, read) in enumerate(pictures(share)):
        picture = _decode(label, read, name)
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
