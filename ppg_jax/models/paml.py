"""PAML's network: a Transformer that says words or copies them from the conversation.

Madotto et al. (2019), "Personalizing Dialogue Agents via Meta-Learning" (ACL), as their
code has it (HLTCHKUST/PAML): encoder and decoder with norms before each part, which
divide by the unbiased standard deviation plus 1e-6; narrow attention without biases; in
place of the feed-forward layers two convolutions over three words, each with a ReLU
behind it, the decoder's over the word and the two before; sinusoids for places; words'
vectors that are the output layer's, too. A pointer (See et al., 2017) mixes what the
output layer says with the words of the conversation, by the logits of the last layer's
attention to it, averaged over heads.

Differs: padding is 0 to the encoder's convolutions, as what lies beyond the end is.
Theirs read the padding's vectors, so that an answer depends on the batch that it is in.
Words' vectors start from small random ones, as theirs do for words that GloVe lacks.

Axes: B rows, C words of a context, T words of a response, V vocabulary, D width, N
heads, H head size.
"""

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.data.speaker_tasks import Turns
from ppg_jax.data.vocabulary import PAD, Vocabulary
from ppg_jax.models import starts, word_folder
from ppg_jax.models.dense import require_sizes

HIDDEN = -1e18  # the logit of what no attention sees, as published
WINDOW = 3  # words of a convolution
# PyTorch's own start of linear layers and convolutions: within 1 / sqrt(inputs).
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


@dataclasses.dataclass(frozen=True)
class PAMLConfig:
    """Sizes, as published; training takes the vocabulary's own."""

    vocab_size: int = 18400
    width: int = 300  # of words' vectors, and of all layers between their parts
    layers: int = 6  # of the encoder, and of the decoder
    heads: int = 4
    depth: int = 40  # of keys and of values, all heads together
    filter: int = 50  # units between the two convolutions

    def __post_init__(self):
        require_sizes(self, *(field.name for field in dataclasses.fields(self)))
        if self.depth % self.heads:
            raise ValueError(
                f"depth={self.depth} is no multiple of heads={self.heads}."
            )


class Said(NamedTuple):
    """What the network says of the word that follows each one of a response."""

    logits: jax.Array  # float32 [B, T, V]
    gate: jax.Array  # float32 [B, T]; logit of saying a word, and not copying one
    copying: jax.Array  # float32 [B, T, C]; probability of each word of the context


class Norm(nn.Module):
    """scale (x - mean) / (std + 1e-6) + bias, with the unbiased standard deviation."""

    @nn.compact
    def __call__(self, x):
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        std = jnp.std(x, axis=-1, keepdims=True, ddof=1)
        normed = (x - jnp.mean(x, axis=-1, keepdims=True)) / (std + 1e-6)
        return normed * _wide(scale, x) + _wide(bias, x)


