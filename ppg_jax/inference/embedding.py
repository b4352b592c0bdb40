"""Sentences as vectors whose product says how alike they are (all-MiniLM-L6-v2).

The mean of the last hidden states over the tokens of a sentence, normalised: what
sentence-transformers computes with this model, to rounding.

Axes: B rows, T tokens, N texts, D width.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.models import pretrained

ROWS = 128  # at once
LONGEST = 256  # tokens, as the model was trained; what is longer is cut
SHORTEST = 8  # padded lengths are this, twice this, and so on


class Encoder:
    """An encoder of sentences; each different text is embedded once, ever."""

    def __init__(self, model, params, tokenizer):
        self._model, self._params = model, params
        self._tokenizer = tokenizer.backend_tokenizer
        # Its file asks for 128 tokens of each text, pads among them.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._known: dict[str, np.ndarray] = {}

    @classmethod
    def load(cls, path_or_hub_id="minilm") -> "Encoder":
        """Raises UserError that names the command if the model is not installed."""
        return cls(*pretrained.load(path_or_hub_id))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [N, D] of length 1; a text's vector depends on no other text."""
        new = sorted(set(texts) - self._known.keys())
        rows = self._tokens(new)
        # Of one padded length at a time, and so few shapes.
        order = sorted(range(len(new)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), ROWS):
            chosen = order[start : start + ROWS]
            vectors = self._embed([rows[i] for i in chosen])
            self._known |= {new[i]: v for i, v in zip(chosen, vectors, strict=True)}
        return np.array([self._known[text] for text in texts], np.float32)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """With both marks; the last one stays where the text is cut."""
        if not texts:
            return []
        limit = min(LONGEST, self._model.config.max_position_embeddings)
        encoded = self._tokenizer.encode_batch(texts)
        rows = [e.ids for e in encoded]
        return [r if len(r) <= limit else [*r[: limit - 1], r[-1]] for r in rows]

    def _embed(self, rows: Sequence[list[int]]) -> np.ndarray:
        width = SHORTEST
        while width < max(map(len, rows)):
            width *= 2
        tokens = np.zeros((ROWS, width), np.int32)
        mask = np.zeros((ROWS, width), bool)
        mask[:, 0] = True  # a row of padding has a mean, too
        for i, row in enumerate(rows):
            tokens[i, : len(row)], mask[i, : len(row)] = row, True
        vectors = _mean_states(self._model, self._params, tokens, mask)
        return np.asarray(vectors)[: len(rows)]


@functools.partial(jax.jit, static_argnums=0)
def _mean_states(model, params, tokens, mask) -> jax.Array:
    """int [B, T], bool [B, T] -> float32 [B, D] of length 1."""
    states = model.apply({"params": params}, tokens, mask, method="hidden_states")
    mean = jnp.where(mask[:, :, None], states, 0).sum(axis=1)
    return mean / jnp.linalg.norm(mean, axis=1, keepdims=True)
