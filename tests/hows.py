"""How the dear ones among the commands of the documents are made cheap, and why.  Their text is read as it stands."""

from __future__ import annotations

import importlib
import types
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import xarray as xr
from matplotlib.figure import Figure

from shortened import How


def patched(**values: object):
    """A program whose constants are other ones."""

    def patch(to: pytest.MonkeyPatch, module: types.ModuleType | None) -> None:
        for name, value in values.items():
            to.setattr(module, name, value)

    return patch


def undrawn(to: pytest.MonkeyPatch, _: object) -> None:
    """Figures are made and laid on the page, and not drawn."""

    def noted(figure, target, **_):
        figure.get_axes()
        target.write(b"") if hasattr(target, "write") else Path(target).write_bytes(b"")

    to.setattr(Figure, "savefig", noted)


def little_surveyed(to: pytest.MonkeyPatch, _: object) -> None:
    """Few draws and items tell where the integrand of a gap lies."""
    from sigmascope.information import allocation, importance

    to.setattr(allocation, "_SURVEYED", 16)
    to.setattr(importance, "ITEMS", 256)
    undrawn(to, None)


def of_three_rows(to: pytest.MonkeyPatch, _: object) -> None:
    from sigmascope import checks

    whole = checks.run_checks
    to.setattr(checks, "run_checks", lambda **given: [*islice(whole(**(given | {"fast": True})), 3)])


def without_stages(to: pytest.MonkeyPatch, _: object) -> None:
    """The task is read, its data are opened, and every stage is asked for; none is computed, and no figure drawn."""
    from sigmascope.reproduction import stages as reproduction

    def written(write, found):
        for name in ("report.html", "figures/1.svg", "figures/1.pdf", "tables/1.csv"):
            write(name, lambda path: (path.parent.mkdir(exist_ok=True), path.write_text(" ".join(found))))
        return " ".join(found)

    def stage(stage, _, mark):
        return xr.Dataset(attrs={"stage_fingerprint": mark, "name": stage.name})

    to.setattr(reproduction, "_run", stage)
    to.setattr(reproduction, "_reproduced", lambda stages, *_: list(stages))
    to.setattr(reproduction, "write_paper", written)


