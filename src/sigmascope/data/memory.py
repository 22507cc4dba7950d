"""The memory of the machine, and a refusal of data that do not fit into it before they are read."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import sigmascope.distributed as distributed
from sigmascope.core import InputError

_LIBRARIES = 420_000_000  # bytes of an interpreter with torch and numba, where the system gives no number


def available_bytes() -> int:
    """Bytes that a process may still take: of the machine, or of its control group where that allows less."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: the machine's whole memory is the best bound known
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue
    return max(free, 0)


def held_bytes() -> tuple[int, int]:
    """Bytes that this process holds now, libraries included, and the most that it has held."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        now, peak = (int(status.split(f"{name}:")[1].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return now, max(now, peak)
    except (OSError, IndexError, ValueError):
        pass  # not Linux
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return peak, peak
    except ImportError:  # Windows
        return _LIBRARIES, _LIBRARIES


def require(needed: int, purpose: str, remedy: str) -> None:
    """Refuse to take more bytes than are free, on this rank and the others of its machine; every rank must call it."""
    free, machine = available_bytes(), platform.node()
    needed = sum(n for n, m in distributed.gathered((needed, machine)) if m == machine)
    free = min(f for f, m in distributed.gathered((free, machine)) if m == machine)
    if needed > free:
        raise InputError(f"{purpose} needs {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB is free: {remedy}")
