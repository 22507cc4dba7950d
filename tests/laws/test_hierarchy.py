"""The exact filter of a random hierarchy against enumeration, the mean field of the literature, and its own laws."""

from __future__ import annotations

import inspect
import itertools
import math

import pytest
import torch

from sigmascope.core import InputError, generator
from sigmascope.data import from_array
from sigmascope.data.hierarchy import Hierarchy, parse_hierarchy, random_hierarchy
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser

# v, m, s, L and the dimension of an embedding: 32, 48, 384 and 16 data.
SMALL = [(4, 2, 2, 2, None), (3, 2, 3, 2, None), (3, 2, 2, 3, 2), (4, 2, 2, 1, 3)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The problems are small: threads would mostly wait for each other, for long where others use the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def exact(grammar: Hierarchy, **options) -> HierarchyDenoiser:
    return HierarchyDenoiser(grammar.rules, grammar.vectors, grammar.attributes, **options)


def small(shape, seed=0) -> Hierarchy:
    v, m, s, depth, dim = shape
    return random_hierarchy(v, m, s, depth, seed, dim)


def leaf_log_evidence(denoiser: HierarchyDenoiser, y, sigma):
    """-|y_leaf - x_b|² / 2σ² of every leaf and symbol."""
    apart = y[:, :, None] - denoiser.vectors
    return -(apart**2).sum(3) / (2 * sigma**2)[:, None, None]


def trees(grammar: Hierarchy):
    """Every tree of a small grammar: for each level the symbols of its nodes, shape (data, nodes)."""
    found = [[(a,)] for a in range(grammar.symbols)]
    for rules in grammar.rules:
        table = rules.tolist()
        found = [
            [*tree, tuple(itertools.chain.from_iterable(choice))]
            for tree in found
            for choice in itertools.product(*(table[a] for a in tree[-1]))
        ]
    return [torch.tensor(level) for level in zip(*found, strict=True)]


def noisy(grammar: Hierarchy, n: int, sigma, seed: int = 1):
    """Noisy values, one level per row, and the trees that they come from."""
    g = torch.Generator().manual_seed(seed)
    v, symbols = grammar.sample(n, g)
    level = torch.as_tensor(sigma, dtype=torch.float64).expand(n).contiguous()
    noise = torch.randn(v.shape, generator=g, dtype=torch.float64)
    return v.double() + level[:, None, None] * noise, level, symbols


class Listed:
    """A small grammar as a data set that is enumerated, and noisy values at several levels."""

    def __init__(self, shape) -> None:
        self.grammar = small(shape)
        self.levels = trees(self.grammar)
        v = self.grammar.vectors[self.levels[-1]]
        assert len(v) == round(math.exp(self.grammar.log_size))
        labels = {a.name: level[:, 0] for a, level in zip(self.grammar.attributes, self.levels, strict=True)}
        self.data = from_array(v.flatten(1), labels)
        self.finite = FiniteDenoiser(self.data)
        self.exact = exact(self.grammar)
        self.y, self.sigma, self.true = noisy(self.grammar, 40, torch.tensor([0.02, 0.3, 0.6, 1.0, 4.0] * 8))
        distance2 = ((self.y[:, None] - v.double()) ** 2).sum((2, 3))
        self.flat = self.y.flatten(1)
        self.logits = -distance2 / (2 * self.sigma[:, None] ** 2) - math.log(len(v))


@pytest.fixture(params=SMALL, ids=str, scope="module")
def listed(request) -> Listed:
    return Listed(request.param)


def test_the_denoiser_is_that_of_the_enumerated_data(listed):
    truth = listed.finite(listed.flat, listed.sigma)
    assert (listed.exact(listed.y, listed.sigma).flatten(1) - truth).abs().max() < 1e-10
    assert (truth - listed.finite(listed.flat, 2 * listed.sigma)).abs().max() > 0.1


def test_given_nodes_condition_as_in_the_enumerated_data(listed):
    names = [a.name for a in listed.grammar.attributes]
    n = len(listed.y)
    # A datum that need not be the one that was drawn says what is known, so that the combination exists.
    given = torch.randint(len(listed.data), (n,), generator=torch.Generator().manual_seed(0))
    apart = 0.0
    for some in [(name,) for name in names] + list(itertools.combinations(names, 2)):
        ours, theirs = {}, {}
        for i, name in enumerate(some):
            unknown = torch.arange(n) % 3 == i
            symbol = listed.levels[names.index(name)][given, 0]
            index = {int(value): k for k, value in enumerate(listed.data.attribute(name).values)}
            ours[name] = torch.where(unknown, -1, symbol)
            theirs[name] = torch.where(unknown, -1, torch.tensor([index[int(a)] for a in symbol]))
        d, truth = listed.exact(listed.y, listed.sigma, ours), listed.finite(listed.flat, listed.sigma, theirs)
        assert (d.flatten(1) - truth).abs().max() < 1e-10
        apart = max(apart, float((d - listed.exact(listed.y, listed.sigma)).abs().max()))
    assert apart > 0.5


def test_posteriors_of_first_nodes_are_those_of_the_enumerated_data(listed):
    together = listed.exact.all_log_posteriors(listed.y, listed.sigma)
    for a in listed.grammar.attributes:
        ours = listed.exact.log_posterior(listed.y, listed.sigma, a.name)
        assert torch.equal(ours, together[a.name])
        seen = [int(value) for value in listed.data.attribute(a.name).values]
        truth = listed.finite.log_posterior(listed.flat, listed.sigma, a.name)
        assert (ours[:, seen] - truth).abs().max() < 1e-10
        assert torch.allclose(a.prior[seen], listed.data.attribute(a.name).prior, atol=1e-12)
        assert torch.isfinite(ours).all()
        assert float(ours.exp().sum(1).sub(1).abs().max()) < 1e-12


def test_beliefs_evidence_and_entropies_are_those_of_the_enumerated_data(listed):
    found = listed.exact.beliefs(leaf_log_evidence(listed.exact, listed.y, listed.sigma))
    assert (found.log_evidence - listed.logits.logsumexp(1)).abs().max() < 1e-10
    p = listed.logits.softmax(1)
    for level, symbols in enumerate(listed.levels):
        one_hot = torch.nn.functional.one_hot(symbols, listed.grammar.symbols).double()
        truth = torch.einsum("bk,knv->bnv", p, one_hot)
        assert (found.nodes[level] - truth).abs().max() < 1e-10
        _, group = torch.unique(symbols, dim=0, return_inverse=True)
        joint = torch.zeros(len(p), int(group.max()) + 1, dtype=torch.float64).index_add_(1, group, p)
        h = torch.special.entr(joint).sum(1)
        assert (found.level_entropies[level] - h).abs().max() < 1e-10
        assert joint.shape[1] == round(math.exp(float(listed.exact.level_prior_entropies()[level])))
    assert (found.level_entropies - listed.exact.level_entropies(listed.y, listed.sigma)).abs().max() < 1e-10
    assert float(h.max()) > 1.0


def test_evidence_of_known_nodes_is_their_posterior(listed):
    """ln p(y, a) - ln p(y) = ln p(a | y), for every node that can be given."""
    evidence = leaf_log_evidence(listed.exact, listed.y, listed.sigma)
    free = listed.exact.beliefs(evidence).log_evidence
    for level, a in enumerate(listed.grammar.attributes):
        value = listed.true[level][:, 0]
        given = listed.exact.beliefs(evidence, {a.name: value})
        posterior = listed.exact.log_posterior(listed.y, listed.sigma, a.name)
        assert torch.allclose(given.log_evidence - free, posterior.gather(1, value[:, None])[:, 0], atol=1e-10)
        assert torch.equal(given.nodes[level][:, 0].argmax(1), value)


MEAN_FIELD = {0.6: 0.952, 0.7: 0.664, 0.75: 0.113}
BELIEF = {0.6: 0.962, 0.7: 0.678, 0.75: 0.121}


def mean_field(eps: float, v: int = 32, m: int = 8, s: int = 2, depth: int = 7) -> float:
    """TRUTHS: the belief of the root after L steps of F."""
    f = (m * v - 1) / (v**s - 1)
    p = 1 - eps + eps / v
    for _ in range(depth):
        p = (p**s + f * (m - 1) / (m * v - 1) * (1 - p**s)) / (p**s + f * (1 - p**s))
    return p


def test_soft_evidence_reaches_the_root_as_published():
    """TRUTHS: exact belief propagation, a mean over 60 grammars (v = 32, m = 8, s = 2, L = 7) of its own."""
    belief = dict.fromkeys(BELIEF, 0.0)
    grammars = 20
    for seed in range(grammars):
        grammar = random_hierarchy(32, 8, 2, 7, seed)
        denoiser = exact(grammar)
        _, symbols = grammar.sample(40, torch.Generator().manual_seed(seed))
        leaf = torch.nn.functional.one_hot(symbols[-1], 32).double()
        for eps in BELIEF:
            root = denoiser.beliefs(((1 - eps) * leaf + eps / 32).log()).nodes[0][:, 0]
            belief[eps] += float(root.gather(1, symbols[0]).mean()) / grammars
    for eps, truth in BELIEF.items():
        assert mean_field(eps) == pytest.approx(MEAN_FIELD[eps], abs=1e-3)
        assert belief[eps] == pytest.approx(truth, abs=0.03)
        assert belief[eps] == pytest.approx(mean_field(eps), abs=0.04)


def test_size_is_that_of_the_literature():
    grammar = random_hierarchy(32, 8, 2, 7)
    assert grammar.log_size / math.log(10) == pytest.approx(math.log10(32 * 8**127), abs=1e-9)
    assert round(grammar.log_size / math.log(10)) == 116
    assert float(exact(grammar).level_prior_entropies()[-1]) == pytest.approx(grammar.log_size)
    assert random_hierarchy(3, 2, 3, 2).log_size == pytest.approx(math.log(48))


def test_rules_are_distinct_and_trees_obey_them():
    crowded = random_hierarchy(4, 4, 2, 3, seed=5)  # every pair is written once
    sparse = random_hierarchy(1100, 3, 3, 2, embedding=4)  # too many triples to list
    for grammar in (crowded, sparse):
        for rules in grammar.rules:
            count = grammar.symbols * grammar.choices
            assert len(torch.unique(rules.flatten(0, 1), dim=0)) == count
            apart = rules.flatten(0, 1).double().mean(0) - (grammar.symbols - 1) / 2  # uniform in every place
            assert float(apart.abs().max()) < 4 * grammar.symbols / math.sqrt(12 * count)
        assert not torch.equal(grammar.rules[0], grammar.rules[1])
        v, symbols = grammar.sample(50, torch.Generator().manual_seed(0))
        assert torch.equal(v, grammar.vectors[symbols[-1]])
        for level, rules in enumerate(grammar.rules):
            of_node = symbols[level + 1].reshape(50, -1, 1, grammar.branching)
            assert (rules[symbols[level]] == of_node).all(-1).any(-1).all()
    assert torch.allclose(sparse.vectors.norm(dim=1), torch.ones(1100))
    assert sparse.unit == crowded.unit


def test_first_nodes_follow_their_prior():
    grammar = random_hierarchy(8, 2, 2, 3, seed=3)
    n = 4000
    _, symbols = grammar.sample(n, torch.Generator().manual_seed(0))
    for a, level in zip(grammar.attributes, symbols, strict=True):
        share = torch.bincount(level[:, 0], minlength=8) / n
        assert torch.all((share - a.prior).abs() <= 4 * (a.prior * (1 - a.prior) / n).sqrt())
    assert float((grammar.attributes[-1].prior - 1 / 8).abs().max()) > 0.05
    y, _, _ = noisy(grammar, 3, 1.0)
    far = exact(grammar).all_log_posteriors(y, torch.full((3,), 1e5, dtype=torch.float64))
    for a in grammar.attributes:
        assert torch.allclose(far[a.name].exp(), a.prior.expand(3, -1), atol=1e-4)


def test_a_draw_depends_on_seed_and_number_alone():
    grammar = random_hierarchy(8, 2, 2, 3, seed=3)
    draws, fewer = grammar.draw(6, 9), grammar.draw(3, 9)
    v, noise, labels = draws.v, draws.noise, draws.labels
    assert torch.equal(draws.items, torch.arange(6))
    assert torch.equal(v[:3], fewer.v)
    assert torch.equal(noise[:3], fewer.noise)
    assert all(torch.equal(labels[name][:3], fewer.labels[name]) for name in labels)
    assert not torch.equal(grammar.draw(3, 8).noise, fewer.noise)
    assert len({float(x) for x in noise[:, 0, 0]}) == 6
    assert torch.equal(labels["leaf"], v[:, 0].argmax(1))
    alone = generator(9, 4)
    one, symbols = grammar.sample(1, alone)
    assert torch.equal(v[4], one[0])
    assert [int(labels[a.name][4]) for a in grammar.attributes] == [int(level[0, 0]) for level in symbols]


def test_samples_of_the_posterior_follow_it(listed):
    rows = torch.tensor([1, 2, 3, 4])
    y, sigma, n = listed.y[rows], listed.sigma[rows], 4000
    drawn = listed.exact.sample_symbols(y, sigma, n, torch.Generator().manual_seed(7))
    for level, a in enumerate(listed.grammar.attributes):
        p = listed.exact.log_posterior(y, sigma, a.name).exp()
        share = torch.nn.functional.one_hot(drawn[level][:, :, 0], listed.grammar.symbols).double().mean(0)
        assert torch.all((share - p).abs() <= 4 * (p * (1 - p) / n).sqrt() + 1e-3)
    # whole data, not only single nodes
    power = listed.grammar.symbols ** torch.arange(listed.grammar.leaves)
    code = (listed.levels[-1] * power).sum(1)
    assert len(torch.unique(code)) == len(code)
    p = listed.logits[rows].softmax(1)
    hit = (drawn[-1] * power).sum(2)
    share = torch.stack([(hit == c).double().mean(0) for c in code], 1)
    assert torch.allclose(share.sum(1), torch.ones(4, dtype=torch.float64))
    assert torch.all((share - p).abs() <= 4 * (p * (1 - p) / n).sqrt() + 1e-3)
    # the values are those trees
    v = listed.exact.sample_posterior(y, sigma, n, torch.Generator().manual_seed(7))
    assert v.dtype == y.dtype
    assert torch.equal(v, listed.grammar.vectors[drawn[-1]].double())


@pytest.fixture(scope="module")
def middle():
    """A grammar of 16 * 4^15 data and draws of it."""
    grammar = random_hierarchy(16, 4, 2, 4, seed=1)
    return grammar, exact(grammar)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0])
