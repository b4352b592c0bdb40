"""Small models, tokenizers and dialogues that many tests share."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.data import tokenization
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.models.decoder import KVCache
from ppg_jax.models.gpt2 import GPT2, GPT2Config
from ppg_jax.models.llama import Llama, LlamaConfig

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


def tokenizer(vocab_size: int = 300, special=()):
    texts = [u for d in DIALOGUES for u in d.utterances]
    texts += [s for d in DIALOGUES for s in d.self_persona + d.partner_persona]
    return tokenization.train_byte_level_bpe(texts, vocab_size, special)


def prompts(**options) -> Prompts:
    config = PromptConfig(**options)
    return Prompts(tokenizer(special=config.special_tokens), config)


def gpt2(vocab_size: int, seed: int = 0, **sizes):
    """A tiny GPT-2 whose weights are large enough to make its choices differ."""
    sizes = {"n_positions": 512, "n_embd": 16, "n_layer": 2, "n_head": 2} | sizes
    return _drawn(GPT2(GPT2Config(vocab_size=vocab_size, **sizes)), seed)


# What both families have, as GPT-2 and as Llama call it.
LLAMA_NAMES = {
    "n_positions": "max_position_embeddings",
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
}


def llama(vocab_size: int, seed: int = 0, **sizes):
    """As `gpt2`, a tiny Llama: two query heads for each of two heads of keys.

    Sizes may have GPT-2's names where there are such.
    """
    sizes = {LLAMA_NAMES.get(name, name): size for name, size in sizes.items()}
    sizes = {
        "max_position_embeddings": 512,
        "hidden_size": 32,
        "intermediate_size": 20,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_theta": 1e4,
    } | sizes
    return _drawn(Llama(LlamaConfig(vocab_size=vocab_size, **sizes)), seed)


DECODERS = {"gpt2": gpt2, "llama": llama}


def _drawn(model, seed: int):
    # Drawn by numpy: to compile the initializers would take seconds in every test.
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        middle = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(middle, 0.4, leaf.shape), jnp.float32)

    return model, jax.tree_util.tree_map_with_path(draw, _shapes(model))


@functools.cache
def _shapes(model):
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    return jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]


def scaled(params, factor: float):
    """With matrices that much larger; by numpy, as they are drawn."""

    def grown(leaf):
        larger = np.float32(factor) * np.asarray(leaf)
        return jnp.asarray(larger) if leaf.ndim == 2 else leaf

    return jax.tree.map(grown, params)


def distance(a, b) -> float:
    """The largest difference of two trees, by numpy."""
    leaves = zip(*map(jax.tree.leaves, jax.device_get((a, b))), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in leaves)


def insisting(params, token: int):
    """The parameters of a GPT-2 that says `token` most of the time, whatever it reads.

    Other tokens keep some probability, so that it can unlearn it.
    """
    table = params["wte"]["embedding"]
    said = 4 * table[token] / jnp.linalg.norm(table[token])
    last = {"scale": 0.1 * params["ln_f"]["scale"], "bias": said}
    return params | {"wte": {"embedding": table.at[token].set(said)}, "ln_f": last}


class Counting(nn.Module):
    """Says after token n what `following[n]` is, and is sure of it.

    With the default, the numbers are counted up to 7; then comes the end, token 0.
    """

    config: GPT2Config = GPT2Config(vocab_size=8, n_positions=64)
    dtype: jnp.dtype = jnp.float32
    following: tuple[int, ...] = (0, 2, 3, 4, 5, 6, 7, 0)
    on_decode: Callable[[], None] = lambda: None

    def prefill(self, prompt, prompt_mask, slots: int):
        return self._logits(prompt[:, -1]), self.empty_cache(len(prompt), slots)

    def empty_cache(self, batch: int, slots: int) -> KVCache:
        filled = jnp.zeros((batch, slots), bool)
        return KVCache((), (), filled, slot=jnp.zeros((), jnp.int32))

    def extend(self, cache, tokens, token_mask, position_ids):
        return self._logits(tokens[:, -1]), cache

    def decode_step(self, cache, tokens, position_ids):
        jax.debug.callback(self.on_decode)
        return self._logits(tokens), cache

    def _logits(self, tokens):
        return 100 * jax.nn.one_hot(jnp.array(self.following)[tokens], 8)
