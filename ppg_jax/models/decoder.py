"""What every decoder has in common: a pass over tokens, and an explicit KV cache.

The cache is a value: `prefill` makes it, `decode_step` takes one and returns the next.
A family (`gpt2`, `llama`) gives its embedding, its blocks and its last norm. Wherever
tokens are asked for, int [B, T], their embeddings will do, [B, T, D].

Axes: B batch, T tokens, Q of them read, S cache slots, L layers, N heads, K heads of
keys and values (N of GPT-2), H head size, D width, V vocabulary; F trunks of P tokens,
G rows of one of them.
"""

import functools
from typing import Any, NamedTuple

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
from ppg_jax.models.product import einsum
from ppg_jax.models.quantize import linear, lookup


@flax.struct.dataclass
class Trunk:
    """What several rows begin with: kept once, and read by all of them together."""

    keys: tuple[jax.Array, ...]  # L arrays [F, K, H, P]
    values: tuple[jax.Array, ...]  # [F, K, P, H]
    seen: jax.Array  # bool [B, P]; the tokens that a row has in common with its trunk
    members: jax.Array  # int32 [F, G]; rows of each; places left over hold any
    places: jax.Array  # int32 [B]; where each row is among the F * G members


@flax.struct.dataclass
class KVCache:
    """Keys and values of the tokens so far; every row has used the same slots."""

    keys: tuple[jax.Array, ...]  # L arrays [B, K, H, S]
    values: tuple[jax.Array, ...]  # [B, K, S, H]
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


class Pass(NamedTuple):
    """What a pass over tokens tells each block."""

    mask: jax.Array  # bool [B, T, S], True = may look; S is T without a cache
    deterministic: bool = True  # no dropout
    slot: jax.Array | None = None  # of the cache, where the tokens are written
    rotation: Any = None  # of a family with rotary positions: see `llama`


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
    """[B, T, K, H] twice -> [B, K, H, T] and [B, K, T, H], as `KVCache` has them."""
    return key.transpose(0, 2, 3, 1), value.transpose(0, 2, 1, 3)


def look(query, key, value, pass_: Pass, cache, read, dtype, dropout=None):
    """Attention of a block: [B, T, N, H], [B, T, K, H] twice -> [B, Q, N * H], and the
    keys and values that it looked at.

    Without a cache these are `key` and `value`; operands are cast to `dtype`, and
    `dropout` is applied to the probabilities. Of a cache, [B, K, H, S] and
    [B, K, S, H], they are the next two, written at the pass's slot; a third of the
    cache is what comes before, `Shared` or None, with a mask bool [B, T, P + S].
    """
    mask, slot = pass_.mask, pass_.slot
    if read is not None:
        query, mask = at_tokens(query, read), at_tokens(mask, read)
    if cache is None:
        look_at = attend_back if read is None else attend
        if dropout is None:
            # Its probabilities are most of what a pass over many tokens would keep for
            # its gradient, and computing them again is sooner than reading them.
            look_at = jax.checkpoint(look_at)
        operands = (a.astype(dtype) for a in (query, key, value))
        y = look_at(*operands, mask, *filter(None, [dropout]))
        return y.reshape(*y.shape[:2], -1), (key, value)
    keys, values, shared = cache
    key, value = as_cached(key, value)
    key = jax.lax.dynamic_update_slice(keys, key, (0, 0, 0, slot))
    value = jax.lax.dynamic_update_slice(values, value, (0, 0, slot, 0))
    if shared is None:
        y = attend_cached(query, key, value, mask)
    else:
        y = attend_shared(query, shared, key, value, mask)
    return y.reshape(*y.shape[:2], -1), (key, value)


