"""The sampling distribution is what top-k, top-p and temperature say it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.inference import sampling
from ppg_jax.inference.sampling import EXCLUDED, Decoding, filter_logits, sample
from ppg_jax.losses import entropy, token_log_probs

V = 50
RNG = np.random.default_rng(0)
LOGITS = {
    "random": RNG.normal(0, 3, (8, V)),
    "peaked": np.eye(8, V) * 40,
    "flat": np.zeros((2, V)),
    "tied": RNG.integers(0, 4, (8, V)),
    "two equal": np.where(np.arange(V) < 2, 5.0, -5.0)[None],
}
P = (0.05, 0.3, 0.5, 0.9, 0.999)


keep_top_k = jax.jit(sampling.keep_top_k, static_argnums=1)
keep_top_p = jax.jit(sampling.keep_top_p)
filtering = jax.jit(filter_logits, static_argnums=1)


def kept(filtered) -> np.ndarray:
    return np.asarray(filtered) > sampling.EXCLUDED


def nucleus_by_sort(logits: np.ndarray, p: float) -> np.ndarray:
    """The reference: sort, cumulate, cut; then everything tied with the last."""
    probs = np.exp((logits - logits.max(-1, keepdims=True)).astype(np.float64))
    probs /= probs.sum(-1, keepdims=True)
    descending = -np.sort(-probs, axis=-1)
    needed = (np.cumsum(descending, axis=-1) < p).sum(-1, keepdims=True)
    threshold = np.take_along_axis(descending, needed, axis=-1)
    return probs >= threshold * (1 - 1e-6)


@pytest.mark.parametrize("name", LOGITS)
def test_top_p_keeps_the_nucleus_that_a_sort_finds(name):
    logits = np.asarray(LOGITS[name], np.float32)
    for p in P:
        ours = kept(keep_top_p(logits, p))
        # Sums in float32 may put a token on the other side of p, by their rounding.
        least, most = (nucleus_by_sort(logits, p + e) for e in (-1e-6, 1e-6))
        assert (least <= ours).all() and (ours <= most).all(), f"p={p}"
        assert (least != most).sum() <= logits.size / 100


@pytest.mark.parametrize("name", LOGITS)
def test_top_k_keeps_the_k_likeliest_and_ties_with_the_last(name):
    logits = np.float32(LOGITS[name])
    for k in (1, 5, V, 2 * V):
        threshold = -np.sort(-np.asarray(logits), axis=-1)[:, min(k, V) - 1 : min(k, V)]
        expected = np.asarray(logits) >= threshold
        np.testing.assert_array_equal(kept(keep_top_k(logits, k)), expected)


def test_the_filters_leave_the_kept_logits_alone():
    logits = np.float32(LOGITS["random"])
    for filtered in (keep_top_k(logits, 5), keep_top_p(logits, 0.7)):
        np.testing.assert_array_equal(filtered[kept(filtered)], logits[kept(filtered)])


def test_top_p_works_on_a_vocabulary_of_gpt2s_size():
    logits = np.random.default_rng(1).normal(0, 2, (2, 50257)).astype(np.float32)
    for p in (0.1, 0.9):
        ours = kept(keep_top_p(logits, p)).sum(-1)
        np.testing.assert_allclose(ours, nucleus_by_sort(logits, p).sum(-1), rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.5, "top_k": 4},
        {"temperature": 2.0, "top_p": 0.8},
        {"temperature": 0.7, "top_k": 6, "top_p": 0.9},
    ],
)
def test_sampling_frequencies_match_the_distribution(options):
    """Chi-square of 20,000 draws against numpy's distribution, 1 in 1,000 by chance."""
    logits, draws = LOGITS["random"][0, :10], 20_000
    decoding = Decoding(max_new_tokens=1, **options)
    filtered = filtering(np.float32(logits)[None], decoding)[0]
    tokens = jax.random.categorical(jax.random.key(1), filtered, shape=(draws,))
    observed = np.bincount(tokens, minlength=10)
    expected = draws * reference_distribution(logits, decoding)
    assert observed[expected == 0].sum() == 0
    positive = expected > 0
    difference = (observed - expected)[positive] ** 2 / expected[positive]
    # The 0.999 quantiles of chi-square for 0 to 9 degrees of freedom.
    limits = [0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88]
    assert difference.sum() < limits[positive.sum() - 1]


def reference_distribution(logits, decoding: Decoding) -> np.ndarray:
    probs = np.exp(np.asarray(logits) / decoding.temperature)
    if decoding.top_k:
        probs[probs < -np.sort(-probs)[decoding.top_k - 1]] = 0
    probs /= probs.sum()
    if decoding.top_p < 1:
        order = np.argsort(-probs)
        size = (np.cumsum(probs[order]) < decoding.top_p).sum() + 1
        probs[order[size:]] = 0
    return probs / probs.sum()


