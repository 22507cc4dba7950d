r"""Probes: logistic regression of an attribute on noisy values or on a network's features of them.

.. math:: I(A; Y_\sigma) \ge H(A) + E \ln q(A \mid f(Y_\sigma))

for any classifier q that was trained on other draws.  A linear one measures the information that is *usable* linearly,
which may be much less than the information in the features.

References: Barber & Agakov (2003); Alain & Bengio (2016); Xu et al. (2020).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigmascope.core import Attribute, Curve, Draws, HasAllPosteriors, InputError, generator

WHERE = ("noisy", "features", "prior")
"""The input of a probe: y itself, features of a denoiser, or nothing (the prior is then the prediction)."""

SHARES = (0.25, 0.5, 1.0)
"""Shares of the training draws in the learning curve."""

_PRIOR_SHARES = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 1.0)
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # C of scikit-learn: weights up to its root cost little
_FOLDS = 3
_DIRECTIONS = (32, 128)  # leading principal directions that a probe may read
_STEPS = 40  # steps of a regression at most
_CHUNK = 1024  # rows of one call of a denoiser


@runtime_checkable
class HasFeatures(Protocol):
    """Learned denoisers that give the features of each block."""

    def features(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"]
    ) -> Mapping[str, Float[Tensor, "batch channels"]]:
        """Features of each block, by its name."""
        ...


@dataclass(frozen=True, eq=False)
class Probed:
    """Results of the probes of one attribute.

    Args:
        curve: the bound, from all draws for training.
        log_score: mean log-probability of the true value of a test draw, nats, shape (levels,).
        accuracy: share of the test draws whose likeliest value is the true one, shape (levels,).
        trained_on: numbers of training draws in the learning curve, shape (shares,).
        learning: the bound for each of them, nats, shape (levels, shares); its last column is the curve.
    """

    curve: Curve
    log_score: Float[np.ndarray, " levels"]
    accuracy: Float[np.ndarray, " levels"]
    trained_on: Int[np.ndarray, " shares"]
    learning: Float[np.ndarray, "levels shares"]

    @property
    def note(self) -> str:
        """How much the last of the training draws raised the bound, in words."""
        if len(self.trained_on) < 2:
            return f"trained on {self.trained_on[-1]:,} draws; whether more would help was not tested"
        rise = self.learning[:, -1] - self.learning[:, -2]
        j = int(rise.argmax())
        return (
            f"from {self.trained_on[-2]:,} to {self.trained_on[-1]:,} draws the bound rises by at most {rise[j]:.3f} "
            f"nats (at sigma = {self.curve.sigma[j]:.3g})"
        )


def probes(
    attributes: Sequence[Attribute],
    train: Draws,
    test: Draws,
    sigma: Float[np.ndarray, " levels"],
    where: str,
    *,
    denoiser: HasFeatures | None = None,
    block: str | None = None,
    seed: int = 0,
    shares: Sequence[float] = SHARES,
) -> dict[str, Probed]:
    r"""Lower bounds from probes, of some attributes, at every level.

    A probe is a multinomial logistic regression on principal directions of its standardised input, mixed with a share
    of the prior, so that a value which the training draws lack has a probability.  The number of directions, the
    regulariser and the share are chosen by cross-validation on the training draws alone; the share may be one, which
    makes the bound zero.

    Args:
        attributes: which attributes.
        train: draws with labels, for training; y = v + sigma noise at every level.
        test: other draws, on which the bound is measured.
        sigma: decreasing levels.
        where: ``noisy``, ``features`` or ``prior``.
        denoiser: for ``features``.
        block: the block whose features are read; None: all blocks together.
        seed: of the folds.
        shares: of the training draws, the last of them 1: the learning curve.

    Returns: the results for each attribute, with a Curve of kind ``lower bound`` and estimator ``probes:{where}``.

    Raises: InputError for an unknown ``where`` or block, a denoiser without features, too few draws, missing labels, or
        where scikit-learn is missing.

    Cost: one call of the denoiser for each draw and level, and regressions: for each level and attribute some 1 s at
        2,000 draws, 768 numbers and 10 values, with the learning curve.

    References: Barber & Agakov (2003); Xu et al. (2020).
    """
    from threadpoolctl import threadpool_limits

    _check(attributes, train, test, where, denoiser, shares)
    counts = [int(np.ceil(s * len(train))) for s in shares]
    order = torch.randperm(len(train), generator=generator(seed)).numpy()  # the first quarter is a random one
    gains = {a.name: np.zeros((len(shares), len(sigma), len(test))) for a in attributes}
    right = {a.name: np.zeros(len(sigma)) for a in attributes}
    for j, s in enumerate(sigma):
        read = [_read(d, float(s), where, denoiser, block) for d in (train, test)]
        with threadpool_limits(1):  # on more threads steps so small take forty times as long
            inputs = [_directions(read[0][order[:n]], read[1]) for n in counts] if where != "prior" else []
            for a in attributes:
                own, truth = train.labels[a.name].cpu().numpy()[order], test.labels[a.name].cpu().numpy()
                prior = a.prior.numpy()
                q = np.tile(prior, (len(test), 1))
                for i, n in enumerate(counts):
                    q = probe(inputs[i][0], own[:n], inputs[i][1], prior) if inputs else q
                    gains[a.name][i, j] = np.log(q[np.arange(len(truth)), truth] / prior[truth])
                right[a.name][j] = np.mean(q.argmax(1) == truth)
    results = {}
    for a in attributes:
        each, truth = gains[a.name], test.labels[a.name].cpu().numpy()
        curve = Curve.of_draws(a.name, f"probes:{where}", sigma, each[-1], a.entropy, kind="lower bound")
        score = (each[-1] + np.log(a.prior.numpy()[truth])).mean(1)
        results[a.name] = Probed(curve, score, right[a.name], np.array(counts), each.mean(2).T)
    return results


def _check(
    attributes: Sequence[Attribute],
    train: Draws,
    test: Draws,
    where: str,
    denoiser: HasFeatures | None,
    shares: Sequence[float],
) -> None:
    """Refuse arguments of :func:`probes` that do not fit."""
    if where not in WHERE:
        raise InputError(f"where is {where!r}: expected one of {', '.join(WHERE)}")
    if not shares or sorted(shares) != list(shares) or shares[0] <= 0 or shares[-1] != 1.0:
        raise InputError(f"shares are {tuple(shares)}: expected rising numbers above 0, the last of them 1")
    if len(test) < 2 or int(np.ceil(shares[0] * len(train))) < 2 * _FOLDS:
        raise InputError(
            f"{len(train)} draws for training and {len(test)} for the test came: at least "
            f"{int(np.ceil(2 * _FOLDS / shares[0]))} and 2 are needed"
        )
    for a in attributes:
        if a.name not in train.labels or a.name not in test.labels:
            raise InputError(f"the draws have no labels of {a.name!r}: they have {', '.join(train.labels) or 'none'}")
    if where == "features" and not isinstance(denoiser, HasFeatures):
        raise InputError(f"a {type(denoiser).__name__} has no features: pass a learned denoiser, or where='noisy'")


def probe(
    x: Float[np.ndarray, "train inputs"],
    own: Int[np.ndarray, " train"],
    z: Float[np.ndarray, "test inputs"],
    prior: Float[np.ndarray, " values"],
) -> Float[np.ndarray, "test values"]:
    """q(a | z) by a regression on x, mixed with a share of the prior.

    The number of inputs, the regulariser and the share are chosen by cross-validation on x.

    Args:
        x: standardised inputs, the leading directions first.
        own: their true values.
        z: inputs at which q is evaluated.
        prior: p(a); values that x lacks have a share of it as their probability.

    Cost: folds + 1 regressions for each number of inputs and each regulariser, from the strongest until the score
        falls, each begun at the solution of the one before.
    """
    fold = np.arange(len(x)) % _FOLDS
    best, chosen = -np.inf, (0, 0.0, 1.0)
    for d in sorted({min(d, x.shape[1]) for d in _DIRECTIONS}):
        models = [_Regression(x[fold != k, :d], own[fold != k], len(prior)) for k in range(_FOLDS)]
        highest = -np.inf
        for strength in _STRENGTHS:
            score = np.zeros(len(_PRIOR_SHARES))
            for k, model in enumerate(models):
                out = fold == k
                q = model.fitted(strength).at(x[out, :d])[np.arange(out.sum()), own[out]]
                score += [np.log((1 - e) * q + e * prior[own[out]]).sum() for e in _PRIOR_SHARES]
            if score.max() < highest:
                break
            highest = score.max()
            if highest > best:
                best, chosen = highest, (d, strength, _PRIOR_SHARES[int(score.argmax())])
    d, strength, e = chosen
    if e == 1.0:
        return np.tile(prior, (len(z), 1))
    model = _Regression(x[:, :d], own, len(prior))
    for each in _STRENGTHS[: _STRENGTHS.index(strength) + 1]:
        model.fitted(each)
    return (1 - e) * model.at(z[:, :d]) + e * prior


class _Regression:
    """A logistic regression fitted with less and less regularisation, each time from the solution before."""

    def __init__(self, x: np.ndarray, own: np.ndarray, values: int) -> None:
        self.x, self.own, self.values, self.seen = x, own, values, np.unique(own)
        from sklearn.linear_model import LogisticRegression  # here, since it takes a second to import

        self.model = LogisticRegression(max_iter=_STEPS, tol=1e-3, warm_start=True)

    def fitted(self, strength: float) -> _Regression:
        if len(self.seen) > 1:
            self.model.set_params(C=strength)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a regression that stops early is a valid probe
                self.model.fit(self.x, self.own)
        return self

    def at(self, z: np.ndarray) -> Float[np.ndarray, "test values"]:
        """Probabilities; 0 for values that the training draws lack."""
        q = np.zeros((len(z), self.values))
        q[:, self.seen] = self.model.predict_proba(z) if len(self.seen) > 1 else 1.0
        return q


def _read(
    draws: Draws, sigma: float, where: str, denoiser: HasFeatures | None, block: str | None
) -> Float[np.ndarray, "draws inputs"]:
    """Inputs of a probe at a level, float64."""
    y = draws.v.double() + sigma * draws.noise.double()
    if where != "features" or denoiser is None:
        return y.flatten(1).cpu().numpy()
    features = []
    for part in torch.split(y, _CHUNK):
        with torch.no_grad():
            blocks = denoiser.features(part, torch.full((len(part),), sigma, dtype=part.dtype, device=part.device))
        if block is not None and block not in blocks:
            raise InputError(f"no block is called {block!r}: choose among {', '.join(blocks)}")
        chosen = [blocks[block]] if block is not None else list(blocks.values())
        features.append(torch.cat([x.flatten(1).double() for x in chosen], 1).cpu())
    return torch.cat(features).numpy()


def _directions(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leading principal directions of x, standardised input by input, the largest first, and z along them."""
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-9 * np.abs(mean), scale, np.inf)  # an input that never changes is dropped
    x, z = (x - mean) / scale, (z - mean) / scale
    if x.shape[1] > _DIRECTIONS[0]:
        wide = x.shape[1] > len(x)
        values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
        kept = max(min(_DIRECTIONS[-1], int((values > 1e-9 * values[-1]).sum())), 1)
        vectors = vectors[:, ::-1][:, :kept]
        if wide:
            vectors = x.T @ vectors / np.sqrt(np.maximum(values[::-1][:kept], 1e-300))
        x, z = x @ vectors, z @ vectors
    return x, z


