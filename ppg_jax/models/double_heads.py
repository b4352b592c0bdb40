"""A decoder with two heads, whose tokens are said by somebody: TransferTransfo's.

Wolf, Sanh, Chaumond and Delangue, 2019, TransferTransfo, https://arxiv.org/abs/1901.08149.
One head is the decoder's own, the other one, linear on the hidden state of the last
token, tells how well an utterance goes on. Two speaker tokens are added to the
vocabulary, and each token's embedding has that of its speaker added to it.

A number says both, which token and who says it (`data.speakers`): token +
(V + 2) * speaker, where the speaker tokens are V and V + 1. What speaker 0 says has
the numbers of its tokens, so that what is generated and what is scored need no others.

Differs from the paper: the rows of the speaker tokens are beside the table, not in it,
so that they are trained where adapters leave the table as it is, and the output has no
logit for them, which nobody says; the end token is beginning, end and padding, as
GPT-2 has it, where three more tokens were added; the second head has no bias, which
all candidates would have in common, and no dropout of its own.

Axes: B batch, T tokens, C candidates, D width, V vocabulary.
"""

import shutil
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from ppg_jax.data.speakers import SPEAKERS
from ppg_jax.errors import UserError
from ppg_jax.models import adapters, config_json, pretrained
from ppg_jax.models.classifier import Classifier
from ppg_jax.models.decoder import Decoder
from ppg_jax.models.tensor_files import read_file
from ppg_jax.training.train_state import params_sha256

ROWS = "speakers"  # of the parameters: those of the speaker tokens
FILE = "heads.safetensors"  # in a model folder, beside the decoder's
_SCORE = f"{adapters.HEAD}.weight"
_TOKENS = f"{ROWS}.weight"


class DoubleHeads(Classifier):
    """The model: parameters of its decoder, "score" [D, 1] and "speakers" [2, D].

    It is asked as a `Decoder` is, and as a `Classifier` of one label. Numbers of tokens
    are those of the module's docstring.
    """

    num_labels: int = 1

    def setup(self):
        super().setup()
        init = nn.initializers.normal(0.02)
        width = width_of(self.config)
        self.speakers = nn.Embed(SPEAKERS, width, embedding_init=init)

    def __call__(self, tokens, attention_mask=None, deterministic=True):
        return super().__call__(self.said(tokens), attention_mask, deterministic)

    def said(self, numbers):
        """int [...] -> [..., D]: the token's embedding and its speaker's."""
        size = self.config.vocab_size
        token, speaker = numbers % (size + SPEAKERS), numbers // (size + SPEAKERS)
        known = self.decoder.looked_up(jnp.minimum(token, size - 1))
        own = self.speakers(jnp.maximum(token - size, 0))
        return jnp.where((token < size)[..., None], known, own) + self.speakers(speaker)

    def hidden_states(self, tokens, *given, **more):
        return self.decoder.hidden_states(self.said(tokens), *given, **more)

    def unembed(self, hidden):
        return self.decoder.unembed(hidden)

    def choose(self, hidden):
        """[B, C, D] of the candidates' last tokens -> float32 scores [B, C]."""
        return self.score(hidden)[..., 0]

    def prefill(self, prompt, prompt_mask, slots: int):
        return self.decoder.prefill(self.said(prompt), prompt_mask, slots)

    def empty_cache(self, batch: int, slots: int):
        return self.decoder.empty_cache(batch, slots)

    def extend(self, cache, tokens, token_mask, position_ids):
        return self.decoder.extend(cache, self.said(tokens), token_mask, position_ids)

    def decode_step(self, cache, tokens, position_ids):
        return self.decoder.decode_step(cache, self.said(tokens), position_ids)


def width_of(config) -> int:
    """D of a `GPT2Config` or a `LlamaConfig`."""
    return getattr(config, "n_embd", 0) or config.hidden_size


def with_heads(model: Decoder, params: dict, seed: int) -> tuple[DoubleHeads, dict]:
    """(model, params) with a head and speaker tokens that are drawn from the seed.

    No array is copied.
    """
    rng, width = np.random.default_rng(seed), width_of(model.config)
    heads = {
        adapters.HEAD: {"kernel": rng.normal(0, 0.02, (width, 1))},
        ROWS: {"embedding": rng.normal(0, 0.02, (SPEAKERS, width))},
    }
    return DoubleHeads(model.config, model.dtype), params | _float32(heads)


def split(params: dict) -> tuple[dict, dict]:
    """(parameters of the decoder, of what is beside it)."""
    beside = (adapters.HEAD, ROWS)
    decoder = {name: part for name, part in params.items() if name not in beside}
    return decoder, {name: params[name] for name in beside}


def trained(params: dict) -> tuple[dict, dict]:
    """(what is trained, the rest), as `adapters.split`: the heads always are."""
    decoder, heads = split(params)
    learned, base = adapters.split(decoder)
    return learned | heads, base


def export(model: DoubleHeads, params: dict, tokenizer, folder: Path, base="") -> Path:
    """Writes a folder that `load` opens; the decoder alone, `pretrained.load`.

    As `pretrained.export`, to which `base` goes.
    """
    decoder, heads = split(params)
    language = config_json.module_of(model.config, model.dtype)
    tensors = {
        _SCORE: np.ascontiguousarray(np.asarray(heads[adapters.HEAD]["kernel"]).T),
        _TOKENS: np.ascontiguousarray(np.asarray(heads[ROWS]["embedding"])),
    }
    known = {"format": "pt", "sha256": params_sha256(tensors)}

    def write_heads(partial: Path) -> None:
        safetensors.numpy.save_file(tensors, partial / FILE, metadata=known)
        shutil.copymode(next(partial.glob("*config.json")), partial / FILE)

    return pretrained.export(language, decoder, tokenizer, folder, base, write_heads)


def load(folder: Path, **options) -> tuple:
    """(model, params, tokenizer) of a folder that `export` wrote.

    options: of `pretrained.load`. Raises UserError for what is no such folder.
    """
    model, params, tokenizer = pretrained.load(folder, **options)
    file = Path(folder) / FILE
    tensors = {tensor.name: tensor.array for tensor in read_file(file, most=1 << 24)}
    width = width_of(model.config)
    expected = {_SCORE: (1, width), _TOKENS: (SPEAKERS, width)}
    if {name: array.shape for name, array in tensors.items()} != expected:
        raise UserError(
            f"{file}: expected {_SCORE} [1, {width}] and {_TOKENS} [2, {width}]; it is "
            "another model's, train the stage again."
        )
    with safetensors.safe_open(file, framework="numpy") as opened:
        known = (opened.metadata() or {}).get("sha256")  # older ones do not say
    if known not in (None, params_sha256(tensors)):
        raise UserError(f"{file}: is damaged; train the stage again.")
    heads = {
        adapters.HEAD: {"kernel": tensors[_SCORE].T},
        ROWS: {"embedding": tensors[_TOKENS]},
    }
    return DoubleHeads(model.config, model.dtype), params | _float32(heads), tokenizer


def _float32(tree: dict) -> dict:
    return {
        name: {leaf: jnp.asarray(array, jnp.float32) for leaf, array in part.items()}
        for name, part in tree.items()
    }
