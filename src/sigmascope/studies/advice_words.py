"""Advice as text, as part of a page and as JSON, in the units of a pipeline's scheduler where there is one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from string import ascii_lowercase

from sigmascope.studies.advice_kinds import Advice
from sigmascope.studies.advising import KINDS


def as_words(found: Sequence[Advice]) -> str:
    """Advice as text, attribute by attribute."""
    lines: list[str] = []
    for name, each in _by_attribute(found):
        lines += ["", name or "sampler"]
        for a in each:
            lines.append(f"  {_kind(a, found)}: {line(a)}")
            lines += [f"      [{a.formula}]"] if a.formula else []
    return "\n".join([*_law(found), *lines] if found else ["nothing can be advised"])


def as_html(found: Sequence[Advice]) -> str:
    """The same as part of a page."""
    parts = [f'<p class="note">{escape(said)}</p>' for said in _law(found)]
    for name, each in _by_attribute(found):
        parts.append(f"<h3>{escape(name or 'sampler')}</h3><ul>")
        for a in each:
            formula = f' <span class="note">[{escape(a.formula)}]</span>' if a.formula else ""
            parts.append(f"<li><strong>{escape(_kind(a, found))}</strong>: {escape(line(a))}{formula}</li>")
        parts.append("</ul>")
    return "".join(parts)


def line(a: Advice) -> str:
    """What one advice says, in σ and in the units of the scheduler."""
    return a.words + (KINDS[a.kind].in_units(a.units.get("high"), a.units.get("low")) if a.kind in KINDS else "")


def _by_attribute(found: Sequence[Advice]) -> Iterator[tuple[str, list[Advice]]]:
    for name in dict.fromkeys(a.abstraction for a in found):
        yield name, [a for a in found if a.abstraction == name]


def _kind(a: Advice, found: Sequence[Advice]) -> str:
    """What an advice is, with the letter of its law where there are several."""
    laws = _laws(found)
    letter = f" ({laws[a.law]})" if len(laws) > 1 and a.kind in KINDS else ""
    return a.kind.replace("_", " ") + letter


def _laws(found: Sequence[Advice]) -> dict[str, str]:
    """A letter for each law."""
    laws = dict.fromkeys(a.law for a in found if a.law and a.kind in KINDS)
    return dict(zip(laws or {a.law: None for a in found}, ascii_lowercase, strict=False))


def _law(found: Sequence[Advice]) -> list[str]:
    """Of what all of it is true, or each."""
    laws = _laws(found)
    if len(laws) == 1:
        return [f"All of this is true of {next(iter(laws))}. σ is in the unit of the study."]
    each = "; ".join(f"({letter}) of {law}" for law, letter in laws.items())
    return [f"What is marked is true: {each}. σ is in the unit of the study."]


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
