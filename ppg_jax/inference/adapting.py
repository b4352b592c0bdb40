"""A PAML, and what it becomes by some steps of gradient descent on a speaker's
dialogues (Finn et al., 2017, "Model-Agnostic Meta-Learning").

Axes: B rows, T words of a response.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.speaker_tasks import Turns, read
from ppg_jax.data.vocabulary import END
from ppg_jax.inference.beam import Beam, search, without_repeats
from ppg_jax.inference.pointer import target_log_probs, word_log_probs
from ppg_jax.inference.scoring import Score
from ppg_jax.losses import cross_entropy
from ppg_jax.models.paml import PAML, Loaded

LEARNED = 16  # instances that are learned in a step, as published
ASKED = 8  # instances of a call: about those of a dialogue


def log_probs(model: PAML, params: dict, turns: Turns) -> jax.Array:
    """Of the targets: float32 [B, T]; meaningless where they are not counted."""
    said = model.apply({"params": params}, turns)
    return target_log_probs(said, turns.context, turns.targets)


def loss(model: PAML, params: dict, turns: Turns) -> jax.Array:
    """Mean NLL of the counted words, nats; 0 of none: a scalar."""
    return cross_entropy(log_probs(model, params, turns), turns.counted)


def step(
    model: PAML, params: dict, turns: Turns, rate: float, second_order: bool = True
) -> dict:
    """The parameters after one step of gradient descent.

    second_order: whether a gradient through the step sees how its own gradient changes.
    """
    grads = jax.grad(functools.partial(loss, model))(params, turns)
    if not second_order:
        grads = jax.lax.stop_gradient(grads)
    return jax.tree.map(lambda p, g: p - rate * g, params, grads)


class Speaker:
    """Adapts a PAML and asks it, with programs that serve all adapted weights.

    rate: of the steps. What is given anywhere is the parameters to ask, as adapted.
    """

    def __init__(self, loaded: Loaded, rate: float, beam: Beam):
        self.params = loaded.params
        self._vocabulary = loaded.vocabulary
        self._step = jax.jit(lambda *given: step(loaded.model, *given, rate))
        self._score = jax.jit(functools.partial(_score, loaded.model))
        self._say = jax.jit(functools.partial(_say, loaded.model, beam))

    def adapted(self, known: Sequence[Instance], passes: int) -> dict:
        """The parameters after so many passes over the instances, in their order."""
        starts = range(0, len(known), LEARNED)
        parts = [known[at : at + LEARNED] for at in starts]
        batches = [read(self._vocabulary, part, LEARNED) for part in parts]
        params = self.params
        for _ in range(passes):
            for batch in batches:
                params = self._step(params, batch)
        return params

    def score(self, params: dict, asked: Sequence[Instance]) -> list[Score]:
        """Of whole responses; an unknown word has its share (`data.vocabulary`)."""
        scores: list[Score] = []
        for some in _chunks(asked):
            turns = read(self._vocabulary, some, ASKED, whole=True)
            nlls = np.asarray(self._score(params, turns))
            for instance, nll in zip(some, nlls, strict=False):
                words = self._vocabulary.encode(instance.response)
                total = float(nll) + self._vocabulary.unknown_nll(words)
                scores.append(Score(total, len(words) + 1))
        return scores

    def respond(self, params: dict, asked: Sequence[Instance]) -> list[str]:
        """Its own responses, by beam search, without words said twice in a row."""
        texts: list[str] = []
        for some in _chunks(asked):
            context = read(self._vocabulary, some, ASKED).context
            rows = np.asarray(self._say(params, context))[: len(some)].tolist()
            texts += [self._text(row) for row in rows]
        return texts

    def _text(self, row: list[int]) -> str:
        ended = row.index(END) if END in row else len(row)
        return self._vocabulary.text(without_repeats(row[:ended]))


def _chunks(asked: Sequence[Instance]):
    return (asked[at : at + ASKED] for at in range(0, len(asked), ASKED))


def _score(model: PAML, params: dict, turns: Turns) -> jax.Array:
    """NLL of each response, in nats: [B]."""
    return -jnp.sum(log_probs(model, params, turns), axis=1, where=turns.counted)


def _say(model: PAML, beam: Beam, params: dict, context) -> jax.Array:
    """int [B, C] -> int [B, T]."""
    rows = context.shape[0]
    call = functools.partial(model.apply, {"params": params})
    memory = call(context, method="encode")
    # Each hypothesis is a row: those of an instance lie one after the other.
    memory, context = (jnp.repeat(a, beam.size, axis=0) for a in (memory, context))

    def after(words, place):
        said = words.reshape(rows * beam.size, -1)
        hidden, copying = call(memory, context, said, method="hidden")
        here = (jax.lax.dynamic_slice_in_dim(a, place, 1, 1) for a in (hidden, copying))
        found = word_log_probs(call(*here, method="unembed"), context)
        return found.reshape(rows, beam.size, -1)

    return search(after, rows, beam)
