"""Checks of a pipeline's folder before anything of it is loaded; code in a folder is never run.

A pipeline is a folder of this machine, or ``hub:owner/name`` on a hub; only the latter needs the network.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import logging
import math
import re
import struct
import warnings
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from sigmascope.adapters.diffusers.kinds import own_class
from sigmascope.adapters.diffusers.settings import MOST_NUMBER, check_numbers, check_types, short
from sigmascope.adapters.naming import HUB, INDEX, PIPELINE
from sigmascope.core import InputError

LIBRARIES = ("diffusers", "transformers")
"""Libraries whose classes a pipeline may use."""
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_CONFIGS = ("config.json", "scheduler_config.json")
_OF_TEXT = ("tokenizer_config.json", "preprocessor_config.json")
_MOST_BYTES = 1 << 26  # of a configuration
MOST_VALUES = 1 << 27
"""Largest number of values of one item of a network."""
_SPARE_NUMBERS, _SPARE_TENSORS = 1 << 20, 1000  # which a network may hold besides those of its files


def hub_id(model: str) -> str | None:
    """The id after ``hub:``; None for a folder; InputError for an id of another form than owner/name."""
    name = model.removeprefix(PIPELINE)
    if not name.startswith(HUB):
        return None
    repository = name.removeprefix(HUB)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repository):
        raise InputError(f"{model}: {repository!r} is no id of a hub: expected hub:owner/name")
    return repository


def folder_of(model: str | Path) -> Path:
    """The folder of a pipeline; InputError where there is none."""
    name = str(model).removeprefix(PIPELINE)
    if not Path(name).is_dir():
        hint = f"; a pipeline of the hub is written hub:{name}" if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) else ""
        problem = "it is a file, no folder" if Path(name).exists() else "there is no such folder"
        raise InputError(f"{name}: {problem}: pass one that save_pretrained has written{hint}")
    return Path(name)


def described(model: str | Path) -> Path:
    """A folder with a pipeline's index and configurations, which are all that is fetched for ``hub:owner/name``."""
    repository = hub_id(str(model))
    if repository is None:
        return folder_of(model)
    with in_one_line(str(model), "the hub does not give it"):
        from huggingface_hub import snapshot_download

        wanted = [INDEX, *_CONFIGS, *(f"*/{name}" for name in _CONFIGS)]
        return Path(snapshot_download(repository, allow_patterns=wanted))


def line_of(error: BaseException) -> str:
    """The message of an exception as one line, of 300 characters at most."""
    message = " ".join(str(error).split())
    return (message if len(message) <= 300 else f"{message[:299]}…") or type(error).__name__


@contextlib.contextmanager
def in_one_line(name: str, problem: str) -> Iterator[None]:
    """Turn exceptions of other libraries about a pipeline, but not MemoryError, into an InputError of one line."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged files and senseless settings make libraries raise anything
        raise InputError(f"{name}: {problem} ({line_of(error)})") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence messages, warnings and progress bars of diffusers and transformers."""
    bars: list[Any] = []
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            bars.append(importlib.import_module(f"{name}.utils.logging"))  # the import sets the level of the logger
    logs = [logging.getLogger(n) for n in LIBRARIES]
    levels = [log.level for log in logs]
    shown = [bar for bar in bars if getattr(bar, "is_progress_bar_enabled", lambda: True)()]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL)
        for bar in shown:
            bar.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        for bar in shown:
            bar.enable_progress_bar()


def read_config(path: Path, *, numbers: bool = True) -> dict[str, Any]:
    """A configuration; InputError for a file that cannot be read or is no JSON object.

    With ``numbers``, NaN is refused, and so are whole numbers so large that they would take all memory.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ValueError(f"it has {size:,} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise InputError(f"{path}: it is nested too deeply: expected the settings of a pipeline") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({line_of(error)}): expected JSON") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: it holds a {type(config).__name__}: expected a JSON object of settings")
    if numbers:
        check_numbers(config, str(path))
    return config


def checked_index(folder: Path) -> dict[str, Any]:
    """The contents of the index of a pipeline's folder; InputError where there is none."""
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"{folder}: it holds no {INDEX}: pass the folder of a pipeline by save_pretrained")
    return read_config(index)


def part_of(index: Mapping[str, Any], part: str) -> tuple[str, str] | None:
    """Library and class of a part of a pipeline; None where it has none."""
    home = index.get(part)
    if isinstance(home, (list, tuple)) and len(home) == 2 and all(isinstance(x, str) for x in home):
        return home[0], home[1]
    return None


