r"""The random hierarchy model: data that a random grammar writes on a tree, too many to list.

A root symbol is replaced by s symbols, each of these by s others, and so on for L levels; at every level each of v
symbols has m rules, of which one is chosen uniformly, and no two rules of a level write the same tuple, so that the
children determine their parent.  There are

.. math:: v \, m^{(s^L - 1)/(s - 1)}

data, all equally likely.  A datum is the s^L symbols of the last level, each as a vector.

References: Cagnetta, Petrini, Tomasini, Favero, Wyart, Phys. Rev. X 14, 031001 (2024); Sclocchi, Favero, Wyart, PNAS
122 (2025).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from sigmascope.core import Attribute, Draws, InputError, generator
from sigmascope.data.draws import check_draws
from sigmascope.streams import Alone

_FEW_TUPLES = 1 << 20
_MOST_LEAVES = 1 << 20
_LARGEST_ONE_HOT = 1 << 12
_MOST_RULES = 1 << 22


@dataclass(frozen=True, eq=False)
class Hierarchy:
    r"""A grammar with a vector for each symbol of a leaf: the law of the vectors of all leaves.

    Args:
        rules: for each level above the leaves, from the root down, the children of symbol a by rule j, int64, shape
            (v, m, s); the v m tuples of a level are distinct.
        vectors: of a leaf by its symbol, float32, shape (v, dim).

    Raises: InputError for rules of another shape or type, rules that share a tuple, or vectors that do not fit them.
    """

    rules: tuple[Tensor, ...]
    vectors: Tensor

    def __post_init__(self) -> None:
        if not self.rules or self.rules[0].ndim != 3 or min(self.rules[0].shape) < 1:
            raise InputError("rules: expected at least one level, each of shape (symbols, choices, branching)")
        v, m, s = self.rules[0].shape
        for level, rules in enumerate(self.rules):
            if rules.shape != (v, m, s) or rules.dtype != torch.int64:
                came = f"{rules.dtype} of shape {tuple(rules.shape)}"
                raise InputError(f"rules of level {level} are {came}: expected int64 of shape {(v, m, s)}")
            if int(rules.min()) < 0 or int(rules.max()) >= v:
                raise InputError(f"rules of level {level} must hold symbols between 0 and {v - 1}")
            if len(torch.unique(rules.reshape(-1, s), dim=0)) < v * m:
                raise InputError(f"rules of level {level} write one tuple twice: children must determine their parent")
        if self.vectors.ndim != 2 or len(self.vectors) != v or self.vectors.dtype != torch.float32:
            came = f"{self.vectors.dtype} of shape {tuple(self.vectors.shape)}"
            raise InputError(f"vectors are {came}: expected float32, one row for each of {v} symbols")

    @property
    def symbols(self) -> int:
        """v, the number of symbols."""
        return self.rules[0].shape[0]

    @property
    def choices(self) -> int:
        """m, the number of rules of a symbol."""
        return self.rules[0].shape[1]

    @property
    def branching(self) -> int:
        """s, the number of children."""
        return self.rules[0].shape[2]

    @property
    def depth(self) -> int:
        """L, the number of levels below the root."""
        return len(self.rules)

    @property
    def leaves(self) -> int:
        """s^L, the number of leaves."""
        return int(self.branching**self.depth)

    @property
    def event(self) -> tuple[int, int]:
        """Shape of one datum, (leaves, dim)."""
        return self.leaves, self.vectors.shape[1]

    @property
    def log_size(self) -> float:
        """Natural logarithm of the number of data, which is also their entropy in nats."""
        inner = sum(self.branching**level for level in range(self.depth))
        return math.log(self.symbols) + int(inner) * math.log(self.choices)

    @property
    def size(self) -> int:
        """Number of coordinates of one datum."""
        return self.event[0] * self.event[1]

    @property
    def words(self) -> str:
        """The number of data and their shape, in words."""
        leaves, dim = self.event
        return f"10^{self.log_size / math.log(10):.0f} data of {leaves} leaves of {dim} numbers"

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse names that no attribute has, or that come twice, by InputError."""
        known = [a.name for a in self.attributes]
        for name in names:
            if name not in known:
                hint = " (only data files have joint attributes, a+b)" if "+" in name else ""
                raise InputError(f"no attribute is called {name!r}: choose among {', '.join(known)}{hint}")
            if list(names).count(name) > 1:
                raise InputError(f"attribute {name!r} is asked for twice: name each once")

    @property
    def name(self) -> str:
        """Name of the data in titles."""
        return f"hierarchy (v={self.symbols}, m={self.choices}, s={self.branching}, L={self.depth})"

    @property
    def unit(self) -> str:
        """The unit of noise levels, in words."""
        if torch.allclose(self.vectors.norm(dim=1), torch.ones(self.symbols), atol=1e-5):
            return "the length of the vector of a leaf's symbol"
        return "the unit of the vectors of the leaves' symbols"

    @property
    def fingerprint(self) -> str:
        """A digest of rules and vectors."""
        digest = hashlib.blake2b(f"{self.depth}{tuple(self.rules[0].shape)}".encode(), digest_size=16)
        for tensor in (*self.rules, self.vectors):
            digest.update(f"{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The symbol of the first node of every level, from the root to the leaf, with its exact prior.

        Below the root the prior is not uniform, and a symbol that no rule writes in first place has prior zero.
        """
        names = ["root", *(f"level {level}" for level in range(1, self.depth)), "leaf"]
        values = tuple(str(a) for a in range(self.symbols))
        prior = torch.full((self.symbols,), 1.0 / self.symbols, dtype=torch.float64)
        made = [Attribute(names[0], values, prior)]
        for name, rules in zip(names[1:], self.rules, strict=True):
            mass = (prior / self.choices).repeat_interleave(self.choices)
            prior = torch.zeros_like(prior).index_add_(0, rules[:, :, 0].reshape(-1), mass)
            made.append(Attribute(name, values, prior / prior.sum()))
        return tuple(made)

    def sample(
        self, n: int, generator: torch.Generator
    ) -> tuple[Float32[Tensor, "n leaves dim"], list[Int64[Tensor, "n nodes"]]]:
        """n independent data and their trees.

        Returns: the data, and for every level from the root to the leaves the symbols of its nodes; children of node i
            are nodes s i to s i + s - 1 of the next level.
        """
        symbols = [torch.randint(self.symbols, (n, 1), generator=generator)]
        for rules in self.rules:
            rule = torch.randint(self.choices, symbols[-1].shape, generator=generator)
            symbols.append(rules[symbols[-1], rule].reshape(n, -1))
        return self.vectors[symbols[-1]], symbols

    def draw(self, draws: int, seed: int) -> Draws:
        """Data and standard normal noise; draw i has a stream of its own and depends on ``seed`` and ``i`` alone.

        Returns: draws, labelled with the symbol of the first node of each level.

        Raises: InputError for fewer than two draws (one has no standard error) or a negative seed.
        """
        check_draws(draws, seed)
        values, noise, first = [], [], []
        for i in range(draws):
            g = generator(seed, i)
            v, symbols = self.sample(1, g)
            values.append(v)
            noise.append(torch.randn(self.event, generator=g))
            first.append(torch.stack([level[0, 0] for level in symbols]))
        columns = torch.stack(first, 1)
        labels = {a.name: columns[level] for level, a in enumerate(self.attributes)}
        return Draws(torch.arange(draws), torch.cat(values), torch.stack(noise), labels)


def random_hierarchy(
    symbols: int = 32, choices: int = 8, branching: int = 2, depth: int = 6, seed: int = 0, embedding: int | None = None
) -> Hierarchy:
    """A random grammar: at each level the tuples that rules write are drawn without replacement.

    Args:
        symbols: v.
        choices: m, rules of each symbol.
        branching: s, children of each node.
        depth: L, levels below the root.
        seed: of the grammar and of its embedding, not negative.
        embedding: dimension of random unit vectors that stand for the symbols; None for one-hot vectors.

    Returns: the grammar.

    Raises: InputError for sizes below two, a depth or a dimension below one, more rules than tuples, or sizes beyond
        the memory of a machine.
    """
    sizes = {"v": (symbols, 2), "m": (choices, 2), "s": (branching, 2), "L": (depth, 1), "seed": (seed, 0)}
    for name, (value, least) in (sizes | ({} if embedding is None else {"dim": (embedding, 1)})).items():
        if value < least:
            raise InputError(f"hierarchy: {name} is {value}: expected at least {least}")
    if depth * math.log2(branching) > math.log2(_MOST_LEAVES):
        raise InputError(f"hierarchy: {branching}^{depth} leaves are too many: at most {_MOST_LEAVES}; lower L or s")
    if symbols * choices * branching > _MOST_RULES:
        raise InputError(f"hierarchy: v m s is {symbols * choices * branching}: at most {_MOST_RULES}; lower v, m or s")
    if symbols * choices > symbols**branching:
        raise InputError(
            f"hierarchy: {symbols * choices} rules (v m) need as many distinct {branching}-tuples, and there are "
            f"{symbols**branching} (v^s): lower m or raise s"
        )
    if embedding is None and symbols > _LARGEST_ONE_HOT:
        raise InputError(f"hierarchy: {symbols} one-hot vectors are too large: pass a dimension, e.g. dim=64")
    rules = tuple(
        _distinct_tuples(symbols * choices, symbols, branching, generator(seed, Alone.GRAMMAR, level)).reshape(
            symbols, choices, branching
        )
        for level in range(depth)
    )
    if embedding is None:
        return Hierarchy(rules, torch.eye(symbols))
    vectors = torch.randn(symbols, embedding, generator=generator(seed, Alone.GRAMMAR, depth), dtype=torch.float64)
    return Hierarchy(rules, (vectors / vectors.norm(dim=1, keepdim=True)).float())


def _distinct_tuples(count: int, symbols: int, size: int, g: torch.Generator) -> Int64[Tensor, "count size"]:
    """Distinct tuples, drawn uniformly, in uniform order."""
    if symbols**size <= max(_FEW_TUPLES, 4 * count):
        number = torch.randperm(symbols**size, generator=g)[:count]
        return torch.stack([number // symbols**place % symbols for place in range(size)], 1)
    tuples: dict[tuple[int, ...], None] = {}  # at most a quarter of the tuples: few come twice
    while len(tuples) < count:
        rows = torch.randint(symbols, (count, size), generator=g)
        tuples.update(dict.fromkeys(map(tuple, rows.tolist())))
    return torch.tensor(list(tuples)[:count])


_LETTERS = {"v": "symbols", "m": "choices", "s": "branching", "L": "depth", "seed": "seed", "dim": "embedding"}


def parse_hierarchy(text: str) -> Hierarchy:
    """The random grammar of a data name: ``hierarchy``, or e.g. ``hierarchy:v=16,m=4,s=2,L=6,seed=1,dim=8``.

    Args:
        text: the name; what it leaves out has the default of :func:`random_hierarchy`.

    Returns: the grammar.

    Raises: InputError, in one line, for anything else.
    """
    word, colon, settings = text.partition(":")
    if word != "hierarchy" or (colon and not settings):
        raise InputError(f"{text!r} is no hierarchy: pass 'hierarchy' or e.g. 'hierarchy:v=16,m=4,s=2,L=6,seed=1'")
    sizes: dict[str, int] = {}
    for part in settings.split(",") if settings else []:
        letter, _, number = part.strip().partition("=")
        if letter not in _LETTERS:
            raise InputError(f"{text!r}: {part.strip()!r} is not known: pass some of {', '.join(_LETTERS)}, as v=16")
        if _LETTERS[letter] in sizes:
            raise InputError(f"{text!r}: {letter} comes twice: pass it once")
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            raise InputError(f"{text!r}: {letter} is {number!r}: expected a whole number, not negative, as {letter}=16")
        sizes[_LETTERS[letter]] = int(number)
    return random_hierarchy(**sizes)
