"""Commands about a model at hand: its units, and what to do with it.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from sigmascope.commands import shown


@dataclass(frozen=True)
class TranslateCommand:
    """One noise level in every unit: sigma, decibels, timestep, step, strength, percent.

    Of the scheduler of a pipeline of diffusers, whose weights are not looked at. Without a level it prints a table of
    some. sigma is that of the values the network works on: pixels from 0 to 1, or latents.

    Try it: sigmascope translate --model diffusers:my-pipeline --strength 0.6
    """

    model: Annotated[str, shown("FOLDER", "(required)")] = ""
    """Folder of a pipeline that save_pretrained has written, perhaps with diffusers: before it."""
    sigma: Annotated[str, shown("SIGMA")] = ""
    """The noise level by its standard deviation."""
    step: Annotated[str, shown("K/N")] = ""
    """By the state before step K (from 0) of N."""
    timestep: Annotated[str, shown("T")] = ""
    """By the timestep that the network is told."""
    strength: Annotated[str, shown("S")] = ""
    """By the strength of an image-to-image run."""
    percent: Annotated[str, shown("P")] = ""
    """By the percentage of the training clock that is done."""
    steps: int = 50
    """Steps of the sampler."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON in place of a table."""


@dataclass(frozen=True)
class AdviseCommand:
    """What to do with what a study found: guidance, editing, forking, training, stopping early.

    Reads off the curves of a finished study, for each attribute: between which noise levels guidance acts, how late a
    negative prompt can, how strongly an image may be edited so that the attribute stays, from which step on forks share
    it, where to train it, from where on it can be checked, and where to put the sampler's steps. With 95 % intervals,
    and in the units of a pipeline's scheduler.

    Try it: sigmascope advise studies/scenes --keep floor_hue --redraw shape
    """

    study: Annotated[str, tyro.conf.Positional, shown("STUDY")] = ""
    """Folder of a finished study."""
    keep: Annotated[str, shown("A", "(default: each)")] = ""
    """The attribute that the advice is about."""
    redraw: Annotated[str, shown("B", "(default: all others)")] = ""
    """The attribute that is to change."""
    probability: float = 0.9
    """With which what is to be kept is kept."""
    model: Annotated[str, shown("FOLDER", "(default: the study's own pipeline)")] = ""
    """diffusers:FOLDER, a pipeline whose scheduler's units are told (timestep, step, strength, percent)."""
    steps: int = 50
    """Steps of the sampler."""
    estimator: Annotated[str, shown("NAME", "(default: the study's main one)")] = ""
    """Whose curves to read."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON in place of words."""
    out: Annotated[str, shown("FILE")] = ""
    """A file that receives the advice as JSON, too."""
