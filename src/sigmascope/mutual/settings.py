"""Sizes and lengths of the trainings of a mutual information."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HIGHEST", "LOWEST", "Settings"]

LOWEST, HIGHEST = 0.005, 10.0
"""The noise levels that are measured, in units of the standard deviation of X.  Below and above, series close the
integral."""


@dataclass(frozen=True)
class Settings:
    """The trainings of :func:`sigmascope.mutual_information`."""

    steps: int = 2000
    """Steps of the training of the denoisers; the bound takes a third of them."""
    seed: int = 0
    """Of folds, weights, batches and noise: the same seed gives the same numbers."""
    folds: int = 3
    """Parts of the samples; each is evaluated with networks that were trained on the others."""
    width: int = 64
    """Units of a layer."""
    depth: int = 2
    """Hidden layers."""
    batch: int = 512
    """Rows of a step, for each fold."""
    rate: float = 3e-3
    """Highest learning rate."""
    decay: float = 0.05
    """Weight decay."""
    levels: int = 20
    """Strata of ln sigma in the evaluation."""
    checkpoints: int = 2
    """States of the training among which the held-out loss chooses."""
    candidates: int = 64
    """Candidates of the contrastive bound."""
