"""DistilBERT: the critic's encoder with a classifier on its first token.

Sanh et al. (2019): half of BERT's layers, post-LN blocks, learned positions, exact
GELU, no token types and no pooler. A BERT encoder without its pooler computes the same
function once token-type row 0 is added to the position table; `pretrained` does that.

Axes: B batch, T tokens, Q of them read, N heads, H head size, D width, C labels.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from ppg_jax.models.attention import attend
from ppg_jax.models.backward import layerwise, recomputed
from ppg_jax.models.dense import Dense, gelu, require_sizes

# Fixed in DistilBERT's code and equal in the BERT encoders that load into it.
LAYER_NORM_EPSILON = 1e-12


@dataclasses.dataclass(frozen=True)
class DistilBertConfig:
    """Sizes and rates, under the names of the Hugging Face `config.json`."""

    vocab_size: int = 30522  # training takes that of its tokenizer
    max_position_embeddings: int = 512  # the longest pair, in tokens
    dim: int = 768  # width
    n_layers: int = 6
    n_heads: int = 12  # a divisor of the width
    hidden_dim: int = 3072  # width of the feed-forward layers
    dropout: float = 0.1  # of embeddings and feed-forward layers
    attention_dropout: float = 0.1  # of the attention weights
    seq_classif_dropout: float = 0.2  # before the classifier's last layer
    num_labels: int = 2  # unrelated, related

    def __post_init__(self):
        require_sizes(self, "vocab_size", "max_position_embeddings", "num_labels")
        require_sizes(self, "dim", "n_layers", "n_heads", "hidden_dim")
        if self.dim % self.n_heads:
            raise ValueError(
                f"dim={self.dim} is not a multiple of n_heads={self.n_heads}."
            )

    @property
    def n_positions(self) -> int:
        """As the decoders call it."""
        return self.max_position_embeddings


def _dense(features: int, dtype: jnp.dtype) -> Dense:
    return Dense(features, dtype, nn.initializers.normal(0.02))


def _embed(rows: int, width: int) -> nn.Embed:
    return nn.Embed(rows, width, embedding_init=nn.initializers.normal(0.02))


def _layer_norm(dtype: jnp.dtype) -> nn.LayerNorm:
    return recomputed(nn.LayerNorm)(LAYER_NORM_EPSILON, dtype=dtype)


class Embeddings(nn.Module):
    config: DistilBertConfig
    dtype: jnp.dtype

    def setup(self):
        config = self.config
        self.word_embeddings = _embed(config.vocab_size, config.dim)
        self.position_embeddings = _embed(config.max_position_embeddings, config.dim)
        self.LayerNorm = _layer_norm(self.dtype)
        self.drop = nn.Dropout(config.dropout)

    def __call__(self, tokens, deterministic):
        """int [B, T] -> [B, T, D]."""

        def layer(self, tokens):
            positions = jnp.arange(tokens.shape[1])[None]
            x = self.word_embeddings(tokens) + self.position_embeddings(positions)
            return self.drop(self.LayerNorm(x), deterministic=deterministic)

        return layerwise(layer)(self, tokens)


class Attention(nn.Module):
    config: DistilBertConfig
    dtype: jnp.dtype

    def setup(self):
        dim = self.config.dim
        self.q_lin = _dense(dim, self.dtype)
        self.k_lin = _dense(dim, self.dtype)
        self.v_lin = _dense(dim, self.dtype)
        self.out_lin = _dense(dim, self.dtype)
        self.drop = nn.Dropout(self.config.attention_dropout)

    def __call__(self, x, context, mask, deterministic):
        """[B, Q, D] looks at [B, T, D], bool [B, 1, T] -> [B, Q, D]."""
        config = self.config
        head = (config.n_heads, config.dim // config.n_heads)
        query, key, value = (
            projection(source).reshape(*source.shape[:2], *head)
            for projection, source in [
                (self.q_lin, x),
                (self.k_lin, context),
                (self.v_lin, context),
            ]
        )

        def dropout(probs):
            return self.drop(probs, deterministic=deterministic)

        if config.attention_dropout > 0 and not deterministic:
            y = attend(query, key, value, mask, dropout)
        else:
            look = recomputed(lambda self, *read: attend(*read))
            y = look(self, query, key, value, mask)
        return self.out_lin(y.reshape(x.shape))


class FeedForward(nn.Module):
    config: DistilBertConfig
    dtype: jnp.dtype

    def setup(self):
        self.lin1 = _dense(self.config.hidden_dim, self.dtype)
        self.lin2 = _dense(self.config.dim, self.dtype)
        self.drop = nn.Dropout(self.config.dropout)

    def __call__(self, x, deterministic):
        """[B, T, D] -> [B, T, D]."""

        def outer(self, hidden):
            return self.lin2(gelu(hidden, approximate=False))

        y = recomputed(outer)(self, self.lin1(x))
        return self.drop(y, deterministic=deterministic)


class Block(nn.Module):
    config: DistilBertConfig
    dtype: jnp.dtype

    def setup(self):
        self.attention = Attention(self.config, self.dtype)
        self.sa_layer_norm = _layer_norm(self.dtype)
        self.ffn = FeedForward(self.config, self.dtype)
        self.output_layer_norm = _layer_norm(self.dtype)

    def __call__(self, x, mask, deterministic, read=slice(None)):
        """[B, T, D], bool [B, 1, T] -> [B, Q, D], of the tokens that `read` selects."""

        def layer(self, context, mask):
            x = context[:, read]
            x = self.sa_layer_norm(x + self.attention(x, context, mask, deterministic))
            return self.output_layer_norm(x + self.ffn(x, deterministic))

        return layerwise(layer)(self, x, mask)


class Transformer(nn.Module):
    config: DistilBertConfig
    dtype: jnp.dtype

    def setup(self):
        self.layer = [
            Block(self.config, self.dtype) for _ in range(self.config.n_layers)
        ]

    def __call__(self, x, mask, deterministic, read):
        """[B, T, D], bool [B, 1, T] -> [B, Q, D], of the tokens that `read` selects."""
        *blocks, last = self.layer
        for block in blocks:
            x = block(x, mask, deterministic)
        return last(x, mask, deterministic, read)


class DistilBert(nn.Module):
    """The classifier.  `dtype` is the compute type; parameters stay float32."""

    config: DistilBertConfig
    dtype: jnp.dtype = jnp.float32

    @property
    def num_labels(self) -> int:
        """As the other classifier has it."""
        return self.config.num_labels

    def setup(self):
        config = self.config
        self.embeddings = Embeddings(config, self.dtype)
        self.transformer = Transformer(config, self.dtype)
        self.pre_classifier = _dense(config.dim, self.dtype)
        self.classifier = _dense(config.num_labels, jnp.float32)
        self.drop = nn.Dropout(config.seq_classif_dropout)

    def __call__(self, tokens, attention_mask=None, deterministic=True):
        """int [B, T] -> float32 logits [B, C].

        attention_mask: bool [B, T], True = a real token; pads stand on the right.
        """
        first = self.hidden_states(tokens, attention_mask, deterministic, slice(1))
        return self.classify(first[:, 0], deterministic)

    def hidden_states(
        self, tokens, attention_mask=None, deterministic=True, read=slice(None)
    ):
        """As `__call__`, but the last hidden states [B, Q, D], before the head.

        read: a slice of the tokens; the last layer is computed for these alone.
        """
        limit = self.config.max_position_embeddings
        if tokens.shape[1] > limit:
            raise ValueError(
                f"{tokens.shape[1]} tokens do not fit into "
                f"max_position_embeddings={limit}; truncate the text."
            )
        if attention_mask is None:
            attention_mask = jnp.ones(tokens.shape, bool)
        x = self.embeddings(tokens, deterministic)
        return self.transformer(x, attention_mask[:, None], deterministic, read)

    def classify(self, first, deterministic=True):
        """The head: first hidden state [B, D] -> float32 logits [B, C]."""
        x = nn.relu(self.pre_classifier(first))
        return self.classifier(self.drop(x, deterministic=deterministic))
