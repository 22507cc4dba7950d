"""The curves of a study, when each attribute is decided by them, and what one image looks like on the way."""

from __future__ import annotations

from html import escape

from sigmascope.report.by_estimator import bounds_figure, children_figure, model_figure, sampler_figure
from sigmascope.report.figures import curves_figure, strip_figure, strip_levels, windows_figure
from sigmascope.report.findings import MOST_DRAWN, Findings
from sigmascope.report.section import Pictures, Section, figure, of_conditional, of_data, of_sampler, onset_table, shows


def _of_data(pictures: Pictures, found: Findings) -> list[str]:
    caption = (
        "Each curve is the information, in nats, that the noisy image y = v + σn carries about one attribute. "
        "At 0 nothing is decided yet. Where a curve reaches its dotted ceiling, the entropy H(A), the image settles "
        f"the attribute. Bands are 95 % intervals of the mean over draws.{_drawn(found)}"
    )
    if found.bounded:
        caption += " <strong>All curves are lower bounds.</strong>"
    return [
        figure(pictures["information"], "Information curves", caption),
        *(f'<p class="note">{s}</p>' for s in _saturation(found)),
    ]


def _drawn(found: Findings) -> str:
    """That figures leave attributes out, where they do."""
    count = len(found.onsets)
    return "" if count <= MOST_DRAWN else f" Figures show the first {MOST_DRAWN} of {count:,} attributes."


def _saturation(found: Findings) -> list[str]:
    """Why a curve ends below H(A), a sentence for each that does."""
    notes = []
    for c in found.curves:
        limit = float(found.results.information_limit.sel(attribute=c.attribute))
        error = float(found.results.information_limit_stderr.sel(attribute=c.attribute))
        name = escape(c.attribute)
        if c.ceiling - limit > max(4 * error, 1e-6):
            notes.append(
                f"{name}: equal images carry different labels, so even the clean image tells only "
                f"{limit:.3f} ± {1.96 * error:.3f} of {c.ceiling:.3f} nats; the curve saturates there."
            )
        elif limit - c.value[-1] > max(4 * float(c.stderr[-1]), 0.02 * c.ceiling):
            notes.append(
                f"{name}: at the last level {c.value[-1]:.3f} of {c.ceiling:.3f} nats are reached; a smaller "
                "--sigma-min shows the rest."
            )
    return notes


def _of_model(pictures: Pictures, found: Findings) -> list[str]:
    caption = (
        "Information in nats that the noisy image carries about each attribute, as far as this model shows it. "
        "Thick: the best lower bound, which holds whatever the network's error. Thin: a lower bound of the "
        "labelled data alone, with no network. The gaps are estimates that the network's error can bias; where "
        "they are marked as biased they are dotted: believe the bounds there. "
        f"Dotted line: the entropy H(A). Bands: 95 %, of the draws alone.{_drawn(found)}"
    )
    return [figure(pictures["information"], "Information by a learned model", caption)]


def _of_sampler(pictures: Pictures, found: Findings) -> list[str]:
    along = (
        " Own path: the same of states that the model's own generation visits, about its own end."
        if "path_information" in found.results
        else ""
    )
    rough = float(found.results.quadrature_error.sel(estimator="forks").max())
    caption = (
        "Information in nats that the noisy image carries about each attribute. Forks: the entropy of the labels "
        "of the model's own continuations, less bias; what the model decides. Probes: lower bounds of what noisy "
        "images tell. The data alone: a lower bound by filters of other labelled items. Exact filter: of the "
        f"items of the data, which it identifies one by one.{along} Dotted: the entropy H(A). Bands: 95 %, of the "
        f"draws and of the bias of forks that may be left ({rough:.3f} nats at most).{_drawn(found)}"
    )
    return [figure(pictures["information"], "Information about each attribute", caption)]


def _onsets(pictures: Pictures, found: Findings) -> list[str]:
    by = f", by {found.called(found.main)}: the truth is at the same level or a higher one" if found.bounded else ""
    caption = (
        f"The bar runs from where 10 % of H(A) is known to where 90 % is{by}; a hatched bar runs out of the levels "
        "studied."
    )
    said = (
        f'<p class="note">Intervals: 95 %, by resampling the draws ({found.results.sizes["draw"]}), the same for all '
        "attributes. “P(before next)” is the share of resamples in which the attribute reaches half of its entropy at "
        "a higher noise level than the one below it; near 0.5 the order of the two is open.</p>"
    )
    return [
        figure(pictures["onset"], "Onset windows", caption),
        onset_table(found.onsets),
        *([] if found.of_model else [said]),
    ]


def _bounds(pictures: Pictures, found: Findings) -> list[str]:
    caption = "Each lower bound by itself, and the best of them."
    if cheap := int(found.results.attrs.get("classified_draws", 0)):
        caption += (
            f" The chance that the classifier sees in their draws is taken away: it was asked about {cheap:,} others."
        )
    return [figure(pictures["bounds"], "Lower bounds", caption)]


_CHILDREN = "Above, one image at falling noise; below each, some continuations. What they share is decided."
_STRIP = (
    "One image under the same noise at nine levels, over the range in which the attributes are decided. Contrast is "
    "reduced as noise grows, so that the picture stays within the range of the screen."
)
CURVES = Section(
    "What the noisy image tells",
    _of_data,
    shows("information", lambda few: curves_figure(few.curves, str(few.results.attrs["data_name"]))),
    of_data,
)
CURVES_OF_MODEL = Section(
    "What is known of each attribute", _of_model, shows("information", model_figure), of_conditional
)
CURVES_OF_SAMPLER = Section(
    "curves of a sampler", _of_sampler, shows("information", sampler_figure), of_sampler, headed=False
)
CHILDREN = Section(
    "What it makes of one noisy image",
    lambda pictures, found: [figure(pictures["children"], "Children at falling noise", _CHILDREN)],
    shows("children", lambda few: children_figure(few.results)),
    of_sampler,
)
ONSETS = Section("When it is decided", _onsets, shows("onset", lambda few: windows_figure(few.onsets, few.curves)))
BOUNDS = Section(
    "The bounds", _bounds, shows("bounds", bounds_figure), lambda found: "bound" in found.results.estimator.values
)
STRIP = Section(
    "What it looks like",
    lambda pictures, found: [figure(pictures["strip"], "One image at nine noise levels", _STRIP)],
    lambda found: {"strip": strip_figure(*found.example, strip_levels(found.onsets, found.curves[0].sigma))},
    lambda found: not found.of_sampler,
)