def test_the_entropy_of_a_level_grows_downwards(middle, sigma):
    grammar, denoiser = middle
    y, level, _ = noisy(grammar, 300, sigma)
    h = denoiser.level_entropies(y, level)
    assert bool((h.diff(dim=0) >= -1e-12).all())
    assert float(h[0].min()) >= 0
    root = denoiser.log_posterior(y, level, "root")
    assert torch.allclose(h[0], torch.special.entr(root.exp()).sum(1), atol=1e-10)
    # I(A_l; Y) grows downwards, and with the signal
    information = denoiser.level_prior_entropies()[:, None] - h
    step = information.diff(dim=0)
    assert bool((step.mean(1) > -4 * step.std(1) / math.sqrt(300)).all())
    assert bool((information.mean(1) > 0).all())
    clearer = denoiser.level_entropies(*noisy(grammar, 300, sigma / 2)[:2])
    assert bool((clearer.mean(1) < h.mean(1)).all())
    assert float(information.mean(1)[-1]) > 1.0


def test_posteriors_are_calibrated(middle):
    """E p(A | Y) of the true symbol is E sum_a p(a | Y)^2, for draws of the model and its own noise."""
    grammar, denoiser = middle
    draws = grammar.draw(600, 3)
    level = torch.full((600,), 0.7, dtype=torch.float64)
    for name, log_p in denoiser.all_log_posteriors(draws.v.double() + 0.7 * draws.noise.double(), level).items():
        p = log_p.exp()
        difference = p.gather(1, draws.labels[name][:, None])[:, 0] - (p**2).sum(1)
        assert abs(float(difference.mean())) < 4 * float(difference.std()) / math.sqrt(600)
        assert float((p**2).sum(1).mean()) > 0.1
        assert float(difference.std()) / math.sqrt(600) < 0.01


