"""Commands about a model at hand: its units, and what to do with it.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from sigmascope.commands.study import shown


@dataclass(frozen=True)
class TranslateCommand:
    """One noise level in every unit: sigma, decibels, timestep, step, strength, percent.

    Reads the scheduler of a pipeline of diffusers; its weights are not looked at. Without a level it prints a table of
    some. Every unit is explained in docs/units.md.

    Try it: sigmascope translate --model diffusers:my-pipeline --strength 0.6
    """

    model: Annotated[str, shown("FOLDER", "(required)")] = ""
    """Folder of a pipeline that save_pretrained has written, perhaps with diffusers: before it."""
    sigma: Annotated[str, shown("SIGMA")] = ""
    """The noise level by its standard deviation, in pixels from 0 to 1 (black to white is 1), or in latents; inf is
    noise alone."""
    network_sigma: Annotated[str, shown("SIGMA")] = ""
    """By its standard deviation in the network's own unit (pixels from -1 to 1: twice the other)."""
    step: Annotated[str, shown("K/N")] = ""
    """By the state before step K (from 0) of N."""
    timestep: Annotated[str, shown("T")] = ""
    """By the timestep that the network is given."""
    strength: Annotated[str, shown("S")] = ""
    """By the strength of an image-to-image run."""
    percent: Annotated[str, shown("P")] = ""
    """By the percentage of the training clock that is done, as ComfyUI counts it."""
    steps: int = 50
    """Steps of the sampler."""
    timesteps: Annotated[str, shown("T,T", "(default: by --steps)")] = ""
    """Your own list of timesteps, which the pipeline is run with."""
    sigmas: Annotated[str, shown("S,S", "(default: by --steps)")] = ""
    """Your own list of sigmas, as the scheduler counts them."""
    height: Annotated[int, shown("PIXELS", "(default: the pipeline's own)")] = 0
    """Height of the images, which shifts the levels of some pipelines (Flux, Stable Diffusion 3.5)."""
    width: Annotated[int, shown("PIXELS", "(default: the pipeline's own)")] = 0
    """Width of the images."""
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
    timesteps: Annotated[str, shown("T,T", "(default: by --steps)")] = ""
    """Your own list of timesteps, which the pipeline is run with."""
    sigmas: Annotated[str, shown("S,S", "(default: by --steps)")] = ""
    """Your own list of sigmas, as the scheduler counts them."""
    height: Annotated[int, shown("PIXELS", "(default: the pipeline's own)")] = 0
    """Height of the images, which shifts the levels of some pipelines."""
    width: Annotated[int, shown("PIXELS", "(default: the pipeline's own)")] = 0
    """Width of the images."""
    estimator: Annotated[str, shown("NAME", "(default: the study's main one)")] = ""
    """Whose curves to read."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON in place of words."""
    out: Annotated[str, shown("FILE")] = ""
    """A file that receives the advice as JSON, too."""
