"""Tables of made images: the values of each, and what the continuations of one image share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sigmascope.console import spelled
from sigmascope.core import Attribute
from sigmascope.information.entropies import zhang
from sigmascope.information.forks import count_labels, enough
from sigmascope.report.gallery import forks_figure
from sigmascope.report.sheets import Sheet
from sigmascope.studies.store import TaskFolder
from sigmascope.studies.tasks import ForkTask


def write_forks(
    folder: TaskFolder,
    task: ForkTask,
    attributes: Sequence[Attribute],
    labels: Mapping[str, Tensor],
    exact: Mapping[str, Tensor],
    parents: Tensor,
    children: Tensor,
    shown: Tensor | None = None,
) -> str:
    """Write the table, the figure and the arrays of forks.

    Args:
        folder: of the task.
        task: the options.
        attributes: those of the labels.
        labels: of the continuations, shape (forks, parents).
        exact: ln p(a | y) of the parents; empty where it is not known.
        parents: noisy values.
        children: their continuations, shape (forks, parents, ...).
        shown: the parents as pictures; None: they are pictures.

    Returns: the summary to print.
    """
    table, words = compared(attributes, labels, exact, task)
    folder.write_text("forks.csv", table)
    shared = [alike(attributes, labels, i) for i in range(task.seeds)]
    noised = f"σ = {task.sigma:g}" + (f", noised to {task.renoise:g}" if task.renoise else "")
    pictures = (parents if shown is None else shown).float().numpy()
    folder.write_figure("forks", forks_figure(pictures, children.float().numpy(), noised, shared))
    arrays = {f"label.{n}": v.numpy() for n, v in labels.items()}
    folder.finish({"parents": parents.float().numpy(), "children": children.float().numpy(), **arrays})
    return words


def alike(attributes: Sequence[Attribute], labels: Mapping[str, Tensor], parent: int) -> list[tuple[str, str]]:
    """The attributes in which all continuations of a parent agree, with their values."""
    labelled = {a: set(labels[a.name][:, parent].tolist()) for a in attributes}
    return [(a.name, a.values[values.pop()]) for a, values in labelled.items() if len(values) == 1]


def compared(
    attributes: Sequence[Attribute], labels: Mapping[str, Tensor], exact: Mapping[str, Tensor], task: ForkTask
) -> tuple[str, str]:
    """A table of every parent and attribute, and a summary of the attributes in words.

    Args:
        attributes: in order.
        labels: of the continuations, shape (forks, parents).
        exact: ln p(a | y) of the parents; empty where it is not known.
        task: the options.
    """
    writer = Sheet()
    writer.writerow(["parent", "attribute", "commonest", "share", "forked_entropy", "exact_entropy", "note"])
    turn = f"after noising to {task.renoise:g}" if task.renoise else ""
    lines = [f"sigma {task.sigma:g}{', ' + turn if turn else ''}, {task.seeds} × {task.forks} continuations:", ""]
    wide = max((len(spelled(a.name)) for a in attributes), default=0)
    for a in attributes:
        counts = count_labels(labels[a.name], len(a.values))
        entropy, share = zhang(counts), counts.max(1).values / task.forks
        exactly = torch.special.entr(exact[a.name].exp()).sum(1).tolist() if a.name in exact else []
        note = "" if enough(a, task.forks) else f"{task.forks} continuations are too few for {len(a.values)} values"
        for i in range(task.seeds):
            value = a.values[int(counts[i].argmax())]
            known = f"{exactly[i]:.5f}" if exactly else ""
            row = [i, a.name, value, f"{float(share[i]):.4f}", f"{float(entropy[i]):.5f}", known]
            writer.writerow([*row, "; ".join(n for n in (note, turn and f"continuations {turn}") if n)])
        alike = int((share == 1).sum())
        error = float(entropy.std()) / task.seeds**0.5
        text = f"all continuations agree for {alike} of {task.seeds} parents; "
        if turn:  # after a U-turn, continuations measure its highest level, not the level of the parent
            text += note or f"their entropy is {float(entropy.mean()):.2f} ± {error:.2f} of {a.entropy:.2f} nats"
        else:
            text += note or f"I = {a.entropy - float(entropy.mean()):.2f} ± {error:.2f} of {a.entropy:.2f} nats"
        lines.append(f"{spelled(a.name).ljust(wide)}  {text}")
    return writer.getvalue(), "\n".join(lines)


def caption(a: Attribute, p: np.ndarray) -> tuple[str, str]:
    return a.name, a.values[int(p.argmax())] if p.max() > 0.9 else "open"


def values_of_images(attributes: Sequence[Attribute], posterior: Mapping[str, np.ndarray]) -> str:
    writer = Sheet()
    writer.writerow(["image", *(x for a in attributes for x in (a.name, f"{a.name}_probability"))])
    for i in range(len(posterior[attributes[0].name][-1])):
        row: list[object] = [i]
        for a in attributes:
            p = posterior[a.name][-1, i]
            row += [a.values[int(p.argmax())], f"{p.max():.4f}"]
        writer.writerow(row)
    return writer.getvalue()
