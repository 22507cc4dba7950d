"""Randomness of the package: what each stream of a seed draws, and the streams themselves.

A stream is named by a seed and by words.  Its first word says what is drawn and stands in one of the enumerations
below; the words that follow number the draw, the level, the row.  A name of one small word is the draw of that number
(``data.draw_items``), so that what is named by one word alone has a number beyond any count of draws, or a run in which
no items are drawn.  What torch's generators draw is independent of the noise of rows, which numpy's Philox draws, even
under the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, unique

import numpy as np
import torch
from torch import Tensor

_BLOCK_BYTES = 1 << 26


@unique
class Use(IntEnum):
    """First words of ``generator``, and of numpy's generators: what is drawn."""

    SKETCH = 0  # random directions, and the items of a law without a list of them that they are chosen on
    FORKED_LABELS_OF_DRAW = 5  # labels of the children of a draw, whose number comes before
    GAPS = 7  # candidates, survey and measurement of the gaps of a network
    MODEL_DRAWS = 8  # draws of the data of a model
    HELD_OUT_ITEMS = 11  # items that a training does not see
    NULL_LABELS = 12  # labels of the attribute that says nothing
    DATA_SCALE = 13  # values whose mean and scale stand for the data's
    WRAPPING = 14  # draws on which it is seen whether a model is wrapped right
    DATA_BOUND = 15  # halves, items and noise of the bound from the data alone
    BATCHES = 21  # of the training of a network
    DROPPED_LABELS = 22  # which labels a step of training hides
    LEVEL_ERRORS = 23  # values on which the share of each level in training is decided
    HELD_OUT_LEVELS = 24  # values and noise of the losses that a training reports
    TRAINING_SAMPLES = 31  # noise of the images that a training shows
    CLASSIFIER_BATCHES = 41  # of the training of a classifier
    CLASSIFIER_HELD_OUT = 42  # values and noise of the losses that it reports
    DIRECTIONS = 51  # values whose principal directions stand for the data's
    SHOWN = 61  # of the reproduction: the image and the signals that are shown
    INDEPENDENT_LABELS = 62  # labels that say nothing of the image
    FORKED_ITEMS = 63  # children of the images that are shown, and parents of the model's
    TURNED = 64  # images that are noised and come back
    PROBES = 65  # draws that probes are trained on
    PROBES_TEST = 66  # draws that they are tried on
    EXPLORED = 67  # children at the levels of the page's slider
    CLEAN_VALUES = 2**31  # clean values, drawn at once from the posterior
    CHILDREN_LABELS = 2**31 + 1  # labels of children, from their own posteriors
    CONDITIONAL_LABELS = 2**31 + 2  # labels that a model's own paths are told


@unique
class NoiseOf(IntEnum):
    """First words of the key of a row of ``Streams``: whose noise it is."""

    ROWS = 0  # rows that are named by their number
    FORKS = 1  # children
    PATHS = 2  # Markov paths of the draws
    LIKELIHOOD = 6  # further noise of the likelihood of a draw
    GENERATED = 7  # images that a sampler makes to be studied
    MEASURED = 8  # noise that these are looked at through
    OWN_PATH = 11  # a model's own path from level to level
    CONDITIONAL_PATH = 13  # its path where it is told an attribute
    SHOWN = 61  # the generation that the reproduction shows


@unique
class Alone(IntEnum):
    """First words, of either kind, in commands whose seed serves nothing else."""

    GRAMMAR = 0  # rules and vectors of a random hierarchy, from the seed of its name
    PROMPTED = 1  # noise that the images of a prompt begin with
    PROMPT_PATHS = 2  # noise that both prompts see
    CHECKS = 7  # paths of the checks of the theory
    TREES = 11  # trees of the hierarchies that these checks read


@unique
class SeedOf(IntEnum):
    """Seeds apart from a run's own, each for draws that have streams of their own."""

    PROBES = 1  # draws that probes are trained on
    CHILDREN = 12  # children of a model's own path


def generator(seed: int, *stream: int) -> torch.Generator:
    """The generator of one stream of a seed; streams are independent (numpy's SeedSequence spreads the words)."""
    state = np.random.SeedSequence(seed, spawn_key=stream).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def seed_of(use: SeedOf, seed: int) -> int:
    """The seed of further draws of a run, which no seed below 2^32 equals."""
    return seed + (use << 32)


class Streams:
    """Noise of rows, a row's stream depending on the seed and on its own key alone.

    A row is so the same whatever the number of rows beside it, of forks of its neighbours, or of steps to come.

    Args:
        seed: not negative.
        keys: for each row, the words that name its stream, e.g. ``(use, parent, fork)``.
        event: shape of one row.

    Calling it gives the next noise of all rows, float64, shape (rows, *event).
    """

    def __init__(self, seed: int, keys: Sequence[tuple[int, ...]], event: tuple[int, ...]) -> None:
        self._streams = [np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=k))) for k in keys]
        self._event = event
        # Small rows are drawn many steps at a time: a call of a stream costs as much as a hundred numbers.
        numbers = max(len(keys), 1) * int(np.prod(event))
        self._ahead = int(np.clip(_BLOCK_BYTES // (8 * numbers), 1, 256))
        self._block: Tensor = torch.empty(0)
        self._next = 0

    def __call__(self) -> Tensor:
        if self._next >= len(self._block):
            shape = (self._ahead, *self._event)
            drawn = np.stack([s.standard_normal(shape) for s in self._streams], 1)
            self._block, self._next = torch.from_numpy(drawn), 0
        self._next += 1
        return self._block[self._next - 1]


def rows(count: int) -> list[tuple[int, ...]]:
    """Keys of rows that are named by their number."""
    return [(NoiseOf.ROWS, i) for i in range(count)]