@pytest.mark.parametrize("sigma", [0.15, 0.6, 3.0])
def test_laws_of_a_posterior_mean(middle, sigma):
    grammar, denoiser = middle
    y, level, symbols = noisy(grammar, 12, sigma)
    d = denoiser(y, level)
    # tower property: D = sum_a pi(a) D_a
    for a in grammar.attributes:
        pi = denoiser.log_posterior(y, level, a.name).exp()
        possible = [k for k in range(16) if a.prior[k] > 0]
        count = len(possible)
        given = denoiser(
            y.repeat(count, 1, 1), level.repeat(count), {a.name: torch.tensor(possible).repeat_interleave(12)}
        )
        mixture = (pi.T[possible][:, :, None, None] * given.reshape(count, *y.shape)).sum(0)
        assert (d - mixture).abs().max() < 1e-10
    # batch = singletons, also where some rows are given
    known = {"level 2": torch.where(torch.arange(12) % 2 == 0, symbols[2][:, 0], -1)}
    mixed = denoiser(y, level, known)
    alone = [denoiser(y[i : i + 1], level[:1], {"level 2": known["level 2"][i : i + 1]}) for i in range(12)]
    assert (mixed - torch.cat(alone)).abs().max() < 1e-12
    assert (mixed[1::2] - d[1::2]).abs().max() < 1e-12
    # Tweedie: D = y + sigma^2 grad ln p(y), by central differences along a direction
    g = torch.Generator().manual_seed(0)
    along = torch.randn(y.shape, generator=g, dtype=torch.float64)
    h = 1e-4 * sigma
    ahead, behind = (denoiser.beliefs(leaf_log_evidence(denoiser, y + e * along, level)).log_evidence for e in (h, -h))
    score = (ahead - behind) / (2 * h)
    assert torch.allclose(((d - y) * along).sum((1, 2)), sigma**2 * score, atol=1e-5 * max(1.0, sigma**2))


