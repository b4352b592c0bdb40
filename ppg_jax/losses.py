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


def sequence_log_prob(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    """Masked sum over the tokens.  [B, T], bool [B, T] -> [B]."""
    return jnp.sum(log_probs, axis=-1, where=mask)


def cross_entropy(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean negative log-likelihood of the counted tokens, nats.  [B, T] -> scalar."""
    return -jnp.sum(log_probs, where=mask) / jnp.maximum(jnp.sum(mask), 1)


def reinforce_loss(
    log_probs: jax.Array, mask: jax.Array, advantage: jax.Array, reduce: str = "sum"
) -> jax.Array:
    """-E[A log pi(y | x)], Williams (1992).  [B, T], bool [B, T], [B] -> scalar.

    Its gradient is the paper's -R grad log P (section 3.3), averaged over the rows.
    reduce: "sum" takes log P of the whole sequence, as the formula does; "mean" divides
    it by the number of tokens, as the loss of a Hugging Face model does.
    """
    log_prob = sequence_log_prob(log_probs, mask)
    if reduce == "mean":
        log_prob = log_prob / jnp.maximum(jnp.sum(mask, axis=-1), 1)
    return -jnp.mean(jax.lax.stop_gradient(advantage) * log_prob)


def kl_divergence(logits: jax.Array, reference: jax.Array, mask: jax.Array):
    """Mean over the counted tokens of KL(pi || reference), nats, exact over V.

    float [B, T, V] twice, bool [B, T] -> scalar.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    log_q = jax.nn.log_softmax(reference.astype(jnp.float32))
    per_token = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
    return jnp.sum(per_token, where=mask) / jnp.maximum(jnp.sum(mask), 1)


def entropy(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the counted tokens of H(pi), nats.  [B, T, V], [B, T] -> scalar."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    per_token = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    return jnp.sum(per_token, where=mask) / jnp.maximum(jnp.sum(mask), 1)
