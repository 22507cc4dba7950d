"""The command ``train``."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from sigmascope.commands.common import Folder, folder, options_of
from sigmascope.errors import InputError
from sigmascope.studies.tasks import TrainSpec

__all__ = ["Command", "run"]


@dataclass(frozen=True)
class Command(TrainSpec):
    """Train a denoiser that can be conditioned on any of the attributes.

    One network learns E[V | Y_sigma = y, known attributes], for no attribute, for each one, and for any set of them. It
    also learns an attribute of random labels, whose information is known to be zero. The folder named by --out receives
    model.safetensors and model.json, losses-*.csv and .png (by decade of sigma, on the batches and on items kept out
    of training), samples/ and, with --classifier-steps, classifier.safetensors.

    Interrupted? Run the same command again: it continues where it stopped.

    Try it: sigmascope train scenes --size 16 --network mlp --steps 2000 --out models/scenes

    Measure it: sigmascope study scenes --model models/scenes --out studies/learned

    Several processes: torchrun --nproc-per-node 2 -m sigmascope train scenes --size 16 --network mlp --steps 2000 --out
    models/scenes
    """

    out: Folder = ""
    """Folder for the model: new, empty, or that of the same training."""


def run(command: Command) -> int:
    """Train, and print the final losses.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    spec = options_of(TrainSpec, command)
    spec.settings.check()
    if not spec.data:
        raise InputError("no data are named: pass 'scenes', 'hierarchy' or the path of a data file")
    out = folder(command.out)
    import sigmascope.distributed as distributed
    from sigmascope.studies import training  # torch is loaded here

    words, finished = training.train(spec, out)
    if distributed.rank():
        return 0
    if finished:
        print(f"{out} holds this model already; nothing was done", file=sys.stderr)
        return 0
    print(words)
    print(f"\nMeasure it: sigmascope study {spec.data} --model {out} --out FOLDER", file=sys.stderr)
    return 0
