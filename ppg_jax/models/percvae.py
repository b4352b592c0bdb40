"""PerCVAE: a conditional variational autoencoder with a memory of the own persona.

Song et al. (2019), "Exploiting Persona Information for Diverse Generation of
Conversational Responses" (IJCAI), as their code has it (vsharecodes/percvae, the
variant without labelled data):

    memory       the last utterance, as the sum of its words' vectors, looks at all
                 words of the persona three times (Sukhbaatar et al., 2015)
    condition    the memory's answer beside a two-layer GRU over the utterances before,
                 each of which a bidirectional GRU has read: one, as published
    z            Gaussian: recognised from condition and response in training, from the
                 condition alone, by the prior, when it answers
    response     one GRU says the words; another, with a state of its own, whether the
                 next word is of the persona; which line of it is told by memory and z

Padding has vectors of zeros and its share of the memory's attention, as published.

Differs: persona lines are not read by the sentence encoder, of which their code uses
no result; the second GRU has no layer onto the vocabulary, which theirs makes (9.4
million numbers) and never uses; the first GRU after one utterance starts from 0, so
that its recurrent weights learn nothing, as in theirs.

Axes: B rows, U words of an utterance, P lines of a persona, W words of a line, T words
of a response, V vocabulary, K hops, M memory, S sentence, C condition, L latent, H
decoder.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.data.persona_lines import LINE, LINES, UTTERANCE, Lines
from ppg_jax.data.vocabulary import PAD, Vocabulary
from ppg_jax.models import starts, word_folder
from ppg_jax.models.dense import Dense, require_sizes
from ppg_jax.models.gru import GRU, small

GLOROT = nn.initializers.glorot_uniform()
WEIGHTS = "word_weights"  # among the tensors, and no parameter


@dataclasses.dataclass(frozen=True)
class PerCVAEConfig:
    """Sizes, as published; training takes the vocabulary's own."""

    vocab_size: int = 18788
    embedding: int = 300  # of words
    sentence: int = 300  # units of the encoder of utterances, in each direction
    context: int = 600  # units of each of its two layers
    memory: int = 300
    hops: int = 3
    latent: int = 100  # of z
    prior: int = 200  # hidden units
    bag: int = 400  # hidden units of the bag of words
    decoder: int = 500  # units

    def __post_init__(self):
        require_sizes(self, *(field.name for field in dataclasses.fields(self)))


class Gaussian(NamedTuple):
    """Independent normal distributions."""

    mean: jax.Array  # float32 [B, L]
    log_variance: jax.Array  # float32 [B, L]

    def at(self, noise: jax.Array) -> jax.Array:
        """The values that standard normal noise stands for: [B, L] -> [B, L]."""
        return self.mean + jnp.exp(0.5 * self.log_variance) * noise


class Said(NamedTuple):
    """All that one pass over a batch says of it."""

    logits: jax.Array  # float32 [B, T, V]; of the next word
    positions: jax.Array  # float32 [B, T, 2]; of another's word, of the persona's
    bag: jax.Array  # float32 [B, V]; of any word of the response
    lines: jax.Array  # float32 [B, P]; log-probability of a persona line
    recognised: Gaussian
    prior: Gaussian


class Plan(NamedTuple):
    """What z and the condition decide before the first word."""

    states: tuple[jax.Array, jax.Array]  # [B, H] of words, and of positions
    bag: jax.Array  # float32 [B, V]
    lines: jax.Array  # float32 [B, P]; log-probabilities


