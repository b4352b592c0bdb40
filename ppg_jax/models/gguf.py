"""GGUF files of Llama models in: sizes, weights and tokenizer, all out of one file.

The form of llama.cpp, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. What
comes out has the names, shapes and row order of Hugging Face, as if the folder that the
file was made from lay here; quantised weights come back as the float32 numbers that
they stand for. The only file that imports gguf.
"""

import functools
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ppg_jax.data.tokenization import byte_level_bpe
from ppg_jax.errors import UserError

# Names without "blk.N." and "model.layers.N.", all of them weights.
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTSIDE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_SIZES = {
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
}
# Name of llama.cpp's splitter -> whether each digit is a word of its own.
_DIGITS = {"smollm": True, "gpt-2": False}
_CONTROL, _USER_DEFINED = 3, 4  # tokenizer.ggml.token_type
_VERSIONS = (2, 3)
_AGAIN = "get the file again"


def read(path) -> tuple[dict, dict[str, np.ndarray]]:
    """A Llama model -> (the values of its config.json, its float32 tensors).

    Tensors have the names that LlamaForCausalLM gives them; `lm_head.weight` is there
    only if it is not the embedding. Shapes [out, in], rows of q and k in Hugging Face
    order. `pad_token_id` is another one than `eos_token_id`, whatever the file says:
    transformers' embedding has no gradient for the padding token, and an end token that
    is not trained is no end.

    Raises:
      UserError: not a complete GGUF file, or a model or tensor that we do not have.
    """
    file = _File(Path(path))
    config = _config(file)
    names = {tensor.name: _hugging_face_name(file, tensor) for tensor in file.tensors}
    arrays = {}
    for tensor in file.tensors:
        arrays[names[tensor.name]] = _float32(file, tensor, config)
    return config, arrays


def tokenizer(path):
    """The tokenizer that the file carries, as `load_tokenizer` gives one of a folder.

    Raises:
      UserError: not a complete GGUF file, or a tokenizer of a kind that we do not have.
    """
    file = _File(Path(path))
    file.expect("tokenizer.ggml.model", "gpt2")
    splitter = file.value("tokenizer.ggml.pre", str, "a name")
    if splitter not in _DIGITS:
        known = ", ".join(_DIGITS)
        raise file.error(f"tokenizer.ggml.pre is {splitter!r}, known are {known}")
    tokens = file.value("tokenizer.ggml.tokens", list, "a list")
    kinds = file.value("tokenizer.ggml.token_type", list, "a list")
    merges = file.value("tokenizer.ggml.merges", list, "a list")
    made = byte_level_bpe(
        tokens,
        [tuple(merge.split(" ")) for merge in merges],
        special=[t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL],
        split_digits=_DIGITS[splitter],
        max_length=file.size("llama.context_length"),
        **{
            f"{name}_token": tokens[number]
            for name, number in _special_ids(file).items()
            if number is not None
        },
    )
    return made


class _File:
    """The header of a GGUF file; tensors stay on disk until they are asked for."""

    def __init__(self, path: Path):
        self.path = path
        try:
            reader = _reader()(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}.") from None
        self._fields, self.tensors = reader.fields, reader.tensors

    def error(self, fault: str, remedy: str = _AGAIN) -> UserError:
        return UserError(f"{self.path}: {fault}; {remedy}.")

    def get(self, key: str) -> Any:
        field = self._fields.get(key)
        return None if field is None else field.contents()

    def value(self, key: str, kind: type, expected: str) -> Any:
        value = self.get(key)
        if type(value) is not kind:
            raise self.error(f"{key} is {value!r}, expected {expected}")
        return value

    def size(self, key: str) -> int:
        value = self.get(key)
        if type(value) is not int or not 0 < value < 2**31:
            raise self.error(f"{key} is {value!r}, expected a positive integer")
        return value

    def expect(self, key: str, *expected) -> None:
        value = self.get(key)
        if value not in expected:
            raise self.error(f"{key} is {value!r}, expected {expected[0]!r}")


