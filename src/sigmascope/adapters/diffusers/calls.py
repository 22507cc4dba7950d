"""The arguments that ``__call__`` of a pipeline's class of diffusers passes to its scheduler, from its source."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from sigmascope.adapters.diffusers.folders import class_of
from sigmascope.core import InputError

_LISTS = ("mu", "sigmas", "timesteps")  # arguments of a scheduler besides the number of steps
_RETRIEVE = ("scheduler", "num_inference_steps", "device", "timesteps", "sigmas")  # of ``retrieve_timesteps``
_MOST_TOKENS = 4096  # of the largest image of a network that pads all images to it (HiDream)
_CHANNELS = 16  # of latents, where no configuration gives them


def pipeline_class(kind: object) -> type | None:
    """The class of diffusers with a name; None where there is none, or a library that it needs is missing."""
    try:
        return class_of(kind) if isinstance(kind, str) else None
    except InputError:
        return None


@functools.cache
def source_of(kind: str | None, method: str = "__call__") -> str:
    """The source of a method of a class of diffusers; empty where there is none."""
    cls = pipeline_class(kind)
    try:
        return textwrap.dedent(inspect.getsource(getattr(cls, method))) if cls is not None else ""
    except (OSError, TypeError, AttributeError):
        return ""


@functools.cache
def _body(kind: str | None, method: str = "__call__") -> tuple[ast.stmt, ...]:
    try:
        tree = ast.parse(source_of(kind, method))
    except SyntaxError:
        return ()
    return tuple(tree.body[0].body) if tree.body and isinstance(tree.body[0], ast.FunctionDef) else ()


def passed(
    kind: str | None, scheduler: Any, steps: int, tokens: int, sides: tuple[int, int], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The lists, and the logarithm of the shift, that a pipeline passes to its scheduler; empty for an unknown class.

    The statements of ``__call__`` on which these depend are executed in their order, up to the first that sets the
    scheduler.  A statement that needs values which exist only in a run is skipped, and so is a branch whose condition
    needs them.
    """
    cls, body = pipeline_class(kind), _body(kind)
    if cls is None or not body:
        return {}
    owner = next(c for c in cls.__mro__ if "__call__" in vars(c))
    parameters = inspect.signature(vars(owner)["__call__"]).parameters
    names = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
    names |= {n: s for n, s in zip(("height", "width"), sides, strict=True) if s}
    counts = [n for n in _names(*body) if n.endswith(("seq_len", "sequence_length")) and not n.startswith("max_")]
    names |= dict.fromkeys(counts, tokens)
    network = SimpleNamespace(max_seq=_MOST_TOKENS)
    own = SimpleNamespace(scheduler=scheduler, config=SimpleNamespace(**config), transformer=network, **_ratios(kind))
    space = {**vars(sys.modules[cls.__module__]), **names, "self": own, "num_inference_steps": steps}
    space["latents"] = _Latents(space, tokens, any("_pack" in n for n in dir(cls)))
    needed = _needed(body)
    for statement in _executed(body, space):
        call = _setting_call(statement)
        if call is not None:
            return _arguments(call, space)
        if isinstance(statement, ast.Assign) and _assigns(statement, needed):
            try:
                exec(compile(ast.Module([statement], []), "<diffusers>", "exec"), space)  # diffusers' own code
            except Exception:  # it needs a value of a run: the names keep their values
                continue
    return {}


class _Latents:
    """The shape that the latents of a pipeline would have, given the names that are assigned so far."""

    def __init__(self, space: Mapping[str, Any], tokens: int, packed: bool) -> None:
        self._space, self._tokens, self._packed = space, tokens, packed

    @property
    def shape(self) -> tuple[int, ...]:
        tokens = _video_latents(self._space) or self._tokens
        # One row of tokens, or, in classes that do not pack them, latents of which two by two make a token.
        return (1, tokens) if self._packed else (1, _CHANNELS, 2 * tokens, 2)


def _ratios(kind: str | None) -> dict[str, int]:
    """Compression ratios of the autoencoder of videos, from the defaults in ``__init__`` of the class."""
    ratios = {}
    for statement in _body(kind, "__init__"):
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.IfExp):
            target, default = statement.targets[0], statement.value.orelse
            named = isinstance(target, ast.Attribute) and target.attr.endswith("compression_ratio")
            if named and isinstance(default, ast.Constant) and isinstance(default.value, int):
                ratios[ast.unparse(target).removeprefix("self.")] = default.value
    return ratios


