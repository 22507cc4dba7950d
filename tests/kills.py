"""Kill runs at random moments, let disks be full, and see that each run comes to the same bytes.

``python tests/kills.py --kills 20 --seed 0`` runs every command once to its end, then kills it (SIGKILL) at random
moments, the same command going on each time, until it ends; its folder must hold the bytes of the run that nothing
stopped.  ``--full`` lets the disk be full at every file that a command writes: one line with the path and status 2,
and the same bytes once there is space.  ``--only NAME`` takes one command.

Another command is one line of :data:`COMMANDS`.  Each run is a process of its own, forked from one that has loaded the
libraries; checkpoints are written at every step, and time stands still where a file says how long a run took.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

_PATIENCE = 600.0  # seconds that a run may take
_FEWEST = 3  # files at the beginning of a run at which a disk is full even if the like of them was
COMMANDS: dict[str, tuple[str, ...]] = {
    "study": ("study", "DATA", "--draws", "8", "--levels", "5"),
    "generate": ("generate", "DATA", "--n", "4", "--steps", "6"),
    "fork": ("fork", "DATA", "--sampler", "sde", "--forks", "3", "--seeds", "2", "--steps", "6"),
    "train": (
        *("train", "DATA", "--network", "mlp", "--width", "8", "--depth", "1", "--steps", "12", "--warmup", "2"),
        *("--batch", "8", "--classifier-steps", "6", "--checkpoint-seconds", "0"),
    ),
    "model": (
        *("study", "scenes", "--size", "16", "--model", "bundled", "--attributes", "shape", "--levels", "5"),
        *("--draws", "8", "--estimators", "score_gap", "--budget", "1600"),
    ),
    "pipeline": (
        *("study", "DATA", "--model", "diffusers:PIPE", "--draws", "4", "--levels", "4", "--forks", "4"),
        *("--steps", "3", "--attributes", "b"),
    ),
    "prompts": (
        *("prompts", "--model", "diffusers:STABLE", "--prompt", "a red cube", "--prompt", "a blue ball"),
        *("--n", "2", "--steps", "3", "--levels", "4", "--noises", "2"),
    ),
    "compare": ("compare", "STUDY", "STUDY2"),
    "reproduce": ("reproduce", "--data", "SHAPES", "--quick"),
}


def inputs(folder: Path, names: list[str]) -> dict[str, str]:
    """What the commands read, made where one of these needs it."""
    said = " ".join(w for n in names for w in COMMANDS[n])
    found = {"DATA": str(folder / "data.npz")}
    rng = np.random.default_rng(0)
    labels = {"a": np.arange(40) % 2, "b": np.array(["x", "y", "z"])[np.arange(40) % 3]}
    images = rng.integers(0, 80, (40, 8, 8), dtype=np.uint8) + (np.arange(40) % 3 * 80).astype(np.uint8)[:, None, None]
    np.savez(folder / "data.npz", images=images, **labels)
    if "STABLE" in said:
        import pipes

        pipes.stable(folder / "stable")
        found["STABLE"] = str(folder / "stable")
    if "PIPE" in said:
        found["PIPE"] = str(_pipeline(folder / "pipe"))
    if "SHAPES" in said:
        found["SHAPES"] = str(_shapes(folder / "shapes.npz"))
    if "STUDY" in said:
        for name, seed in (("STUDY", "0"), ("STUDY2", "1")):
            found[name] = str(folder / name.lower())
            done = forked([*command("study", found, folder / name.lower()), "--seed", seed])
            assert done.status == 0, done.said
    return found


def _pipeline(folder: Path) -> Path:
    import torch
    from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    DDPMPipeline(net, DDIMScheduler(clip_sample=False)).save_pretrained(folder, safe_serialization=True)
    return folder


def _shapes(path: Path) -> Path:
    """A few scenes, small, with two of their attributes."""
    from sigmascope.data import load

    scenes = load("scenes", size=16)
    keep = (scenes.labels["floor_hue"] < 2) & (scenes.labels["wall_hue"] < 2) & (scenes.labels["object_hue"] < 2)
    items = keep.nonzero()[:, 0]
    images = (scenes.source.take(items).clamp(0, 1) * 255).round().byte().movedim(1, -1).numpy()
    np.savez(path, images=images, **{n: scenes.labels[n][items].numpy() for n in ("shape", "scale", "floor_hue")})
    return path


def command(name: str, found: Mapping[str, str], out: Path) -> list[str]:
    """The arguments of a command, with the files in the place of their names."""
    words = []
    for word in COMMANDS[name]:
        kind, _, rest = word.partition(":")
        words.append(f"{kind}:{found[rest]}" if rest in found else found.get(word, word))
    return [*words, "--out", str(out)]


class Done:
    """How a run ended: its status (a signal is negative), what it said, and seconds that it took."""

    def __init__(self, status: int, said: str, seconds: float) -> None:
        self.status, self.said, self.seconds = status, said, seconds


def forked(words: list[str], after: float = _PATIENCE, before: Callable[[], None] | None = None) -> Done:
    """Run a command in a process of its own, which is killed after so many seconds.

    Args:
        before: called in that process, before the command.
    """
    read, write = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.close(read)
        os.dup2(write, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = io.TextIOWrapper(io.FileIO(1, "w")), io.TextIOWrapper(io.FileIO(2, "w"))
        status = 70
        try:
            quicken()
            if before is not None:
                before()
            from sigmascope.cli import main

            status = main(words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)
    os.close(write)
    ended, code = 0, 0
    while not ended and time.monotonic() - start < after:
        ended, code = os.waitpid(child, os.WNOHANG)
        time.sleep(0.005)
    if not ended:
        os.kill(child, signal.SIGKILL)
        _, code = os.waitpid(child, 0)
    seconds = time.monotonic() - start
    with os.fdopen(read, encoding="utf-8", errors="replace") as said:
        return Done(os.waitstatus_to_exitcode(code), said.read(), seconds)


def load() -> None:
    """Load what commands need, so that it is there in every process that is forked."""
    from sigmascope import cli
    from sigmascope import commands as runs
    from sigmascope.report import comparison
    from sigmascope.reproduction import experiments
    from sigmascope.reproduction import stages as reproduction
    from sigmascope.studies import compare, making, prompting, training
    from sigmascope.studies import run as runner

    loaded = (
        cli,
        runs,
        comparison,
        compare,
        experiments,
        making,
        prompting,
        reproduction,
        runner,
        training,
    )
    assert all(loaded)


def quicken() -> None:
    """Checkpoints at every step, figures that are not drawn, and time that stands still where it is written down."""
    from sigmascope.reproduction import experiments
    from sigmascope.reproduction import stages as reproduction
    from sigmascope.studies import training

    for name, module in list(sys.modules.items()):
        if name.startswith("sigmascope."):
            if hasattr(module, "CHECKPOINT_SECONDS"):
                module.CHECKPOINT_SECONDS = 0.0
            if hasattr(module, "rendered"):
                module.rendered = lambda figure, kind, *more: kind.encode()
    still = type("Still", (), {"monotonic": staticmethod(lambda: 0.0)})
    training.time = reproduction.time = still  # type: ignore[attr-defined]
    used = type("Used", (), {"RUSAGE_SELF": 0, "getrusage": staticmethod(lambda who: type("", (), {"ru_maxrss": 0}))})
    reproduction.resource = used  # type: ignore[attr-defined]
    experiments.QUICK = experiments.Effort(96, 14, 32, 8, True, 3, 192, 96, 8, 6, 8, 8, 32, (3, 8, 16), 0.2)


def files(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def unlike(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """Names of the files that differ, or that one of the folders lacks."""
    return sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))


def ended(what: str, done: Done) -> str:
    """How a run ended that should not have ended so."""
    return f"{what}: status {done.status}: {done.said.strip()[-300:]}"


def killed(name: str, found: Mapping[str, str], folder: Path, kills: int, rng: random.Random) -> list[str]:
    """Faults of a command that is killed so many times in all, in several runs where it ends before."""
    whole = folder / f"{name}-whole"
    first = forked(command(name, found, whole))
    if first.status:
        return [ended(name, first)]
    wanted, faults, run, left = files(whole), [], 0, kills
    while left > 0:
        out, run = folder / f"{name}-{run}", run + 1
        longest = first.seconds
        while True:  # each time from where it was, so that moments lie all over the run
            after = rng.uniform(0.0, longest) if left > 0 else _PATIENCE
            done = forked(command(name, found, out), after)
            if done.status != -signal.SIGKILL:
                break
            left -= 1
        if done.status:
            faults.append(ended(f"{name}, run {run}", done))
        elif other := unlike(wanted, files(out)):
            faults.append(f"{name}, run {run}: other bytes in {', '.join(other)}")
        shutil.rmtree(out, ignore_errors=True)
    return faults


def _fill(at: int, log: Path) -> Callable[[], None]:
    """Of the writes, the one of this number meets a full disk; all are noted."""

    def before() -> None:
        from sigmascope.studies import store

        real, made, count = store._write, store.tempfile.mkstemp, [0]

        def noted(folder: Path, file: str, writer: Callable[[Path], object]) -> None:
            count[0] += 1
            with log.open("a", encoding="utf-8") as lines:
                lines.write(f"{Path(folder) / file}\n")
            real(folder, file, writer)

        def mkstemp(**where: object) -> tuple[int, str]:
            handle, path = made(**where)  # type: ignore[call-overload]
            if count[0] == at and ".part-" in Path(path).name:
                os.unlink(path)
                os.symlink("/dev/full", path)
            return handle, path

        store._write, store.tempfile.mkstemp = noted, mkstemp  # type: ignore[assignment]

    return before


def full(name: str, found: Mapping[str, str], folder: Path, most: int = 1000) -> list[str]:
    """Faults of a command that meets a full disk at each of its files, or at so many of them, evenly spread."""
    whole, log = folder / f"{name}-full", folder / f"{name}.log"
    first = forked(command(name, found, whole), before=_fill(0, log))
    if first.status:
        return [ended(name, first)]
    order = [str(Path(x).relative_to(whole)) for x in log.read_text(encoding="utf-8").splitlines()]
    wanted, faults = files(whole), []
    # A checkpoint is like the one before it.
    unlike_others = [at for at, file in enumerate(order, 1) if at <= _FEWEST or file not in order[: at - 1]]
    for at in unlike_others[:: -(-len(unlike_others) // most)]:
        file = order[at - 1]
        out = folder / f"{name}-full-{at}"
        done = forked(command(name, found, out), before=_fill(at, log))
        said = [x for x in done.said.splitlines() if x.startswith("sigmascope: ")]
        if done.status != 2 or len(said) != 1 or not said[0].startswith(f"sigmascope: {out / file}: ") or (
            "Traceback" in done.said
        ):  # fmt: skip
            faults.append(ended(f"{name}, full at {file}", done))
        if [p for p in out.rglob(".part-*") if p.is_file()]:
            faults.append(f"{name}, full at {file}: it leaves half a file")
        again = forked(command(name, found, out))
        if again.status:
            faults.append(ended(f"{name}, after {file}", again))
        elif other := unlike(wanted, files(out)):
            faults.append(f"{name}, after {file}: other bytes in {', '.join(other)}")
        shutil.rmtree(out, ignore_errors=True)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full", action="store_true", help="full disks, too")
    parser.add_argument("--files", type=int, default=1000, help="of each command at which a disk is full, at most")
    parser.add_argument("--only", choices=COMMANDS, action="append", help="this command; may be repeated")
    chosen = parser.parse_args()
    names = chosen.only or list(COMMANDS)
    faults: list[str] = []
    load()
    with tempfile.TemporaryDirectory() as where:
        found = inputs(Path(where), names)
        for name in names:
            start, mine = time.monotonic(), []
            if chosen.kills:
                mine += killed(name, found, Path(where), chosen.kills, random.Random(f"{chosen.seed} {name}"))
            if chosen.full:
                mine += full(name, found, Path(where), chosen.files)
            print(f"{name:<10} {len(mine)} faults, {time.monotonic() - start:.0f} s", flush=True)
            for fault in mine:
                print(f"  {fault}", flush=True)
            faults += mine
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
