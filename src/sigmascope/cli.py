"""The command line.  torch is loaded only once there is work to do."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

import sigmascope.console as console
from sigmascope._version import VERSION
from sigmascope.commands import COMMANDS
from sigmascope.errors import InputError, Stopped

_LONGEST = 1500  # characters of what is said; a name may be longer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sigmascope``; returns the exit status.

    0: done; 1: a check is red, or a run of several processes was stopped; 2: something cannot be used; 130:
    interrupted; 141: whoever read the output has left.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    with console.prepared():
        try:
            try:
                return _main(args)
            finally:
                sys.stdout.flush()  # here, where it is known what to do if it fails
        except BrokenPipeError:
            console.silence()
            return console.BROKEN_PIPE
        except OSError as error:
            console.silence()
            return _said(f"standard output: {error.strerror or error}", 2)


def _main(args: list[str]) -> int:
    """The command, and in one line what it cannot use."""
    try:
        if args in (["--version"], ["-V"]):
            print(f"sigmascope {VERSION}")
            return 0
        name, command = _parse(args)
        if _many():
            return _together(name, command)
        return COMMANDS[name].run(command)
    except InputError as error:
        return _said(str(error), 2)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO):  # files are written by name
            raise
        name = " ".join(str(error.filename or "a file").split())
        return _said(f"{name}: {error.strerror or error}", 2)
    except MemoryError:
        return _said("the memory is exhausted: ask for fewer draws or images, or use a machine with more", 2)
    except RuntimeError as error:
        if "memory" not in str(error):  # torch reports a full GPU, and a full machine, as a RuntimeError
            raise
        return _said("the memory is exhausted: ask for fewer draws or images, or another --device", 2)
    except Stopped as error:
        return _said(str(error), 1)
    except KeyboardInterrupt:
        return _said("stopped; run the same command again to go on", 130, before="\n")


def _many() -> bool:
    """Whether this is one of several processes, of which torchrun tells each in its environment."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def _said(words: str, status: int, before: str = "") -> int:
    """Say how the run ended, on one rank of several."""
    if _many():
        import sigmascope.distributed as distributed

        if not distributed.prints_the_end():
            return status
    words = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)  # one line, whatever a name holds
    if len(words) > _LONGEST:
        words = f"{words[: _LONGEST - 300]} … {words[-300:]}"
    print(f"{before}sigmascope: {words}", file=sys.stderr)
    return status


def _together(name: str, command: Any) -> int:
    """A study or a training as one of the processes that torchrun has started."""
    import sigmascope.distributed as distributed

    if name not in ("study", "train"):
        raise InputError("only a study or a training runs in several processes: leave torchrun out")
    try:
        with distributed.joined():
            return COMMANDS[name].run(command)
    except Stopped as error:
        kept = any(any(Path(command.out).glob(p)) for p in ("checkpoint*.npz", "training*.safetensors"))
        where = f"the last checkpoint is in {command.out}; " if kept else ""
        raise Stopped(f"{error}: {where}run the same command again to go on") from error


def _parse(args: list[str]) -> tuple[str, Any]:
    """The command that is named, and what it was told."""
    args, spoil = _without_break(args)
    defaults: dict[str, Any] = {name: module.Command() for name, module in COMMANDS.items()}
    if (file := _file_of(args)) is not None:
        defaults["study"] = COMMANDS["study"].asked_by(file)
    if spoil:
        defaults["check"] = COMMANDS["check"].Command(spoil=spoil)
    one_of: Any = Union[  # noqa: UP007
        tuple(Annotated[type(d), tyro.conf.subcommand(name, default=d)] for name, d in defaults.items())
    ]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command: Any = tyro.cli(
                one_of,
                prog="sigmascope",
                description="At which noise level a diffusion model decides each attribute, with error bars.",
                args=args,
                use_underscores=False,
            )
        return next(name for name, module in COMMANDS.items() if type(command) is module.Command), command
    except SystemExit as stop:
        if stop.code == 2:
            of = f" {args[0]}" if args and args[0] in COMMANDS else ""
            raise InputError(f"{_first_line(complaint.getvalue()).rstrip('.')}: see sigmascope{of} --help") from None
        raise


def _file_of(args: Sequence[str]) -> str | None:
    """The file of ``--spec``, if one is named and no help is asked for."""
    given = [b for a, b in pairwise(args) if a == "--spec"]
    given += [a.removeprefix("--spec=") for a in args if a.startswith("--spec=")]
    return given[-1] if given and not {"-h", "--help"} & set(args) else None


def _without_break(args: list[str]) -> tuple[list[str], str]:
    """``check --break NAME`` corrupts an ingredient of a row, so that a test can see it fail; not in the help."""
    if args[:1] != ["check"] or "--break" not in args:
        return args, ""
    place = args.index("--break")
    if place + 1 == len(args):
        raise InputError("--break wants the name of a row of the table")
    return args[:place] + args[place + 2 :], args[place + 1]


def _first_line(box: str) -> str:
    """The first sentence of a complaint of the parser, which comes in a box of lines or of dashes, as one line."""
    ruled = re.split(r"\n(?:[^\n]*───[^\n]*|\s*---+\s*)(?=\n)", f"\n{box}\n")
    parts = [" ".join(re.sub(r"[│╭╮╰╯]", " ", part).split()) for part in ruled]
    said = [part for part in parts if part]
    titled = "───" not in box and len(said) > 1
    return said[1 if titled else 0] if said else "the command cannot be read"


if __name__ == "__main__":
    sys.exit(main())
