"""Small models, tokenizers and dialogues that many tests share."""

import jax
import jax.numpy as jnp

from ppg_jax.data import tokenization
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.models.gpt2 import GPT2, GPT2Config

DIALOGUES = (
    Dialogue(
        id="a",
        self_persona=("i have two dogs.", "i sing"),
        partner_persona=("i am a nurse.", "i love tea.", "my car is red."),
        utterances=(
            "hi , how are you ?",
            "fine , just fed my dogs .",
            "nice ! i had a long shift .",
            "are you a nurse ?",
            "yes , and i need tea now .",
            "ha , me too .",
        ),
    ),
    Dialogue(
        id="b",
        self_persona=("i paint.",),
        partner_persona=("i run every day.",),
        utterances=("hello", "hello ! i was painting .", "i was out running", "wow"),
    ),
)


def tokenizer(vocab_size: int = 300):
    texts = [u for d in DIALOGUES for u in d.utterances]
    texts += [s for d in DIALOGUES for s in d.self_persona + d.partner_persona]
    return tokenization.train_byte_level_bpe(texts, vocab_size)


def prompts(**options) -> Prompts:
    return Prompts(tokenizer(), PromptConfig(**options))


def gpt2(vocab_size: int, seed: int = 0, **sizes):
    """A tiny GPT-2 whose weights are large enough to make its choices differ."""
    sizes = {"n_positions": 512, "n_embd": 16, "n_layer": 2, "n_head": 2} | sizes
    model = GPT2(GPT2Config(vocab_size=vocab_size, **sizes))
    params = model.init(jax.random.key(seed), jnp.zeros((1, 4), jnp.int32))["params"]
    keys = iter(jax.random.split(jax.random.key(seed + 1), 200))
    params = jax.tree.map(
        lambda p: p + 0.3 * jax.random.normal(next(keys), p.shape), params
    )
    return model, params
