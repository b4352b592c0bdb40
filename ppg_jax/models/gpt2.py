"""GPT-2 and DialoGPT: a decoder (`models.decoder`) with learned positions.

DialoGPT (Zhang et al., 2020) is GPT-2 (Radford et al., 2019) trained further on
dialogue; the architecture is the same: pre-LN blocks, learned positions, tanh GELU
and an output head tied to the token embedding.

Axes: B batch, T tokens, Q of them read, D width.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from ppg_jax.models.decoder import Decoder, Pass, at_tokens, look
from ppg_jax.models.dense import Dense, gelu, require_sizes


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Sizes and rates, under the names of the Hugging Face `config.json`."""

    vocab_size: int = 50257  # training takes that of its tokenizer
    n_positions: int = 1024  # the longest sequence, in tokens
    n_embd: int = 768  # width
    n_layer: int = 12
    n_head: int = 12  # a divisor of the width
    n_inner: int | None = None  # of the feed-forward layers; None: 4 times the width
    layer_norm_epsilon: float = 1e-5
    embd_pdrop: float = 0.1  # dropout of the embeddings
    attn_pdrop: float = 0.1  # of the attention weights
    resid_pdrop: float = 0.1  # of what a block adds

    def __post_init__(self):
        require_sizes(self, "vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}."
            )
        if self.n_inner is not None and not self.n_inner > 0:
            raise ValueError(f"n_inner={self.n_inner} must be more than 0.")


class Attention(nn.Module):
    config: GPT2Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, pass_: Pass, cache, read):
        """[B, T, D] -> [B, Q, D], and the keys and values that it looked at (`look`).

        The products of attention are bfloat16 if weights are.
        """
        config = self.config
        project = Dense(3 * config.n_embd, self.dtype, name="c_attn")
        qkv = project(x)
        heads = (*x.shape[:2], config.n_head, config.n_embd // config.n_head)
        query, key, value = (a.reshape(heads) for a in jnp.split(qkv, 3, axis=-1))
        dropout = nn.Dropout(config.attn_pdrop, deterministic=pass_.deterministic)
        drops = config.attn_pdrop > 0 and not pass_.deterministic
        kind = jnp.bfloat16 if project.rounded else self.dtype
        y, cache = look(
            query, key, value, pass_, cache, read, kind, dropout if drops else None
        )
        y = Dense(config.n_embd, self.dtype, name="c_proj")(y)
        y = nn.Dropout(config.resid_pdrop, deterministic=pass_.deterministic)(y)
        return y, cache


class MLP(nn.Module):
    config: GPT2Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, deterministic):
        """[B, T, D] -> [B, T, D]."""
        width = self.config.n_embd
        inner = self.config.n_inner or 4 * width
        h = Dense(inner, self.dtype, name="c_fc")(x)
        y = Dense(width, self.dtype, name="c_proj")(gelu(h, approximate=True))
        return nn.Dropout(self.config.resid_pdrop, deterministic=deterministic)(y)


class Block(nn.Module):
    config: GPT2Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, pass_: Pass, cache=None, read=None):
        """[B, T, D] -> [B, Q, D] and the layer's keys and values.

        read: int [B, Q], the tokens that are computed; None: all.
        """

        def norm(name):
            epsilon = self.config.layer_norm_epsilon
            return nn.LayerNorm(epsilon, dtype=self.dtype, name=name)

        attention = Attention(self.config, self.dtype, name="attn")
        y, cache = attention(norm("ln_1")(x), pass_, cache, read)
        x = (x if read is None else at_tokens(x, read)) + y
        mlp = MLP(self.config, self.dtype, name="mlp")
        return x + mlp(norm("ln_2")(x), pass_.deterministic), cache


class GPT2(Decoder):
    """The language model."""

    config: GPT2Config

    def setup(self):
        config = self.config
        init = nn.initializers.normal(0.02)
        self.wte = nn.Embed(config.vocab_size, config.n_embd, embedding_init=init)
        self.wpe = nn.Embed(config.n_positions, config.n_embd, embedding_init=init)
        self.h = [Block(config, self.dtype) for _ in range(config.n_layer)]
        self.ln_f = nn.LayerNorm(config.layer_norm_epsilon, dtype=self.dtype)
        self.drop = nn.Dropout(config.embd_pdrop)

    @property
    def table(self):
        return self.wte

    @property
    def blocks(self):
        return self.h

    @property
    def last_norm(self):
        return self.ln_f

    @property
    def cached(self):
        return self.config.n_head, self.config.n_embd // self.config.n_head

    def embed(self, tokens, position_ids, deterministic=True):
        """int [B, T] twice -> [B, T, D]."""
        x = (self.looked_up(tokens) + self.wpe(position_ids)).astype(self.dtype)
        return self.drop(x, deterministic=deterministic)
