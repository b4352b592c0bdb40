"""GPT-2 and DialoGPT: a decoder with an explicit KV cache.

DialoGPT (Zhang et al., 2020) is GPT-2 (Radford et al., 2019) trained further on
dialogue; the architecture is the same: pre-LN blocks, learned positions, tanh GELU
and an output head tied to the token embedding.

The cache is a value: `prefill` makes it, `decode_step` takes one and returns the next.

Axes: B batch, T tokens, S cache slots, L layers, N heads, H head size, D width,
V vocabulary.
"""

import dataclasses

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ppg_jax.models.attention import attend, attend_back
from ppg_jax.models.dense import Dense


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Sizes and rates, under the names of the Hugging Face `config.json`."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    layer_norm_epsilon: float = 1e-5
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    resid_pdrop: float = 0.1

    def __post_init__(self):
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}."
            )


@flax.struct.dataclass
class KVCache:
    """Keys and values of the tokens so far; every row has used the same slots."""

    keys: tuple[jax.Array, ...]  # L arrays [B, S, N, H]
    values: tuple[jax.Array, ...]
    filled: jax.Array  # bool [B, S]; False where the prompt was padded, or free
    slot: jax.Array  # int32 scalar; the next slot to write

    def branch(self, rows: jax.Array, lengths: jax.Array) -> "KVCache":
        """A cache of rows that each begin as one of this cache's rows does.

        int [B'] of rows, int [B'] of how many of its tokens each has in common with it
        -> B' rows; they write on behind the longest.
        """
        keys, values = jax.tree.map(lambda a: a[rows], (self.keys, self.values))
        filled = self.filled[rows]
        filled &= jnp.cumsum(filled, axis=1) <= lengths[:, None]
        return KVCache(keys, values, filled, self.slot)


def causal_mask(mask: jax.Array) -> jax.Array:
    """bool [B, T] of real tokens -> bool [B, T, T].  For a row of three tokens:

    1 0 0
    1 1 0
    1 1 1
    """
    length = mask.shape[1]
    return jnp.tri(length, dtype=bool)[None] & mask[:, None, :]


def positions_of(mask: jax.Array) -> jax.Array:
    """bool [B, T] -> int32 [B, T]: real tokens count from 0, on whatever side pads are.

    (0 0 1 1 1) -> (0 0 0 1 2)
    """
    return jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)


class Attention(nn.Module):
    config: GPT2Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, mask, cache, slot, deterministic):
        """[B, T, D], bool [B, T, S], (keys, values) or None -> [B, T, D], new pair."""
        config = self.config
        qkv = Dense(3 * config.n_embd, self.dtype, name="c_attn")(x)
        heads = (*x.shape[:2], config.n_head, config.n_embd // config.n_head)
        query, key, value = (a.reshape(heads) for a in jnp.split(qkv, 3, axis=-1))
        if cache is not None:
            at = (0, slot, 0, 0)
            key = jax.lax.dynamic_update_slice(cache[0], key, at)
            value = jax.lax.dynamic_update_slice(cache[1], value, at)
        dropout = nn.Dropout(config.attn_pdrop, deterministic=deterministic)
        # From slot 0 on, tokens look back only; behind a cache, at all of its slots.
        look = attend if isinstance(slot, jax.Array) else attend_back
        y = look(query, key, value, mask, dropout).reshape(x.shape)
        y = Dense(config.n_embd, self.dtype, name="c_proj")(y)
        y = nn.Dropout(config.resid_pdrop, deterministic=deterministic)(y)
        return y, (key, value)


class MLP(nn.Module):
    config: GPT2Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, deterministic):
        """[B, T, D] -> [B, T, D]."""
        width = self.config.n_embd
        h = Dense(4 * width, self.dtype, name="c_fc")(x)
        y = Dense(width, self.dtype, name="c_proj")(nn.gelu(h))
        return nn.Dropout(self.config.resid_pdrop, deterministic=deterministic)(y)


class Block(nn.Module):
    config: GPT2Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, mask, cache, slot, deterministic):
        """[B, T, D] -> [B, T, D] and the layer's keys and values."""

        def norm(name):
            epsilon = self.config.layer_norm_epsilon
            return nn.LayerNorm(epsilon, dtype=self.dtype, name=name)

        attention = Attention(self.config, self.dtype, name="attn")
        y, cache = attention(norm("ln_1")(x), mask, cache, slot, deterministic)
        x = x + y
        mlp = MLP(self.config, self.dtype, name="mlp")
        return x + mlp(norm("ln_2")(x), deterministic), cache