def test_chunks_do_not_change_the_numbers(middle):
    grammar, whole = middle
    y, level, symbols = noisy(grammar, 9, 0.6)
    cut = exact(grammar)
    cut.table_bytes = 4 * 8 * 64 * 15  # four rows at a time
    known = {"level 1": symbols[1][:, 0]}
    assert (cut(y, level, known) - whole(y, level, known)).abs().max() < 1e-12
    assert (cut.level_entropies(y, level) - whole.level_entropies(y, level)).abs().max() < 1e-12
    for name, log_p in cut.all_log_posteriors(y, level).items():
        assert (log_p - whole.log_posterior(y, level, name)).abs().max() < 1e-12
    assert [len(x) for x in (cut(y[:0], level[:0]), cut.log_posterior(y[:0], level[:0], "leaf"))] == [0, 0]
    ours, theirs = (d.sample_symbols(y, level, 5, torch.Generator().manual_seed(0)) for d in (cut, whole))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_single_precision_is_near(middle):
    grammar, denoiser = middle
    y, level, _ = noisy(grammar, 20, 0.5)
    rough = exact(grammar, dtype=torch.float32)(y, level)
    assert rough.dtype == y.dtype
    assert 1e-9 < (rough - denoiser(y, level)).abs().max() < 1e-4


