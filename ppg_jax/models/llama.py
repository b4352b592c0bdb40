"""Llama and SmolLM2: a decoder (`models.decoder`) with rotary positions.

Llama (Touvron et al., 2023, https://arxiv.org/abs/2302.13971): pre-norm blocks with
RMSNorm (Zhang and Sennrich, 2019), rotary positions (Su et al., 2021, RoFormer) in the
order of transformers, the halves of a head turned against each other, SwiGLU (Shazeer,
2020), several query heads for each head of keys and values (Ainslie et al., 2023, GQA),
no biases, and an output head that may be tied to the token embedding.

The cache holds keys after their rotation.

Axes: B batch, T tokens, Q of them read, N heads, K heads of keys and values, H head
size, D width.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppg_jax.models.decoder import Decoder, Pass, at_tokens, look
from ppg_jax.models.dense import Dense, require_sizes, swiglu
from ppg_jax.models.product import einsum
from ppg_jax.models.quantize import linear


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Sizes, under the names of the Hugging Face `config.json`; SmolLM2-135M's."""

    vocab_size: int = 49152  # training takes that of its tokenizer
    max_position_embeddings: int = 8192  # the longest sequence, in tokens
    hidden_size: int = 576  # width
    intermediate_size: int = 1536  # of the SwiGLU
    num_hidden_layers: int = 30
    num_attention_heads: int = 9  # a divisor of the width
    num_key_value_heads: int = 3  # a divisor of the heads
    rms_norm_eps: float = 1e-5
    rope_theta: float = 1e5  # of the rotary positions: the base of their periods
    tie_word_embeddings: bool = True  # the head is the token embedding

    def __post_init__(self):
        require_sizes(self, "vocab_size", "max_position_embeddings", "hidden_size")
        require_sizes(self, "intermediate_size", "num_hidden_layers")
        require_sizes(self, "num_attention_heads", "num_key_value_heads")
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        if self.hidden_size % heads or self.head_size % 2:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not an even multiple of "
                f"num_attention_heads={heads}."
            )
        if heads % groups:
            raise ValueError(
                f"num_attention_heads={heads} is not a multiple of "
                f"num_key_value_heads={groups}."
            )

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def n_positions(self) -> int:
        """As the other decoders call it."""
        return self.max_position_embeddings


def rotation(position_ids: jax.Array, head_size: int, theta: float):
    """int [B, T] -> cosine and sine, float32 [B, T, 1, H / 2], of each pair's angle."""
    power = jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size
    period = (theta**power)[None, None, None]
    angle = position_ids[..., None, None].astype(jnp.float32) / period
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: jax.Array, cos_sin) -> jax.Array:
    """[B, T, N, H] turned by the angles of its positions, pair (i, i + H / 2) each."""
    cos, sin = cos_sin
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return turned.astype(x.dtype)


class RMSNorm(nn.Module):
    """x / sqrt(mean x^2 + eps) * scale, in float32."""

    epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        """[..., D] -> [..., D]."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        x = x.astype(jnp.float32)
        power = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        y = x * jax.lax.rsqrt(power + self.epsilon)
        return (y * jnp.expand_dims(scale, range(x.ndim - 1))).astype(self.dtype)


class Attention(nn.Module):
    config: LlamaConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, pass_: Pass, cache, read):
        """[B, T, D] -> [B, Q, D], and the keys and values that it looked at (`look`).

        The products of attention are bfloat16 if weights are.
        """
        config, size = self.config, self.config.head_size

        def project(name, heads):
            dense = Dense(heads * size, self.dtype, use_bias=False, name=name)
            return dense(x).reshape(*x.shape[:2], heads, size), dense.rounded

        query, rounded = project("q_proj", config.num_attention_heads)
        key, _ = project("k_proj", config.num_key_value_heads)
        value, _ = project("v_proj", config.num_key_value_heads)
        query, key = rotate(query, pass_.rotation), rotate(key, pass_.rotation)
        kind = jnp.bfloat16 if rounded else self.dtype
        y, cache = look(query, key, value, pass_, cache, read, kind)
        width = config.hidden_size
        return Dense(width, self.dtype, use_bias=False, name="o_proj")(y), cache


class MLP(nn.Module):
    config: LlamaConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        """[B, T, D] -> [B, T, D]."""

        def project(x, name, width):
            return Dense(width, self.dtype, use_bias=False, name=name)(x)

        gate = project(x, "gate_proj", self.config.intermediate_size)
        up = project(x, "up_proj", self.config.intermediate_size)
        return project(swiglu(gate, up), "down_proj", self.config.hidden_size)


class Block(nn.Module):
    config: LlamaConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, pass_: Pass, cache=None, read=None):
        """[B, T, D] -> [B, Q, D] and the layer's keys and values.

        read: int [B, Q], the tokens that are computed; None: all.
        """

        def norm(name):
            return RMSNorm(self.config.rms_norm_eps, self.dtype, name=name)

        attention = Attention(self.config, self.dtype, name="self_attn")
        y, cache = attention(norm("input_layernorm")(x), pass_, cache, read)
        x = (x if read is None else at_tokens(x, read)) + y
        mlp = MLP(self.config, self.dtype, name="mlp")
        return x + mlp(norm("post_attention_layernorm")(x)), cache


class Llama(Decoder):
    """The language model."""

    config: LlamaConfig

    def setup(self):
        config = self.config
        init = nn.initializers.normal(0.02)
        self.embed_tokens = nn.Embed(
            config.vocab_size, config.hidden_size, embedding_init=init
        )
        self.layers = [
            Block(config, self.dtype) for _ in range(config.num_hidden_layers)
        ]
        self.norm = RMSNorm(config.rms_norm_eps, self.dtype)
        if not config.tie_word_embeddings:
            self.lm_head = Head(config.vocab_size, self.dtype)

    @property
    def table(self):
        return self.embed_tokens

    @property
    def blocks(self):
        return self.layers

    @property
    def last_norm(self):
        return self.norm

    @property
    def cached(self):
        return self.config.num_key_value_heads, self.config.head_size

    def rotation(self, position_ids):
        config = self.config
        return rotation(position_ids, config.head_size, config.rope_theta)

    def logits(self, rows):
        """[R, D] -> float32 [R, V]."""
        if self.config.tie_word_embeddings:
            return super().logits(rows)
        return self.lm_head(rows)


class Head(nn.Module):
    """An output head of its own; its logits stay float32."""

    vocab_size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, rows):
        """[R, D] -> float32 [R, V]."""
        if self.has_variable("params", "weight"):
            return linear(rows, **self.variables["params"])
        shape = (rows.shape[-1], self.vocab_size)
        kernel = self.param("kernel", nn.initializers.normal(0.02), shape)
        return einsum("rd,dv->rv", rows, kernel.astype(self.dtype))
