"""The critic as other stages use it: a frozen judge of any profile and response.

`ppg_jax.stages.critic` trains one (paper, section 3.3).

Axes: B pairs, T tokens, N pairs of any number.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from ppg_jax.data.pairs import RELATED, UNRELATED, PairBatch, PairEncoder, collate
from ppg_jax.data.tokenization_folder import require_config
from ppg_jax.errors import UserError
from ppg_jax.models import config_json, pretrained
from ppg_jax.models.classifier import Classifier
from ppg_jax.models.distilbert import DistilBert

SCORED_AT_ONCE = 64
SHORTEST = 4  # tokens of a pair: three are special ones


class Critic:
    """A trained critic, frozen: profile and response -> P(related)."""

    def __init__(self, model: DistilBert | Classifier, params, encoder: PairEncoder):
        self.model, self.params = model, params
        self._encoder = encoder

    @classmethod
    def load(cls, folder, **shared) -> "Critic":
        """The critic of a model folder, for example RUN/critic/model.

        shared: `bases` and `prepare` of `pretrained.load`. Raises UserError if the
        folder is no classifier of two labels.
        """
        model, params, tokenizer = pretrained.load(folder, num_labels=0, **shared)
        check_classifier(model, tokenizer, folder)
        config_json.require_labels(Path(folder))
        if pretrained.has_tokenizer(Path(folder)):  # of adapters it may be the base's
            again = "get it again, or train the critic again: it says how much is read."
            require_config(Path(folder), again)
        limit, told = model.config.n_positions, tokenizer.model_max_length
        if type(told) not in (int, float) or not told >= SHORTEST:
            raise UserError(
                f"{folder}/tokenizer_config.json: model_max_length is {told!r}, "
                f"expected a number of tokens, {SHORTEST} or more."
            )
        return cls(model, params, PairEncoder(tokenizer, int(min(told, limit))))

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
        if not np.isfinite(scores).all():
            raise UserError(
                "the critic's scores are not finite: its weights are too large; train "
                "it again with a lower learning rate."
            )
        return scores


@functools.partial(jax.jit, static_argnums=0)
def _probability(model: DistilBert | Classifier, params, batch: PairBatch) -> jax.Array:
    """P(related) [B]."""
    logits = model.apply({"params": params}, batch.tokens, batch.attention_mask)
    return jax.nn.softmax(logits)[:, RELATED]


def check_classifier(model, tokenizer, source) -> None:
    """Raises UserError unless `model` tells related from unrelated, and the tokenizer
    has what it reads first.
    """
    if getattr(model, "num_labels", 0) != 2:
        raise UserError(
            f"{source} is no classifier of two labels, which a critic is; give the "
            "model/ of a finished critic, or start one from DistilBERT, BERT, GPT-2 or "
            "Llama."
        )
    first = tokenizer.cls_token_id, tokenizer.sep_token_id
    if isinstance(model, DistilBert) and None in first:
        raise UserError(
            f"the tokenizer of {source} has no [CLS] and [SEP], which a DistilBERT "
            "reads; give a BERT tokenizer."
        )
