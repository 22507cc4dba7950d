"""How much memory there is, and a refusal before work starts when it is too little."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from sigmascope import ranks
from sigmascope.core import InputError


def available_bytes() -> int:
    """Memory that a process may still take: of the machine, or of its control group where that allows less."""
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


def require(needed: int, what: str, remedy: str) -> None:
    """Raise InputError if ``needed`` bytes are not available, to this rank and the others of its machine together.

    Every rank must call it.
    """
    free, machine = available_bytes(), platform.node()
    needed = sum(n for n, m in ranks.gathered((needed, machine)) if m == machine)
    free = min(f for f, m in ranks.gathered((free, machine)) if m == machine)
    if needed > free:
        raise InputError(f"{what} needs {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB is free: {remedy}")