@pytest.mark.parametrize("filters", [{}, {"top_k": 7}, {"top_k": 9, "top_p": 0.8}])
@pytest.mark.parametrize("temperature", [0.3, 3.0])
def test_log_probs_are_those_of_the_truncated_distribution(temperature, filters):
    decoding = Decoding(4, temperature=temperature, **filters)
    logits = np.float32(LOGITS["random"])
    filtered = filtering(logits, decoding)
    every = np.broadcast_to(np.arange(V), (8, V))
    log_probs = token_log_probs(filtered[:, None], every)
    assert np.isfinite(log_probs).all()
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(np.exp(log_probs) > 0, kept(filtered))
    # What is excluded must not poison sums over the vocabulary either.
    assert np.isfinite(entropy(filtered)).all()


@pytest.mark.parametrize("filters", [{"top_k": 2}, {"top_p": 0.85}])
def test_a_drawn_token_that_rounding_put_outside_is_scored_as_it_was_drawn(filters):
    """Sampling and training round differently: the last one kept is another."""
    decoding = Decoding(4, temperature=0.5, **filters)
    # Probabilities 0.79, 0.11, 0.11 and 0.
    sampled, swapped = [2.0, 1.000001, 1.0, -9.0], [2.0, 1.0, 1.000001, -9.0]
    drawn = jnp.array([1])

    def log_prob(logits, **options):
        return token_log_probs(filter_logits(logits, decoding, **options), drawn)[0]

    before, after = jnp.array([sampled]), jnp.array([swapped])
    assert log_prob(after) < -1e38  # what is to be avoided
    again, gradient = jax.value_and_grad(log_prob)(after, drawn=drawn)
    # A third token, which rounding let in, has its share now; that is all.
    assert abs(again - log_prob(before)) < 0.15
    assert np.isfinite(gradient).all() and gradient[0, 1] > 0


def test_scoring_again_changes_nothing_for_tokens_that_are_inside():
    decoding = Decoding(4, temperature=0.7, top_k=7, top_p=0.9)
    logits = np.float32(LOGITS["random"])
    filtered = filtering(logits, decoding)
    drawn = np.argmax(logits, axis=-1)
    np.testing.assert_array_equal(filtering(logits, decoding, drawn), filtered)


def test_greedy_log_probs_are_the_models_own():
    logits = np.float32(LOGITS["random"])
    decoding = Decoding(max_new_tokens=4, top_k=1, top_p=0.1)
    filtered = filtering(logits, decoding)
    np.testing.assert_array_equal(filtered, logits)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
    ],
)
def test_a_wrong_decoding_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Decoding(**{"max_new_tokens": 8} | wrong)


@pytest.mark.parametrize("size", [5, 128, 300])
def test_quantiles_are_drawn_as_often_as_the_tokens_are_likely(size):
    rng = np.random.default_rng(size)
    logits = rng.normal(0, 2, size).astype(np.float32)
    logits[rng.random(size) < 0.4] = EXCLUDED
    number = 20_000
    # Evenly spaced quantiles give each token its share to within one of them.
    at = (np.arange(number, dtype=np.float32) + 0.5) / number
    rows = np.broadcast_to(logits, (number, size))
    drawn = np.bincount(jax.jit(sample)(rows, at), minlength=size)
    expected = number * np.asarray(jax.nn.softmax(logits))
    assert np.abs(drawn - expected).max() <= 1.5
    assert drawn[logits == EXCLUDED].sum() == 0


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_ends_of_the_unit_interval_are_tokens_that_may_be_drawn(uniform):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (200, 1000)).astype(np.float32)
    first, last = 130, 700  # neither in the first block nor in the last
    logits[:, :first] = logits[:, last + 1 :] = EXCLUDED
    drawn = np.asarray(jax.jit(sample)(logits, np.full(200, uniform, np.float32)))
    # The last token is less likely than what is left above the largest quantile.
    assert (drawn == first).all() if not uniform else (drawn > last - 5).all()
    assert (drawn <= last).all()


@pytest.mark.parametrize("at, place", [(0.1, 0), (0.5, 2), (0.9, 2)])
def test_a_place_without_mass_is_never_drawn_whatever_its_sum_rounds_to(at, place):
    # The second sum is beyond 0.5, the last place has none, and no sum is beyond 0.9.
    sums, mass = jnp.array([[0.3, 0.6, 0.7, 0.7]]), jnp.array([[0.3, 0.0, 0.4, 0.0]])
    assert int(sampling._first_beyond(jnp.array([[at]]), sums, mass)[0, 0]) == place


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_a_contrast_asks_for_what_the_context_adds(weight):
    with_context = jnp.log(jnp.array([[0.5, 0.3, 0.16, 0.04]]))
    without = jnp.log(jnp.array([[0.7, 0.1, 0.16, 0.04]])) + 2.0  # logits, no log-probs
    ours = sampling.contrasted(with_context + 5.0, without, weight)
    # p (p / q)^w: what the context makes likelier gains, what it makes rarer loses; a
    # token of less than a tenth of the likeliest one's probability is no choice.
    wanted = [0.5 * (5 / 7) ** weight, 0.3 * 3**weight, 0.16]
    np.testing.assert_allclose(np.exp(ours[0, :3]), wanted, rtol=1e-5)
    assert ours[0, 3] == EXCLUDED
    assert jnp.argmax(ours) == 1


def test_a_contrast_is_a_number_from_zero_on():
    for contrast in (-0.1, np.inf, np.nan):
        with pytest.raises(ValueError, match="must be >= 0; 0 is off"):
            Decoding(4, contrast=contrast)
