"""The glossary of a file of results: dimensions, unit and meaning of each variable, and meaning of each attribute.

The reader checks files against this table, and results carry it: every variable has the attributes ``units``,
``long_name`` and ``description``.  Units are ``nats``; ``1`` for probabilities, shares, counts and indices; ``sigma``
for noise levels, in the unit that the file's attribute ``unit_of_sigma`` names; ``text`` for words.
Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

_CURVES = ("attribute", "estimator", "sigma")
_LEVELS = ("attribute", "sigma")
DRAWS = ("attribute", "sigma", "draw")
_PATHS = ("attribute", "sigma", "path_draw")
_LOSSES = ("loss_condition", "loss_sigma")
_INTERVAL = "half the width of its 95 % interval, divided by 1.96; the allowance for few draws is included"


@dataclass(frozen=True)
class Variable:
    """A variable or coordinate of a file of results.

    Attributes:
        dims: its dimensions; None where they are not checked.
        values: ``f`` for numbers, ``i`` for whole numbers, ``U`` for text.
        units: its unit.
        long_name: its name in words, for the axes of plots.
        description: its meaning in a sentence or two.
    """

    dims: tuple[str, ...] | None
    values: str
    units: str
    long_name: str
    description: str


KINDS = {
    "exact": "the exact value for these draws: its only error is that of the draws",
    "estimate": "an estimate with further errors, for example of the network",
    "lower bound": "a value that the truth is not below, up to the error shown",
}
"""Values of the variable ``kind``."""

_TABLE: dict[str, tuple[tuple[str, ...], str, str, str, str]] = {
    # coordinates
    "attribute": (("attribute",), "U", "text", "attribute", "Names of the attributes A of the data."),
    "estimator": (("estimator",), "U", "text", "estimator", "Names of the ways to measure I(A; Y_sigma)."),
    "sigma": (("sigma",), "f", "sigma", "noise level",
        "Standard deviation sigma of the noise in Y_sigma = V + sigma N, decreasing."),
    "draw": (("draw",), "i", "1", "draw", "Index of the noisy image; all levels share its item and noise."),
    "value": (("value",), "U", "text", "value", "Values of all attributes, one after the other; see value_attribute."),
    "value_attribute": (("value",), "U", "text", "attribute of the value",
        "The attribute that each entry of value belongs to."),
    "tree": (("tree",), "i", "1", "level of the tree", "Level of a hierarchy, from the root, 0, down."),
    "first": (("first",), "U", "text", "first attribute", "First attribute of a pair."),
    "second": (("second",), "U", "text", "second attribute", "Second attribute of a pair."),
    "link": (("link",), "U", "text", "link of the chain", "An attribute of the chain, given those before it."),
    "member": (("member",), "U", "text", "member of the chain", "Attributes of the chain."),
    "loss_condition": (("loss_condition",), "U", "text", "condition",
        "What the network is conditioned on when its loss is measured; the first entry is the unconditional network."),
    "loss_sigma": (("loss_sigma",), "f", "sigma", "noise level", "Noise levels of the denoising losses."),
    # curves
    "information": (_CURVES, "f", "nats", "information about the attribute",
        "I(A; Y_sigma): how many nats the noisy image carries about the attribute; mean over draws."),
    "stderr": (_CURVES, "f", "nats", "standard error of the information", "Standard error over the draws."),
    "quadrature_error": (_CURVES, "f", "nats", "further error of the information",
        "Error beyond stderr: of an integral over noise levels, or an allowance for rare draws; 0: none."),
    "information_per_draw": ((*_CURVES, "draw"), "f", "nats", "information of each draw",
        "Contribution of each draw to the information; its mean over draws is the information."),
    "draws_per_column": (("attribute", "estimator"), "i", "1", "draws per column",
        "How many draws each column of information_per_draw is the mean of; 1 where this variable is missing."),
    "ceiling": (("attribute",), "f", "nats", "entropy of the attribute",
        "H(A), the entropy of the attribute: no information about A can exceed it. Of a real-valued attribute, "
        "I(A_r; A), which the draws estimate."),
    "ceiling_stderr": (("attribute",), "f", "nats", "standard error of the ceiling",
        "Standard error over draws of the ceiling of a real-valued attribute; 0 for others, whose entropy is exact."),
    "kind": (("estimator",), "U", "text", "kind of curve",
        "; ".join(f"{k}: {words}" for k, words in KINDS.items()) + "."),
    "item": (("draw",), "i", "1", "item", "Index of the item of the data that each draw adds noise to."),
    "information_limit": (("attribute",), "f", "nats", "information of a clean image",
        "I(A; V), the limit without noise; below H(A) where equal items carry different labels. NaN: not known."),
    "information_limit_stderr": (("attribute",), "f", "nats", "standard error of the limit",
        "Standard error of information_limit over draws."),
    # real-valued attributes
    "resolution": (("attribute",), "f", "unit of the attribute", "resolution",
        "r in A_r = A + r N: information about a real-valued attribute A is that about A_r. NaN: not real-valued."),
    "period": (("attribute",), "f", "unit of the attribute", "period",
        "Length of the circle that a real-valued attribute lies on; NaN: it lies on none."),
    "precision": (_LEVELS, "f", "unit of the attribute", "root mean square error of the attribute",
        "Root mean square of A − E[A | Y_sigma], which no estimate of A from the noisy image falls below; on a circle, "
        "of the wrapped difference from the mean direction. NaN: not real-valued."),
    "precision_stderr": (_LEVELS, "f", "unit of the attribute", "standard error of the precision",
        "Standard error over the draws."),
    "precision_unit": (("attribute",), "U", "text", "unit of the attribute",
        "Unit of resolution, period and precision; empty where none is named."),
    # verdicts
    "trusted": (_CURVES, "i", "1", "trusted",
        "1: no check contradicts the curve at this level; 0: it is marked as biased."),
    "reason": (_CURVES, "U", "text", "reason",
        "Why the curve is marked as biased at this level; empty where it is not."),
    "verdict": (("attribute", "estimator"), "U", "text", "verdict",
        "The result of all checks of this curve, in words; empty where no check contradicts it."),
    # redraws
    "kept_per_draw": (DRAWS, "f", "1", "probability that a redraw keeps the attribute",
        "Probability that a clean image drawn given the noisy one has the attribute of the original image."),
    "sure_per_draw": (DRAWS, "f", "1", "probability that the likeliest value is right",
        "Probability that the likeliest value given the noisy image is the true one."),
    "shared_per_draw": (DRAWS, "f", "1", "probability that two redraws agree",
        "Probability that two continuations of the same noisy image have the same value."),
    "labeller_right": (("attribute",), "f", "1", "accuracy of the labeller",
        "Share of the items whose own label the default labeller (the nearest other item) gives."),
    "labeller_right_stderr": (("attribute",), "f", "1", "standard error of the accuracy",
        "Standard error of labeller_right."),
    "left_out": (("draw",), "i", "1", "items left out",
        "How many items the labeller leaves out: the draw's own and its copies."),
    "made_entropy": (("attribute",), "f", "nats", "entropy of generated images",
        "Entropy of the attribute among the images that the model makes from the first level."),
    "parent": (("sigma", "channel", "row", "column"), "f", "1", "noisy image",
        "The first draw at every level, as a picture."),
    "children": (("sigma", "child", "channel", "row", "column"), "f", "1", "continuations",
        "Some continuations of the first draw from every level, as pictures."),
    # the model's own path
    "path_information": (_LEVELS, "f", "nats", "information on the model's own path",
        "I(A; Y_sigma) where Y_sigma are states of the model's own generation, instead of noisy data."),
    "path_stderr": (_LEVELS, "f", "nats", "standard error on the own path", "As stderr, of path_information."),
    "path_quadrature_error": (_LEVELS, "f", "nats", "further error on the own path",
        "As quadrature_error, of path_information."),
    "path_information_per_draw": (_PATHS, "f", "nats", "information of each generation",
        "As information_per_draw, of path_information."),
    "path_ceiling": (("attribute",), "f", "nats", "entropy on the own path",
        "Entropy of the attribute of generated images."),
    "path_kept_per_draw": (_PATHS, "f", "1", "probability that two redraws agree",
        "As shared_per_draw, on the model's own path."),
    "path_sure_per_draw": (_PATHS, "f", "1", "probability that the likeliest value is right",
        "As sure_per_draw, on the model's own path."),
    # checks of a network
    "loss": (_LOSSES, "f", "sigma^2", "denoising loss", "Squared error of the network, mean per coordinate."),
    "loss_over_linear": (_LOSSES, "f", "sigma^2", "loss above the linear denoiser's",
        "The loss minus that of the best linear denoiser of the data, on the same noisy images."),
    "loss_over_unconditional": (_LOSSES, "f", "sigma^2", "loss above the unconditional network's",
        "The loss minus that of the unconditional network, on the same noisy images."),
    "loss_linear": (("loss_sigma",), "f", "sigma^2", "loss of the linear denoiser",
        "Loss of the best linear denoiser of the data."),
    "loss_mean": (("loss_sigma",), "f", "sigma^2", "loss of the mean", "Loss of the mean of the data."),
    "calibration": (_LEVELS, "f", "nats", "error gap minus score gap",
        "The information by squared errors (mmse_gap) minus that by score gaps; 0 for a calibrated network."),
    "chain_residual": (_LEVELS, "f", "nats", "residual of the chain rule",
        "By how much conditioning on the attributes one after the other misses conditioning on them jointly."),
    "chain_stderr": (_LEVELS, "f", "nats", "standard error of the residual", "Standard error over draws."),
    "null_score_gap": (("sigma",), "f", "nats", "score gap of random labels",
        "The score gap of labels drawn at random, about which there is no information: its true value is 0."),
    "null_number_score_gap": (("sigma",), "f", "nats", "score gap of numbers in random order",
        "The score gap of the numbers of a real-valued attribute in random order, about which there is no information: "
        "its true value is 0."),
    "null_bound": (("sigma",), "f", "nats", "bound of random labels",
        "The best lower bound for labels drawn at random: at most 0."),
    "accuracy_noisy": (_LEVELS, "f", "1", "accuracy of probes on noisy images",
        "Share of draws that a linear probe gets right."),
    "accuracy_features": (_LEVELS, "f", "1", "accuracy of probes on features",
        "Share of draws that a linear probe on the network's features classifies rightly."),
    "learning_noisy": ((*_LEVELS, "share"), "f", "nats", "bound of probes by number of draws",
        "The lower bound of probes on noisy images that were trained on a share of the draws."),
    "learning_features": ((*_LEVELS, "share"), "f", "nats", "bound of probes by number of draws",
        "The lower bound of probes on features that were trained on a share of the draws."),
    # features of pictures
    "resolved_share": (_LEVELS, "f", "1", "resolved share of the power",
        "1 − E|B − E[B | Y]|² / E|B − E[B]|² of a feature B of the picture, by the exact filter of the data."),
    "resolved_stderr": (_LEVELS, "f", "1", "standard error of the share", "Standard error over draws."),
    "resolved_per_draw": (DRAWS, "f", "1", "resolved share of each draw",
        "Contribution of each draw to resolved_share, to first order; its mean over draws is the share."),
    "feature_power": (("attribute",), "f", "sigma^2", "power of the feature",
        "E|B − E[B]|², summed over the coordinates of the feature; mean over draws."),
    "feature_size": (("attribute",), "i", "1", "coordinates of the feature", "Number of its coordinates."),
    "gaussian_share": (_LEVELS, "f", "1", "resolved share of a Gaussian model",
        "The same share if the pictures were Gaussian with the covariance of the data."),
    "gaussian_rate": (_LEVELS, "f", "nats", "information for each unit of ln sigma",
        "−d I(B; Y_sigma) / d ln sigma by the Gaussian model, without correction of its bias."),
    "gaussian_plug_in": (_LEVELS, "f", "nats", "information without correction",
        "I(B; Y_sigma) by the Gaussian model before its bias by the finite number of items is taken off."),
    "gaussian_total": (("sigma",), "f", "nats", "information about the picture",
        "I(V; Y_sigma), of the whole picture, by the Gaussian model, without correction."),
    # items, levels of a tree, single values, pairs
    "effective_items": (("sigma", "draw"), "f", "1", "effective number of items",
        "How many items are still possible given the noisy image: 1 / sum of squared posterior probabilities."),
    "effective_items_limit": (("draw",), "f", "1", "copies of the item",
        "The limit of effective_items without noise: copies of the item."),
    "identified_sigma": ((), "f", "sigma", "noise level of identification",
        "Below this level the exact filter has identified the item, in half of the draws."),
    "identified_sigma_low": ((), "f", "sigma", "lower end", "Lower end of its 95 % interval."),
    "identified_sigma_high": ((), "f", "sigma", "upper end", "Upper end of its 95 % interval."),
    "whole_information": (("tree", "sigma"), "f", "nats", "information about a level of the tree",
        "Information about all nodes of a level of the hierarchy together."),
    "whole_stderr": (("tree", "sigma"), "f", "nats", "error of the information", f"Its error: {_INTERVAL}."),
    "whole_ceiling": (("tree",), "f", "nats", "entropy of the level", "Entropy of all nodes of the level."),
    "value_information": (("value", "sigma"), "f", "nats", "information about the value",
        "KL divergence of the noisy images of this value from all noisy images; at most value_ceiling."),
    "value_stderr": (("value", "sigma"), "f", "nats", "error of the information", f"Its error: {_INTERVAL}."),
    "value_ceiling": (("value",), "f", "nats", "−ln p(value)", "−ln p(a), the largest value_information."),
    "value_half": (("value",), "f", "sigma", "noise level of half the information",
        "Where half of −ln p(a) is reached; 0: below the studied levels, infinity: above them."),
    "value_half_low": (("value",), "f", "sigma", "lower end", "Lower end of the 95 % interval of value_half."),
    "value_half_high": (("value",), "f", "sigma", "upper end", "Upper end of the 95 % interval of value_half."),
    "value_before_next": (("value",), "f", "1", "order",
        "Share of resamples in which this value comes before the next of its attribute."),
    "pair_interaction": (("first", "second", "sigma"), "f", "nats", "interaction information",
        "I(A; B; Y) = I(A; Y) + I(B; Y) − I(A, B; Y): positive where both carry the same information, negative "
        "where it appears only when both are known. On the diagonal: I(A; Y)."),
    "pair_stderr": (("first", "second", "sigma"), "f", "nats", "error of the interaction", f"Its error: {_INTERVAL}."),
    "pair_ceiling": (("first", "second"), "f", "nats", "information between the attributes",
        "I(A; B); on the diagonal H(A)."),
    "link_information": (("link", "sigma"), "f", "nats", "information added",
        "I(B; Y | A): what an attribute of the chain adds to those before it; the links add up to I(A, B, …; Y)."),
    "link_stderr": (("link", "sigma"), "f", "nats", "error of the information added", f"Its error: {_INTERVAL}."),
    "link_ceiling": (("link",), "f", "nats", "entropy added", "H(B | A), the largest link_information."),
    "link_half": (("link",), "f", "sigma", "noise level of half the information added",
        "Where half of link_ceiling is reached; 0: below the studied levels, infinity: above them, NaN: nothing is "
        "added."),
    "link_half_low": (("link",), "f", "sigma", "lower end", "Lower end of the 95 % interval of link_half."),
    "link_half_high": (("link",), "f", "sigma", "upper end", "Upper end of the 95 % interval of link_half."),
    "link_density": (("link", "sigma"), "f", "nats", "information added for each unit of ln sigma",
        "−d link_information / d ln sigma, by parabolas through neighbouring levels."),
    "link_density_stderr": (("link", "sigma"), "f", "nats", "error of the density", "Its standard error."),
    "shapley_information": (("member", "sigma"), "f", "nats", "Shapley share of the information",
        "What an attribute of the chain adds, averaged over all orders; the shares add up to I(A, B, …; Y)."),
    "shapley_stderr": (("member", "sigma"), "f", "nats", "error of the share", f"Its error: {_INTERVAL}."),
    "shapley_ceiling": (("member",), "f", "nats", "Shapley share of the entropy",
        "The share of the attribute in H(A, B, …), the largest shapley_information."),
}  # fmt: skip
_ALLOCATION = {
    "seed": ("i", "1", "Seed of the draws that the gaps were measured on"),
    "sigma": ("f", "sigma", "Noise levels of the curves"),
    "edges": ("f", "1", "Edges of the cells of noise levels, as ln sigma, decreasing"),
    "offered": ("f", "1", "Share of an attribute's candidate draws in each cell"),
    "share": ("f", "1", "Share of an attribute's measured draws in each cell"),
    "defence": ("f", "1", "Share of the draws in each cell that are chosen whatever gap is expected"),
    "expected": ("f", "1", "Mean expected gap in each cell"),
    "ratio": ("f", "1", "Candidates for each draw, by attribute"),
    "rounds": ("i", "1", "Draws of each round and attribute, in each column"),
    "columns": ("i", "1", "Number of independent columns"),
    "pilot_calls": ("i", "1", "Network calls of the pilot measurement"),
}
VARIABLES = {name: Variable(*row) for name, row in _TABLE.items()}
"""Every variable and coordinate that a study may write."""
VARIABLES |= {
    f"{name}_stderr": Variable(v.dims, "f", v.units, f"standard error: {v.long_name}", f"Standard error of {name}.")
    for name, v in VARIABLES.items()
    if name.startswith(("loss", "null_", "calibration")) and name not in ("loss_condition", "loss_sigma")
}
VARIABLES |= {
    f"allocation_{name}": Variable(None, values, units, f"allocation: {name.replace('_', ' ')}", f"{words}.")
    for name, (values, units, words) in _ALLOCATION.items()
}

ATTRIBUTES = {
    "title": "what the file holds",
    "units": "unit of the information",
    "unit_of_sigma": "unit of the noise levels",
    "data_name": "name of the data",
    "data_words": "size of the data, and notes on how they were read",
    "data_event": "shape of one item",
    "data_fingerprint": "identifies the items, labels and weights",
    "joint_attributes": "names of the attributes that are joint values of others",
    "sigmascope_version": "version of the program",
    "seed": "seed of the draws",
    "draws": "number of noisy images; the columns of a model's curves are means of several",
    "specification": "all options of the study, as TOML: sigmascope study --spec repeats it",
    "model": "the model that was measured",
    "main_estimator": "the estimator that the page and the tables show",
    "main_reason": "why the main estimator is not the usual one; empty where it is",
    "wrapping": "what the denoising losses show against the model; empty where they show nothing",
    "trust_rule": "the rule by which a curve is marked as biased",
    "trust_tolerance": "share of H(A) by which a curve may exceed its limits before it is marked",
    "field": "the Gaussian model of the pictures, in words",
    "law": "where the noisy images come from: noised data, or images that the model made",
    "model_parameters": "number of parameters of the network",
    "model_steps": "training steps of the network",
    "model_network": "kind of network",
    "network_calls": "network calls of the measurement",
    "precision": "precision of the network's calls, where another than the usual one was asked for",
    "classifier_steps": "steps of the training of a classifier for the study",
    "classified_draws": "draws on which the classifier of the data was evaluated",
    "held_out": "1 where the draws were kept out of the training, 0 where they were not",
    "classes": "class of the network for each value of the attribute, as JSON",
    "unconditional": "how the unconditional denoiser is made, where the network has none",
    "unconditional_calls": "network calls of one unconditional denoising",
    "generated": "1 where the model made the images, 0 where they are data",
    "labeller": "the function or rule that labels images",
}
"""Every attribute that a study may give to the file."""


def described(results: xr.Dataset) -> xr.Dataset:
    """The results with ``units``, ``long_name`` and ``description`` on every variable that the glossary has."""
    for name in map(str, results.variables):
        if word := VARIABLES.get(name):
            results[name].attrs |= {"units": word.units, "long_name": word.long_name, "description": word.description}
    return results


def explained(results: xr.Dataset) -> str:
    """The meaning of every variable and attribute of the results of a study.

    Args:
        results: the Dataset that a study has returned.

    Returns: text with a line for each: name, unit and description of a variable; ``@`` and the name of an attribute.
    """
    lines = [f"{name} [{VARIABLES[name].units}]: {VARIABLES[name].description}"
             for name in map(str, results.variables) if name in VARIABLES]  # fmt: skip
    return "\n".join([*lines, *(f"@{name}: {ATTRIBUTES[name]}" for name in results.attrs if name in ATTRIBUTES)])
