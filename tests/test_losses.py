"""Each loss is its formula, computed once more in numpy or by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax import losses

B, T, V = 3, 4, 5
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (B, T, V)).astype(np.float32)
OTHER = RNG.normal(0, 2, (B, T, V)).astype(np.float32)
TARGETS = RNG.integers(0, V, (B, T)).astype(np.int32)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], bool)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_cross_entropy_is_the_mean_over_the_counted_tokens():
    chosen = np.take_along_axis(log_softmax(LOGITS), TARGETS[..., None], -1)[..., 0]
    log_probs = losses.token_log_probs(jnp.asarray(LOGITS), jnp.asarray(TARGETS))
    np.testing.assert_allclose(log_probs, chosen, rtol=1e-5)
    loss = losses.cross_entropy(log_probs, MASK)
    np.testing.assert_allclose(loss, -chosen[MASK].mean(), rtol=1e-5)


def test_nothing_counted_is_a_loss_of_zero():
    assert losses.cross_entropy(jnp.ones((2, 3)), jnp.zeros((2, 3), bool)) == 0


def test_log_probs_of_half_precision_logits_are_float32():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    assert losses.token_log_probs(logits, jnp.asarray(TARGETS)).dtype == jnp.float32


def test_kl_is_exact_over_the_vocabulary_and_never_negative():
    p, q = log_softmax(LOGITS), log_softmax(OTHER)
    expected = (np.exp(p) * (p - q)).sum(-1)
    p, q, shifted = (jnp.asarray(x) for x in (LOGITS, OTHER, LOGITS + 3))
    kl = losses.kl_divergence(p, q)
    np.testing.assert_allclose(kl, expected, rtol=1e-5)
    assert (kl > 0).all()
    np.testing.assert_allclose(losses.kl_divergence(p, shifted), 0, atol=1e-6)


def test_entropy_is_exact_over_the_vocabulary():
    p = log_softmax(LOGITS)
    result = losses.entropy(jnp.asarray(LOGITS))
    np.testing.assert_allclose(result, -(np.exp(p) * p).sum(-1), rtol=1e-5)
    uniform = losses.entropy(jnp.zeros((B, T, V)))
    np.testing.assert_allclose(uniform, np.log(V), rtol=1e-6)


# A policy of three steps over the tokens a, b and END. Its logits depend on the step
# and on the token before; what follows END is padding.
END = 2
SEQUENCES = np.array(list(itertools.product(range(3), repeat=3)), np.int32)
BEFORE = np.concatenate([np.full((27, 1), END), SEQUENCES[:, :2]], axis=1)
ENDED_BEFORE = np.cumsum(SEQUENCES == END, axis=1) - (SEQUENCES == END) > 0
POLICY = RNG.normal(0, 1, (3, 3, 3)).astype(np.float32)  # step, token before, token
REWARD = RNG.choice([-1.0, 1.0], 27).astype(np.float32)


def policy_log_probs(policy):
    """[3, 3, 3] -> log-probs [27, 3] of every token of all 27 sequences."""
    steps = np.broadcast_to(np.arange(3), (27, 3))
    return losses.token_log_probs(policy[steps, BEFORE], jnp.asarray(SEQUENCES))


def distinct_rollouts():
    """One of the 27 for each thing that the policy can say, and its mask."""
    padded = np.where(ENDED_BEFORE, -1, SEQUENCES)
    _, rows = np.unique(padded, axis=0, return_index=True)
    return rows, ~ENDED_BEFORE


@pytest.mark.parametrize("early_end", [False, True])
def test_the_reinforce_gradient_equals_exact_enumeration(early_end):
    """E over all rollouts of the loss's gradient = -grad of E[R], without any log."""
    rows, mask = np.arange(27), np.ones((27, 3), bool)
    if early_end:
        rows, mask = distinct_rollouts()

    def expected_reward(policy):
        probs = jnp.prod(jnp.where(mask, jnp.exp(policy_log_probs(policy)), 1), axis=1)
        return jnp.sum(probs[rows] * REWARD[rows]), probs[rows]

    def loss(policy, row):
        log_probs = policy_log_probs(policy)[row][None]
        counted, reward = jnp.asarray(mask)[row][None], jnp.asarray(REWARD)[row][None]
        return losses.reinforce_loss(log_probs, counted, reward[:, None], 1)

    @jax.jit
    def exact_and_average(policy):
        exact, probs = jax.grad(expected_reward, has_aux=True)(policy)
        each = jax.vmap(jax.grad(loss), in_axes=(None, 0))(policy, jnp.asarray(rows))
        return exact, probs, jnp.einsum("r,rstv->stv", probs, each)

    exact, probs, average = exact_and_average(jnp.asarray(POLICY))
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(average, -exact, atol=1e-6)
    assert np.abs(exact).max() > 0.01


def test_a_batch_averages_the_gradients_of_its_completions():
    log_probs, advantage = jnp.asarray(LOGITS[:, :, 0]), jnp.array([1.0, -2.0, 0.5])
    spread = jnp.broadcast_to(advantage[:, None], (B, T))
    grad = jax.grad(losses.reinforce_loss)(log_probs, MASK, spread, B)
    np.testing.assert_allclose(grad, -np.asarray(spread) * MASK / B)


def test_pads_get_no_gradient_and_the_advantage_gets_none():
    def loss(log_probs, advantage):
        return losses.reinforce_loss(log_probs, MASK, advantage, B)

    log_probs = jnp.asarray(LOGITS[:, :, 0])
    to_tokens, to_advantage = jax.grad(loss, (0, 1))(log_probs, jnp.ones((B, T)))
    assert (np.asarray(to_tokens) != 0).tolist() == MASK.tolist()
    assert not np.asarray(to_advantage).any()