class GPT2(nn.Module):
    """The language model.  `dtype` is the compute type; parameters stay float32."""

    config: GPT2Config
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        config = self.config
        init = nn.initializers.normal(0.02)
        self.wte = nn.Embed(config.vocab_size, config.n_embd, embedding_init=init)
        self.wpe = nn.Embed(config.n_positions, config.n_embd, embedding_init=init)
        self.h = [Block(config, self.dtype) for _ in range(config.n_layer)]
        self.ln_f = nn.LayerNorm(config.layer_norm_epsilon, dtype=self.dtype)
        self.drop = nn.Dropout(config.embd_pdrop)

    def __call__(
        self, tokens, position_ids=None, attention_mask=None, deterministic=True
    ):
        """int [B, T] -> float32 logits [B, T, V] of the token after each one.

        attention_mask: bool [B, T], True = a real token; or bool [B, T, T], True = may
        look, for masks that hide more than what is ahead. position_ids: int [B, T];
        counted from the mask where absent, so that padding changes nothing.
        """
        hidden = self.hidden_states(tokens, position_ids, attention_mask, deterministic)
        return self.unembed(hidden)

    def hidden_states(
        self, tokens, position_ids=None, attention_mask=None, deterministic=True
    ):
        """As `__call__`, but the normed hidden states [B, T, D] before the head."""
        if attention_mask is None:
            attention_mask = jnp.ones(tokens.shape, bool)
        if position_ids is None:
            position_ids = positions_of(attention_mask)
        if attention_mask.ndim == 2:
            attention_mask = causal_mask(attention_mask)
        no_cache = [None] * self.config.n_layer
        hidden, _ = self._run(
            tokens, position_ids, attention_mask, no_cache, None, deterministic
        )
        return hidden

    def unembed(self, hidden):
        """[..., D] -> float32 logits [..., V], by the tied token embedding."""
        table = self.wte.embedding.astype(self.dtype)
        return jnp.einsum(
            "...d,vd->...v", hidden, table, preferred_element_type=jnp.float32
        )

    def prefill(self, prompt, prompt_mask, slots: int):
        """Left-padded int [B, P], bool [B, P] -> logits [B, V], cache of `slots` slots.

        The logits are those of the first new token.
        """
        config, (batch, length) = self.config, prompt.shape
        if not length <= slots <= config.n_positions:
            raise ValueError(
                f"A prompt of {length} tokens and a cache of {slots} slots do not fit "
                f"into n_positions={config.n_positions}; shorten the prompt or "
                "generate fewer tokens."
            )
        shape = (batch, slots, config.n_head, config.n_embd // config.n_head)
        empty = [(jnp.zeros(shape, self.dtype),) * 2] * config.n_layer
        filled = jnp.zeros((batch, slots), bool).at[:, :length].set(prompt_mask)
        mask = causal_mask(filled)[:, :length]
        positions = positions_of(prompt_mask)
        hidden, layers = self._run(prompt, positions, mask, empty, 0, True)
        keys, values = zip(*layers, strict=True)
        cache = KVCache(keys, values, filled, jnp.asarray(length, jnp.int32))
        return self.unembed(hidden[:, -1]), cache

    def decode_step(self, cache: KVCache, tokens, position_ids):
        """int [B], int [B] -> logits [B, V] of the next token, and the next cache."""
        mask = jnp.ones((tokens.shape[0], 1), bool)
        return self.extend(cache, tokens[:, None], mask, position_ids[:, None])

    def extend(self, cache: KVCache, tokens, token_mask, position_ids):
        """Several tokens behind those of the cache: left-padded int [B, T], bool [B, T]
        and int [B, T] -> logits [B, V] of the next token, and the next cache.
        """
        length, slots = tokens.shape[1], jnp.arange(cache.filled.shape[1])
        filled = jax.lax.dynamic_update_slice(cache.filled, token_mask, (0, cache.slot))
        past = slots[None, None] <= cache.slot + jnp.arange(length)[None, :, None]
        layers = list(zip(cache.keys, cache.values, strict=True))
        hidden, layers = self._run(
            tokens, position_ids, filled[:, None] & past, layers, cache.slot, True
        )
        keys, values = zip(*layers, strict=True)
        cache = KVCache(keys, values, filled, cache.slot + length)
        return self.unembed(hidden[:, -1]), cache

    def _run(self, tokens, position_ids, mask, layers, slot, deterministic):
        x = self.wte(tokens) + self.wpe(position_ids)
        x = self.drop(x.astype(self.dtype), deterministic=deterministic)
        new_layers = []
        for block, cache in zip(self.h, layers, strict=True):
            x, cache = block(x, mask, cache, slot, deterministic)
            new_layers.append(cache)
        return self.ln_f(x), new_layers


def resize_vocabulary(params, size: int):
    """Appends rows to the token embedding, each the mean of the trained ones.

    For special tokens added to a pretrained model: a mean row starts as an average
    token instead of an unlikely one. Returns the params tree; the input is unchanged.
    """
    table = params["wte"]["embedding"]
    extra = jnp.tile(table.mean(axis=0, keepdims=True), (size - table.shape[0], 1))
    return {**params, "wte": {"embedding": jnp.concatenate([table, extra])}}
