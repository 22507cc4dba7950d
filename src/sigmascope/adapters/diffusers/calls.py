"""What ``__call__`` of a pipeline's class of diffusers passes to its scheduler, read off its source."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from sigmascope.adapters.diffusers.folders import class_of
from sigmascope.core import InputError

_LISTS = ("mu", "sigmas", "timesteps")
"""What a scheduler can be given beside a number of steps."""
_RETRIEVE = ("scheduler", "num_inference_steps", "device", "timesteps", "sigmas")
"""Arguments of ``retrieve_timesteps`` in the modules of diffusers."""
_MOST_TOKENS = 4096
"""Tokens of the largest image of a network that pads all images to it (HiDream)."""
_CHANNELS = 16  # of latents, where no configuration says it


def pipeline_class(kind: object) -> type | None:
    """The class of diffusers with a name; None where it has none."""
    try:
        return class_of(kind) if isinstance(kind, str) else None
    except InputError:  # what the class is made of is missing here
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
    """The lists, and the logarithm of the shift, that a pipeline passes to its scheduler.

    The statements of ``__call__`` on which these depend are followed in their order, up to the first that sets the
    scheduler.  A statement that needs what only a run has is left out, and a branch whose condition does is not taken.

    Args:
        kind: name of the class.
        scheduler: of the pipeline.
        steps: of the sampler.
        tokens: of one image.
        sides: height and width in pixels; 0: the pipeline's own.
        config: settings of the pipeline.

    Returns: those of ``mu``, ``sigmas`` and ``timesteps`` that are passed and found; empty for an unknown class.
    """
    cls = pipeline_class(kind)
    if cls is None:
        return {}
    body = _body(kind)
    if not body:
        return {}
    parameters = inspect.signature(vars(_owner(cls))["__call__"]).parameters
    names = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
    names |= {n: s for n, s in zip(("height", "width"), sides, strict=True) if s}
    network = SimpleNamespace(max_seq=_MOST_TOKENS)
    own = SimpleNamespace(scheduler=scheduler, config=SimpleNamespace(**config), transformer=network, **_ratios(kind))
    names |= {n.id: tokens for s in body for n in ast.walk(s) if isinstance(n, ast.Name) and _counts_tokens(n.id)}
    names |= {"self": own, "num_inference_steps": steps}
    space = {**vars(sys.modules[cls.__module__]), **names}
    space["latents"] = _Latents(space, tokens, any("_pack" in n for n in dir(cls)))
    return _followed(body, space, _needed(body)) or {}


def _owner(cls: type) -> type:
    """The class that a class has its ``__call__`` of."""
    return next(c for c in cls.__mro__ if "__call__" in vars(c))


class _Latents:
    """The shape of the latents that a pipeline would have made, as far as it has come."""

    def __init__(self, space: Mapping[str, Any], tokens: int, packed: bool) -> None:
        self._space, self._tokens, self._packed = space, tokens, packed

    @property
    def shape(self) -> tuple[int, ...]:
        tokens = _of_video(self._space["self"], self._space) or self._tokens
        # One row of tokens, or, in classes that do not pack them, latents of which two by two make a token.
        return (1, tokens) if self._packed else (1, _CHANNELS, 2 * tokens, 2)


def _counts_tokens(name: str) -> bool:
    return name.endswith(("seq_len", "sequence_length")) and not name.startswith("max_")


def _ratios(kind: str | None) -> dict[str, int]:
    """By how much the autoencoder of videos shrinks them, as ``__init__`` of the class says it of its own kind."""
    found = {}
    for statement in _body(kind, "__init__"):
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.IfExp):
            target, usual = statement.targets[0], statement.value.orelse
            named = isinstance(target, ast.Attribute) and target.attr.endswith("compression_ratio")
            if named and isinstance(usual, ast.Constant) and isinstance(usual.value, int):
                found[ast.unparse(target).removeprefix("self.")] = usual.value
    return found


def _of_video(own: SimpleNamespace, names: Mapping[str, Any]) -> int:
    """Latents of a video of the pipeline's own length; 0 where it makes none."""
    given: list[Any] = [names.get(n) for n in ("num_frames", "height", "width")]
    ratios: list[Any] = [getattr(own, f"vae_{n}_compression_ratio", None) for n in ("temporal", "spatial")]
    if not all(isinstance(x, int) and x > 0 for x in (*given, *ratios)):
        return 0
    (frames, height, width), (along, across) = map(int, given), map(int, ratios)
    return ((frames - 1) // along + 1) * (height // across) * (width // across)


def _sets(node: ast.AST) -> ast.Call | None:
    """The call within a statement that sets the pipeline's scheduler."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            said = ast.unparse(call.func)
            if said == "self.scheduler.set_timesteps":
                return call
            given = call.args[0] if call.args else None
            if said == "retrieve_timesteps" and given is not None and ast.unparse(given) == "self.scheduler":
                return call
    return None


def _loaded(*nodes: ast.AST) -> set[str]:
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}


def _base(target: ast.expr) -> str | None:
    """The name that an assignment changes; of ``a["b"] = c`` it is a."""
    while isinstance(target, ast.Subscript):
        target = target.value
    return target.id if isinstance(target, ast.Name) else None


def _needed(body: tuple[ast.stmt, ...]) -> set[str]:
    """The names on which the setting of the scheduler depends."""
    inner = [n for s in body for n in ast.walk(s)]
    calls = [n for n in inner if isinstance(n, ast.Call) and _sets(n) is n]
    last = max((c.lineno for c in calls), default=0)
    inner = [n for n in inner if isinstance(n, (ast.Assign, ast.If)) and n.lineno < last]
    found = set[str]().union(*(_loaded(*c.args, *c.keywords) for c in calls))
    while True:
        more = set(found)
        for node in inner:
            if isinstance(node, ast.Assign) and any(_base(t) in found for t in node.targets):
                more |= _loaded(node.value)
            elif isinstance(node, ast.If) and _matters(node, found):
                more |= _loaded(node.test)
        if more == found:
            return found - {"self"}
        found = more


def _matters(node: ast.If, needed: set[str]) -> bool:
    """Whether a branch sets the scheduler, or a name that it depends on."""
    return any(
        _sets(s) is not None
        or any(isinstance(n, ast.Assign) and any(_base(t) in needed for t in n.targets) for n in ast.walk(s))
        for s in (*node.body, *node.orelse)
    )


def _plain(body: tuple[ast.stmt, ...] | list[ast.stmt], space: dict[str, Any]) -> Iterator[ast.stmt]:
    """The statements that a run comes to, with those of the branches that it takes."""
    for statement in body:
        if isinstance(statement, ast.If):
            try:
                taken = bool(_value(statement.test, space))
            except Exception:  # it needs what only a run of the pipeline has
                taken = False
            yield from _plain(statement.body if taken else statement.orelse, space)
        elif isinstance(statement, (ast.With, ast.For)):
            yield from _plain(statement.body, space)
        else:
            yield statement


def _value(expression: ast.expr, space: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(expression), "<diffusers>", "eval"), space)  # diffusers' own code


def _followed(body: tuple[ast.stmt, ...], space: dict[str, Any], needed: set[str]) -> dict[str, Any] | None:
    for statement in _plain(body, space):
        call = _sets(statement)
        if call is not None:
            return _arguments(call, space)
        if isinstance(statement, ast.Assign) and any(_base(t) in needed for t in statement.targets):
            try:
                code = compile(ast.Module([statement], []), "<diffusers>", "exec")
                exec(code, space)  # diffusers' own code
            except Exception:  # it needs what only a run of the pipeline has: what stood before stands
                continue
    return None


def _arguments(call: ast.Call, space: dict[str, Any]) -> dict[str, Any]:
    """The lists of a call that sets a scheduler, and its shift."""
    own = space["self"].scheduler.set_timesteps
    places = _RETRIEVE if isinstance(call.func, ast.Name) else tuple(inspect.signature(own).parameters)
    given = dict(zip(places, call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
    found = dict[str, Any]()
    for keyword in call.keywords:
        if keyword.arg is None:  # a dictionary of more
            try:
                found |= _value(keyword.value, space)
            except Exception:
                continue
    for name in _LISTS:
        if name in given:
            try:
                found[name] = _value(given[name], space)
            except Exception:  # it needs what only a run of the pipeline has
                continue
    return {n: found[n] for n in _LISTS if found.get(n) is not None}