def _video_latents(space: Mapping[str, Any]) -> int:
    """Number of latents of a video of the pipeline's default length; 0 where it makes no videos."""
    sizes: list[Any] = [space.get(n) for n in ("num_frames", "height", "width")]
    ratios: list[Any] = [getattr(space["self"], f"vae_{n}_compression_ratio", None) for n in ("temporal", "spatial")]
    if not all(isinstance(x, int) and x > 0 for x in (*sizes, *ratios)):
        return 0
    (frames, height, width), (temporal, spatial) = map(int, sizes), map(int, ratios)
    return ((frames - 1) // temporal + 1) * (height // spatial) * (width // spatial)


def _setting_call(node: ast.AST) -> ast.Call | None:
    """The call within a statement that sets the pipeline's scheduler."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            function = ast.unparse(call.func)
            first = ast.unparse(call.args[0]) if call.args else ""
            if function == "self.scheduler.set_timesteps" or (function, first) == (
                "retrieve_timesteps",
                "self.scheduler",
            ):
                return call
    return None


def _names(*nodes: ast.AST) -> set[str]:
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}


def _assigns(statement: ast.Assign, names: set[str]) -> bool:
    """Whether an assignment changes one of some names; ``a["b"] = c`` changes a."""
    for target in statement.targets:
        while isinstance(target, ast.Subscript):
            target = target.value
        if isinstance(target, ast.Name) and target.id in names:
            return True
    return False


def _needed(body: tuple[ast.stmt, ...]) -> set[str]:
    """The names on which the arguments of the scheduler depend."""
    nodes = [n for s in body for n in ast.walk(s)]
    calls = [n for n in nodes if isinstance(n, ast.Call) and _setting_call(n) is n]
    last = max((c.lineno for c in calls), default=0)
    nodes = [n for n in nodes if isinstance(n, (ast.Assign, ast.If)) and n.lineno < last]
    needed, before = set[str]().union(*(_names(*c.args, *c.keywords) for c in calls)), set[str]()
    while needed != before:
        before = set(needed)
        for node in nodes:
            if isinstance(node, ast.Assign) and _assigns(node, before):
                needed |= _names(node.value)
            elif isinstance(node, ast.If) and _matters(node, before):
                needed |= _names(node.test)
    return needed - {"self"}


def _matters(node: ast.If, needed: set[str]) -> bool:
    """Whether a branch sets the scheduler, or a name that it depends on."""
    statements = (*node.body, *node.orelse)
    inner = (n for s in statements for n in ast.walk(s))
    return any(map(_setting_call, statements)) or any(isinstance(n, ast.Assign) and _assigns(n, needed) for n in inner)


def _executed(body: Iterable[ast.stmt], space: dict[str, Any]) -> Iterator[ast.stmt]:
    """The statements that a run reaches, with those of the branches that it takes."""
    for statement in body:
        if isinstance(statement, ast.If):
            try:
                taken = bool(_value(statement.test, space))
            except Exception:  # it needs a value of a run
                taken = False
            yield from _executed(statement.body if taken else statement.orelse, space)
        elif isinstance(statement, (ast.With, ast.For)):
            yield from _executed(statement.body, space)
        else:
            yield statement


def _value(expression: ast.expr, space: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(expression), "<diffusers>", "eval"), space)  # diffusers' own code


def _arguments(call: ast.Call, space: dict[str, Any]) -> dict[str, Any]:
    """The lists and the shift in a call that sets a scheduler."""
    own = space["self"].scheduler.set_timesteps
    parameters = _RETRIEVE if isinstance(call.func, ast.Name) else tuple(inspect.signature(own).parameters)
    given = dict(zip(parameters, call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
    expressions = [k.value for k in call.keywords if k.arg is None]  # of dictionaries of arguments
    expressions += [ast.Dict([ast.Constant(n)], [given[n]]) for n in _LISTS if n in given]
    arguments = dict[str, Any]()
    for expression in expressions:
        try:
            arguments |= _value(ast.fix_missing_locations(expression), space)
        except Exception:  # it needs a value of a run
            continue
    return {n: arguments[n] for n in _LISTS if arguments.get(n) is not None}
