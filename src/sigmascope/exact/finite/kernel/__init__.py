"""Kernels of the exact filter, in numba, with SIMD, and in torch; nothing of them is public."""

from __future__ import annotations

__all__: list[str] = []
