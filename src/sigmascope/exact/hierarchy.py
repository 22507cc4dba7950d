r"""The exact filter of a random hierarchy: belief propagation on the tree of its grammar.

Every leaf is measured in Gaussian noise.  Messages :math:`\mu` go up, beliefs :math:`b` go down, over rules (a, j) that
write the children c_1 ... c_s of symbol a:

.. math:: \mu_i(a) = \frac1m \sum_j \prod_k \mu_{ik}(c_k), \qquad
          p(j \mid a, y) = \frac{\prod_k \mu_{ik}(c_k)}{\sum_{j'} \prod_k \mu_{ik}(c'_k)}, \qquad
          b_{ik}(c) = \sum_{a, j:\, c_k = c} b_i(a)\, p(j \mid a, y),

from :math:`\ln\mu(b) = -\|y_{leaf} - x_b\|^2 / 2\sigma^2`, with no division on the way down.  The denoiser is
:math:`D = \sum_b p(leaf = b \mid y)\, x_b` at every leaf, and :math:`D_a` is the same with a node fixed at a.

References: Mossel (2001); Sclocchi, Favero, Wyart, PNAS 122 (2025); Cagnetta et al., Phys. Rev. X 14, 031001 (2024).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import UNKNOWN, Attribute, InputError
from sigmascope.exact.common import (
    ExactDenoiser,
    Known,
    Levels,
    Values,
    check_known,
    check_rows,
    grouped_logsumexp,
    set_buffers,
)

_TABLE_BYTES = 1 << 25  # smaller chunks are as fast on an idle machine, but not on a busy one
_LEAST_LOG = math.log(5e-324)  # of the smallest positive double

Evidence = Callable[[slice], Tensor]
"""Leaf evidence of some rows of the batch, shape (rows, leaves, v)."""


class Beliefs(NamedTuple):
    r"""The result of belief propagation.

    Attributes:
        nodes: p(symbol of node | evidence) for every level from the root to the leaves, shape (batch, nodes, v).
        log_evidence: ln p(evidence, known), nats, shape (batch,); with leaf evidence of Gaussian noise it is
            ln p(y, known) up to the constant of the leaves, :math:`-\tfrac12 size \ln 2\pi\sigma^2`.
        level_entropies: H of all symbols of a level together, nats, shape (levels, batch).
    """

    nodes: list[Tensor]
    log_evidence: Tensor
    level_entropies: Tensor


@dataclass
class _Upward:
    """One chunk after the upward pass: for each level above the leaves, from the root, with N = nodes * batch.

    weight: p(j | a, y) times mass, shape (v, m, N); mass: at least 1, shape (v, N); where a is impossible it is 1, and
    the weights are 0; path: ln p(j | a, y) of the first node, (v, m, batch).  root: ln p(a, evidence), (v, batch).
    """

    weight: list[Tensor]
    mass: list[Tensor]
    path: list[Tensor]
    root: Tensor


class HierarchyDenoiser(ExactDenoiser):
    r"""Exact denoiser and posterior of data that a grammar generates on a tree.

    Args:
        rules: for each level above the leaves, from the root down, the children of symbol a by rule j, int64, shape
            (v, m, s); the v m tuples of a level are distinct.
        vectors: the value of a leaf with symbol b, shape (v, dim).
        attributes: for each level from the root to the leaves, the symbol of its first node.
        dtype: of the computation; ``double()`` and ``float()`` change it.

    Exact at every sigma, within the rounding of the dtype.  No gradient flows through the methods.

    Raises: InputError for rules, vectors or attributes that do not fit one another.

    Cost: one exponential and 2 s additions, :math:`O(v m s)`, per node and datum; the batch is processed in chunks
    whose tables stay within 32 MiB (``table_bytes``), or have one row.
    """

    vectors: Tensor
    rules: Tensor
    writes: Tensor

    def __init__(
        self,
        rules: Sequence[Tensor],
        vectors: Tensor,
        attributes: tuple[Attribute, ...],
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        _check(rules, vectors, attributes)
        self.depth = len(rules)
        self.symbols, self.choices, self.branching = rules[0].shape
        self.leaves = self.branching**self.depth
        self.inner = sum(self.branching**level for level in range(self.depth))
        self.event = (self.leaves, vectors.shape[1])
        self.attributes = attributes
        tables = torch.stack(tuple(rules))
        # writes[level, k] is the k-th child of each rule, over (a, j) flattened.
        writes = tables.flatten(1, 2).transpose(1, 2).contiguous()
        set_buffers(self, vectors=vectors.to(dtype), rules=tables, writes=writes)
        self.table_bytes = _TABLE_BYTES

    @torch.no_grad()
    def beliefs(self, log_evidence: Tensor, known: Mapping[str, Tensor] | None = None) -> Beliefs:
        r"""The posterior of every node, the log-evidence, and the entropy of every level.

        Args:
            log_evidence: ln of the likelihood of each symbol at each leaf, up to a constant, shape (batch, leaves, v);
                it need not come from Gaussian noise.
            known: as in :meth:`forward`.

        Children determine their parents, so the symbols A_l of a level determine those above, and with the rules J_i of
        the nodes i above level l

        .. math:: H(A_l \mid y) = H(A_0 \mid y) + \sum_{i \text{ above } l} H(J_i \mid A_i, y),

        without cancellation.

        Raises: InputError for shapes that do not fit, an unknown attribute or value, or attributes that no datum has.
        """
        if tuple(log_evidence.shape[1:]) != (self.leaves, self.symbols):
            raise InputError(
                f"log_evidence has shape {tuple(log_evidence.shape)}: expected (batch, {self.leaves}, {self.symbols})"
            )
        values = self._known(known or {}, len(log_evidence))
        return self._beliefs(lambda rows: log_evidence[rows].to(self.vectors), len(log_evidence), values, nodes=True)

    @torch.no_grad()
    def level_entropies(self, y: Values, sigma: Levels) -> Float[Tensor, "levels batch"]:
        """H(A_l | Y_sigma = y), nats, of all symbols A_l of each level together, from the root to the leaves."""
        return self._beliefs(self._evidence(y, sigma), len(y), {}, nodes=False).level_entropies

    def level_prior_entropies(self) -> Float[Tensor, " levels"]:
        r""":math:`H(A_l) = \ln v + \frac{s^l - 1}{s - 1} \ln m`, nats, the ceiling of :math:`I(A_l; Y)`."""
        above = [sum(self.branching**k for k in range(level)) for level in range(self.depth + 1)]
        return math.log(self.symbols) + torch.tensor(above, dtype=torch.float64) * math.log(self.choices)

    @torch.no_grad()
    def forward(self, y: Values, sigma: Levels, known: Known = None) -> Values:
        """E[V | Y_sigma = y, known attributes], in the dtype of y.

        Args:
            y: noisy values, shape (batch, leaves, dim).
            sigma: one noise level per row.
            known: for some attributes, the symbol of the first node of that level, int64, -1 where unknown.

        Raises: InputError for shapes that do not fit, an unknown attribute or value, or attributes that no datum has.
        """
        evidence, values = self._evidence(y, sigma), self._known(known or {}, len(y))
        out = torch.empty(y.shape, dtype=y.dtype, device=y.device)
        for rows, up in self._chunks(evidence, len(y), values):
            *_, leaf = self._downward(up)
            mean = self.vectors.T @ leaf.flatten(1)
            out[rows] = mean.reshape(len(mean), *leaf.shape[1:]).permute(2, 1, 0).to(y)
        return out

    @torch.no_grad()
    def all_log_posteriors(self, y: Values, sigma: Levels) -> dict[str, Float[Tensor, "batch values"]]:
        """ln p(a | Y_sigma = y) of every attribute, float64, from one upward pass.

        Finite even where p underflows: a symbol that its node never has gets at most the smallest double, and at most
        as much as any other symbol of the row.
        """
        parts: list[list[Tensor]] = [[] for _ in self.attributes]
        for _, up in self._chunks(self._evidence(y, sigma), len(y), {}, path=True):
            log_belief = up.root.log_softmax(0)
            parts[0].append(log_belief)
            for level, choice in enumerate(up.path):
                joint = (log_belief[:, None] + choice).flatten(0, 1)
                log_belief = grouped_logsumexp(joint, self.writes[level, 0], self.symbols)
                parts[level + 1].append(log_belief)
        joined = [_finite(torch.cat(part, 1).T.double()).to(y.device) for part in parts]
        return {a.name: log_p for a, log_p in zip(self.attributes, joined, strict=True)}

    @torch.no_grad()
    def sample_symbols(
        self, y: Values, sigma: Levels, n: int, generator: torch.Generator
    ) -> list[Int64[Tensor, "n batch nodes"]]:
        """n independent trees given Y_sigma = y: the symbols of all nodes, for every level from the root to the leaves.

        Column 0 of a level is the value of its attribute.
        """
        # One uniform number per choice, drawn for the whole batch, so that chunks do not matter.
        u = torch.rand(n, len(y), 1 + self.inner, generator=generator, dtype=torch.float64).to(self.vectors.device)
        parts: list[list[Tensor]] = [[] for _ in range(self.depth + 1)]
        for rows, up in self._chunks(self._evidence(y, sigma), len(y), {}):
            symbol = _pick(up.root.softmax(0).T, u[:, rows, 0])[:, :, None]
            parts[0].append(symbol)
            row = torch.arange(rows.stop - rows.start, device=u.device)[:, None]
            done = 1
            for level, weight in enumerate(up.weight):
                nodes = symbol.shape[2]
                column = torch.arange(nodes, device=u.device) * len(row) + row
                rule = _pick(weight.permute(2, 0, 1)[column, symbol], u[:, rows, done : done + nodes])
                done += nodes
                symbol = self.rules[level][symbol, rule].flatten(2)
                parts[level + 1].append(symbol)
        return [torch.cat(part, 1) for part in parts]

    def sample_posterior(
        self, y: Values, sigma: Levels, n: int, generator: torch.Generator
    ) -> Float[Tensor, "n batch *event"]:
        """n independent draws of V given Y_sigma = y, exact, in the dtype of y."""
        return self.vectors[self.sample_symbols(y, sigma, n, generator)[-1]].to(y)

    def _known(self, known: Mapping[str, Tensor], batch: int) -> dict[int, Tensor]:
        values = {}
        for name, value in known.items():
            level = self.attributes.index(self.attribute(name))
            check_known(name, value, batch, self.symbols)
            values[level] = value.to(self.vectors.device)
        return values

    def _evidence(self, y: Tensor, sigma: Tensor) -> Evidence:
        check_rows(y, sigma, self.event)

        def evidence(rows: slice) -> Tensor:
            x = self.vectors
            leaves, level = y[rows].to(x), sigma[rows].to(x)
            distance2 = (leaves**2).sum(2, keepdim=True) + (x**2).sum(1) - 2.0 * (leaves @ x.T)
            return distance2 * (-0.5 / level**2)[:, None, None]

        return evidence

    def _beliefs(self, evidence: Evidence, batch: int, known: dict[int, Tensor], nodes: bool) -> Beliefs:
        by_level: list[list[Tensor]] = [[] for _ in range(self.depth + 1)]
        log_evidence, entropies = [], []
        for _, up in self._chunks(evidence, batch, known):
            log_evidence.append(up.root.logsumexp(0))
            levels = [torch.special.entr(up.root.softmax(0)).sum(0)]
            for level, belief in enumerate(self._downward(up)):
                if nodes:
                    by_level[level].append(belief.permute(2, 1, 0))
                if level < self.depth:
                    choice = torch.special.entr(up.weight[level] / up.mass[level][:, None]).sum(1)
                    levels.append(levels[-1] + (belief * choice.reshape(belief.shape)).sum((0, 1)))
            entropies.append(torch.stack(levels))
        joined = [torch.cat(part) for part in by_level] if nodes else []
        return Beliefs(joined, torch.cat(log_evidence), torch.cat(entropies, 1))

    def _chunks(
        self, evidence: Evidence, batch: int, known: dict[int, Tensor], path: bool = False
    ) -> Iterator[tuple[slice, _Upward]]:
        row_bytes = self.inner * self.symbols * self.choices * self.vectors.element_size()
        size = max(self.table_bytes // row_bytes, 1)
        for start in range(0, max(batch, 1), size):  # an empty batch is one empty chunk
            rows = slice(start, min(start + size, batch))
            up = self._upward(evidence(rows), {level: value[rows] for level, value in known.items()}, path)
            possible = up.root.amax(0) > -torch.inf  # false for NaN too
            if not bool(possible.all()):
                row = start + int(torch.nonzero(~possible)[0])
                raise InputError(
                    f"row {row}: no datum has the known attributes, or y is not finite: pass -1 (unknown) for one"
                )
            yield rows, up

    def _upward(self, evidence: Tensor, known: dict[int, Tensor], path: bool) -> _Upward:
        v, m, s, batch = self.symbols, self.choices, self.branching, len(evidence)
        up = _Upward([], [], [], evidence)
        # a copy, so that fixing a leaf does not change the caller's evidence
        message = evidence.permute(2, 1, 0).clone(memory_format=torch.contiguous_format)
        message = _fixed(message, known.get(self.depth))
        for level in reversed(range(self.depth)):
            width = s**level * batch
            of_child = message.reshape(v, s**level, s, batch)
            tables = (
                of_child[:, :, k].reshape(v, width).index_select(0, writes)
                for k, writes in enumerate(self.writes[level])
            )
            weight = functools.reduce(Tensor.add_, tables).reshape(v, m, width)
            # A finite floor keeps impossible symbols (all rules -inf) from becoming -inf - -inf.
            top = weight.amax(1).clamp_min_(torch.finfo(weight.dtype).min)
            weight.sub_(top[:, None])
            first = weight[:, :, :batch].clone() if path else None
            mass = weight.exp_().sum(1)
            message = mass.log().add_(top).sub_(math.log(m))
            mass.clamp_min_(1.0)  # changes only the zeros of impossible symbols
            if first is not None:
                up.path.insert(0, first - mass[:, None, :batch].log())
            up.weight.insert(0, weight)
            up.mass.insert(0, mass)
            message = _fixed(message.reshape(v, s**level, batch), known.get(level))
        up.root = message[:, 0] - math.log(v)
        return up

    def _downward(self, up: _Upward) -> Iterator[Float[Tensor, "v nodes batch"]]:
        """Beliefs of every level from the root; asking for the next level overwrites the weights."""
        batch = up.root.shape[1]
        belief = up.root.softmax(0)[:, None]
        yield belief
        for level in range(self.depth):
            share = belief.flatten(1) / up.mass[level]
            rule = up.weight[level].mul_(share[:, None]).flatten(0, 1)
            children = torch.stack(
                [torch.zeros_like(share).index_add_(0, writes, rule) for writes in self.writes[level]]
            )
            shape = (self.branching, self.symbols, self.branching**level, batch)
            belief = children.reshape(shape).permute(1, 2, 0, 3).flatten(1, 2)
            yield belief


def _check(rules: Sequence[Tensor], vectors: Tensor, attributes: tuple[Attribute, ...]) -> None:
    if not rules or rules[0].ndim != 3 or any(r.shape != rules[0].shape or r.dtype != torch.int64 for r in rules):
        raise InputError("rules: expected int64 tensors of one shape (symbols, choices, branching), one for each level")
    v, m, s = rules[0].shape
    for level, r in enumerate(rules):
        if int(r.min()) < 0 or int(r.max()) >= v or len(torch.unique(r.reshape(-1, s), dim=0)) < v * m:
            raise InputError(f"rules of level {level}: expected {v * m} distinct tuples of symbols from 0 to {v - 1}")
    if vectors.ndim != 2 or len(vectors) != v:
        raise InputError(f"vectors have shape {tuple(vectors.shape)}: expected ({v}, dim), one row per symbol")
    if len(attributes) != len(rules) + 1 or any(len(a.values) != v for a in attributes):
        raise InputError(f"expected {len(rules) + 1} attributes of {v} values, the first node of each level")


def _fixed(message: Float[Tensor, "v nodes batch"], value: Tensor | None) -> Float[Tensor, "v nodes batch"]:
    """The message with its first node fixed at a value, in place."""
    if value is not None:
        symbol = torch.arange(len(message), device=message.device)[:, None]
        message[:, 0].masked_fill_((value != UNKNOWN) & (symbol != value), -torch.inf)
    return message


def _finite(log_p: Float[Tensor, "batch v"]) -> Float[Tensor, "batch v"]:
    """Normalised, with a finite value for impossible symbols."""
    log_p = log_p - log_p.logsumexp(1, keepdim=True)
    possible = torch.where(torch.isneginf(log_p), 0.0, log_p)
    return torch.where(torch.isneginf(log_p), possible.amin(1, keepdim=True).clamp_max(_LEAST_LOG), log_p)


def _pick(weight: Float[Tensor, "*shape choices"], u: Float[Tensor, "*uniforms"]) -> Int64[Tensor, "*uniforms"]:
    """A choice with probability proportional to its weight, from a uniform number; leading shapes broadcast."""
    ladder = weight.double().cumsum(-1)  # in float32 a uniform number could be rounded to 1
    return (u[..., None] * ladder[..., -1:] >= ladder).sum(-1).clamp_max(weight.shape[-1] - 1)
