"""The inner loops of the exact filter; nothing here is public.

``level_sums`` adds tiles to the sums of ``sums`` with the steps of ``with_numba`` (over ``simd``) or ``with_torch``;
``class_sums`` makes products by class, and ``threads`` runs tiles side by side.  ``projection_bounds`` and ``pairs``
(over ``pair_loops``) serve the screened denoiser.
"""

__all__: list[str] = []
