"""Functions of the user that are named ``module:function`` on the command line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

from sigmascope.core import InputError


def function_named(name: str, role: str) -> Callable[..., object]:
    """The function ``module:function`` of the user; the working folder is searched first.

    Args:
        name: of the function.
        role: what it is for, e.g. ``labeller``, for messages.

    Raises: InputError, in one line, where it cannot be imported or is no function.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise InputError(f"{role} is {name!r}: expected module:function, e.g. mine:{role}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function: object = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(f"{role} {name!r} cannot be imported ({error}): run in the folder of {module}.py") from error
    except (Exception, SystemExit) as error:  # a module of the user may raise anything while it is imported
        raise InputError(f"{role} {name!r}: its module raised {in_short(error)} while it was imported") from error
    if not callable(function):
        raise InputError(f"{role} {name!r} is a {type(function).__name__}: expected a function")
    return function


def in_short(error: BaseException) -> str:
    """The type and the message of an exception, in one line of 300 characters at most."""
    message = " ".join(str(error).split())
    words = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return words if len(words) <= 300 else f"{words[:299]}…"
