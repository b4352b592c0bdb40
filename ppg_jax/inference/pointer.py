"""How likely each word is to a network that says words or copies them.

    p(word) = g softmax(logits)[word] + (1 - g) copying summed over where it stands

with g the sigmoid of the gate (See et al., 2017). All in logarithms, so that a word
that is found nowhere, and unlikely, has a gradient.

Axes: B rows, T words of a response, C words of a context, V vocabulary.
"""

import jax
import jax.numpy as jnp

from ppg_jax.losses import token_log_probs
from ppg_jax.models.paml import Said

NEVER = -1e30  # the logarithm of 0, with a gradient of 0


def target_log_probs(said: Said, context: jax.Array, targets: jax.Array) -> jax.Array:
    """log p of the targets.  int [B, C], int [B, T] -> float32 [B, T]."""
    found = context[:, None, :] == targets[:, :, None]
    copied = jnp.sum(said.copying, axis=-1, where=found)
    return _mixed(said.gate, token_log_probs(said.logits, targets), copied)


def word_log_probs(said: Said, context: jax.Array) -> jax.Array:
    """log p of all words.  int [B, C] -> float32 [B, T, V]."""
    rows = jnp.arange(context.shape[0])[:, None]
    each = jnp.zeros((said.logits.shape[0], said.logits.shape[2], said.gate.shape[1]))
    copied = each.at[rows, context].add(said.copying.swapaxes(1, 2)).swapaxes(1, 2)
    return _mixed(said.gate[..., None], jax.nn.log_softmax(said.logits), copied)


def _mixed(gate, said, copied):
    """[B, T, ...]: log(g exp(said) + (1 - g) copied)."""
    some = copied > 0
    copy = jnp.where(some, jnp.log(jnp.where(some, copied, 1)), NEVER)
    return jnp.logaddexp(
        jax.nn.log_sigmoid(gate) + said, jax.nn.log_sigmoid(-gate) + copy
    )
