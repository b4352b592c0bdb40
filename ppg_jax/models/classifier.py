"""A decoder as classifier: what the last token of a text has seen tells its label.

As `LlamaForSequenceClassification` and `GPT2ForSequenceClassification` of transformers
are: last norm, then one linear layer without bias, "score", in place of the output
head.

Axes: B batch, T tokens, D width, C labels.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ppg_jax.models.adapters import HEAD
from ppg_jax.models.decoder import Decoder
from ppg_jax.models.dense import Dense
from ppg_jax.models.gpt2 import GPT2, GPT2Config
from ppg_jax.models.llama import Llama, LlamaConfig
from ppg_jax.models.quantize import table_of


class Classifier(nn.Module):
    """The classifier.  `dtype` is the compute type; parameters stay float32.

    Its parameters are those of its decoder, without an output head, and "score" beside
    them.
    """

    config: GPT2Config | LlamaConfig
    dtype: jnp.dtype = jnp.float32
    num_labels: int = 2

    def setup(self):
        kind = GPT2 if isinstance(self.config, GPT2Config) else Llama
        self.decoder = kind(self.config, self.dtype)
        nn.share_scope(self, self.decoder)
        self.score = Dense(self.num_labels, jnp.float32, use_bias=False)

    def __call__(self, tokens, attention_mask=None, deterministic=True):
        """int [B, T] -> float32 logits [B, C].

        attention_mask: bool [B, T], True = a real token; pads change nothing.
        """
        if attention_mask is None:
            attention_mask = jnp.ones(tokens.shape[:2], bool)
        places = jnp.arange(tokens.shape[1])[None]
        last = jnp.max(jnp.where(attention_mask, places, 0), axis=1, keepdims=True)
        hidden = self.decoder.hidden_states(
            tokens, None, attention_mask, deterministic, last
        )
        return self.score(hidden[:, 0])


def classifier_of(model: Decoder, params: dict, kernel) -> tuple[Classifier, dict]:
    """(model, params) with a head, [D, C], in place of the decoder's own.

    No array is copied.
    """
    body = {name: part for name, part in params.items() if name != "lm_head"}
    made = Classifier(model.config, model.dtype, kernel.shape[1])
    return made, body | {HEAD: {"kernel": kernel}}


def new_classifier(model: Decoder, params: dict, seed: int) -> tuple[Classifier, dict]:
    """As `classifier_of`, with a head of two labels that is drawn from the seed."""
    width = params[table_of(params)]["embedding"].shape[1]
    kernel = np.random.default_rng(seed).normal(0, 0.02, (width, 2))
    return classifier_of(model, params, jnp.asarray(kernel, jnp.float32))
