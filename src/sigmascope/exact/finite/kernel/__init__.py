"""The inner loops of the exact filter; nothing here is public.

``level_sums`` adds up what ``sums`` says, in the steps of ``with_numba`` (over ``simd``) or ``with_torch``; products by
class are those of ``class_sums``, and tiles run side by side by ``threads``.  ``projection_bounds`` and ``pairs`` (over
``pair_loops``) serve the screened denoiser.
"""

__all__: list[str] = []
