"""The command line.  torch is loaded only when a command starts to compute."""

from __future__ import annotations

import contextlib
import difflib
import errno
import io
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import tyro

import sigmascope.console as console
from sigmascope._version import VERSION
from sigmascope.commands import COMMANDS, description, overview
from sigmascope.errors import InputError, Stopped

__all__ = ["main"]

_LONGEST = 1500  # characters of a message; the name of a file may be longer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sigmascope``; returns the exit status.

    0: done; 1: a check failed, or a run of several processes was stopped; 2: an input or an option cannot be used;
    130: interrupted; 141: the reader of the output closed it.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    with console.prepared():
        try:
            try:
                return _main(args)
            finally:
                sys.stdout.flush()  # here, where a failure is handled
        except BrokenPipeError:
            console.silence()
            return console.BROKEN_PIPE
        except OSError as error:
            console.silence()
            return _report(f"standard output: {error.strerror or error}", 2)


def _main(args: list[str]) -> int:
    """Run a command; what it cannot use is reported in one line."""
    try:
        if args[:1] in (["--version"], ["-V"]):
            print(f"sigmascope {VERSION}")
            return 0
        if args[:1] in (["--help"], ["-h"]):
            print(overview())
            return 0
        name, command = _parse(args)
        if _many():
            return _together(name, command)
        return int(COMMANDS[name].run(command))
    except InputError as error:
        return _report(str(error), 2)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO):  # files are written by name
            raise
        name = " ".join(str(error.filename or "a file").split())
        return _report(f"{name}: {error.strerror or error}", 2)
    except MemoryError:
        return _report("out of memory: ask for fewer draws or images, or use a machine with more memory", 2)
    except RuntimeError as error:
        if "memory" not in str(error):  # torch reports a full GPU, and a full machine, as a RuntimeError
            raise
        return _report("out of memory: ask for fewer draws or images, or choose another --device", 2)
    except Stopped as error:
        return _report(str(error), 1)
    except KeyboardInterrupt:
        return _report("stopped: run the same command again to continue", 130, before="\n")


def _many() -> bool:
    """Whether this is one of several processes, as the environment that torchrun sets tells."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def _report(message: str, status: int, before: str = "") -> int:
    """Print how the run ended, on one rank of several; returns the status."""
    if _many():
        import sigmascope.distributed as distributed

        if not distributed.prints_the_end():
            return status
    message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)  # one line, whatever a name holds
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST - 300]} … {message[-300:]}"
    print(f"{before}sigmascope: {message}", file=sys.stderr)
    return status


def _together(name: str, command: Any) -> int:
    """A study or a training as one of the processes that torchrun has started."""
    import sigmascope.distributed as distributed

    if name not in ("study", "train"):
        raise InputError("only study and train run in several processes: start this command without torchrun")
    try:
        with distributed.joined():
            return int(COMMANDS[name].run(command))
    except Stopped as error:
        kept = any(any(Path(command.out).glob(p)) for p in ("checkpoint*.npz", "training*.safetensors"))
        where = f"the last checkpoint is in {command.out}; " if kept else ""
        raise Stopped(f"{error}: {where}run the same command again to continue") from error


def _parse(args: list[str]) -> tuple[str, Any]:
    """The name of the command, and its options."""
    if not args:
        raise InputError(f"no command is named: expected one of {', '.join(COMMANDS)}; see sigmascope --help")
    name, *options = args
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(COMMANDS)};"
        raise InputError(f"sigmascope has no command {name!r}: {hint} see sigmascope --help")
    default = COMMANDS[name].Command()
    if name == "study" and (file := _file_of(options)) is not None:
        default = COMMANDS[name].from_file(file)
    if name == "check":
        options, spoil = _without_break(options)
        default = replace(default, spoil=spoil)
    text, complaint = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(complaint):
            command: Any = tyro.cli(
                type(default),
                prog=f"sigmascope {name}",
                description=description(name),
                default=default,
                args=options,
                use_underscores=False,
            )
    except SystemExit as stop:
        if not stop.code:
            text.seek(0)
            print(_wrapped(text.read()))
        if stop.code == 2:
            problem = _first_line(complaint.getvalue()).rstrip(".")
            raise InputError(f"{problem}: see sigmascope {name} --help") from None
        raise
    return name, command


def _wrapped(text: str) -> str:
    """The help with its paragraphs as wide as its boxes; the parser leaves each in one line.  Commands stay whole."""
    lines = text.rstrip().splitlines()
    width = max([len(line) for line in lines if line.startswith("╭")], default=80)
    whole = re.compile(r"[╭│╰]|[^:]*: (sigmascope|torchrun) ")
    return "\n".join(
        line if whole.match(line) else textwrap.fill(line, width, break_on_hyphens=False) for line in lines
    )


def _file_of(args: Sequence[str]) -> str | None:
    """The file of ``--spec``, if one is named and no help is asked for."""
    given = [b for a, b in pairwise(args) if a == "--spec"]
    given += [a.removeprefix("--spec=") for a in args if a.startswith("--spec=")]
    return given[-1] if given and not {"-h", "--help"} & set(args) else None


def _without_break(args: list[str]) -> tuple[list[str], str]:
    """``check --break NAME`` corrupts an ingredient of a row, so that a test can see it fail; not in the help."""
    if "--break" not in args:
        return args, ""
    place = args.index("--break")
    if place + 1 == len(args):
        raise InputError("--break needs the name of a row of the table")
    return args[:place] + args[place + 2 :], args[place + 1]


def _first_line(box: str) -> str:
    """The first sentence of an error of the parser, which comes in a box of lines or of dashes, as one line."""
    ruled = re.split(r"\n(?:[^\n]*───[^\n]*|\s*---+\s*)(?=\n)", f"\n{box}\n")
    parts = [" ".join(re.sub(r"[│╭╮╰╯]", " ", part).split()) for part in ruled]
    sentences = [part for part in parts if part]
    titled = "───" not in box and len(sentences) > 1
    return sentences[1 if titled else 0] if sentences else "the command cannot be read"


if __name__ == "__main__":
    sys.exit(main())
