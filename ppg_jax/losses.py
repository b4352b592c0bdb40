"""Losses and log-probabilities: pure functions of arrays.

Axes: B rows, T target tokens, V vocabulary.
"""

import jax
import jax.numpy as jnp


def token_log_probs(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """log softmax(logits) at the targets.  [..., V], int [...] -> float32 [...]."""
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def cross_entropy(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean negative log-likelihood of the counted tokens, nats.  [B, T] -> scalar."""
    return -jnp.sum(log_probs, where=mask) / jnp.maximum(jnp.sum(mask), 1)


def reinforce_loss(
    log_probs: jax.Array, mask: jax.Array, advantage: jax.Array, completions: int
) -> jax.Array:
    """-E[A log pi(y | x)], Williams (1992).  [B, T], bool [B, T], [B, T] -> scalar.

    Its gradient is the paper's -R grad log P (section 3.3), averaged over the
    completions, of which a row may hold several: each token has its completion's A.
    """
    return -jnp.sum(jax.lax.stop_gradient(advantage) * log_probs, where=mask) / (
        completions
    )


def kl_divergence(logits: jax.Array, reference: jax.Array) -> jax.Array:
    """KL(pi || reference) at each token, in nats, exact.  [..., V] twice -> [...]."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    log_q = jax.nn.log_softmax(reference.astype(jnp.float32))
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def entropy(logits: jax.Array) -> jax.Array:
    """H(pi) at each token, nats.  [..., V] -> [...]."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
