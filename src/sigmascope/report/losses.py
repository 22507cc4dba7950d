"""Figure of a training: its losses by decade of the noise level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from sigmascope.report.figures import STYLE, style_of


def losses_figure(history: Sequence[Mapping[str, Any]], decades: np.ndarray, what: str) -> Figure:
    """Training loss (thin) and loss on values kept out of training (thick) over steps, a colour for each decade."""
    steps = [entry["step"] for entry in history]
    kinds = [k for k in history[0] if k != "step"]
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(8.0, 3.8), layout="constrained")
        ax = fig.subplots()
        for j, d in enumerate(decades):
            colour = style_of(j)[0]
            for kind, line in zip(kinds, ("-", "-", ":"), strict=False):
                y = np.array([np.nan if e[kind][j] is None else e[kind][j] for e in history], dtype=np.float64)
                label = f"σ {10.0**d:g} to {10.0 ** (d + 1):g}" if kind == kinds[-1] else None
                width = 0.7 if kind == "loss" else 1.8
                ax.plot(steps, y, line, color=colour, linewidth=width, label=label)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("step")
        ax.set_ylabel("loss")
        ax.legend(fontsize=7.5, ncols=2)
        dotted = "; dotted: told everything" if "held_out_told" in kinds else ""
        ax.set_title(
            f"{what}: thin, on the batches; thick, on values kept out of training{dotted}", fontsize=9, loc="left"
        )
    return fig
