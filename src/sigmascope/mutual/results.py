"""The information of two arrays as it was measured, and what speaks against it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["MutualInformation", "Way"]


@dataclass(frozen=True)
class Way:
    """What the denoiser of one array measured.

    Attributes:
        noised: the array that noise was added to, "x" or "y".
        score: the score gap in nats; noise of the network makes it too large.
        mmse: the gap of squared errors; every error of the conditional network makes it too small.
        mean: their mean, which is free of the network's noise.
        sigma: noise levels, in standard deviations of the array.
        rate: -dI/d ln sigma by the score gap and by the gap of squared errors.
    """

    noised: str
    score: float
    mmse: float
    mean: float
    sigma: Float[np.ndarray, " levels"]
    rate: Float[np.ndarray, "2 levels"]


@dataclass(frozen=True)
class MutualInformation:
    """I(X; Y), or I(X; Y | Z), of two arrays of samples, in nats.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end.  The interval is the 95 % interval of sampling, widened by what the measures differ by.
        stderr: standard error of sampling and of the trainings.
        lower_bound: a contrastive bound on held-out samples; NaN where there is none.
        lower_bound_stderr: its standard error.
        linear: the part that canonical correlations of the normal scores see.
        method: "diffusion", or "counts" where all columns are classes.
        ways: what the denoiser of each array measured; empty for counts.
        doubts: why the estimate may be biased; empty: it is trusted.
        samples: number of samples.
        widths: columns of x, y and z.
        seconds: of the computation.
    """

    value: float
    low: float
    high: float
    stderr: float
    lower_bound: float
    lower_bound_stderr: float
    linear: float
    method: str
    ways: tuple[Way, ...]
    doubts: tuple[str, ...]
    samples: int
    widths: tuple[int, int, int]
    seconds: float

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the interval."""
        return not self.doubts

    @property
    def verdict(self) -> str:
        """One sentence: trusted, or why the estimate may be biased."""
        if self.trusted:
            return "Trusted: the measures agree."
        return f"May be biased: {'; '.join(self.doubts)}."

    def __str__(self) -> str:
        """The result in three lines at most."""
        given = " | Z" if self.widths[2] else ""
        lines = [f"I(X; Y{given}) = {self.value:.3f} nats ({self.low:.3f} to {self.high:.3f})"]
        if math.isfinite(self.lower_bound):
            lines.append(f"lower bound {self.lower_bound:.3f} ± {1.96 * self.lower_bound_stderr:.3f}")
        return "\n".join([*lines, self.verdict])

    def record(self) -> dict[str, Any]:
        """Numbers and words as JSON holds them; what is not a number is None."""
        record: dict[str, Any] = {
            name: _plain(getattr(self, name))
            for name in ("value", "low", "high", "stderr", "lower_bound", "lower_bound_stderr", "linear", "method")
        }
        record |= {"trusted": self.trusted, "verdict": self.verdict, "samples": self.samples}
        record |= {"columns": dict(zip(("x", "y", "given"), self.widths, strict=True))}
        for way in self.ways:
            record[f"{way.noised}_noised"] = {
                "score_gap": _plain(way.score), "mmse_gap": _plain(way.mmse), "mean": _plain(way.mean),
                "sigma": way.sigma.tolist(), "rate_score_gap": way.rate[0].tolist(),
                "rate_mmse_gap": way.rate[1].tolist(),
            }  # fmt: skip
        return record | {"seconds": round(self.seconds, 1)}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
