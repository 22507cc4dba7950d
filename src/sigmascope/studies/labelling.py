"""Labels of images: of the nearest item of the data, or by a user's own function."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sigmascope.core import Abstraction, InputError, LabelledData
from sigmascope.denoisers.finite import FiniteDenoiser

_ROWS = 256  # images that are labelled at once
LabelAll = Callable[[Tensor], dict[str, Tensor]]
"""From clean images, shape (rows, *event), to the index of the value of each attribute, int64."""


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


def by_function(function: Callable[[Tensor], object], name: str, known: Sequence[Abstraction]) -> LabelAll:
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


def by_nearest(data: LabelledData) -> LabelAll:
    """The labels of the item that is nearest to each image."""
    exact = FiniteDenoiser(data)
    least = torch.tensor(1e-3, dtype=torch.float64)

    def label(values: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            found = exact.all_log_posteriors(values.double(), least.expand(len(values)).contiguous())
        return {name: p.argmax(1).cpu() for name, p in found.items()}

    return label


def decoded(label: LabelAll, decode: Callable[[Tensor], Tensor]) -> LabelAll:
    """Labels of values that are pictures only once they are decoded."""
    return lambda values: label(decode(values))


def labelled_by(label: LabelAll, values: Tensor, decode: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Labels of many values, some at a time."""
    parts = [label(decode(x)) for x in values.split(_ROWS)]
    return {n: torch.cat([p[n] for p in parts]) for n in parts[0]}