def test_levels_where_probabilities_underflow(middle):
    """At sigma 0.001 other roots have e^-500000: their logarithms stay exact, and so does being given."""
    grammar, denoiser = middle
    y, level, symbols = noisy(grammar, 4, 0.001)
    assert torch.allclose(denoiser(y, level), grammar.vectors[symbols[-1]].double(), atol=1e-12)
    log_p = denoiser.log_posterior(y, level, "root")
    assert torch.isfinite(log_p).all()
    wrong = log_p.argsort(1)[:, 0]
    assert float(log_p.gather(1, wrong[:, None]).max()) < -500_000
    given = denoiser(y, level, {"root": wrong})
    # its leaves are those of a datum with that root
    assert bool((given.amax(2) > 0.9).all())
    written = denoiser.beliefs(leaf_log_evidence(denoiser, given.round(), level)).nodes[0][:, 0]
    assert torch.equal(written.argmax(1), wrong)
    assert not bool((wrong == symbols[0][:, 0]).any())


def test_a_symbol_that_never_comes_first():
    some = (random_hierarchy(4, 2, 2, 2, seed) for seed in range(99))
    grammar = next(g for g in some if 0 in g.attributes[1].prior)
    denoiser = exact(grammar)
    absent = int((grammar.attributes[1].prior == 0).nonzero()[0])
    y, level, _ = noisy(grammar, 3, torch.tensor([0.01, 1.0, 50.0]))
    log_p = denoiser.log_posterior(y, level, "level 1")
    assert torch.isfinite(log_p).all()
    assert torch.equal(log_p[:, absent], log_p.amin(1))
    assert float(log_p[:, absent].max()) <= math.log(5e-324)
    drawn = denoiser.sample_symbols(y, level, 200, torch.Generator().manual_seed(0))
    assert not bool((drawn[1][:, :, 0] == absent).any())
    with pytest.raises(InputError, match="row 2: no datum has the known"):
        denoiser(y, level, {"level 1": torch.tensor([-1, -1, absent])})
    denoiser.table_bytes = 1  # one row at a time
    with pytest.raises(InputError, match="row 2: no datum has the known"):
        denoiser(y, level, {"level 1": torch.tensor([-1, -1, absent])})
    y[1, 2, 3] = torch.nan
    with pytest.raises(InputError, match=r"row 1 of y or sigma holds a number that is not finite"):
        denoiser(y, level)