class Decoder(nn.Module):
    """A language model.  `dtype` is the compute type; parameters stay float32.

    A family has the token embedding as its property `table`, in `setup` the blocks
    `self.blocks`, each (x, pass, cache, read) -> (x, keys and values), and
    `self.last_norm`; `cached`, the number of heads of keys and their size; `embed` and
    `rotation` where it has positions there.
    """

    config: Any
    dtype: jnp.dtype = jnp.float32

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
            attention_mask = jnp.ones(tokens.shape[:2], bool)
        if position_ids is None:
            position_ids = positions_of(attention_mask)
        if attention_mask.ndim == 2:
            attention_mask = causal_mask(attention_mask)
        x = self.embed(tokens, position_ids, deterministic)
        return self._run(x, position_ids, Pass(attention_mask, deterministic), read)[0]

    def unembed(self, hidden):
        """[..., D] -> float32 logits [..., V]."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        return self.logits(rows).reshape(*hidden.shape[:-1], -1)

    def logits(self, rows):
        """[R, D] -> float32 [R, V], by the tied token embedding."""
        table = self.table
        if table.has_variable("params", "weight"):
            weights = table.variables["params"]
            return linear(rows, weights["weight"], weights.get("scale"))
        return einsum("rd,vd->rv", rows, table.embedding.astype(self.dtype))

    def prefill(self, prompt, prompt_mask, slots: int):
        """Left-padded int [B, P], bool [B, P] -> logits [B, V], cache of `slots` slots.

        The logits are those of the first new token.
        """
        config, (batch, length) = self.config, prompt.shape[:2]
        if not length <= min(slots, config.n_positions):
            raise ValueError(
                f"A prompt of {length} tokens does not fit into {slots} slots and "
                f"n_positions={config.n_positions}; shorten it."
            )
        free, positions = slots - length, positions_of(prompt_mask)
        hidden, layers = self._run(
            self.embed(prompt, positions),
            positions,
            Pass(causal_mask(prompt_mask)),
            jnp.full((batch, 1), length - 1),
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

    def empty_cache(self, batch: int, slots: int) -> KVCache:
        """Before any token: `extend` takes the first ones as well."""
        heads, size = self.cached
        keys = jnp.zeros((batch, heads, size, slots), self.dtype)
        layers = len(self.blocks)
        return KVCache(
            keys=(keys,) * layers,
            values=(keys.swapaxes(2, 3),) * layers,
            filled=jnp.zeros((batch, slots), bool),
            slot=jnp.zeros((), jnp.int32),
        )

    def decode_step(self, cache: KVCache, tokens, position_ids):
        """int [B], int [B] -> logits [B, V] of the next token, and the next cache."""
        mask = jnp.ones((tokens.shape[0], 1), bool)
        return self.extend(cache, tokens[:, None], mask, position_ids[:, None])

    def extend(self, cache: KVCache, tokens, token_mask, position_ids):
        """Several tokens behind those of the cache: left-padded int [B, T], bool [B, T]
        and int [B, T] -> logits [B, V] of the next token, and the next cache.
        """
        (batch, length), slots = token_mask.shape, jnp.arange(cache.filled.shape[1])
        filled = jax.lax.dynamic_update_slice(cache.filled, token_mask, (0, cache.slot))
        past = slots[None, None] <= cache.slot + jnp.arange(length)[None, :, None]
        mask = filled[:, None] & past
        if cache.trunk is not None:
            seen = cache.trunk.seen[:, None]
            seen = jnp.broadcast_to(seen, (batch, length, seen.shape[2]))
            mask = jnp.concatenate([seen, mask], axis=2)
        hidden, layers = self._run(
            self.embed(tokens, position_ids),
            position_ids,
            Pass(mask, slot=cache.slot),
            jnp.full((batch, 1), length - 1),
            cache,
        )
        keys, values = zip(*layers, strict=True)
        cache = cache.replace(
            keys=keys, values=values, filled=filled, slot=cache.slot + length
        )
        return self.unembed(hidden[:, 0]), cache

    def embed(self, tokens, position_ids, deterministic=True):
        """int [B, T] twice -> [B, T, D]."""
        return self.looked_up(tokens).astype(self.dtype)

    def looked_up(self, tokens):
        """int [B, T] -> [B, T, D], of the token embedding; embeddings as they are."""
        if jnp.issubdtype(tokens.dtype, jnp.floating):
            return tokens
        table = self.table
        has = functools.partial(table.has_variable, "params")
        if has("weight") and not has("embedding"):
            return lookup(tokens, **table.variables["params"])
        return table(tokens)

    def rotation(self, position_ids):
        """What `Pass` tells of positions."""
        return None

    def _run(self, x, position_ids, pass_: Pass, read=None, cache=None):
        """[B, T, D] -> normed [B, Q, D], and of each layer what `look` returns."""
        pass_ = pass_._replace(rotation=self.rotation(position_ids))
        layers = [None] * len(self.blocks)
        if cache is not None:
            before, trunk = layers, cache.trunk
            if trunk is not None:
                before = [
                    Shared(*both, trunk.members, trunk.places)
                    for both in zip(trunk.keys, trunk.values, strict=True)
                ]
            layers = list(zip(cache.keys, cache.values, before, strict=True))
        once = None
        if pass_.deterministic and not self.is_initializing():
            once = _traced_once(self.blocks[0])
        for i, block in enumerate(self.blocks):
            last = i == len(self.blocks) - 1
            given = x, pass_, layers[i], read if last else None
            x, layers[i] = once(block, *given) if once else block(*given)
        return self.last_norm(x), layers


def _traced_once(first):
    """What applies any block of the first one's form, and traces it for all of them.

    Tracing thirty layers one by one takes longer than to load what XLA has made of
    them; it puts the calls' bodies in place, and the program is the same. Not for
    dropout, whose randomness derives from the layer's name.
    """
    alone = first.clone(parent=None, name=None)

    @jax.jit
    def layer(params, x, pass_, cache, read):
        pass_ = pass_._replace(deterministic=True)
        return alone.apply({"params": params}, x, pass_, cache, read)

    def apply(block, x, pass_, cache, read):
        arrays = pass_._replace(deterministic=None)
        return layer(block.variables["params"], x, arrays, cache, read)

    return apply