def parts_of(index: Mapping[str, Any]) -> dict[str, str]:
    """The class of each part of a pipeline, by the part's name."""
    return {part: home[1] for part in index if not part.startswith("_") and (home := part_of(index, part))}


def home_of(folder: Path, part: str) -> Path:
    """The folder of a part of a pipeline: one of its name, or, in old pipelines of one network, that of the index."""
    own = folder / part
    return folder if not own.exists() and (folder / _CONFIGS[part == "scheduler"]).is_file() else own


def check_folder(folder: Path, allow_pickle: bool, variant: str, without: Container[str] = ()) -> None:
    """Refuse a folder that holds code, pickles, weights of another variant, or no pipeline of diffusers.

    Parts in ``without`` are not loaded and not checked.  An empty variant stands for the default weights.
    """
    index = checked_index(folder)
    modules = _modules(index.get("_class_name"), folder)
    if (folder / "None.py").exists():  # old versions of diffusers would run it
        raise InputError(f"{folder}: it holds code of its own (None.py), which is not run: remove that file")
    for part, home in index.items():
        pair = home if isinstance(home, list) and len(home) == 2 else [None, None]
        named = part in modules or any(isinstance(x, str) for x in pair)
        absent = isinstance(home, list) and len(home) == 2 and home[0] is None
        if not part.startswith("_") and part not in without and named and not absent:
            library, kind = _checked_home(folder, index, part)
            _check_part(home_of(folder, part), library, kind, allow_pickle, variant)


def _checked_home(folder: Path, index: Mapping[str, Any], part: str) -> tuple[str, str]:
    """Library and class of a part; InputError where they may not be loaded."""
    home = part_of(index, part)
    if home is None:
        raise InputError(f"{folder / INDEX}: {part} is {short(index[part])}: expected a library and a class")
    library, kind = home
    if library not in LIBRARIES and own_class(kind, library) is None:
        raise InputError(
            f"{folder}: its {part} is code of its own ({library}), which is not run: expected a class of "
            f"{' or '.join(LIBRARIES)}"
        )
    if not kind.isidentifier() or kind.endswith("Pipeline"):
        raise InputError(f"{folder / INDEX}: {part} is a {kind!r}: expected a network, a scheduler or the like")
    return home


def _modules(kind: Any, folder: Path) -> set[str]:
    """Names of the parts of a class of pipelines of diffusers; InputError for another class."""
    if not isinstance(kind, str):
        raise InputError(f"{folder / INDEX}: _class_name is {short(kind)}: expected the name of one of diffusers")
    import diffusers

    cls = class_of(kind)
    if cls is None or not issubclass(cls, diffusers.DiffusionPipeline):
        raise InputError(
            f"{folder / INDEX}: _class_name is {kind!r}: diffusers {diffusers.__version__} has no such pipeline"
        )
    own = inspect.signature(cls).parameters.values()
    return {p.name for p in own if p.default is p.empty} | set(getattr(cls, "_optional_components", ()))