class PerCVAE(nn.Module):
    """The network.  It computes in float32."""

    config: PerCVAEConfig

    def setup(self):
        c = self.config
        self.words = self.param("words", small, (c.vocab_size, c.embedding))
        table = (c.vocab_size, c.memory)
        self.tables = [
            self.param(f"memory_{hop}", small, table) for hop in range(c.hops + 1)
        ]
        self.forward = GRU(c.embedding, c.sentence)
        self.backward = GRU(c.embedding, c.sentence)
        self.context_0 = GRU(2 * c.sentence, c.context)
        self.context_1 = GRU(c.context, c.context)
        self.recogniser = _dense(2 * c.latent)
        self.prior_hidden = _dense(c.prior)
        self.prior_output = _dense(2 * c.latent)
        self.selection = _dense(LINES)
        self.bag_hidden = _dense(c.bag)
        self.bag_output = _dense(c.vocab_size)
        self.start = _dense(c.decoder)
        self.decoder = GRU(c.embedding, c.decoder)
        self.output = _dense(c.vocab_size, small)
        self.position = GRU(c.embedding, c.decoder)
        self.position_output = _dense(2, small)

    def __call__(self, lines: Lines, noise, from_prior: bool = False) -> Said:
        """noise: [B, L], of the z that the recogniser gives, or the prior."""
        condition = self.condition(lines)
        recognised = self.recognise(condition, lines.response)
        prior = self.prior(condition)
        z = (prior if from_prior else recognised).at(noise)
        plan = self.plan(condition, z)
        logits, positions = self.speak(plan, lines.response[:, :-1])
        return Said(logits, positions, plan.bag, plan.lines, recognised, prior)

    def condition(self, lines: Lines):
        """[B, C], the memory's answer first."""
        states, x = [], self._sentence(lines.said)[:, None]
        whole = jnp.ones(x.shape[:2], bool)
        for layer in (self.context_0, self.context_1):
            x, last = layer(x, whole)
            states.append(last)
        return jnp.concatenate([self._remember(lines), *states], axis=1)

    def recognise(self, condition, response) -> Gaussian:
        """[B, C], int [B, T+1] -> q(z | condition, response)."""
        memory = condition[:, : self.config.memory]
        parts = [condition, self._sentence(response), memory]
        return Gaussian(*jnp.split(self.recogniser(jnp.concatenate(parts, 1)), 2, 1))

    def prior(self, condition) -> Gaussian:
        """[B, C] -> p(z | condition)."""
        hidden = jnp.tanh(self.prior_hidden(condition))
        return Gaussian(*jnp.split(self.prior_output(hidden), 2, axis=1))

    def plan(self, condition, z) -> Plan:
        """[B, C], [B, L] -> `Plan`."""
        memory = condition[:, : self.config.memory]
        lines = jnp.tanh(self.selection(jnp.concatenate([memory, z], axis=1)))
        given = jnp.concatenate([condition, z], axis=1)
        bag = self.bag_output(jnp.tanh(self.bag_hidden(given)))
        start = self.start(given)
        return Plan((start, start), bag, jax.nn.log_softmax(lines))

    def speak(self, plan: Plan, words):
        """Logits after each word, of the next one and of its kind.

        int [B, T] -> [B, T, V], [B, T, 2].
        """
        x, counted = self._embed(words), words != PAD
        said, _ = self.decoder(x, counted, plan.states[0])
        placed, _ = self.position(x, counted, plan.states[1])
        return self.output(said), self.position_output(placed)

    def say(self, states, word):
        """The same for one word: (states, [B, V], [B, 2]) of states and int [B]."""
        x = self._embed(word)
        said, placed = self.decoder.step(states[0], x), self.position.step(states[1], x)
        return (said, placed), self.output(said), self.position_output(placed)

    def _embed(self, words):
        """int [...] -> [..., E]."""
        return self.words[words] * (words != PAD)[..., None]

    def _sentence(self, words):
        """int [B, U] -> [B, 2 S]."""
        x, counted = self._embed(words), words != PAD
        _, first = self.forward(x, counted)
        _, last = self.backward(x, counted, reverse=True)
        return jnp.concatenate([first, last], axis=1)

    def _remember(self, lines: Lines):
        """[B, M]: what the last utterance finds in the persona."""
        words = lines.persona.reshape(lines.persona.shape[0], -1)
        found = [self._recall(hop, words) for hop in range(self.config.hops + 1)]
        answer = self._recall(0, lines.said).sum(axis=1)
        for key, value in itertools.pairwise(found):
            heed = jax.nn.softmax(jnp.einsum("bwm,bm->bw", key, answer))
            answer = answer + jnp.einsum("bwm,bw->bm", value, heed)
        return answer

    def _recall(self, hop: int, words):
        """int [B, W] -> [B, W, M]."""
        return self.tables[hop][words] * (words != PAD)[..., None]


def _dense(features: int, init=GLOROT) -> Dense:
    return Dense(features, kernel_init=init)


def initial_params(model: PerCVAE, seed: int) -> dict:
    """float32 parameters drawn from the seed."""
    return starts.drawn(model.init, seed, *_example(model))


def shapes_of(model: PerCVAE) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path; nothing is computed."""
    return word_folder.shapes_of(model, *_example(model))


def _example(model: PerCVAE) -> tuple[Lines, np.ndarray]:
    shapes = (1, UTTERANCE), (1, LINES, LINE), (1, 2)
    lines = Lines(*(np.zeros(shape, np.int32) for shape in shapes))
    return lines, np.zeros((1, model.config.latent), np.float32)


def save(
    folder: Path, model: PerCVAE, params: dict, vocabulary: Vocabulary, weights
) -> None:
    """A folder that `load` opens.  weights: of `persona_lines.word_weights`."""
    word_folder.save(folder, model.config, params, vocabulary, **{WEIGHTS: weights})


class Loaded(NamedTuple):
    """A trained PerCVAE."""

    model: PerCVAE
    params: dict
    vocabulary: Vocabulary
    weights: jax.Array  # float32 [V]


def load(folder: Path) -> Loaded:
    """What `save` wrote.  Raises UserError where it is not."""
    found = word_folder.read(folder, PerCVAEConfig)
    model = PerCVAE(found.config)
    beside = {WEIGHTS: (model.config.vocab_size,)}
    found.require_fit(folder, shapes_of(model) | beside)
    weights = found.tensors.pop(WEIGHTS)
    return Loaded(model, found.params(folder), found.vocabulary, weights)
