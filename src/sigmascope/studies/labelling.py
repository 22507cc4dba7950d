r"""Labels of images: of the nearest other item of the data, or by a user's own function.

A continuation of a noised item v is near to v because it began there.  An item that was drawn apart from v is not, so v
itself and its near copies would be the nearest far too often and would give the parent's own label.  They are left out
when the children of v are labelled: the labels are then those of a classifier that never saw the parent.

*Near copies* of an item are its k nearest other ones where the next one is more than twice as far, for the largest
such k below 32, and all that equal it.  Of independent draws whose law has m dimensions nearby, a share of
:math:`2^{-mk}` has such a gap by chance (.001 for m = 10 and k = 1), and to lose a few items costs nothing there, since
others lie about.  A gap may also end a cell of the design, e.g. all items of a value.  Gaps are taken for that, and
the item alone is left out, where the items beyond them have its own value more seldom than items at random have.

Where that is so of the nearest other items themselves, or most items are the only ones with their value, the items are
the cells of a design, each of them once: a child that is of its parent's cell has no other item to be labelled by.
There nothing is left out.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sigmascope.core import Attribute, InputError, LabelledData
from sigmascope.exact.finite.passes import tile_rows
from sigmascope.information.forks import LabelAll, LabelChildren

_ROWS = 256  # images that are labelled at once
_SAMPLE, _NEIGHBOURS = 256, 32  # items whose neighbours are looked at, and how many of them
_APART, _EQUAL = 2.0, 1e-6  # times as far lies the first unrelated item; of the data's scale, what rounding leaves
_OTHERS = "the nearest item of the data but the parent's own and near copies of it"
_ALL = (
    "the nearest item of the data, the parent's own among them, since the items are the only ones of their kind and "
    "others would say what they are not"
)


def imported(name: str) -> Callable[[Tensor], object]:
    """The user's function that labels images, by ``module:function``.

    Raises: InputError where there is none.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise InputError(f"labeller is {name!r}: expected module:function, e.g. mine:digits")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(f"labeller {name!r} cannot be imported ({error}): run where {module}.py lies") from error
    if not callable(found):
        raise InputError(f"labeller {name!r} is a {type(found).__name__}: expected a function of images")
    return found


def by_function(function: Callable[[Tensor], object], name: str, known: Sequence[Attribute]) -> LabelAll:
    """The labels of a user's function as those of attributes.

    Args:
        function: from images, float32, shape (rows, channels, height, width), pixels from 0 to 1, to one index of a
            value per row; or to a mapping from the names of attributes to such.
        name: of the attribute where it gives one alone, and in complaints.
        known: the attributes that it must give; empty: any.

    The labels raise InputError where they are not one index per row, of the attributes known.
    """

    def label(images: Tensor) -> dict[str, Tensor]:
        given = function(images.float())
        of = dict(given) if isinstance(given, Mapping) else {known[0].name if len(known) == 1 else name: given}
        found = {}
        for key, value in of.items():
            index = torch.as_tensor(value).cpu()
            if index.shape != (len(images),) or index.is_floating_point():
                raise InputError(
                    f"the labeller gave {key!r} with shape {tuple(index.shape)} and type {index.dtype} for "
                    f"{len(images)} images: expected one index of a value per image"
                )
            values = next((len(a.values) for a in known if a.name == key), None)
            low, high = int(index.min()), int(index.max())
            if low < 0 or (values is not None and high >= values):
                raise InputError(
                    f"the labeller gave {key!r} from {low} to {high}: expected 0 to {(values or 1 << 30) - 1}"
                )
            found[str(key)] = index.long()
        lacking = [a.name for a in known if a.name not in found]
        if lacking:
            raise InputError(f"the labeller gave {', '.join(found)}: {', '.join(lacking)} is missing")
        return {a.name: found[a.name] for a in known} if known else found

    return label


