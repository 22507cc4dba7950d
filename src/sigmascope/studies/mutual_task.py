"""The options of ``mi``.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import tomli_w

from sigmascope.arguments import Place, arg
from sigmascope.errors import InputError
from sigmascope.limits import MOST_SEED, MOST_STEPS, check_text, within

__all__ = ["MutualTask"]


@dataclass(frozen=True)
class MutualTask:
    """Two arrays of a file, of which the mutual information is measured."""

    file: Annotated[str, Place, arg("FILE.npz")] = ""
    """A file of arrays, as numpy.savez writes it, whose rows are samples."""
    x: Annotated[str, arg("NAME")] = "x"
    """Name of the first array: numbers, of shape (samples,) or (samples, columns)."""
    y: Annotated[str, arg("NAME")] = "y"
    """Name of the second array, with the same number of samples."""
    given: Annotated[str, arg("NAME", "(default: none)")] = ""
    """Name of an array that is known: the information is then the conditional one."""
    steps: int = 2000
    """Steps of each training."""
    seed: int = 0
    """Seed of folds, weights, batches and noise; the same seed gives the same numbers."""

    def check(self) -> MutualTask:
        """Itself.

        Raises: InputError for a value that cannot be used.
        """
        if not self.file:
            raise InputError("no file is named: sigmascope mi FILE.npz --x NAME --y NAME --out FOLDER")
        if not (self.x and self.y):
            raise InputError("two arrays are needed: pass --x NAME --y NAME")
        if len({self.x, self.y, self.given}) < 3:
            raise InputError("--x, --y and --given name the same array: name three that differ")
        check_text(self)
        within("--steps", self.steps, 10, MOST_STEPS)
        within("--seed", self.seed, 0, MOST_SEED)
        return self

    def text(self) -> str:
        """The task as TOML."""
        return tomli_w.dumps({"mi": asdict(self)})
