"""A gated recurrent unit whose reset gate acts before its product (Cho et al., 2014).

That of TensorFlow 1, which Song et al. use; `flax.linen.GRUCell` and PyTorch's reset
what the product has given. The products with the inputs are done for all words at once.

Axes: B rows, T words, I inputs, H units.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppg_jax.models.product import einsum


def small(key, shape, dtype=jnp.float32):
    """Uniform between -.08 and .08: Song et al.'s, of all that has no other."""
    return jax.random.uniform(key, shape, dtype, -0.08, 0.08)


def _open_gates(key, shape, dtype=jnp.float32):
    """Both gates begin with a bias of 1, which keeps the state; the candidate at 0."""
    return jnp.zeros(shape, dtype).at[: shape[0] * 2 // 3].set(1)


class GRU(nn.Module):
    """h' = u h + (1 - u) tanh(W [x, r h]), with gates r and u of [x, h]."""

    inputs: int
    features: int

    def setup(self):
        size = self.features
        self.kernel = self.param("kernel", small, (self.inputs, 3 * size))
        self.gates = self.param("gates", small, (size, 2 * size))
        self.candidate = self.param("candidate", small, (size, size))
        self.bias = self.param("bias", _open_gates, (3 * size,))

    def step(self, state, x):
        """[B, H], [B, I] -> [B, H]."""
        return _stepping(self.gates, self.candidate)(state, self._given(x))

    def __call__(self, x, counted, state=None, reverse: bool = False):
        """The states after each word, and the last one: [B, T, H], [B, H].

        x: [B, T, I]. counted: bool [B, T]; a word that is not leaves the state as it
        is. state: [B, H], that it starts with; None: 0. reverse: from the last word to
        the first.
        """
        if state is None:
            state = jnp.zeros((x.shape[0], self.features))
        step = _stepping(self.gates, self.candidate)

        def word(state, given):
            x, counted = given
            state = jnp.where(counted[:, None], step(state, x), state)
            return state, state

        given = self._given(x).swapaxes(0, 1), counted.T
        last, states = jax.lax.scan(word, state, given, reverse=reverse)
        return states.swapaxes(0, 1), last

    def _given(self, x):
        """[..., I] -> [..., 3 H], what the inputs add to both gates and candidate."""
        rows = x.reshape(-1, x.shape[-1])
        y = einsum("ri,ih->rh", rows, self.kernel) + self.bias[None]
        return y.reshape(*x.shape[:-1], -1)


def _stepping(gates, candidate) -> Callable:
    """(state [B, H], what the input adds [B, 3 H]) -> state."""
    size = candidate.shape[0]

    def step(state, x):
        both = jax.nn.sigmoid(x[:, : 2 * size] + state @ gates)
        reset, update = both[:, :size], both[:, size:]
        new = jnp.tanh(x[:, 2 * size :] + (reset * state) @ candidate)
        return update * state + (1 - update) * new

    return step
