"""Checks of the scale of items and of their labels, before a study starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import Attribute, InputError, LabelledData

_LARGEST = 1e9  # squared distances must stay within float32
_ROWS = 1024  # items that are checked together
_WIDE = 127.0  # a range of pixels beyond it is no range of 0 to 1, or of −1 to 1


@dataclass
class PixelScan:
    """The range of the coordinates of items, block by block, and whether all items equal the first, ``example``."""

    name: str
    first: int = 0
    items: int = 0
    example: np.ndarray | None = None
    alike: bool = True
    low: float = float("inf")
    high: float = float("-inf")
    whole: bool = False

    def add(self, block: np.ndarray) -> None:
        """Scan more items, shape (items, ...); InputError where a coordinate cannot be used."""
        if block.dtype.kind == "f":
            bad = ~np.isfinite(block)
            if bad.any():
                item = self.first + self.items + int(np.argwhere(bad)[0][0])
                raise InputError(f"{self.name}: image {item} holds a pixel that is not finite: remove the image")
        self.low, self.high = min(self.low, float(block.min())), max(self.high, float(block.max()))
        if max(-self.low, self.high) > _LARGEST:
            raise InputError(f"{self.name}: pixels beyond ±{_LARGEST:g} do not fit single precision: rescale them")
        if self.example is None:
            self.example, self.whole = block[0].copy(), block.dtype == np.uint8
        self.alike = self.alike and bool((block == self.example).all())
        self.items += len(block)

    def require_different(self, items: int, notes: Sequence[str] = ()) -> None:
        """Refuse items that are all equal; notes about their decoding may give the reason."""
        if items > 1 and self.alike:
            reason = f" ({'; '.join(notes)})" if notes else ""
            raise InputError(
                f"{self.name}: all {items} images are alike{reason}: nothing can be decided of them; check how they "
                "were stored" + (", or choose another --ground" if notes else "")
            )

    def span(self) -> tuple[float, float]:
        """Smallest and largest coordinate, in the unit of the data."""
        unit = 255.0 if self.whole else 1.0
        return self.low / unit, self.high / unit

    def notes(self) -> tuple[str, ...]:
        """Warnings about an unusual range of pixels."""
        if not self.whole and self.example is not None and self.example.ndim > 1 and self.high - self.low > _WIDE:
            return (f"the pixels are floats from {self.low:g} to {self.high:g}, and so are the noise levels",)
        if self.whole and self.high <= 1:
            return ("the 8-bit pixels are 0 and 1, almost black of 0 to 255: multiply them by 255 or store floats",)
        return ()


def require_different(data: LabelledData) -> None:
    """Refuse data whose items are all equal."""
    scan = PixelScan(data.name)
    for start in range(0, len(data), _ROWS):
        scan.add(data.source.read(start, min(start + _ROWS, len(data))).numpy())
        if not scan.alike:
            return
    scan.require_different(len(data))


def merge_scans(scans: Sequence[PixelScan]) -> PixelScan:
    """One scan from those of several ranks, each of its own items."""
    filled = [x for x in scans if x.example is not None]
    if not filled:
        return scans[0]
    first = filled[0]
    alike = all(x.alike and np.array_equal(x.example, first.example) for x in filled)  # type: ignore[arg-type]
    return replace(first, alike=alike, low=min(x.low for x in filled), high=max(x.high for x in filled))


def single_item_notes(attributes: Sequence[Attribute], labels: Mapping[str, Tensor]) -> tuple[str, ...]:
    """A note for each attribute most of whose items have a value that no other item has."""
    notes = []
    for a in attributes:
        codes = labels[a.name]
        alone = int((torch.bincount(codes, minlength=len(a.values)) == 1).sum())
        if 2 * alone > len(codes) > 2:
            notes.append(
                f"{alone} of {len(codes)} items have a {a.name!r} that no other item has, so that this attribute "
                "identifies single items: leave it out with --attributes, or cut it into bins"
            )
    return tuple(notes)


def require_shared(data: LabelledData, attributes: Sequence[Attribute]) -> None:
    """Refuse attributes of which every item has a value of its own, where items are held out."""
    for a in attributes:
        if int(torch.bincount(data.labels[a.name]).max()) == 1:
            raise InputError(
                f"attribute {a.name!r} has a value of its own for each of {len(data)} items: nothing is known of those "
                "held out; leave it out with --attributes, or cut it into bins"
            )


def require_levels(data: LabelledData, sigma_max: float, sigma_min: float) -> None:
    """Refuse noise levels that are too low or too high for the scale of the data, such as for pixels from 0 to 255."""
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
    diagonal = wide * data.size**0.5
    if diagonal < sigma_min:
        raise InputError(
            f"{data.name}: no two images are further apart than {diagonal:.2g}, and the last level is {sigma_min:g}: "
            f"nothing is decided there; rescale the pixels, or pass --sigma-min {diagonal / 100:.1g}"
        )