def test_the_evidence_that_is_given_is_left_as_it_is(middle):
    _, denoiser = middle
    g = torch.Generator().manual_seed(0)
    evidence = torch.randn(16, 16, 3, generator=g, dtype=torch.float64).permute(2, 1, 0)
    before = evidence.clone()
    found = denoiser.beliefs(evidence, {"leaf": torch.full((3,), 5)})
    assert torch.equal(found.nodes[-1][:, 0].argmax(1), torch.full((3,), 5))
    assert torch.equal(evidence, before)


@pytest.mark.parametrize(
    ("y", "sigma", "known", "words"),
    [
        ((3, 4, 3), 3, {}, r"y has shape \(3, 4, 3\): expected \(batch, 4, 4\)"),
        ((3, 4, 4), 4, {}, r"sigma has shape \(4,\), y has batch 3: pass one level per row"),
        ((3, 4, 4), 0, {}, "greater than 0"),
        ((3, 4, 4), 3, {"colour": torch.zeros(3, dtype=torch.int64)}, "no attribute is called 'colour'"),
        ((3, 4, 4), 3, {"leaf": torch.full((3,), 4)}, "must lie between -1"),
        ((3, 4, 4), 3, {"leaf": torch.full((2,), 0)}, "expected one per row"),
    ],
)
def test_what_cannot_be_asked(y, sigma, known, words):
    denoiser = exact(random_hierarchy(4, 2, 2, 2))
    level = torch.ones(sigma) if sigma else torch.zeros(3)
    forward = inspect.unwrap(HierarchyDenoiser.forward)  # without the checks of shapes that only the tests install
    with pytest.raises(InputError, match=words):
        forward(denoiser, torch.zeros(y), level, known)


