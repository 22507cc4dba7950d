"""A CUDA device that is only pretended: its tensors hold real numbers on the CPU and refuse what a GPU's would refuse.

Inside :func:`pretended_cuda` a tensor that is made on ``cuda`` or moved there says that its device is ``cuda:0``.
Every operation computes on the CPU, so that values, shapes and control flow are those of a CPU run, but it raises

- where tensors on different devices meet, except where CUDA lets them: a CPU scalar in a pointwise operation, CPU
  indices, and copies from device to device;
- where a tensor that is not on the CPU becomes a numpy array;
- where a generator on the CPU draws numbers on the device.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda", 0)
META = torch.device("meta", 7)
"""What torch's own code takes a pretended tensor to be on: no backend is needed for it, and nobody else uses 7."""
CPU = torch.device("cpu")
aten = torch.ops.aten

_COPIES = {aten.copy_, aten.copy, aten._to_copy, aten.to}  # of any devices
_INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
_WITH_SCALARS = {  # beside those that torch tags as pointwise
    aten.where, aten.masked_fill, aten.masked_fill_, aten.fill, aten.fill_, aten.clamp, aten.clamp_min, aten.clamp_max,
    aten.clamp_, aten.lerp, aten.lerp_, aten.index_fill, aten.index_fill_, aten._foreach_mul_, aten._foreach_div_,
    aten._foreach_add_, aten._foreach_addcdiv_, aten._foreach_lerp_,
}  # fmt: skip
_NAMING = {torch.device, torch.random.fork_rng, torch.get_device_module}  # these name a device and compute nothing
_FROM_DATA = {torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor}


class DeviceError(RuntimeError):
    """What CUDA would refuse."""


class Pretended(torch.Tensor):
    """A tensor with numbers on the CPU that says it is on ``cuda:0``."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Pretended:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=META, requires_grad=False,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def numpy(self, *args, **kwargs):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first")

    def data_ptr(self):
        raise DeviceError("a pointer to memory of cuda:0 was asked for")

    def tolist(self):
        return self.inner.tolist()

    def __deepcopy__(self, memo):
        made = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    def __repr__(self, *, tensor_contents=None):
        return f"on cuda:0 {self.inner!r}"


def _is_pretended(device) -> bool:
    return torch.device(device) in (META, CUDA)


def inner(x):
    """The value with each pretended tensor replaced by the one on the CPU."""
    return tree_map_only(Pretended, lambda t: t.inner, x)


def _compute(func, args, kwargs):
    """An operation on the CPU, checked, with its result on the device where CUDA would put it."""
    _check(func, args, kwargs)
    packet, device = func.overloadpacket, kwargs.get("device")
    if packet is aten._fused_sdp_choice:
        return 0  # attention in plain operations: the fused ones are those of a backend
    moved = any(isinstance(t, Pretended) for t in tree_leaves((args, kwargs)))
    there = moved if device is None else _is_pretended(device)
    called = inner(kwargs)
    if device is not None and there:
        called["device"] = CPU
    if packet is aten._to_copy and "non_blocking" in called:
        called["non_blocking"] = False
    out = func(*inner(args), **called)
    written = [(args[i] if i < len(args) else kwargs.get(a.name)) for i, a in enumerate(func._schema.arguments)
               if a.alias_info is not None and a.alias_info.is_write]  # fmt: skip
    if written and func._schema.returns:
        return written[0] if len(func._schema.returns) == 1 else tuple(written)
    return tree_map_only(torch.Tensor, Pretended, out) if there else out


def _check(func, args, kwargs) -> None:
    """Refuse what CUDA refuses."""
    packet, leaves = func.overloadpacket, [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = [t for t in leaves if isinstance(t, Pretended)]
    here = [t for t in leaves if not isinstance(t, Pretended)]
    device, drawn = kwargs.get("device"), kwargs.get("generator")
    drawn = drawn or next((x for x in args if isinstance(x, torch.Generator)), None)
    on_device = bool(there) if device is None else _is_pretended(device)
    if drawn is not None and on_device:
        raise DeviceError(f"{func}: expected a 'cuda' device type for generator but found 'cpu'")
    if not there or not here or packet in _COPIES:
        return
    if packet in _INDEXED and isinstance(args[0], Pretended):  # indices may be on the CPU, values of one number too
        values = args[2] if len(args) > 2 and isinstance(args[2], torch.Tensor) else None
        if values is None or isinstance(values, Pretended) or values.ndim == 0:
            return
    scalars = all(t.ndim == 0 for t in here)
    pointwise = torch.Tag.pointwise in func.tags or packet in _WITH_SCALARS
    into_cpu = func._schema.is_mutable and isinstance(args[0], torch.Tensor) and not isinstance(args[0], Pretended)
    if not (scalars and pointwise) or into_cpu:
        shapes = ", ".join(f"{tuple(t.shape)} on {t.device}" for t in leaves)
        raise DeviceError(f"{func}: expected all tensors to be on the same device, but found {shapes}")


class Seen:
    """How often each operation was computed, by its name, on the device and on the CPU."""

    def __init__(self) -> None:
        self.there: Counter[str] = Counter()
        self.here: Counter[str] = Counter()


class _Dispatch(TorchDispatchMode):
    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        there = any(isinstance(t, Pretended) for t in tree_leaves((args, kwargs)))
        (self.seen.there if there else self.seen.here)[func.overloadpacket.__name__] += 1
        return _compute(func, args, kwargs or {})


def _is_cuda(x) -> bool:
    if isinstance(x, str):
        return x == "cuda" or x.startswith("cuda:")
    return isinstance(x, torch.device) and x.type == "cuda"


class _Names(TorchFunctionMode):
    """Calls of torch from Python, with ``cuda`` replaced by the device that torch's own code knows."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.cuda:
            return args[0].to(META)
        if func in _FROM_DATA:
            return self._from_data(func, list(args), dict(kwargs))
        if func not in _NAMING:
            args = tuple(META if _is_cuda(x) else x for x in args)
            kwargs = {k: META if _is_cuda(x) else x for k, x in kwargs.items()}
        return func(*args, **kwargs)

    @staticmethod
    def _from_data(func, args, kwargs):
        """Numbers of Python are laid on the CPU first: on its own device torch would not keep them."""
        device = kwargs.pop("device", None)
        if func is torch.Tensor.new_tensor:
            like, func = args.pop(0), torch.tensor
            device = device or like.device
            kwargs.setdefault("dtype", like.dtype)
        data = args.pop(0) if args else kwargs.pop("data")
        device = META if _is_cuda(device) else device
        if isinstance(data, torch.Tensor):
            kept = data.detach().clone() if func is torch.tensor else data
            where = device or (META if data.is_cuda else CPU)
            return kept.to(device=where, dtype=kwargs.get("dtype") or (args[0] if args else data.dtype))
        made = func(tree_map_only(Pretended, lambda t: t.item(), data), *args, **kwargs)
        return made if device is None else made.to(device)


@contextlib.contextmanager
def pretended_cuda() -> Iterator[Seen]:
    """A context in which there is one CUDA GPU, pretended; it gives what is computed there."""
    seen = Seen()
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "synchronize": None, "empty_cache": None,
        "get_device_name": "pretended", "mem_get_info": (1 << 36, 1 << 37), "is_initialized": True,
        "is_bf16_supported": True,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *a, _answer=answer, **k: _answer))
        stack.enter_context(_Dispatch(seen))
        stack.enter_context(_Names())
        yield seen