class Attention(nn.Module):
    """Attention of several heads, without biases."""

    config: PAMLConfig

    @nn.compact
    def __call__(self, x, read, mask):
        """[B, T, D], [B, C, D], bool [B, 1 or T, C] -> [B, T, D], [B, T, C].

        The second are the logits, averaged over the heads.
        """
        c = self.config
        query, key, value = (
            _linear(c.depth, name)(y).reshape(*y.shape[:2], c.heads, -1)
            for name, y in (("query", x), ("key", read), ("value", read))
        )
        query = query * (c.depth // c.heads) ** -0.5
        logits = jnp.einsum("btnh,bcnh->bntc", query, key)
        logits = jnp.where(mask[:, None], logits, HIDDEN)
        heed = jax.nn.softmax(logits)
        found = jnp.einsum("bntc,bcnh->btnh", heed, value)
        found = found.reshape(*x.shape[:2], c.depth)
        return _linear(x.shape[-1], "output")(found), jnp.mean(logits, axis=1)


class Convolutions(nn.Module):
    """Two convolutions over `WINDOW` words, each with a ReLU behind it.

    before: how many words before each one are in its window.
    """

    filter: int
    before: int

    @nn.compact
    def __call__(self, x, counted):
        """[B, T, D], bool [B, T] or None: all -> [B, T, D]."""
        for name, size in (("inner", self.filter), ("outer", x.shape[-1])):
            if counted is not None:
                x = x * counted[:, :, None]
            sides = (0, 0), (self.before, WINDOW - 1 - self.before), (0, 0)
            padded, length = jnp.pad(x, sides), x.shape[1]
            windows = [padded[:, at : at + length] for at in range(WINDOW)]
            dense = nn.Dense(size, kernel_init=UNIFORM, name=name)
            x = nn.relu(_plain(dense, jnp.concatenate(windows, axis=-1)))
        return x


class Encoder(nn.Module):
    """One layer of the encoder."""

    config: PAMLConfig

    @nn.compact
    def __call__(self, x, counted):
        """[B, C, D], bool [B, C] -> [B, C, D]."""
        y = Norm(name="norm_attention")(x)
        x = x + Attention(self.config, name="attention")(y, y, counted[:, None])[0]
        y = Norm(name="norm_convolutions")(x)
        return x + Convolutions(self.config.filter, 1, name="convolutions")(y, counted)


class Decoder(nn.Module):
    """One layer of the decoder."""

    config: PAMLConfig

    @nn.compact
    def __call__(self, x, memory, counted):
        """[B, T, D], [B, C, D], bool [B, C] -> [B, T, D], [B, T, C], the logits of its
        attention to the context."""
        before = jnp.tri(x.shape[1], dtype=bool)[None]
        y = Norm(name="norm_attention")(x)
        x = x + Attention(self.config, name="attention")(y, y, before)[0]
        y = Norm(name="norm_context")(x)
        found, logits = Attention(self.config, name="context")(
            y, memory, counted[:, None]
        )
        x = x + found
        y = Norm(name="norm_convolutions")(x)
        both = Convolutions(self.config.filter, WINDOW - 1, name="convolutions")
        return x + both(y, None), logits


class PAML(nn.Module):
    """The network.  It computes in float32."""

    config: PAMLConfig

    def setup(self):
        c = self.config
        small = nn.initializers.normal(0.01)
        self.words = self.param("words", small, (c.vocab_size, c.width))
        self.encoder_input = _linear(c.width)
        self.decoder_input = _linear(c.width)
        self.encoder = [Encoder(c) for _ in range(c.layers)]
        self.decoder = [Decoder(c) for _ in range(c.layers)]
        self.encoder_norm, self.decoder_norm = Norm(), Norm()
        self.output_bias = self.param(
            "output_bias", nn.initializers.zeros, (c.vocab_size,)
        )
        self.gate = nn.Dense(1, kernel_init=UNIFORM)

    def __call__(self, turns: Turns) -> Said:
        """What is said at each target of the responses."""
        memory = self.encode(turns.context)
        return self.say(memory, turns.context, turns.response[:, :-1])

    def encode(self, context):
        """int [B, C] -> [B, C, D]."""
        x, counted = self._embed(self.encoder_input, context), context != PAD
        for layer in self.encoder:
            x = layer(x, counted)
        return self.encoder_norm(x)

    def say(self, memory, context, words) -> Said:
        """[B, C, D], int [B, C], int [B, T] -> `Said`."""
        return self.unembed(*self.hidden(memory, context, words))

    def hidden(self, memory, context, words):
        """The states after each word, and what they copy: [B, T, D], [B, T, C]."""
        x, counted = self._embed(self.decoder_input, words), context != PAD
        for layer in self.decoder:
            x, logits = layer(x, memory, counted)
        return self.decoder_norm(x), jax.nn.softmax(logits)

    def unembed(self, hidden, copying) -> Said:
        """[B, T, D], [B, T, C] -> `Said`."""
        logits = jnp.einsum("btd,vd->btv", hidden, self.words)
        gate = _plain(self.gate, hidden)[..., 0]
        return Said(logits + self.output_bias[None, None], gate, copying)

    def _embed(self, layer, words):
        """int [B, T] -> [B, T, D]."""
        x = layer(self.words[words])
        return x + jnp.asarray(sinusoids(*x.shape[1:]))[None]


def sinusoids(length: int, width: int) -> np.ndarray:
    """Sines of each place in the first half of the width, cosines in the second, of
    wave lengths from 2 pi to 20,000 pi: float32 [length, width]."""
    number = width // 2
    rates = np.exp(-np.arange(number) * math.log(1e4) / max(number - 1, 1))
    angles = np.arange(length)[:, None] * rates[None]
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return np.pad(waves, [(0, 0), (0, width % 2)]).astype(np.float32)


def _linear(features: int, name: str | None = None) -> nn.Dense:
    return nn.Dense(features, use_bias=False, kernel_init=UNIFORM, name=name)


def _plain(dense: nn.Dense, x):
    """A layer with a bias, of rows: flax adds [F] to [B, T, F], which is refused."""
    return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def _wide(vector, x):
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def initial_params(model: PAML, seed: int) -> dict:
    """float32 parameters drawn from the seed."""
    return starts.drawn(model.init, seed, _example())


def shapes_of(model: PAML) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path; nothing is computed."""
    return word_folder.shapes_of(model, _example())


def _example() -> Turns:
    return Turns(np.zeros((1, 2), np.int32), np.zeros((1, 2), np.int32))


def save(folder: Path, model: PAML, params: dict, vocabulary: Vocabulary) -> None:
    """A folder that `load` opens."""
    word_folder.save(folder, model.config, params, vocabulary)


class Loaded(NamedTuple):
    """A trained PAML, before it is adapted to anybody."""

    model: PAML
    params: dict
    vocabulary: Vocabulary


def load(folder: Path) -> Loaded:
    """What `save` wrote.  Raises UserError where it is not."""
    found = word_folder.read(folder, PAMLConfig)
    model = PAML(found.config)
    found.require_fit(folder, shapes_of(model))
    return Loaded(model, found.params(folder), found.vocabulary)
