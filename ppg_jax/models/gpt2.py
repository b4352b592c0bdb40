"""GPT-2 and DialoGPT: a decoder with an explicit KV cache.

DialoGPT (Zhang et al., 2020) is GPT-2 (Radford et al., 2019) trained further on
dialogue; the architecture is the same: pre-LN blocks, learned positions, tanh GELU
and an output head tied to the token embedding.

The cache is a value: `prefill` makes it, `decode_step` takes one and returns the next.

Axes: B batch, T tokens, Q of them read, S cache slots, L layers, N heads, H head size,
D width, V vocabulary; F trunks of P tokens, G rows of one of them.
"""

import dataclasses
import functools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ppg_jax.models.attention import (
    Shared,
    attend,
    attend_back,
    attend_cached,
    attend_shared,
)
from ppg_jax.models.dense import Dense, gelu
from ppg_jax.models.product import einsum
from ppg_jax.models.quantize import linear, lookup


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Sizes and rates, under the names of the Hugging Face `config.json`."""

    vocab_size: int = 50257  # training takes that of its tokenizer
    n_positions: int = 1024  # the longest sequence, in tokens
    n_embd: int = 768  # width
    n_layer: int = 12
    n_head: int = 12  # a divisor of the width
    layer_norm_epsilon: float = 1e-5
    embd_pdrop: float = 0.1  # dropout of the embeddings
    attn_pdrop: float = 0.1  # of the attention weights
    resid_pdrop: float = 0.1  # of what a block adds

    def __post_init__(self):
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}."
            )


@flax.struct.dataclass
class Trunk:
    """What several rows begin with: kept once, and read by all of them together."""

    keys: tuple[jax.Array, ...]  # L arrays [F, N, H, P]
    values: tuple[jax.Array, ...]  # [F, N, P, H]
    seen: jax.Array  # bool [B, P]; the tokens that a row has in common with its trunk
    members: jax.Array  # int32 [F, G]; rows of each; places left over hold any
    places: jax.Array  # int32 [B]; where each row is among the F * G members


@flax.struct.dataclass
class KVCache:
    """Keys and values of the tokens so far; every row has used the same slots."""

    keys: tuple[jax.Array, ...]  # L arrays [B, N, H, S]
    values: tuple[jax.Array, ...]  # [B, N, S, H]
    filled: jax.Array  # bool [B, S]; False where the prompt was padded, or free
    slot: jax.Array  # int32 scalar; the next slot to write
    trunk: Trunk | None = None  # what comes before

    def branch(self, rows, lengths, members, slots: int) -> "KVCache":
        """A cache of `slots` free slots, for rows that begin as one of this cache's.

        int [B'] of rows, int [B'] of how many of its tokens each has in common with it;
        members: int [F, G], the numbers of those that have each row, in any order.
        """
        filled = self.filled[rows]
        seen = filled & (jnp.cumsum(filled, axis=1) <= lengths[:, None])
        number = jnp.arange(len(rows))[:, None]
        places = rows * members.shape[1] + jnp.argmax(members[rows] == number, axis=1)
        heads, size = self.keys[0].shape[1:3]
        free = jnp.zeros((len(rows), heads, size, slots), self.keys[0].dtype)
        layers = len(self.keys)
        return KVCache(
            keys=(free,) * layers,
            values=(free.transpose(0, 1, 3, 2),) * layers,
            filled=jnp.zeros((len(rows), slots), bool),
            slot=jnp.zeros((), jnp.int32),
            trunk=Trunk(self.keys, self.values, seen, members, places),
        )


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


def at_tokens(x: jax.Array, index: jax.Array) -> jax.Array:
    """[B, T, ...] at int [B, Q] -> [B, Q, ...]."""
    index = index.reshape(*index.shape, *[1] * (x.ndim - 2))
    return jnp.take_along_axis(x, index, axis=1, mode="clip")


def as_cached(key: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, T, N, H] twice -> [B, N, H, T] and [B, N, T, H], as `KVCache` has them."""
    return key.transpose(0, 2, 3, 1), value.transpose(0, 2, 1, 3)


