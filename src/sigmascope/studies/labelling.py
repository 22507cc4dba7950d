r"""Labels of images: by the nearest other item of the data, or by a function of the user.

A continuation of a noised item v is near to v because it began there.  With v and its near copies among the candidates,
the nearest item would far too often be one of them, and the label that of the parent.  They are therefore left out when
continuations of v are labelled; the labels are those of a classifier whose training data do not contain the parent.

*Near copies* of an item are its k nearest other items where the next one is more than twice as far, for the largest
such k below 32, and all items equal to it.  Among independent draws of a law with m dimensions, a share of
:math:`2^{-mk}` has such a gap by chance (.001 for m = 10 and k = 1); leaving out these few items is harmless.  A gap
may also be the end of a cell of a design, e.g. of all items of a value.  This is assumed where the items beyond the gap
have the item's value less often than random items; then only the item itself is left out.

Where even the nearest other items have the item's value less often than random items, or most items are the only ones
with their value, the data are a design with one item in each cell.  Nothing is left out then, since no other item could
give the label of the parent's cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sigmascope.core import Attribute, InputError, LabelledData
from sigmascope.exact.finite.passes import tile_rows
from sigmascope.information.forks import LabelAll, LabelChildren

_ROWS = 256  # images labelled at once
_SAMPLE, _NEIGHBOURS = 256, 32  # items whose neighbours are examined, and number of neighbours
_GAP, _EQUAL = 2.0, 1e-6  # ratio of distances at a gap; distance of equal items, as a share of the data's scale
_OTHERS = "the nearest item of the data except the parent's item and near copies of it"
_ALL = "the nearest item of the data, including the parent's item, since each item is the only one of its kind"


def by_function(function: Callable[[Tensor], object], name: str, attributes: Sequence[Attribute]) -> LabelAll:
    """The labels of a function of the user, checked, by attribute.

    Args:
        function: from images, float32, shape (rows, channels, height, width), pixels from 0 to 1, to one index of a
            value per row; or to a mapping from the names of attributes to such.
        name: name of the attribute where the function returns only one index per row.
        attributes: those that it must label; empty: any.

    The result raises InputError for labels that are not one index of a value per row, for each attribute.
    """

    def label(images: Tensor) -> dict[str, Tensor]:
        output = function(images.float())
        only = attributes[0].name if len(attributes) == 1 else name
        raw, labels = dict(output) if isinstance(output, Mapping) else {only: output}, {}
        for key, value in raw.items():
            index = torch.as_tensor(value).cpu()
            if index.shape != (len(images),) or index.is_floating_point():
                raise InputError(
                    f"the labeller gave {key!r} with shape {tuple(index.shape)} and type {index.dtype} for "
                    f"{len(images)} images: expected one index of a value per image"
                )
            values = next((len(a.values) for a in attributes if a.name == key), None)
            low, high = int(index.min()), int(index.max())
            if low < 0 or (values is not None and high >= values):
                raise InputError(
                    f"the labeller gave {key!r} from {low} to {high}: expected 0 to {(values or 1 << 30) - 1}"
                )
            labels[str(key)] = index.long()
        lacking = [a.name for a in attributes if a.name not in labels]
        if lacking:
            raise InputError(f"the labeller gave {', '.join(labels)}: {', '.join(lacking)} is missing")
        return {a.name: labels[a.name] for a in attributes} if attributes else labels

    return label


class Nearest:
    """Labels by the nearest item of the data, without the item of the parent and its near copies.

    Args:
        data: labelled items.

    Attributes:
        leaves_out: whether parents are left out; not where each item is the only one of its kind.
        words: the rule, in words.
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
            parents: index of the item that each image continues; None: they continue no items.
        """
        rows = values.reshape(len(values), -1).double().cpu()
        family = {} if parents is None or not self.leaves_out else self._families(parents)
        smallest, nearest = torch.full((len(rows),), torch.inf, dtype=torch.float64), torch.zeros(len(rows)).long()
        for start, distance2 in self._distances(rows):
            for parent, members in family.items():
                out = self._copies[parent] - start
                out = out[(out >= 0) & (out < distance2.shape[1])]
                distance2[members[:, None], out] = torch.inf
            least, at = distance2.min(1)
            nearest = torch.where(least < smallest, at + start, nearest)
            smallest = torch.minimum(smallest, least)
        return {a.name: self._data.labels[a.name][nearest] for a in self._data.attributes}

    def left_out(self, parents: Tensor) -> Tensor:
        """Number of items left out for each parent, including itself."""
        if not self.leaves_out:
            return torch.zeros_like(parents)
        self._families(parents)
        return torch.tensor([len(self._copies[p]) for p in parents.tolist()])

    def right(self, name: str, parents: Tensor) -> Tensor:
        """Whether the nearest other item of each parent has the value of the parent."""
        labels = [self(self._data.source.take(p), p)[name] for p in torch.split(parents, _ROWS)]
        return torch.cat(labels) == self._data.labels[name][parents]

    def _items(self, items: Tensor) -> Tensor:
        return self._data.source.take(items).reshape(len(items), -1).double()

    def _distances(self, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Squared distances to the items, tile by tile; infinite for items of weight 0."""
        rows = rows - self._centre
        tall = tile_rows(self._data.size, len(rows))
        for start in range(0, len(self._data), tall):
            stop = min(start + tall, len(self._data))
            tile = self._data.source.read(start, stop).reshape(stop - start, -1).double() - self._centre
            distance2 = (rows**2).sum(1, keepdim=True) + (tile**2).sum(1) - 2.0 * (rows @ tile.T)
            distance2[:, ~self._of_law[start:stop]] = torch.inf
            yield start, distance2.clamp_min(0.0)

    def _families(self, parents: Tensor) -> dict[int, Tensor]:
        """The rows of each parent; finds the near copies of new parents first."""
        new = torch.tensor([p for p in torch.unique(parents).tolist() if p not in self._copies], dtype=torch.int64)
        for some in torch.split(new, _ROWS) if len(new) else ():
            distance2, others, equal = self._neighbours(some)
            size = _gaps(distance2) if self._has_copies else torch.zeros(len(some), dtype=torch.int64)
            for i, p in enumerate(some.tolist()):
                self._copies[p] = torch.unique(torch.cat([some[i : i + 1], others[i, : size[i]], equal[i]]))
        return {int(p): torch.nonzero(parents == p)[:, 0] for p in torch.unique(parents)}

    def _neighbours(self, items: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Squared distances and indices of the nearest other items of each item, and all items equal to it."""
        count = min(_NEIGHBOURS, int(self._of_law.sum()) - 1)
        smallest, nearest = torch.empty(len(items), 0).double(), torch.empty(len(items), 0).long()
        equal: list[list[Tensor]] = [[] for _ in items]
        for start, distance2 in self._distances(self._items(items)):
            index = torch.arange(start, start + distance2.shape[1]).expand_as(distance2)
            same = distance2 <= _EQUAL**2 * self._scale2
            for i in torch.nonzero(same.any(1))[:, 0].tolist():
                equal[i].append(index[i, same[i]])
            distance2 = torch.where(same, 0.0, distance2)
            distance2[index == items[:, None]] = torch.inf
            smallest, nearest = torch.cat([smallest, distance2], 1), torch.cat([nearest, index], 1)
            smallest, at = smallest.topk(min(max(count, 0), smallest.shape[1]), largest=False)
            nearest = nearest.gather(1, at)
        return smallest, nearest, [torch.cat([nearest.new_empty(0), *tiles]) for tiles in equal]

    def _seldom_alike(self, rows: Tensor, others: Tensor) -> bool:
        """Whether these others have the value of sampled items significantly less often than random items."""
        if not len(rows):
            return False
        for a in self._data.attributes:
            label = self._data.labels[a.name]
            same = float((label[others] == label[self._sample[rows]]).double().mean())
            chance = float((a.prior**2).sum())
            if same < chance - 3.0 * (chance * (1.0 - chance) / len(rows)) ** 0.5:
                return True
        return False

    def _single(self, copies: Tensor) -> bool:
        """Whether most sampled items, apart from copies, are the only ones with their value of some attribute."""
        for a in self._data.attributes:
            label = self._data.labels[a.name]
            count = torch.bincount(label[self._of_law], minlength=len(a.values))
            if float((count[label[self._sample]] <= 1 + copies).double().mean()) > 0.5:
                return True
        return False


def _gaps(distance2: Tensor) -> Tensor:
    """Number of neighbours of each row before its last gap; 0 where there is no gap."""
    wide = distance2[:, 1:] > _GAP**2 * distance2[:, :-1]
    return (wide * torch.arange(1, wide.shape[1] + 1)).amax(1) if wide.shape[1] else torch.zeros(len(wide)).long()


def of_any_parent(label: LabelAll) -> LabelChildren:
    """Labels that do not depend on the parents."""
    return lambda values, _: label(values)


def decoded(label: LabelAll, decode: Callable[[Tensor], Tensor]) -> LabelAll:
    """Labels of values that are decoded to pictures first."""
    return lambda values: label(decode(values))


def labelled_by(label: LabelAll, values: Tensor, decode: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Labels of many values, in batches."""
    parts = [label(decode(x)) for x in torch.split(values, _ROWS)]
    return {n: torch.cat([p[n] for p in parts]) for n in parts[0]}
