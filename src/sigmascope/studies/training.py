"""Train a denoiser into a folder, with losses, pictures and checkpoints; the same command resumes it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.console import progress_bar
from sigmascope.core import InputError, LabelledData, generator
from sigmascope.data import load_any
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.scales import require_levels
from sigmascope.device import resolve_device
from sigmascope.learn.classifier import CLASSIFIER
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.descent import Training
from sigmascope.learn.neural import CARD, WEIGHTS
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Items, Law, Source
from sigmascope.learn.training import Trainer
from sigmascope.limits import check_of_scenes, check_text, refuse, shown, within
from sigmascope.noise import sigma_grid
from sigmascope.report.gallery import grid_figure, rendered
from sigmascope.report.losses import losses_figure
from sigmascope.report.sheets import Sheet
from sigmascope.sample import Heun, final, sample, start
from sigmascope.streams import Use
from sigmascope.studies.exact_law import Data, print_notes
from sigmascope.studies.store import Folder, check_folder
from sigmascope.studies.tasks import TrainSpec

SPEC = "train.toml"
_STATES = {"denoiser": "training.safetensors", "classifier": "training-classifier.safetensors"}
_REPORTS = 40  # of the losses
_PICTURES = 8  # of these reports, with pictures
_SHOWN, _SAMPLING_STEPS = 24, 32


def source_of(data: Data, settings: Settings, names: Sequence[str] = ()) -> Source:
    """The source of values and labels of a training; of a law, with these of its attributes."""
    if isinstance(data, LabelledData):
        return Items(data, holdout=settings.holdout, null=settings.null, seed=settings.seed)
    chosen = tuple(a for a in data.attributes if not names or a.name in names)

    def draw(n: int, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        v, labels = _of_tree(data, n, g)
        return v, {a.name: labels[a.name] for a in chosen}

    return Law(data.event, draw, chosen, null=settings.null)


def _of_tree(data: Hierarchy, n: int, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    v, symbols = data.sample(n, g)
    return v, {a.name: symbols[level][:, 0] for level, a in enumerate(data.attributes)}


def train(spec: TrainSpec, out: Path, progress: bool = True) -> tuple[str, bool]:
    """Train a denoiser, and first a classifier where that is asked for, into a folder.

    The folder receives ``model.safetensors`` and ``model.json``, which
    :meth:`NeuralDenoiser.load <sigmascope.learn.neural.NeuralDenoiser.load>` reads, ``classifier.safetensors`` of a
    classifier, ``losses-*.csv`` and ``.png``, ``samples/`` with images of the unfinished network, and ``train.toml``
    (the options).  While it runs, ``training*.safetensors`` hold the states from which it goes on.

    Args:
        spec: the options of the training, which name the data.
        out: the folder; an interrupted training goes on, a finished one is left as it is.
        progress: show a bar on stderr.

    Returns: the text to print, and whether the training was already finished, in which case the text is empty.

    Raises:
        InputError: for options or data that cannot be used.
        Stopped: another process of the run was lost.
    """
    check_folder(out, SPEC)
    settings = spec.settings.check()
    if spec.classifier_steps < 0:
        raise InputError(f"classifier_steps is {shown(spec.classifier_steps)}: it must not be negative")
    within("classifier_steps", spec.classifier_steps, 0, 10**9)
    within("checkpoint_seconds", spec.checkpoint_seconds, 0, 1e9)
    check_text(spec)
    check_of_scenes(spec.data, spec.size, spec.grain)
    device = resolve_device(spec.device)
    if settings.precision == "auto":  # stored, so that another device resumes in the same precision
        settings = replace(settings, precision="bfloat16" if device.type == "cuda" else "float32")
    data = load_any(spec.data, spec.attributes, size=spec.size, grain=spec.grain, ground=spec.ground)
    if isinstance(data, Hierarchy):
        refuse(settings, {"holdout": "data with items"}, "a hierarchy, whose values are drawn without limit")
    if isinstance(data, LabelledData):
        require_levels(data, settings.sigma_max, settings.sigma_min)
    if progress:
        print_notes(data)
    spec = replace(spec, fingerprint=data.fingerprint, settings=settings)
    marker = out / SPEC
    if marker.exists():
        difference = spec.differs(marker.read_text(encoding="utf-8", errors="replace"))
        if difference:
            raise InputError(f"{out}: it holds another training ({difference}): choose another --out")
    folder = Folder(out, SPEC, spec.to_toml())
    if _finished(folder):
        _forget_states(out)
        return "", True
    source = source_of(data, settings, spec.attributes)
    if spec.classifier_steps and not source.attributes:
        raise InputError(f"{spec.data}: it has no attribute for a classifier: leave out --classifier-steps")
    classifier: ClassifierTrainer | None = None
    if spec.classifier_steps and source.attributes:
        classifier = ClassifierTrainer(source, replace(settings, steps=spec.classifier_steps, width=0, depth=0), device)
        _restore(classifier, folder, "classifier")
        _run(classifier, folder, "classifier", spec.classifier_steps, spec, progress, None)
        folder_write(folder, CLASSIFIER, lambda p: classifier.averaged.save(p, half=spec.half))
    trainer = Trainer(source, settings, device, None if classifier is None else classifier.averaged)
    _restore(trainer, folder, "denoiser")
    before = 0.0 if classifier is None else classifier.seconds

    def keep() -> None:
        _store_model(folder, trainer, spec, data, before + trainer.seconds, half=False)

    _run(trainer, folder, "denoiser", settings.steps, spec, progress, keep)
    _store_model(folder, trainer, spec, data, before + trainer.seconds, half=spec.half, finished=True)
    _forget_states(out)
    return _words(trainer, classifier, before + trainer.seconds), False


def _forget_states(out: Path) -> None:
    for name in _STATES.values():
        (out / name).unlink(missing_ok=True)


def folder_write(folder: Folder, name: str, writer: Any) -> None:
    """Write a file, on the first process of a run."""
    distributed.by_first(lambda: folder.write(name, writer))


def _run(trainer: Training, folder: Folder, part: str, steps: int, spec: TrainSpec, progress: bool, keep: Any) -> None:
    """Train to the end, with reports of the losses, pictures and checkpoints."""
    every = max(1, steps // _REPORTS)
    begun = time.monotonic() - trainer.seconds
    due = time.monotonic() + spec.checkpoint_seconds
    hidden = not progress or distributed.rank() > 0
    bar = progress_bar(part, steps, "steps", initial=trainer.done, disable=hidden)
    with bar:
        while trainer.done < steps:
            loss = trainer.step()
            bar.update()
            if trainer.done % every == 0 or trainer.done == steps:
                trainer.losses()
                bar.set_postfix(loss=f"{loss:.3g}")
                folder_write(folder, f"losses-{part}.csv", lambda p: p.write_text(_csv(trainer), encoding="utf-8"))
                if trainer.done % (every * (_REPORTS // _PICTURES)) == 0 or trainer.done == steps:
                    _pictures(folder, trainer, part)
            late = time.monotonic() > due
            if distributed.gathered(late)[0] or trainer.done == steps:
                trainer.seconds = time.monotonic() - begun
                folder_write(folder, _STATES[part], trainer.store)
                if keep is not None:
                    keep()
                due = time.monotonic() + spec.checkpoint_seconds


def _restore(trainer: Training, folder: Folder, part: str) -> None:
    path = folder.path / _STATES[part]
    if path.exists():
        trainer.restore(path)
    if len(set(distributed.gathered(trainer.done))) > 1:
        raise InputError(f"{path}: not all processes can read it: use a folder that all of them share")


def _pictures(folder: Folder, trainer: Training, part: str) -> None:
    """Figures of the losses and of images that the unconditional averaged network generates from fixed noise."""
    if distributed.rank():
        return
    picture = rendered(losses_figure(trainer.history, trainer.decades, part), "png")
    folder.write(f"losses-{part}.png", lambda p: p.write_bytes(picture))
    if not isinstance(trainer, Trainer) or len(trainer.averaged.event) != 3:
        return
    model, event = trainer.averaged, trainer.averaged.event
    g = generator(trainer.settings.seed, Use.TRAINING_SAMPLES)
    noise = torch.randn(_SHOWN, *event, generator=g).to(trainer.device)
    high = min(trainer.settings.sigma_max, 300.0 * model.scale)
    low = max(trainer.settings.sigma_min, 0.03 * model.scale)
    levels = [*sigma_grid(high, low, _SAMPLING_STEPS).tolist(), 0.0]
    images = final(sample(model, start(model, high, noise), levels, Heun())).y.float().cpu().numpy()
    figure = grid_figure(images, [[] for _ in images])
    name = f"samples/step{trainer.done:07d}.png"
    folder.write(name, lambda p: p.write_bytes(rendered(figure, "png")))


def _store_model(
    folder: Folder, trainer: Trainer, spec: TrainSpec, data: Data, seconds: float, *, half: bool, finished: bool = False
) -> None:
    """Write the averaged network and its card; the weights come first, since the card marks a finished model."""
    model = trainer.averaged
    model.card = {
        "data": data.name,
        "words": data.words,
        "fingerprint": data.fingerprint,
        "attributes": list(spec.attributes),
        "reals": [asdict(a) for a in data.reals] if isinstance(data, LabelledData) else [],
        "size": spec.size,
        "grain": spec.grain,
        "ground": spec.ground,
        "settings": asdict(trainer.settings),
        "parameters": model.count(),
        "steps": trainer.done,
        "seconds": round(seconds, 1),
        "finished": finished,
        "losses": trainer.history[-1] if trainer.history else None,
        "decades": trainer.decades.tolist(),
    }
    folder_write(folder, WEIGHTS, lambda p: model.save(p, half=half))
    text = json.dumps(model.description(), indent=1)
    folder_write(folder, CARD, lambda p: p.write_text(text, encoding="utf-8"))


def _card(folder: Folder) -> dict[str, Any]:
    try:
        return dict(json.loads((folder.path / CARD).read_text(encoding="utf-8"))["card"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _finished(folder: Folder) -> bool:
    return bool(distributed.by_first(lambda: bool(_card(folder).get("finished"))))


def _csv(trainer: Training) -> str:
    """Losses by step and decade of sigma."""
    kinds = [k for k in trainer.history[0] if k != "step"]
    writer = Sheet()
    writer.writerow(["step", *(f"{kind} 1e{d:+.0f}" for kind in kinds for d in trainer.decades)])
    for entry in trainer.history:
        cells = (x for kind in kinds for x in entry[kind])
        writer.writerow([entry["step"], *("" if x is None else f"{x:.9g}" for x in cells)])
    return writer.getvalue()


def _words(trainer: Trainer, classifier: ClassifierTrainer | None, seconds: float) -> str:
    entry = trainer.history[-1]
    lines = [f"{trainer.model.count():,} parameters, {trainer.done:,} steps, {seconds:,.0f} s"]
    lines.append(f"{'sigma':<16}{'held-out loss':>14}{'conditional':>13}")
    for d, free, conditional in zip(trainer.decades, entry["held_out"], entry["held_out_conditional"], strict=True):
        lines.append(f"{10.0**d:<6g} to {10.0 ** (d + 1):<6g}{free:>14.4f}{conditional:>13.4f}")
    if classifier is not None:
        lines.append(f"classifier: {classifier.done:,} steps")
    return "\n".join(lines)
