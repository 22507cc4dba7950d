"""Scales of items and labels: what leaves nothing to find out is said before work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import Attribute, InputError, LabelledData

_LARGEST = 1e9  # squared distances must stay within float32
_ROWS = 1024  # items that are looked at together
_WIDE = 127.0  # a range of pixels beyond it is no range of 0 to 1, or of −1 to 1


@dataclass
class PixelScan:
    """What is seen of items on the way through them.

    Args:
        name: of the data.
        first: index of the first item that is looked at.
        items: how many were.
        example: the first of them.
        alike: whether all others are the same.
        low: smallest coordinate, as it is stored.
        high: largest.
        whole: whether they are 8-bit.
    """

    name: str
    first: int = 0
    items: int = 0
    example: np.ndarray | None = None
    alike: bool = True
    low: float = float("inf")
    high: float = float("-inf")
    whole: bool = False

    def at(self, block: np.ndarray) -> None:
        """Look at some more items, shape (items, ...).

        Raises: InputError where a coordinate cannot be used.
        """
        if block.dtype.kind == "f":
            bad = ~np.isfinite(block)
            if bad.any():
                item = self.first + self.items + int(np.argwhere(bad)[0][0])
                raise InputError(
                    f"{self.name}: image {item} holds a pixel that is not finite (NaN or infinite): remove it"
                )
        self.low, self.high = min(self.low, float(block.min())), max(self.high, float(block.max()))
        if max(-self.low, self.high) > _LARGEST:
            raise InputError(f"{self.name}: pixels beyond ±{_LARGEST:g} do not fit single precision: rescale them")
        if self.example is None:
            self.example, self.whole = block[0].copy(), block.dtype == np.uint8
        self.alike = self.alike and bool((block == self.example).all())
        self.items += len(block)

    def require_different(self, items: int, notes: Sequence[str] = ()) -> None:
        """Refuse items that are all the same.

        Args:
            items: how many there are.
            notes: of how they were decoded, which may be the reason.

        Raises: InputError.
        """
        if items > 1 and self.alike:
            how = f" ({'; '.join(notes)})" if notes else ""
            raise InputError(
                f"{self.name}: all {items} images are alike{how}: nothing can be decided of them; check how they were "
                "stored" + (", or choose another --ground" if notes else "")
            )

    def span(self) -> tuple[float, float]:
        """Smallest and largest coordinate, in the unit of the data."""
        unit = 255.0 if self.whole else 1.0
        return self.low / unit, self.high / unit

    def notes(self) -> tuple[str, ...]:
        """What is odd of the scale."""
        if not self.whole and self.example is not None and self.example.ndim > 1 and self.high - self.low > _WIDE:
            return (f"the pixels are floats from {self.low:g} to {self.high:g}, and so are the noise levels",)
        if self.whole and self.high <= 1:
            return ("the 8-bit pixels are 0 and 1, almost black of 0 to 255: multiply them by 255 or store floats",)
        return ()


def require_different(data: LabelledData) -> None:
    """Refuse data whose items are all the same.

    Raises: InputError.
    """
    look = PixelScan(data.name, 0)
    for start in range(0, len(data), _ROWS):
        look.at(data.source.read(start, min(start + _ROWS, len(data))).numpy())
        if not look.alike:
            return
    look.require_different(len(data))


def together(looks: Sequence[PixelScan]) -> PixelScan:
    """What several ranks have seen, each of its own items."""
    some = [x for x in looks if x.example is not None]
    if not some:
        return looks[0]
    first = some[0]
    alike = all(x.alike and np.array_equal(x.example, first.example) for x in some)  # type: ignore[arg-type]
    return replace(first, alike=alike, low=min(x.low for x in some), high=max(x.high for x in some))


def alone_notes(attributes: Sequence[Attribute], labels: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Of attributes most of whose items have a value that no other item has."""
    found = []
    for a in attributes:
        of = labels[a.name]
        alone = int((torch.bincount(of, minlength=len(a.values)) == 1).sum())
        if 2 * alone > len(of) > 2:
            found.append(
                f"{alone} of {len(of)} items have a {a.name!r} that no other has, which tells of single items: leave "
                "it out with --attributes, or cut it into bins"
            )
    return tuple(found)


def require_shared(data: LabelledData, attributes: Sequence[Attribute]) -> None:
    """Refuse attributes of which every item has a value of its own, where items are held out.

    Raises: InputError.
    """
    for a in attributes:
        if int(torch.bincount(data.labels[a.name]).max()) == 1:
            raise InputError(
                f"attribute {a.name!r} has a value of its own for each of {len(data)} items: nothing is known of those "
                "held out; leave it out with --attributes, or cut it into bins"
            )


def require_levels(data: LabelledData, sigma_max: float, sigma_min: float) -> None:
    """Refuse levels at which nothing can be decided, or all is: of pixels from 0 to 255 as floats, say.

    Args:
        data: with the span of its coordinates.
        sigma_max: first level.
        sigma_min: last level.

    Raises: InputError.
    """
    if data.span is None or len(data) < 2:
        return
    low, high = data.span
    wide = high - low
    if len(data.event) > 1 and wide > _WIDE and sigma_max < wide:
        raise InputError(
            f"{data.name}: the pixels are floats from {low:g} to {high:g}, which noise of the first level, "
            f"{sigma_max:g}, does not hide: divide them by {wide:g} or store them as uint8 (to keep their unit: "
            f"--sigma-max {100 * wide:.0f} --sigma-min {0.01 * wide:.2g})"
        )
    apart = wide * data.size**0.5
    if apart < sigma_min:
        raise InputError(
            f"{data.name}: no two images are further apart than {apart:.2g}, and the last level is {sigma_min:g}: "
            f"nothing is decided there; rescale the pixels, or pass --sigma-min {apart / 100:.1g}"
        )
