"""Figures that are made and laid on the page, and not drawn: drawing them is most of the time of a small study."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

DRAWN: dict[str, tuple[str, ...]] = {
    "adapters/test_classes.py": (),
    "adapters/test_folders.py": (),
    "adapters/test_kinds.py": (),
    "adapters/test_studies.py": ("test_a_network_without_an_empty_class_is_the_mixture_over_its_classes",),
    "adapters/test_wrapping.py": (),
    "cli/test_bins.py": (),
    "cli/test_compare.py": ("test_files_of_a_comparison", "test_the_figure_shows_both_and_their_difference"),
    "cli/test_making.py": (
        "test_generate_from_items",
        "test_figures_of_odd_shapes",
        "test_generate_and_fork_a_hierarchy",
        "test_study_of_a_hierarchy",
        "test_every_estimator_on_one_page",
    ),
    "cli/test_options.py": (),
    "cli/test_prompts.py": (
        "test_its_numbers_by_hand",
        "test_an_exact_network_gives_the_closed_form",
        "test_a_flow_of_two_encoders",
    ),
    "cli/test_reproduce.py": ("test_the_page_in_a_browser",),
    "cli/test_results_file.py": (),
    "cli/test_sentences.py": ("test_plot_draws_the_main_curve",),
    "cli/test_sigma_units.py": (),
    "cli/test_study.py": (
        "test_files_of_a_study",
        "test_page_shows_how_well_the_ways_agree_and_what_is_known_given_another",
        "test_labels_that_the_image_does_not_show",
    ),
    "cli/test_train.py": (),
    "laws/test_advice.py": (),
    "laws/test_own_law.py": (),
    "laws/test_pairs.py": ("test_pairs_from_the_command_and_again",),
}
"""Of each of these files the tests that draw; in the others of the file figures are blank."""
DRAWN_FOR_ALL = ("cli/test_reproduce.py", "cli/test_train.py")
"""Of these files, what its tests share is drawn."""


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (320, 200), 255).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = {
    "png": _png(),
    "svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="320" height="200"></svg>\n',
    "pdf": b"%PDF-1.4\n%%EOF\n",
}
"""A blank picture of each kind."""


def _parts(nodeid: str) -> tuple[str, str]:
    """The file below tests/ and the name of a test."""
    file, _, name = nodeid.partition("::")
    return file.removeprefix("tests/"), name.split("[")[0]


def blank(nodeid: str) -> bool:
    """Whether the figures of a test are blank."""
    file, name = _parts(nodeid)
    return file in DRAWN and name not in DRAWN[file]


def shared(nodeid: str) -> bool:
    """Whether the figures of what the tests of a file share are blank."""
    file, _ = _parts(nodeid)
    return file in DRAWN and file not in DRAWN_FOR_ALL


@contextmanager
def undrawn_figures(now: bool = True) -> Iterator[None]:
    """Let every figure that is saved be blank."""
    with pytest.MonkeyPatch.context() as patch:
        if now:
            patch.setattr(Figure, "savefig", _save)
        yield


def _save(figure: Figure, target: Any, **how: Any) -> None:
    figure.get_axes()
    content = PICTURES[how.get("format") or Path(target).suffix[1:]]
    target.write(content) if hasattr(target, "write") else Path(target).write_bytes(content)
