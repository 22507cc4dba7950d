"""Random streams: each has a name made of a seed and of words, and a use that the enumerations below list.

The first word of a name is the use; the words after it number the draw, the level or the row.  A name of one small word
belongs to the draw of that number (``data.draw_items``); other names of one word are therefore larger than any number
of draws, or belong to runs that draw no items.  Torch's generators are independent of the noise of rows, which numpy's
Philox draws, even under the same words.
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
    """First words of the streams of ``generator`` and of numpy's generators."""

    SKETCH = 0  # random directions, and the values that they are chosen on where a law has no items
    FORKED_LABELS_OF_DRAW = 5  # labels of the children of a draw; the number of the draw comes before this word
    GAPS = 7  # candidates, survey and measurement of the gaps of a network
    MODEL_DRAWS = 8  # draws of the data of a model
    HELD_OUT_ITEMS = 11  # items left out of a training
    NULL_LABELS = 12  # labels of the attribute of random labels
    DATA_SCALE = 13  # values from which the mean and scale of the data are estimated
    WRAPPING = 14  # draws of the denoising losses, which check that a model is wrapped correctly
    DATA_BOUND = 15  # halves, items and noise of the bound from the data alone
    RESOLUTION = 16  # of the noise that a resolution adds to the numbers of a draw
    BATCHES = 21  # of the training of a network
    DROPPED_LABELS = 22  # labels hidden in a step of training
    LEVEL_ERRORS = 23  # values that decide the share of each level in training
    HELD_OUT_LEVELS = 24  # values and noise of the losses that a training reports
    TRAINING_SAMPLES = 31  # noise of the images that a training shows
    CLASSIFIER_BATCHES = 41  # of the training of a classifier
    CLASSIFIER_HELD_OUT = 42  # values and noise of the losses that it reports
    DIRECTIONS = 51  # values from which the principal directions of the data are estimated
    PAIR_FOLDS = 52  # of the information of two arrays: which samples each network is evaluated on
    PAIR_TRAINING = 53  # weights, batches and noise of its denoisers
    PAIR_HELD_OUT = 54  # noise of its evaluation
    PAIR_BOUND = 55  # weights and batches of its lower bound
    SHOWN = 61  # of the reproduction: the image and the signals that are shown
    INDEPENDENT_LABELS = 62  # labels that are independent of the image
    FORKED_ITEMS = 63  # children of the shown images, and parents of the model's children
    TURNED = 64  # images that are noised and come back
    PROBES = 65  # draws that probes are trained on
    PROBES_TEST = 66  # draws that probes are tested on
    EXPLORED = 67  # children at the levels of the page's slider
    CLEAN_VALUES = 2**31  # clean values, drawn at once from the posterior
    CHILDREN_LABELS = 2**31 + 1  # labels of children, from their own posteriors
    CONDITIONAL_LABELS = 2**31 + 2  # labels of a model's conditional paths


@unique
class NoiseOf(IntEnum):
    """First words of the key of a row of ``Streams``."""

    ROWS = 0  # rows that have only a number
    FORKS = 1  # children
    PATHS = 2  # Markov paths of the draws
    LIKELIHOOD = 6  # further noise of the likelihood of a draw
    GENERATED = 7  # images that a sampler makes to be studied
    MEASURED = 8  # noise added to these images
    OWN_PATH = 11  # a model's own path from level to level
    CONDITIONAL_PATH = 13  # its path conditioned on an attribute
    SHOWN = 61  # the generation that the reproduction shows


@unique
class Alone(IntEnum):
    """First words of either kind, in commands that use their seed for nothing else."""

    GRAMMAR = 0  # rules and vectors of a random hierarchy, from the seed of its name
    PROMPTED = 1  # initial noise of the images of a prompt
    PROMPT_PATHS = 2  # noise of the paths, the same for both prompts
    CHECKS = 7  # paths of the checks of the theory
    TREES = 11  # trees of the hierarchies that these checks read


@unique
class SeedOf(IntEnum):
    """Seeds that differ from the run's own, for further draws."""

    PROBES = 1  # draws that probes are trained on
    TEMPERATURE = 2  # draws on which the temperature of a sampler's classifier is chosen
    CHILDREN = 12  # children of a model's own path


def generator(seed: int, *stream: int) -> torch.Generator:
    """The generator of one stream of a seed; streams are independent (numpy's SeedSequence spreads the words).

    Args:
        seed: not negative.
        stream: non-negative integers, the words that name the stream.

    Returns: a generator on the CPU.
    """
    state = np.random.SeedSequence(seed, spawn_key=stream).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def seed_of(use: SeedOf, seed: int) -> int:
    """The seed of further draws of a run; it differs from every seed below 2^32."""
    return seed + (use << 32)


class Streams:
    """Standard normal noise of rows, each of which has a random stream of its own.

    The stream of a row depends only on the seed and on the key of the row, so it is the same for any number of other
    rows, of forks of other rows, or of further steps.  Calling the object returns the next noise of all rows, float64,
    shape (rows, *event), on the CPU.

    Args:
        seed: not negative.
        keys: for each row, a tuple of non-negative integers that names its stream, as from :func:`rows`; rows with
            equal keys get equal noise.
        event: shape of one row.
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
    """Keys for the rows 0, 1, ..., count - 1 of :class:`Streams`, which differ in their number alone."""
    return [(NoiseOf.ROWS, i) for i in range(count)]