def of_one_problem(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    whole, work = module.Settings, module.GapJob
    to.setattr(module, "Settings", lambda **given: whole(**(given | {"steps": 20, "warmup": 5})))
    to.setattr(module, "GapJob", lambda *a, **given: work(*a, **(given | {"target_stderr": 0.5})))


def of_two_models(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    for name, make in module.PROBLEMS.items():
        quick = lambda make=make: replace(make(), target=0.5, plain=256, seeds=min(make().seeds, 2))  # noqa: E731
        to.setitem(module.PROBLEMS, name, quick)


def of_small_scenes(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    """Scenes of 16 × 16 pixels where none are asked for."""
    import sigmascope.data as data

    whole = data.load
    for place in (data, module, importlib.import_module("sigmascope.studies.study")):
        if getattr(place, "load", None) is whole:
            to.setattr(place, "load", lambda *a, **given: whole(*a, **(given | {"size": 16})))


def of_few_levels(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    whole = module.study
    to.setattr(
        module, "study", lambda *a, **given: whole(*a, **(given | {"sampling": replace(given["sampling"], levels=4)}))
    )
    little_surveyed(to, None)


def without_processes(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    for name, value in {"DRAWS": 16, "LEVELS": 8, "BATCH": 4, "HELD": 10}.items():
        to.setattr(module, name, value)
    to.setattr(module, "SIGMAS", module.sigma_grid(90.0, 0.01, 8))
    to.setattr(module, "fresh", lambda arguments, *_: (float(len("".join(arguments))), 0.1))


def of_one_shape(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    to.setattr(module, "SHAPES", {"plain": module.Shape(200, (4, 4), (5,), {"draws": 16, "levels": 4})})


def study_in_this_process(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    """The study is asked for, read and predicted; `make study` makes it."""
    from sigmascope.cli import main

    def asked(words, **_):
        assert words[1:3] == ["-m", "sigmascope"]
        assert main([*words[3:], "--dry-run"]) == 0

    to.setattr(module, "subprocess", types.SimpleNamespace(run=asked, DEVNULL=None))
    to.setattr(module, "products_per_second", lambda: 1e12)


def few_steps(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    whole = module.sigmascope.mutual_information
    to.setattr(module.sigmascope, "mutual_information", lambda x, y: whole(x[:300], y[:300], steps=20), raising=False)


def collect_only(to: pytest.MonkeyPatch, _: object) -> None:
    to.setenv("PYTEST_ADDOPTS", "--collect-only -q -p no:cacheprovider")


def only_read(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    """The files are read; what follows has a test of its own."""

    def opened(args, draws, levels, quick, seed):
        module.sigmascope.load(args.digits, ["digit"])
        module.read_model(args.model)
        args.out.mkdir()

    to.setattr(module, "run", opened)


def only_two_points(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    """The files are read; the trials of pictures and digits have a test of their own."""

    def opened(model, data, draws):
        module.read_model(model)
        return module.load(data, ["digit"])

    to.setattr(module, "digits", opened)
    to.setattr(module, "exact", lambda folder: None)
    to.setattr(module, "tried", lambda subject: [])


def tiny(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    """The sizes of --quick, and four steps of training."""
    for name, value in {"Sizes": lambda: module.QUICK, "LEAST": 0.0, "STUDIED": 1e9}.items():
        to.setattr(module, name, value)


def only_two_steps(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    """A network of two steps of training."""
    whole = module.train
    to.setattr(module, "train", lambda images, labels: whole(images, labels, steps=2, batch=8))


def little_guided(to: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    """Advice of a study, and a few images with few steps."""
    level = types.SimpleNamespace(value=2.0, reached=True)
    advice = types.SimpleNamespace(kind="guidance_interval", reason="", high=level, low=types.SimpleNamespace(
        value=0.1, reached=True))  # fmt: skip
    for name, value in {"EPOCHS": 1, "STEPS": 2, "advise": lambda study: [advice]}.items():
        to.setattr(module, name, value)


_STUDY = {"draws": 16, "levels": 5, "size": 16}
_TRAINED = {"steps": 12, "classifier_steps": 6, "batch": 16, "width": 16, "depth": 1}
HOWS: dict[str, How] = {
    "whole": How(),
    "study": How("a minute or more", _STUDY, undrawn),
    "model": How("minutes of network calls", {"draws": 8, "levels": 4, "target_stderr": 2.0}, little_surveyed),
    "forked": How("minutes of network calls", {"draws": 4, "levels": 4, "forks": 10, "steps": 4}, undrawn),
    "trained": How("minutes of training", _TRAINED, undrawn),
    "made": How("some seconds", {"n": 4, "steps": 6, "size": 16}),
    "parents": How("some seconds", {"seeds": 2, "size": 16}),
    "banded": How("half a minute, most of it of network calls", {"draws": 8, "levels": 4}),
    "paths": How("some seconds", {"paths": 200}),
    "paired": How("a minute or two", {"steps": 20}),
    "two_arrays": How("half an hour", patch=few_steps),
    "prompted": How("minutes of network calls", {"n": 2, "levels": 4, "noises": 2, "steps": 4}),
    "checked": How("a minute and a half; all rows have a test of their own", patch=of_three_rows),
    "reproduced": How("minutes, and tests of its own", patch=without_stages),
    "collected": How("minutes, and part of the suite", patch=collect_only),
    "network": How("it wants the network"),
    "ranks": How("minutes of training; several processes have tests of their own", _TRAINED, undrawn),
    "ddpm": How("nine minutes, and tests of its own", patch=only_read),
    "guided": How("minutes of network calls", {"each": 2}, little_guided),
    "two_steps": How("twenty minutes on one core", patch=only_two_steps),
    "advised": How("three minutes, and tests of its own", patch=only_two_points),
    "agreement": How("an hour", {"draws": 16, "levels": 5}, of_small_scenes),
    "several": How("minutes", {"draws": 64, "levels": 12}),
    "dense": How("minutes", {"draws": 4}, of_small_scenes),
    "advice": How("minutes", {"images": 4, "draws": 16}),
    "bundled": How("an hour", {"draws": 8, "target_stderr": 2.0}, of_few_levels),
    "learned": How("minutes of training", {"only": "two_points"}, of_one_problem),
    "calls": How("an hour", {"models": ["two points"]}, of_two_models),
    "slow_calls": How("an hour", patch=of_two_models),
    "products": How("minutes", {"only": "posterior,denoiser,large,ranks", "repeat": 1}, without_processes),
    "coverage": How("17 minutes", {"seeds": 2}, patched(DRAWS=(64,), RESAMPLES=20)),
    "filters": How("a minute", patch=patched(PATHS=32, STEPS=16, ROUNDS=1)),
    "gpu": How("eight minutes on a GPU", patch=tiny),
    "tree": How("half a minute", patch=patched(BATCH=8, ROUNDS=1)),
    "shapes": How("minutes", patch=of_one_shape),
    "fresh": How("a minute", _STUDY, study_in_this_process),
}
"""By the word before a command in as_it_stands.txt."""
