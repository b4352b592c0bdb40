"""The critic as other stages use it: a frozen judge of any profile and response.

`ppg_jax.critic` trains one (paper, section 3.3).

Axes: B pairs, T tokens, N pairs of any number.
"""

import functools
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.errors import UserError
from ppg_jax.models import pretrained
from ppg_jax.models.distilbert import DistilBert

UNRELATED, RELATED = 0, 1

# Padded lengths are multiples of it: a pair of PersonaChat has 60 tokens or so.
LENGTH_STEP = 16
SCORED_AT_ONCE = 64


class PairEncoder:
    """Profile and response -> `[CLS] profile [SEP] response [SEP]`, at most max_length.

    The profile's end goes first when both are too long, then the response's.
    """

    def __init__(self, tokenizer, max_length: int):
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise UserError(
                "the critic's tokenizer has no [CLS] and [SEP]; give a BERT tokenizer."
            )
        self._start, self._end = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._max_length = max_length
        self._tokenizer = tokenizer.backend_tokenizer
        # Files of sentence encoders ask for every text to be padded and cut to 128.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __call__(
        self, profiles: Sequence[str], responses: Sequence[str]
    ) -> list[np.ndarray]:
        """Tokens of each pair, int32 [T]; a text that several have is read once."""
        heads, tails = self._encode(profiles), self._encode(responses)
        return [
            self._join(heads[profile], tails[response])
            for profile, response in zip(profiles, responses, strict=True)
        ]

    def _encode(self, texts: Sequence[str]) -> dict[str, list[int]]:
        unique = list(dict.fromkeys(texts))
        encoded = self._tokenizer.encode_batch(unique, add_special_tokens=False)
        return {text: e.ids for text, e in zip(unique, encoded, strict=True)}

    def _join(self, profile: list[int], response: list[int]) -> np.ndarray:
        response = response[: self._max_length - 3]
        profile = profile[: self._max_length - 3 - len(response)]
        joined = [self._start, *profile, self._end, *response, self._end]
        return np.array(joined, np.int32)


@flax.struct.dataclass
class PairBatch:
    """Pairs side by side, padded on the right; a row of padding has length 0."""

    tokens: jax.Array  # int32 [B, T]
    lengths: jax.Array  # int32 [B]
    labels: jax.Array  # int32 [B]

    @property
    def attention_mask(self) -> jax.Array:
        """bool [B, T], True = a real token."""
        return jnp.arange(self.tokens.shape[1])[None] < self.lengths[:, None]


def collate(rows: Sequence[np.ndarray], labels: Sequence[int], height: int):
    """Token rows and labels -> a `PairBatch` of `height` rows."""
    width = -(-max(map(len, rows)) // LENGTH_STEP) * LENGTH_STEP
    batch = PairBatch(
        tokens=np.zeros((height, width), np.int32),
        lengths=np.zeros(height, np.int32),
        labels=np.zeros(height, np.int32),
    )
    for i, row in enumerate(rows):
        batch.tokens[i, : len(row)] = row
        batch.lengths[i] = len(row)
    batch.labels[: len(rows)] = labels
    return batch


class Critic:
    """A trained critic, frozen: profile and response -> P(related)."""

    def __init__(self, model: DistilBert, params, encoder: PairEncoder):
        self.model, self.params = model, params
        self._encoder = encoder

    @classmethod
    def load(cls, folder) -> "Critic":
        """The critic of a model folder, for example RUN/critic/model.

        Raises UserError if the folder is no classifier of two labels.
        """
        model, params, tokenizer = pretrained.load(folder)
        check_classifier(model, folder)
        limit = model.config.max_position_embeddings
        encoder = PairEncoder(tokenizer, min(tokenizer.model_max_length, limit))
        return cls(model, params, encoder)

    def score(self, profiles: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """P(related) of each profile, one text, with its response: float32 [N].

        A pair's score does not depend on the others, but for rounding (1e-6).
        """
        rows = self._encoder(profiles, responses)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        scores = np.zeros(len(rows), np.float32)
        for start in range(0, len(order), SCORED_AT_ONCE):
            chunk = order[start : start + SCORED_AT_ONCE]
            # With the few lengths, few shapes to compile.
            step = 4 if len(chunk) <= 32 else 16
            height = -(-len(chunk) // step) * step
            none = [UNRELATED] * len(chunk)
            batch = collate([rows[i] for i in chunk], none, height)
            scores[chunk] = _probability(self.model, self.params, batch)[: len(chunk)]
        return scores


@functools.partial(jax.jit, static_argnums=0)
def _probability(model: DistilBert, params, batch: PairBatch) -> jax.Array:
    """P(related) [B]."""
    logits = model.apply({"params": params}, batch.tokens, batch.attention_mask)
    return jax.nn.softmax(logits)[:, RELATED]


def check_classifier(model, source) -> None:
    """Raises UserError unless `model` tells related from unrelated."""
    if not isinstance(model, DistilBert) or model.config.num_labels != 2:
        raise UserError(
            f"{source} is no classifier of two labels, which a critic is; give a "
            "DistilBERT or BERT folder, or the model/ of a finished critic."
        )
