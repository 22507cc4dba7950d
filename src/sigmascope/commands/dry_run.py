"""What a study is going to be and to take, printed before it starts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sigmascope.console import spelled
from sigmascope.studies.spec import Spec

if TYPE_CHECKING:
    from sigmascope.studies.pipelines import Opened


def dry_run(spec: Spec) -> int:
    """Print the resolved specification, and the predicted work, time and memory of a study.

    Args:
        spec: the study.

    Returns: the exit status.

    Raises: InputError.
    """
    return _of_model(spec) if spec.model else _of_data(spec)


def _of_data(spec: Spec) -> int:
    import sigmascope.distributed as distributed
    from sigmascope.data.memory import available_bytes
    from sigmascope.studies import runner
    from sigmascope.studies.compute import chosen

    begun = time.monotonic()
    data, spec = runner.resolve(spec)
    reading = time.monotonic() - begun
    work, free = runner.predict(data, spec), available_bytes()
    seconds = "not measured: too little memory is free"
    if all(distributed.gathered(work.more <= free)):
        seconds = f"about {reading + runner.predict_seconds(spec, data):.0f} s on this machine"
    if distributed.rank():
        return 0
    print(spec.to_toml())
    print(f"data        {data.words}")
    studied = chosen(data, spec.abstractions)
    print(f"attributes  {', '.join(f'{a.name} ({len(a.values)})' for a in studied)}")
    if work.calls:
        print(f"work        {work.calls:,.0f} denoisings")
    else:
        print(f"work        {work.products + work.means:.2g} operations, at most {work.exponentials:.2g} exponentials")
    print(f"time        {seconds}")
    print(f"memory      about {work.memory / 1e9:.2f} GB; {free / 1e9:.1f} GB is free")
    return 0


def _of_model(spec: Spec) -> int:
    from sigmascope.information.adaptive import GOALS
    from sigmascope.information.estimator import OF_PATH
    from sigmascope.information.jobs.conditional_path import calls_of
    from sigmascope.noise import sigma_grid
    from sigmascope.studies.controls import MORE
    from sigmascope.studies.forked import Forked
    from sigmascope.studies.learned import untold_words
    from sigmascope.studies.learned_run import open_learned
    from sigmascope.studies.spec import GENERATED

    if spec.data == GENERATED:
        return _of_generated(spec)
    learned, spec = open_learned(spec)
    print(spec.to_toml())
    if isinstance(learned, Forked):
        done = _forks(learned.data.words, learned.opened, spec)
        _checks(learned.data, spec, 0, False, learned.opened.untold_calls, spec.draws)
        return done
    print(f"data        {learned.data.words}{', items kept out of training' if learned.held_out else ''}")
    print(f"model       {learned.network}, {learned.parameters:,} parameters{untold_words(learned.untold_calls)}")
    if learned.classes:
        width = max(len(spelled(value)) for value, _, _ in learned.classes)
        lines = [
            f"{spelled(value).ljust(width)}  → class {k}{f' ({own})' * (own != str(k))}"
            for value, k, own in learned.classes
        ]
        print("classes     " + "\n            ".join(lines))
    told = sum(len(a.values) for a in learned.asked)
    draws = spec.draws + spec.draws // 2
    if "filter" in spec.estimators:
        print(f"filter      {draws * spec.levels * told:,} network calls")
    if learned.classifier is not None and set(spec.estimators) - set(GOALS):
        asked = draws * (1 + MORE + ("filter" in spec.estimators))
        print(f"classifier  at most {asked * spec.levels:,} calls")
    if "likelihood" in spec.estimators:
        print(f"likelihood  {12 * draws * spec.levels * told:,} network calls")
    aim = (
        f"{spec.budget:,} network calls" if spec.budget else f"until the standard error is {spec.target_stderr:g} nats"
    )
    print(f"gaps        {aim}")
    if OF_PATH in spec.estimators:
        sigma = sigma_grid(spec.sigma_max, spec.sigma_min, spec.levels)
        calls = calls_of(learned.begins_at, sigma, len(learned.abstractions), spec.draws, learned.untold_calls)
        print(f"own path    {calls:,} network calls")
    _checks(learned.data, spec, len(learned.abstractions), bool(learned.classes), learned.untold_calls, 32)
    return 0


def _checks(data: object, spec: Spec, told: int, classes: bool, untold_calls: int, columns: int) -> None:
    """What a study of a model asks before and beside it: its denoising losses, and the bound of the data alone."""
    from sigmascope.core import LabelledData
    from sigmascope.information.jobs.data_bound import bound_size
    from sigmascope.information.jobs.losses import loss_calls

    print(f"losses      {loss_calls(spec.levels, told, classes, untold_calls)[1]:,} network calls")
    size = bound_size(data, columns, spec.levels) if isinstance(data, LabelledData) else None
    if size is not None:
        print(f"heldout     about {size.exponentials:.2g} exponentials, no network calls")


def _of_generated(spec: Spec) -> int:
    """Nothing is made: the labels that its images would have are not known yet."""
    from sigmascope.device import resolve_device
    from sigmascope.studies.forked import asked_of, images_of
    from sigmascope.studies.learned_run import check_use, with_paths
    from sigmascope.studies.pipelines import open_pipe

    spec = with_paths(spec)
    opened = open_pipe(spec, resolve_device(spec.device))
    check_use(spec, opened)
    spec, _ = asked_of(spec, opened)
    print(spec.to_toml())
    count = images_of(spec)
    calls = 2 * count * spec.steps * opened.untold_calls
    done = _forks(f"{count:,} images by the model: {calls:,} network calls", opened, spec)
    _checks(None, spec, 0, False, opened.untold_calls, spec.draws)
    return done


def _forks(data: str, opened: Opened, spec: Spec) -> int:
    print(f"data        {data}")
    from sigmascope.information.estimator import OF_PATH
    from sigmascope.studies.learned import untold_words

    each = opened.untold_calls
    print(f"model       {opened.words}, {opened.parameters:,} parameters, told nothing{untold_words(each)}")
    calls = spec.draws * spec.levels * spec.forks * spec.steps * each  # two a step, of half the way on average
    print(f"forks       about {calls:,} network calls")
    if OF_PATH in spec.estimators:
        print(f"own path    about {calls + 2 * spec.draws * spec.steps * each:,} network calls")
    return 0