class Nearest:
    """Labels of the item that is nearest to each image, the item that its parent is and near copies of that left out.

    Args:
        data: labelled items.

    Attributes:
        leaves_out: whether it does leave out parents: not of items that are the only ones of their kind.
        words: how it labels.
    """

    def __init__(self, data: LabelledData) -> None:
        self._data = data
        self._of_law = data.weights > 0
        some = torch.nonzero(self._of_law)[:, 0]
        self._sample = some[torch.linspace(0, len(some) - 1, min(len(some), _SAMPLE)).round().long()]
        values = self._items(self._sample)
        self._centre = values.mean(0)
        self._scale2 = float((values - self._centre).pow(2).sum(1).mean())
        self._copies: dict[int, Tensor] = {}
        distance2, others, _ = self._neighbours(self._sample)
        size = _gaps(distance2)
        gapped = torch.nonzero(size)[:, 0]
        self._has_copies = not self._seldom_alike(gapped, others[gapped, size[gapped]])
        size = size if self._has_copies else torch.zeros_like(size)
        self.leaves_out = not self._single(size)
        if self.leaves_out:
            every = torch.arange(len(size))
            self.leaves_out = not self._seldom_alike(every, others[every, size])
        self.words = _OTHERS if self.leaves_out else _ALL

    def __call__(self, values: Tensor, parents: Tensor | None = None) -> dict[str, Tensor]:
        """The labels of images.

        Args:
            values: shape (rows, *event).
            parents: the item that the parent of each image is; None: images whose parents are no items.
        """
        rows = values.reshape(len(values), -1).double().cpu()
        family = {} if parents is None or not self.leaves_out else self._families(parents)
        apart, nearest = torch.full((len(rows),), torch.inf, dtype=torch.float64), torch.zeros(len(rows)).long()
        for start, distance2 in self._distances(rows):
            for parent, mine in family.items():
                out = self._copies[parent] - start
                out = out[(out >= 0) & (out < distance2.shape[1])]
                distance2[mine[:, None], out] = torch.inf
            least, at = distance2.min(1)
            nearest = torch.where(least < apart, at + start, nearest)
            apart = torch.minimum(apart, least)
        return {a.name: self._data.labels[a.name][nearest] for a in self._data.attributes}

    def left_out(self, parents: Tensor) -> Tensor:
        """How many items are left out for each parent, itself among them."""
        if not self.leaves_out:
            return torch.zeros_like(parents)
        self._families(parents)
        return torch.tensor([len(self._copies[p]) for p in parents.tolist()])

    def right(self, name: str, parents: Tensor) -> Tensor:
        """Whether the nearest other item of each parent has the parent's own value."""
        found = [self(self._data.source.take(p), p)[name] for p in parents.split(_ROWS)]
        return torch.cat(found) == self._data.labels[name][parents]

    def _items(self, items: Tensor) -> Tensor:
        return self._data.source.take(items).reshape(len(items), -1).double()

    def _distances(self, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Squared distances to the items of a tile, infinite for those that the law does not hold; a tile at a time."""
        rows = rows - self._centre
        tall = tile_rows(self._data.size, len(rows))
        for start in range(0, len(self._data), tall):
            stop = min(start + tall, len(self._data))
            tile = self._data.source.read(start, stop).reshape(stop - start, -1).double() - self._centre
            distance2 = (rows**2).sum(1, keepdim=True) + (tile**2).sum(1) - 2.0 * (rows @ tile.T)
            distance2[:, ~self._of_law[start:stop]] = torch.inf
            yield start, distance2.clamp_min(0.0)

    def _families(self, parents: Tensor) -> dict[int, Tensor]:
        """The rows of each parent, whose near copies are found first."""
        new = torch.tensor([p for p in torch.unique(parents).tolist() if p not in self._copies], dtype=torch.int64)
        for some in new.split(_ROWS) if len(new) else ():
            distance2, others, equal = self._neighbours(some)
            size = _gaps(distance2) if self._has_copies else torch.zeros(len(some), dtype=torch.int64)
            for i, p in enumerate(some.tolist()):
                self._copies[p] = torch.unique(torch.cat([some[i : i + 1], others[i, : size[i]], equal[i]]))
        return {int(p): torch.nonzero(parents == p)[:, 0] for p in torch.unique(parents)}

    def _neighbours(self, items: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The nearest other items of each, their squared distances, and all items that equal it."""
        count = min(_NEIGHBOURS, int(self._of_law.sum()) - 1)
        apart, nearest = torch.empty(len(items), 0).double(), torch.empty(len(items), 0).long()
        equal: list[list[Tensor]] = [[] for _ in items]
        for start, distance2 in self._distances(self._items(items)):
            index = torch.arange(start, start + distance2.shape[1]).expand_as(distance2)
            same = distance2 <= _EQUAL**2 * self._scale2
            for i in torch.nonzero(same.any(1))[:, 0].tolist():
                equal[i].append(index[i, same[i]])
            distance2 = torch.where(same, 0.0, distance2)
            distance2[index == items[:, None]] = torch.inf
            apart, nearest = torch.cat([apart, distance2], 1), torch.cat([nearest, index], 1)
            apart, at = apart.topk(min(max(count, 0), apart.shape[1]), largest=False)
            nearest = nearest.gather(1, at)
        return apart, nearest, [torch.cat([nearest.new_empty(0), *of]) for of in equal]

    def _seldom_alike(self, which: Tensor, others: Tensor) -> bool:
        """Whether these others have the own value of sampled items more seldom, beyond chance, than items at random."""
        if not len(which):
            return False
        for a in self._data.attributes:
            label = self._data.labels[a.name]
            same = float((label[others] == label[self._sample[which]]).double().mean())
            chance = float((a.prior**2).sum())
            if same < chance - 3.0 * (chance * (1.0 - chance) / len(which)) ** 0.5:
                return True
        return False

    def _single(self, copies: Tensor) -> bool:
        """Whether of some attribute most of the sampled items are, but for copies, the only ones with their value."""
        for a in self._data.attributes:
            label = self._data.labels[a.name]
            count = torch.bincount(label[self._of_law], minlength=len(a.values))
            if float((count[label[self._sample]] <= 1 + copies).double().mean()) > 0.5:
                return True
        return False


def _gaps(distance2: Tensor) -> Tensor:
    """How many of each row's neighbours come before its last gap; 0 where there is none."""
    wide = distance2[:, 1:] > _APART**2 * distance2[:, :-1]
    return (wide * torch.arange(1, wide.shape[1] + 1)).amax(1) if wide.shape[1] else torch.zeros(len(wide)).long()


def of_any_parent(label: LabelAll) -> LabelChildren:
    """Labels that do not depend on who the parents are."""
    return lambda values, _: label(values)


def decoded(label: LabelAll, decode: Callable[[Tensor], Tensor]) -> LabelAll:
    """Labels of values that are pictures only once they are decoded."""
    return lambda values: label(decode(values))


def labelled_by(label: LabelAll, values: Tensor, decode: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Labels of many values, some at a time."""
    parts = [label(decode(x)) for x in values.split(_ROWS)]
    return {n: torch.cat([p[n] for p in parts]) for n in parts[0]}
