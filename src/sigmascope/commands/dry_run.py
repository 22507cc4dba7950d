"""The specification of a study and its predicted cost, printed before it starts."""

from __future__ import annotations

import time

from sigmascope.studies.spec import Spec

__all__ = ["dry_run"]


def dry_run(spec: Spec) -> int:
    """Print the resolved specification, and the predicted cost, time and memory of a study.

    Args:
        spec: the study.

    Returns: the exit status.

    Raises: InputError.
    """
    import sigmascope.distributed as distributed  # torch is loaded here
    from sigmascope.studies.costs import line
    from sigmascope.studies.planning import planned, words_of_memory, words_of_time
    from sigmascope.studies.run import open_subject
    from sigmascope.studies.subjects.base import opening_of

    begun = time.monotonic()
    lines_and_spec = opening_of(spec).about(spec.resolve())
    if lines_and_spec is None:
        subject, spec = open_subject(spec, None, False)
        reading = time.monotonic() - begun
        plan = planned(subject, spec, None)
        lines, spec = subject.dry_run(plan.spec, reading), plan.spec
        words = {"time": words_of_time(plan), "memory": words_of_memory(plan), "precision": "; ".join(plan.notes)}
        lines_and_spec = [*lines, *(line(name, text) for name, text in words.items() if text)], spec
    lines, spec = lines_and_spec
    if not distributed.rank():
        print(spec.to_toml(), *lines, sep="\n")
    return 0
