r"""The condition of a network: the sum of one embedding for each attribute, each of which may be unknown.

.. math:: c = \sum_A \begin{cases} E_A[a] & A = a \text{ is known} \\ \sum_b q(b \mid y) E_A[b] & \text{otherwise}
          \end{cases}

So one network gives D, D_a, D_ab and so on.  q is the posterior of a classifier of noisy data; without one, an unknown
attribute adds nothing to the sum.  Where the classifier is certain, the conditional and the unconditional denoiser get
the same sum: their difference goes to zero like that of the true denoisers.  Without a classifier it never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigmascope.core import UNKNOWN, Attribute, InputError


@dataclass(frozen=True)
class Continuous:
    """An attribute whose value is a vector, with the mean and standard deviation of each coordinate over the data."""

    name: str
    dim: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]


class Conditions(nn.Module):
    """The sum of the embeddings of the known attributes, discrete ones and those with vectors as values."""

    def __init__(self, attributes: tuple[Attribute, ...], continuous: tuple[Continuous, ...], width: int) -> None:
        super().__init__()
        self.width = width
        self._values = {a.name: len(a.values) for a in attributes}
        self._dims = {c.name: c.dim for c in continuous}
        # Modules have numbers for names: a name from the user may hold a dot, which torch refuses.
        self.tables = nn.ModuleList(nn.Embedding(len(a.values), width) for a in attributes)
        self.maps = nn.ModuleList(nn.Linear(c.dim, width) for c in continuous)
        for k, c in enumerate(continuous):
            self.register_buffer(f"mean{k}", torch.tensor(c.mean), persistent=False)
            self.register_buffer(f"scale{k}", torch.tensor(c.scale).clamp_min(1e-12), persistent=False)

    @property
    def names(self) -> tuple[str, ...]:
        """All attributes, the discrete ones first."""
        return (*self._values, *self._dims)

    def forward(
        self, known: Mapping[str, Tensor] | None, rows: int, probabilities: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "rows width"]:
        """The sum over the attributes of the embedding of the known value, or of the mean under the probabilities.

        ``known`` holds by name the index of a value, int64, shape (rows,), -1 where unknown, or for a continuous
        attribute the value itself, float, shape (rows, dim), NaN where unknown.  ``probabilities``, shape (rows,
        values), are those of the values of a discrete attribute that is unknown.  InputError for an unknown name,
        another shape, or an unknown value.
        """
        some = next(self.parameters(), None)
        out = torch.zeros(rows, self.width) if some is None else some.new_zeros(rows, self.width)
        for name, value in (known or {}).items():
            if name in self._values:
                out = out + self._discrete(name, value, rows)
            elif name in self._dims:
                out = out + self._continuous(name, value, rows)
            else:
                raise InputError(f"no attribute is called {name!r}: choose among {', '.join(self.names) or 'none'}")
        for name, q in (probabilities or {}).items():
            table = self.tables[list(self._values).index(name)]
            mean = q.to(out) @ next(table.parameters())
            index = (known or {}).get(name)
            out = out + (mean if index is None else mean * (index.to(out.device) == UNKNOWN)[:, None])
        return out

    def _discrete(self, name: str, value: Tensor, rows: int) -> Tensor:
        table = self.tables[list(self._values).index(name)]
        if value.shape != (rows,) or value.is_floating_point():
            raise InputError(f"known[{name!r}] has shape {tuple(value.shape)}: pass one index per row, ({rows},)")
        count = self._values[name]
        if rows and (int(value.min()) < UNKNOWN or int(value.max()) >= count):
            raise InputError(f"known[{name!r}] must be from 0 to {count - 1}, or {UNKNOWN} where unknown")
        value = value.to(next(table.parameters()).device)
        embedding: Tensor = table(value.clamp_min(0))
        return embedding * (value != UNKNOWN)[:, None]

    def _continuous(self, name: str, value: Tensor, rows: int) -> Tensor:
        k = list(self._dims).index(name)
        if value.shape != (rows, self._dims[name]):
            raise InputError(
                f"known[{name!r}] has shape {tuple(value.shape)}: expected {(rows, self._dims[name])}, a value per row"
            )
        layer = self.maps[k]
        weight = next(layer.parameters())
        value = value.to(weight.device, weight.dtype)
        scaled = (value.nan_to_num() - getattr(self, f"mean{k}")) / getattr(self, f"scale{k}")
        embedding: Tensor = layer(scaled)
        return embedding * ~value.isnan().any(1, keepdim=True)
