"""Advice as text, as HTML and as JSON, in the units of a scheduler where there is one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from string import ascii_lowercase

from sigmascope.studies.advice_kinds import Advice
from sigmascope.studies.advising import KINDS


def as_words(advice: Sequence[Advice]) -> str:
    """Advice as text, attribute by attribute."""
    lines, by_attribute = _arranged(advice)
    for name, each in by_attribute.items():
        lines += ["", name or "sampler"]
        for kind, words, formula in each:
            lines += [f"  {kind}: {words}", *([f"      [{formula}]"] if formula else [])]
    return "\n".join(lines if advice else ["nothing can be advised"])


def as_html(advice: Sequence[Advice]) -> str:
    """Advice as HTML, attribute by attribute."""
    laws, by_attribute = _arranged(advice)
    parts = [f'<p class="note">{escape(law)}</p>' for law in laws]
    for name, each in by_attribute.items():
        parts.append(f"<h3>{escape(name or 'sampler')}</h3><ul>")
        for kind, words, formula in each:
            whence = f' <span class="note">[{escape(formula)}]</span>' if formula else ""
            parts.append(f"<li><strong>{escape(kind)}</strong>: {escape(words)}{whence}</li>")
        parts.append("</ul>")
    return "".join(parts)


def line(a: Advice) -> str:
    """A piece of advice in words, in σ and in the units of the scheduler."""
    return a.words + (KINDS[a.kind].in_units(a.units.get("high"), a.units.get("low")) if a.kind in KINDS else "")


def _arranged(advice: Sequence[Advice]) -> tuple[list[str], dict[str, list[tuple[str, str, str]]]]:
    """The laws of the advice in a sentence; and by attribute, the kind, words and formula of each piece.

    Where there are several laws, each has a letter, which follows the kind.
    """
    laws = dict.fromkeys(a.law for a in advice if a.law and a.kind in KINDS) or dict.fromkeys(a.law for a in advice)
    letters = dict(zip(laws, ascii_lowercase, strict=False))
    by_attribute: dict[str, list[tuple[str, str, str]]] = {}
    for a in advice:
        letter = f" ({letters[a.law]})" if len(laws) > 1 and a.kind in KINDS else ""
        by_attribute.setdefault(a.attribute, []).append((a.kind.replace("_", " ") + letter, line(a), a.formula))
    each = "; ".join(f"({letter}) {law}" for law, letter in letters.items())
    law = f"Advice holds for: {each}." if len(laws) != 1 else f"All advice holds for {next(iter(laws))}."
    return [f"{law} σ is in the unit of the study."], by_attribute


def as_json(advice: Sequence[Advice]) -> str:
    """Advice as JSON; levels that are not reached are null."""

    def finite(value: object) -> object:
        if isinstance(value, float):
            return value if math.isfinite(value) and value != 0.0 else None
        if isinstance(value, Mapping):
            return {k: finite(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [finite(v) for v in value]
        return value

    return json.dumps([finite(asdict(a)) for a in advice], indent=1, ensure_ascii=False)