def classifier_bound(
    classifier: HasAllPosteriors,
    attributes: Sequence[Attribute],
    draws: Draws,
    sigma: Float[np.ndarray, " levels"],
    *,
    estimator: str = "classifier",
) -> dict[str, Curve]:
    r"""The bound :math:`E[\ln q(A \mid Y_\sigma) - \ln p(A)]` of a classifier of noisy values, at every level.

    Args:
        classifier: trained on other draws.
        attributes: those that it classifies and that are wanted.
        draws: held out, with labels.
        sigma: decreasing levels.
        estimator: name of the curves.

    Returns: for each attribute a Curve of kind ``lower bound``.  It uses each level by itself and may be negative;
        :func:`~sigmascope.information.bounds.heldout_bound` makes the best of all levels.

    Cost: levels · draws calls.
    """
    gains: dict[str, list[np.ndarray]] = {a.name: [] for a in attributes}
    for s in sigma.tolist():
        log_q = log_posteriors(classifier, draws, s)
        for a in attributes:
            own = draws.labels[a.name].cpu()
            gains[a.name].append((log_q[a.name][torch.arange(len(own)), own] - a.prior.log()[own]).numpy())
    return {
        a.name: Curve.of_draws(a.name, estimator, sigma, np.stack(gains[a.name]), a.entropy, kind="lower bound")
        for a in attributes
    }


def log_posteriors(classifier: HasAllPosteriors, draws: Draws, sigma: float) -> dict[str, Tensor]:
    """ln q(a | y) of every attribute at one level, float64, on the CPU."""
    parts: dict[str, list[Tensor]] = {}
    for rows in torch.split(torch.arange(len(draws)), _CHUNK):
        y = draws.v[rows].double() + sigma * draws.noise[rows].double()
        with torch.no_grad():
            log_q = classifier.all_log_posteriors(y, torch.full((len(y),), sigma, dtype=y.dtype, device=y.device))
        for name, q in log_q.items():
            parts.setdefault(name, []).append(q.cpu().double())
    return {name: torch.cat(x) for name, x in parts.items()}
