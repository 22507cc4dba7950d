"""The options of how the network of a model computes.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sigmascope.arguments import Hidden, HiddenNumber, arg
from sigmascope.errors import InputError
from sigmascope.limits import MOST_CALLS, check_text, shown, within

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class NetworkOptions:
    """How the network of a model computes."""

    precision: Annotated[str, arg("TYPE", None)] = "float32"
    """float32; or bfloat16, with which a GPU is faster: the gaps of some draws are first measured in both, and the
    study goes on in bfloat16 only where these differ by far less than the standard error that is aimed at. The
    decision is stored, so that a repetition gives the same numbers."""
    computed_in: Hidden = ""
    """The precision, once it has been decided."""
    batch: HiddenNumber = 0
    """Rows of a network call, at most, once numbers of rows have been tried."""

    def validate(self) -> None:
        """Refuse unknown precisions and numbers out of range (raises InputError)."""
        check_text(self)
        for name, known in (("precision", PRECISIONS), ("computed_in", ("", *PRECISIONS))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {shown(getattr(self, name))!r}: expected float32 or bfloat16")
        within("batch", self.batch, 0, MOST_CALLS)