def _check_part(folder: Path, library: str, kind: str, allow_pickle: bool, variant: str) -> None:
    """Check the folder, the configuration and the weights of a part."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {INDEX} names this part, and it is no folder: pass the folder of a whole pipeline")
    code = sorted(p.name for p in folder.glob("*.py"))
    nested = (folder / INDEX).exists() and (folder.parent / INDEX).exists()
    if code or nested:
        file = (*code, INDEX)[0]
        raise InputError(f"{folder}: it holds code of its own ({file}), which is not run: remove that file")
    made = class_of(kind) if library == LIBRARIES[0] else own_class(kind, library)
    for name in (*_CONFIGS, *_OF_TEXT):
        if (folder / name).exists():
            _check_config(folder / name, made if name in _CONFIGS else None, numbers=name in _CONFIGS)
    _check_files(folder, allow_pickle, variant)


def _check_config(path: Path, made: type | None, *, numbers: bool) -> None:
    """Check the configuration of a part, whose class may be known."""
    config = read_config(path, numbers=numbers)
    for key in ("auto_map", "_attn_implementation_internal"):
        if config.get(key):
            raise InputError(f"{path}: it names code of its own ({key}), which is not run: leave it out")
    if made is not None:
        check_types(config, made, str(path))
        channels, side = config.get("in_channels"), config.get("sample_size")
        if isinstance(channels, int) and isinstance(side, int) and channels * side**2 > MOST_VALUES:
            raise InputError(f"{path}: sample_size is {side}, of {channels} channels: it is too large")


def _check_files(folder: Path, allow_pickle: bool, variant: str) -> None:
    """Check the files of weights of a part: no pickles where they are not allowed, and the requested variant."""
    files = [p for p in folder.glob("*") if p.suffix in (".safetensors", *_PICKLES)]
    safe = [p for p in files if p.suffix == ".safetensors"]
    if files and not safe and not allow_pickle:
        kinds = ", ".join(sorted({p.suffix for p in files}))
        raise InputError(
            f"{folder}: its weights are pickles ({kinds}), which can run any code: convert them to safetensors, or "
            "pass --allow-pickle if you trust where they come from"
        )
    variants = {_variant(p) for p in (files if allow_pickle else safe)}
    if variants and not variants & {"", variant}:
        other = ", ".join(sorted(variants))
        raise InputError(f"{folder}: it has weights of the variant {other} alone: pass --variant {sorted(variants)[0]}")


def class_of(kind: str) -> type | None:
    """A class of diffusers or of a registered kind, by its name; None where there is none."""
    with quiet(), in_one_line(kind, "diffusers cannot give it"):
        import diffusers

        cls = (getattr(diffusers, kind, None) if kind.isidentifier() else None) or own_class(kind)
        return cls if isinstance(cls, type) else None


def _variant(weights: Path) -> str:
    """The variant in the name of a file, such as ``fp16`` in ``model.fp16.safetensors``."""
    return re.sub(r"-\d+-of-\d+", "", weights.name.removesuffix(weights.suffix)).partition(".")[2]


@contextlib.contextmanager
def within_its_files(folder: Path) -> Iterator[None]:
    """Refuse networks of more than twice the size of the weights in a folder, before their memory is touched."""
    files = [p for p in (*folder.glob("*"), *folder.glob("*/*")) if p.suffix in (".safetensors", *_PICKLES)]
    sizes = [_sizes(p) for p in files if p.is_file()]
    tensors, numbers = (sum(s[i] for s in sizes) for i in (0, 1))
    left = [2 * tensors + _SPARE_TENSORS, 2 * numbers + _SPARE_NUMBERS]

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        left[0] -= 1
        left[1] -= 0 if parameter is None else parameter.numel()
        if min(left) < 0:
            raise InputError(
                f"{folder}: its configurations ask for more than twice the {numbers:,} numbers that its weights hold: "
                "restore the configuration that belongs to the weights"
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _sizes(weights: Path) -> tuple[int, int]:
    """Upper bounds of the number of tensors and of numbers in a file of weights."""
    size = weights.stat().st_size
    if weights.suffix != ".safetensors":
        return MOST_NUMBER, size
    tensors = _tensor_sizes(weights)
    return (_SPARE_TENSORS, size) if tensors is None else (len(tensors), min(sum(tensors.values()), size))


def _tensor_sizes(weights: Path) -> dict[str, int] | None:
    """Number of elements of each tensor, from the head of a file of safetensors; None for another file."""
    try:
        with weights.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            head = json.loads(file.read(min(length, weights.stat().st_size)))
        return {name: math.prod(x["shape"]) for name, x in head.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError):
        return None  # the file is refused when it is read


def check_weights(part: Path, module: nn.Module, variant: str, *, whole: bool) -> None:
    """Refuse a network whose weights are of another network: diffusers fills tensors that they lack at random.

    With ``whole``, the network must also use all weights.
    """
    files = [p for p in part.glob("*.safetensors") if p.is_file()]
    chosen = [p for p in files if _variant(p) == variant] or [p for p in files if not _variant(p)]
    heads = [_tensor_sizes(p) for p in chosen]
    if not heads or None in heads:
        return
    stored = {name: n for head in heads if head for name, n in head.items()}
    own = {name: x.numel() for name, x in module.state_dict().items()}
    if sum(stored.values()) == sum(own.values()):  # old weights have other names
        return
    lacking, unused = [n for n in own if n not in stored], [n for n in stored if n not in own]
    if lacking or (whole and unused):
        problem = f"lack {lacking[0]!r}" if lacking else f"hold {unused[0]!r}, which the network does not have"
        raise InputError(
            f"{part}: its weights {problem}: they are of another network than its configuration says; restore the "
            "configuration that belongs to them"
        )