class Attention(nn.Module):
    config: GPT2Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, mask, cache, slot, deterministic, read):
        """[B, T, D] -> [B, Q, D], and the keys and values that it looked at.

        Of x alone: bool [B, T, T], no cache -> two [B, T, N, H]; the products of its
        attention are bfloat16 if weights are. Of a cache, [B, N, H, S], [B, N, S, H],
        and x written behind it at `slot`: bool [B, T, S] -> the next two; a third is
        what comes before, `Shared` or None, with it bool [B, T, P + S].
        """
        config = self.config
        project = Dense(3 * config.n_embd, self.dtype, name="c_attn")
        qkv = project(x)
        heads = (*x.shape[:2], config.n_head, config.n_embd // config.n_head)
        query, key, value = (a.reshape(heads) for a in jnp.split(qkv, 3, axis=-1))
        if read is not None:
            query, mask = at_tokens(query, read), at_tokens(mask, read)
        if cache is not None:
            keys, values, shared = cache
            key, value = as_cached(key, value)
            key = jax.lax.dynamic_update_slice(keys, key, (0, 0, 0, slot))
            value = jax.lax.dynamic_update_slice(values, value, (0, 0, slot, 0))
            if shared is None:
                y = attend_cached(query, key, value, mask)
            else:
                y = attend_shared(query, shared, key, value, mask)
        else:
            dropout = nn.Dropout(config.attn_pdrop, deterministic=deterministic)
            look = attend_back if read is None else attend
            kind = jnp.bfloat16 if project.rounded else self.dtype
            read_as = (a.astype(kind) for a in (query, key, value))
            drops = config.attn_pdrop > 0 and not deterministic
            y = look(*read_as, mask, dropout if drops else None)
        y = y.reshape(*y.shape[:2], config.n_embd)
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
        y = Dense(width, self.dtype, name="c_proj")(gelu(h, approximate=True))
        return nn.Dropout(self.config.resid_pdrop, deterministic=deterministic)(y)


class Block(nn.Module):
    config: GPT2Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, mask, cache, slot, deterministic, read=None):
        """[B, T, D] -> [B, Q, D] and the layer's keys and values.

        read: int [B, Q], the tokens that are computed; None: all.
        """

        def norm(name):
            epsilon = self.config.layer_norm_epsilon
            return nn.LayerNorm(epsilon, dtype=self.dtype, name=name)

        attention = Attention(self.config, self.dtype, name="attn")
        y, cache = attention(norm("ln_1")(x), mask, cache, slot, deterministic, read)
        x = (x if read is None else at_tokens(x, read)) + y
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
        self,
        tokens,
        position_ids=None,
        attention_mask=None,
        deterministic=True,
        read=None,
    ):
        """As `__call__`, but the normed hidden states [B, Q, D] before the head.

        read: int [B, Q], the tokens whose states are wanted, None: all, Q = T. The last
        layer is computed for these alone.
        """
        if attention_mask is None:
            attention_mask = jnp.ones(tokens.shape, bool)
        if position_ids is None:
            position_ids = positions_of(attention_mask)
        if attention_mask.ndim == 2:
            attention_mask = causal_mask(attention_mask)
        x = self._embed(tokens, position_ids)
        x = self.drop(x, deterministic=deterministic)
        return self._run(x, attention_mask, None, deterministic, read)[0]

    def unembed(self, hidden):
        """[..., D] -> float32 logits [..., V], by the tied token embedding."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        if self.wte.has_variable("params", "weight"):
            table = self.wte.variables["params"]
            logits = linear(rows, table["weight"], table.get("scale"))
        else:
            logits = einsum("rd,vd->rv", rows, self.wte.embedding.astype(self.dtype))
        return logits.reshape(*hidden.shape[:-1], -1)

    def prefill(self, prompt, prompt_mask, slots: int):
        """Left-padded int [B, P], bool [B, P] -> logits [B, V], cache of `slots` slots.

        The logits are those of the first new token.
        """
        config, (batch, length) = self.config, prompt.shape
        if not length <= min(slots, config.n_positions):
            raise ValueError(
                f"A prompt of {length} tokens does not fit into {slots} slots and "
                f"n_positions={config.n_positions}; shorten it."
            )
        free = slots - length
        hidden, layers = self._run(
            self._embed(prompt, positions_of(prompt_mask)),
            causal_mask(prompt_mask),
            read=jnp.full((batch, 1), length - 1),
        )
        keys, values = zip(*(as_cached(*both) for both in layers), strict=True)
        rows = [(0, 0)] * 2
        cache = KVCache(
            keys=tuple(jnp.pad(a, [*rows, (0, 0), (0, free)]) for a in keys),
            values=tuple(jnp.pad(a, [*rows, (0, free), (0, 0)]) for a in values),
            filled=jnp.pad(prompt_mask, [(0, 0), (0, free)]),
            slot=jnp.asarray(length, jnp.int32),
        )
        return self.unembed(hidden[:, 0]), cache

    def decode_step(self, cache: KVCache, tokens, position_ids):
        """int [B], int [B] -> logits [B, V] of the next token, and the next cache."""
        mask = jnp.ones((tokens.shape[0], 1), bool)
        return self.extend(cache, tokens[:, None], mask, position_ids[:, None])

    def extend(self, cache: KVCache, tokens, token_mask, position_ids):
        """Several tokens behind those of the cache: left-padded int [B, T], bool [B, T]
        and int [B, T] -> logits [B, V] of the next token, and the next cache.
        """
        (batch, length), slots = tokens.shape, jnp.arange(cache.filled.shape[1])
        filled = jax.lax.dynamic_update_slice(cache.filled, token_mask, (0, cache.slot))
        past = slots[None, None] <= cache.slot + jnp.arange(length)[None, :, None]
        mask = filled[:, None] & past
        if cache.trunk is not None:
            seen = cache.trunk.seen[:, None]
            seen = jnp.broadcast_to(seen, (batch, length, seen.shape[2]))
            mask = jnp.concatenate([seen, mask], axis=2)
        hidden, layers = self._run(
            self._embed(tokens, position_ids),
            mask,
            cache,
            read=jnp.full((batch, 1), length - 1),
        )
        keys, values = zip(*layers, strict=True)
        cache = cache.replace(
            keys=keys, values=values, filled=filled, slot=cache.slot + length
        )
        return self.unembed(hidden[:, 0]), cache

    def _embed(self, tokens, position_ids):
        """int [B, T] twice -> [B, T, D]."""
        has = functools.partial(self.wte.has_variable, "params")
        if has("weight") and not has("embedding"):
            x = lookup(tokens, **self.wte.variables["params"])
        else:
            x = self.wte(tokens)
        return (x + self.wpe(position_ids)).astype(self.dtype)

    def _run(self, x, mask, cache=None, deterministic=True, read=None):
        """[B, T, D] -> normed [B, Q, D], and of each layer what `Attention` returns."""
        layers, slot = [None] * self.config.n_layer, None
        if cache is not None:
            before, trunk = layers, cache.trunk
            if trunk is not None:
                before = [
                    Shared(*both, trunk.members, trunk.places)
                    for both in zip(trunk.keys, trunk.values, strict=True)
                ]
            layers = list(zip(cache.keys, cache.values, before, strict=True))
            slot = cache.slot
        for i, block in enumerate(self.h):
            last = i == self.config.n_layer - 1
            x, layers[i] = block(
                x, mask, layers[i], slot, deterministic, read if last else None
            )
        return self.ln_f(x), layers


def resize_vocabulary(params, size: int):
    """Appends rows to the token embedding, each the mean of the trained ones.

    For special tokens added to a pretrained model: a mean row starts as an average
    token instead of an unlikely one. Returns the params tree; the input is unchanged.
    """
    table = params["wte"]["embedding"]
    extra = jnp.tile(table.mean(axis=0, keepdims=True), (size - table.shape[0], 1))
    return {**params, "wte": {"embedding": jnp.concatenate([table, extra])}}