def test_grammars_that_fit_nothing():
    grammar = random_hierarchy(4, 2, 2, 2)
    first = grammar.rules[0]
    shared = first.clone()
    shared[1] = first[0]
    for rules in ((), (first, shared), (first, first + 9), (first, first[:, :1])):
        with pytest.raises(InputError, match="rules"):
            Hierarchy(rules, grammar.vectors)
        with pytest.raises(InputError, match="rules"):
            HierarchyDenoiser(rules, grammar.vectors, grammar.attributes)
    for make in (lambda v: Hierarchy(grammar.rules, v), lambda v: HierarchyDenoiser(grammar.rules, v, ())):
        with pytest.raises(InputError, match="vectors"):
            make(torch.eye(3))
    with pytest.raises(InputError, match="expected 3 attributes of 4 values"):
        HierarchyDenoiser(grammar.rules, grammar.vectors, grammar.attributes[:2])
    with pytest.raises(InputError, match="log_evidence has shape"):
        exact(grammar).beliefs(torch.zeros(3, 4, 5))
    for draws, seed in ((1, 0), (4, -1)):
        with pytest.raises(InputError):
            grammar.draw(draws, seed)


def test_names_on_the_command_line():
    default = parse_hierarchy("hierarchy")
    assert (default.symbols, default.choices, default.branching, default.depth) == (32, 8, 2, 6)
    assert default.event == (64, 32)
    assert default.fingerprint == random_hierarchy().fingerprint
    other = parse_hierarchy("hierarchy:v=16,m=4,L=3,seed=1,dim=5")
    assert other.event == (8, 5)
    assert other.name == "hierarchy (v=16, m=4, s=2, L=3)"
    assert [a.name for a in other.attributes] == ["root", "level 1", "level 2", "leaf"]
    assert other.fingerprint == random_hierarchy(16, 4, 2, 3, 1, 5).fingerprint
    assert other.fingerprint != random_hierarchy(16, 4, 2, 3, 2, 5).fingerprint
    assert other.fingerprint != random_hierarchy(16, 4, 2, 3, 1).fingerprint
    assert random_hierarchy(16, 4, 2, 3, 1).fingerprint != random_hierarchy(16, 4, 2, 3, 2).fingerprint
    assert parse_hierarchy("hierarchy:L=1").leaves == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scenes", "is no hierarchy"),
        ("hierarchy:", "is no hierarchy"),
        ("hierarchy:w=3", "'w=3' is not known"),
        ("hierarchy:v", "v is ''"),
        ("hierarchy:v=8,v=8", "v comes twice"),
        ("hierarchy:v=-8", "'-8'"),
        ("hierarchy:v=1", "v is 1"),
        ("hierarchy:m=1", "m is 1"),
        ("hierarchy:s=1", "s is 1"),
        ("hierarchy:L=0", "L is 0"),
        ("hierarchy:dim=0", "dim is 0"),
        ("hierarchy:v=4,m=5", r"20 rules .* there are 16"),
        ("hierarchy:L=40", "leaves are too many"),
        ("hierarchy:v=9999", "one-hot vectors are too large"),
        ("hierarchy:v=9999999,dim=8", "v m s is"),
        ("hierarchy:seed=" + 5000 * "9", "expected a whole number"),
    ],
)
def test_names_that_are_refused_in_one_line(text, words):
    with pytest.raises(InputError, match=words) as error:
        parse_hierarchy(text)
    assert "\n" not in str(error.value)
