"""Advice as text, as part of a page and as JSON, in the units of a pipeline's scheduler where there is one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from string import ascii_lowercase

from sigmascope.studies.advice_kinds import Advice
from sigmascope.studies.advising import KINDS


def as_words(found: Sequence[Advice]) -> str:
    """Advice as text, attribute by attribute."""
    lines, told = _told(found)
    for name, each in told.items():
        lines += ["", name or "sampler"]
        for kind, said, formula in each:
            lines += [f"  {kind}: {said}", *([f"      [{formula}]"] if formula else [])]
    return "\n".join(lines if found else ["nothing can be advised"])


def as_html(found: Sequence[Advice]) -> str:
    """The same as part of a page."""
    laws, told = _told(found)
    parts = [f'<p class="note">{escape(said)}</p>' for said in laws]
    for name, each in told.items():
        parts.append(f"<h3>{escape(name or 'sampler')}</h3><ul>")
        for kind, said, formula in each:
            whence = f' <span class="note">[{escape(formula)}]</span>' if formula else ""
            parts.append(f"<li><strong>{escape(kind)}</strong>: {escape(said)}{whence}</li>")
        parts.append("</ul>")
    return "".join(parts)


def line(a: Advice) -> str:
    """What one advice says, in σ and in the units of the scheduler."""
    return a.words + (KINDS[a.kind].in_units(a.units.get("high"), a.units.get("low")) if a.kind in KINDS else "")


def _told(found: Sequence[Advice]) -> tuple[list[str], dict[str, list[tuple[str, str, str]]]]:
    """What the advice is true of; and by attribute the kind of each, what it says, and its formula.

    Where there are several laws each has a letter, which stands beside the kinds.
    """
    laws = dict.fromkeys(a.law for a in found if a.law and a.kind in KINDS) or dict.fromkeys(a.law for a in found)
    letters = dict(zip(laws, ascii_lowercase, strict=False))
    told: dict[str, list[tuple[str, str, str]]] = {}
    for a in found:
        letter = f" ({letters[a.law]})" if len(laws) > 1 and a.kind in KINDS else ""
        told.setdefault(a.attribute, []).append((a.kind.replace("_", " ") + letter, line(a), a.formula))
    each = "; ".join(f"({letter}) of {law}" for law, letter in letters.items())
    true = f"What is marked is true: {each}." if len(laws) != 1 else f"All of this is true of {next(iter(laws))}."
    return [f"{true} σ is in the unit of the study."], told


def as_json(found: Sequence[Advice]) -> str:
    """Advice as JSON; levels that are not reached are null."""

    def plain(value: object) -> object:
        if isinstance(value, float):
            return value if math.isfinite(value) and value != 0.0 else None
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value

    return json.dumps([plain(asdict(a)) for a in found], indent=1, ensure_ascii=False)