@functools.cache
def _reader():
    """gguf's reader, without a numpy view for each token.

    Those views take 1.7 s of 1.8 s for a vocabulary of 49,152.
    """
    import gguf

    class Reader(gguf.GGUFReader):
        def _get_field_parts(self, orig_offs, raw_type):
            kinds, offset = gguf.GGUFValueType, orig_offs
            if raw_type != kinds.ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            kind, count = struct.unpack_from("<IQ", self.data, offset)
            offset += 12
            if kind == kinds.STRING:
                parts, offset = _strings(memoryview(self.data), offset, count)
            else:
                numbers = np.dtype(self.gguf_scalar_to_np[kinds(kind)])
                parts = [np.frombuffer(self.data, numbers, count, offset)]
                offset += parts[0].nbytes
            types = [kinds.ARRAY, kinds(kind)]
            return offset - orig_offs, parts, list(range(len(parts))), types

    return Reader


def _strings(data: memoryview, offset: int, count: int) -> tuple[list, int]:
    """`count` strings, each after its length, and where they end."""
    parts, length_at = [], struct.Struct("<Q").unpack_from
    for _ in range(count):
        start = offset + 8
        offset = start + length_at(data, offset)[0]
        parts.append(data[start:offset])
    return parts, offset


def _config(file: _File) -> dict[str, Any]:
    file.expect("general.architecture", "llama")
    sizes = {ours: file.size(f"llama.{theirs}") for ours, theirs in _SIZES.items()}
    heads = sizes["num_attention_heads"]
    kv_heads = "llama.attention.head_count_kv"
    shared = file.get(kv_heads) is not None
    tables = {tensor.name: tensor for tensor in file.tensors}
    return (
        sizes
        | {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": tables["token_embd.weight"].data.shape[0],
            "num_key_value_heads": file.size(kv_heads) if shared else heads,
            "rms_norm_eps": _number(file, "llama.attention.layer_norm_rms_epsilon"),
            "rope_theta": _number(file, "llama.rope.freq_base", 1e4),
            "tie_word_embeddings": "output.weight" not in tables,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "dtype": "float32",
        }
        | {f"{name}_token_id": n for name, n in _special_ids(file).items()}
    )


def _number(file: _File, key: str, default: float | None = None) -> float:
    """A float32 of the file as the shortest decimal that means it: 1e-05."""
    value = default if file.get(key) is None else file.get(key)
    if type(value) is not float or not 0 < value < np.inf:
        raise file.error(f"{key} is {value!r}, expected a positive number")
    return float(str(np.float32(value)))


def _special_ids(file: _File) -> dict[str, int | None]:
    ids = {
        name: file.get(f"tokenizer.ggml.{key}_token_id")
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"))
    }
    padding = file.get("tokenizer.ggml.padding_token_id")
    others = [i for i in (padding, ids["unk"], ids["bos"]) if i != ids["eos"]]
    return ids | {"pad": next((i for i in others if i is not None), None)}


def _hugging_face_name(file: _File, tensor) -> str:
    name, _, end = tensor.name.rpartition(".")
    place, number, kind = ("", "", name)
    if name.startswith("blk."):
        place, number, kind = (*name.split(".", 2), "", "")[:3]
    if end == "weight" and place and number.isdecimal() and kind in _LAYER:
        return f"model.layers.{int(number)}.{_LAYER[kind]}.weight"
    if end == "weight" and not place and kind in _OUTSIDE:
        return f"{_OUTSIDE[kind]}.weight"
    raise file.error(f"tensor {tensor.name!r} has no place in a Llama model")


def _float32(file: _File, tensor, config: dict) -> np.ndarray:
    import gguf

    rows = tensor.data
    if ".attn_q." in tensor.name:
        rows = rows[_halves(len(rows), config["num_attention_heads"])]
    elif ".attn_k." in tensor.name:
        rows = rows[_halves(len(rows), config["num_key_value_heads"])]
    return np.array(gguf.dequantize(rows, tensor.tensor_type), np.float32)


def _halves(rows: int, heads: int) -> np.ndarray:
    """Where each row of a Hugging Face q or k lies in the file.

    llama.cpp turns neighbours by one angle, Hugging Face the first half of a head with
    the second: row 0, 1, 2 .. of each head here are 0, 2, 4 .. and then 1, 3, 5 ..
    """
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).ravel()
