"""GGUF files of Llama models in: sizes, weights and tokenizer, all out of one file.

The form is llama.cpp's, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. What
comes out has the names, shapes and row order of Hugging Face, as if the folder that the
file was made from lay here; quantised weights come back as the float32 numbers that
they stand for.
"""

import itertools
import re
from typing import Any

import numpy as np

from ppg_jax.data.tokenization_bpe import byte_level_bpe
from ppg_jax.models.gguf_blocks import dequantize
from ppg_jax.models.gguf_file import OTHER, File

# Names between "blk.N." or "model.layers.N." and ".weight".
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
    "max_position_embeddings": "llama.context_length",
    "hidden_size": "llama.embedding_length",
    "intermediate_size": "llama.feed_forward_length",
    "num_hidden_layers": "llama.block_count",
    "num_attention_heads": "llama.attention.head_count",
}
# What a file may say of things that we do not have: nothing, or that it lacks them too.
_ABSENT = {
    "llama.rope.scaling.type": "none",
    "llama.rope.scaling.factor": 1.0,  # without a type it is linear
    "llama.rope.scale_linear": 1.0,
    "llama.expert_count": 0,
}
# Name of llama.cpp's splitter -> whether each digit is a word of its own.
_DIGITS = {"smollm": True, "gpt-2": False}
_CONTROL, _USER_DEFINED = 3, 4  # kinds of tokens


def read(file: File) -> tuple[dict, dict[str, np.ndarray]]:
    """A Llama model -> (the values of its config.json, its float32 tensors).

    Tensors have the names that LlamaForCausalLM gives them; `lm_head.weight` is there
    only if it is not the embedding. Shapes [out, in], rows of q and k in Hugging Face
    order. `pad_token_id` is another one than `eos_token_id`, whatever the file says:
    transformers' embedding has no gradient for the padding token, and an end token that
    is not trained is no end.

    Raises:
      UserError: a model or tensor that we do not have.
    """
    config = _config(file)
    _check_size(file, config)
    _require_tensors(file, config["num_hidden_layers"])
    names = [_hugging_face_name(file, tensor.name) for tensor in file.tensors]
    pairs = zip(names, file.tensors, strict=True)
    return config, {name: _float32(file, tensor, config) for name, tensor in pairs}


def tokenizer(file: File):
    """The tokenizer that the file carries, as `load_tokenizer` gives one of a folder.

    Raises:
      UserError: a tokenizer of a kind that we do not have.
    """
    _require_whole(file)
    file.expect("tokenizer.ggml.model", "gpt2")
    splitter = file.expect("tokenizer.ggml.pre", *_DIGITS)
    tokens, merges = (
        file.list(f"tokenizer.ggml.{k}", str) for k in ("tokens", "merges")
    )
    kinds = file.list("tokenizer.ggml.token_type", int)
    if len(kinds) != len(tokens):
        raise file.error(f"{len(tokens)} tokens have {len(kinds)} token types")
    pairs = [tuple(merge.split(" ")) for merge in merges]
    if any(len(pair) != 2 for pair in pairs):
        raise file.error("tokenizer.ggml.merges are not pairs of tokens")
    named = {f"{name}_token": tokens[i] for name, i in _special_ids(file).items()}
    try:
        return byte_level_bpe(
            tokens,
            pairs,
            special=[t for t, k in zip(tokens, kinds, strict=True) if k == _CONTROL],
            added=[t for t, k in zip(tokens, kinds, strict=True) if k == _USER_DEFINED],
            split_digits=_DIGITS[splitter],
            model_max_length=file.integer("llama.context_length"),
            **named,
        )
    except ValueError as error:
        raise file.error(f"no tokenizer can be made of it ({error})") from None


def _require_whole(file: File) -> None:
    parts = file.get("split.count")
    if type(parts) is int and parts > 1:
        fault = f"is one of {parts} parts of a model"
        raise file.error(fault, "join them with llama-gguf-split --merge")


def _config(file: File) -> dict[str, Any]:
    _require_whole(file)
    file.expect("general.architecture", "llama")
    file.expect("general.type", None, "model")
    for key, value in _ABSENT.items():
        file.expect(key, value, None)
    config: dict[str, Any] = {ours: file.integer(key) for ours, key in _SIZES.items()}
    heads = config["num_attention_heads"]
    tensors = {tensor.name: tensor for tensor in file.tensors}
    for name, tensor in tensors.items():
        if not tensor.data.ndim:
            raise file.error(f"tensor {name!r} is a single number")
    if "token_embd.weight" not in tensors:
        raise file.error("tensor 'token_embd.weight' is missing")
    config |= {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(tensors["token_embd.weight"].data),
        "num_key_value_heads": _or(file.integer, file, _KV_HEADS, heads),
        "rms_norm_eps": file.number("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": _or(file.number, file, "llama.rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in tensors,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }
    _check_heads(file, config)
    ids = _special_ids(file)
    return config | {
        f"{name}_token_id": ids.get(name) for name in ("bos", "eos", "pad")
    }


def _check_size(file: File, config: dict) -> None:
    """Before memory is asked for: a file without content can be of any size."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    tokens = 2 * _tokens(file)  # tables may have padding
    layer = 4 * width * width + 3 * width * inner + 2 * width
    most = (2 * tokens + 1) * width + config["num_hidden_layers"] * layer
    held = sum(int(tensor.n_elements) for tensor in file.tensors)
    if held > most:
        fault = f"holds {held:,} numbers, far more than the {most:,} of its sizes"
        raise file.error(fault)


def _require_tensors(file: File, layers: int) -> None:
    """Before they have other names than in the file."""
    found = {tensor.name for tensor in file.tensors}
    inside = (f"blk.{n}.{name}.weight" for n in range(layers) for name in _LAYER)
    for name in itertools.chain(("token_embd.weight", "output_norm.weight"), inside):
        if name not in found:
            raise file.error(f"tensor {name!r} is missing")
    for name in sorted(found):
        layer = re.fullmatch(r"blk\.([0-9]{1,9})\.(\w+)\.weight", name)
        if layer and layer[2] in _LAYER and int(layer[1]) >= layers:
            fault = f"tensor {name!r} is of more layers than the {layers} that it says"
            raise file.error(fault)


def _tokens(file: File) -> int:
    return len(_or(lambda key: file.list(key, str), file, "tokenizer.ggml.tokens", ()))


_KV_HEADS = "llama.attention.head_count_kv"


def _or(read_value, file: File, key: str, default):
    """llama.cpp's own value for a key that may be left out."""
    return default if file.get(key) is None else read_value(key)


def _check_heads(file: File, config: dict) -> None:
    heads, size = config["num_attention_heads"], config["hidden_size"]
    if size % (2 * heads) or heads % config["num_key_value_heads"]:
        raise file.error(
            f"{heads} heads, {config['num_key_value_heads']} for keys, do not share "
            f"{size} numbers evenly"
        )
    for key in (
        "attention.key_length",
        "attention.value_length",
        "rope.dimension_count",
    ):
        file.expect(f"llama.{key}", size // heads, None)


def _special_ids(file: File) -> dict[str, int]:
    keys = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    count = _tokens(file)
    ids = {}
    for name, key in keys.items():
        key = f"tokenizer.ggml.{key}_token_id"
        if name == "eos" or file.get(key) is not None:
            ids[name] = file.integer(key, least=0)
            if ids[name] >= count:
                raise file.error(f"{key} is {ids[name]}, there are {count} tokens")
    # See `read`; the unknown and the first token are in no text either.
    candidates = [ids.get(name) for name in ("pad", "unk", "bos")]
    others = [i for i in candidates if i not in (None, ids["eos"])]
    ids.pop("pad", None)
    return ids | ({"pad": others[0]} if others else {})


def _hugging_face_name(file: File, name: str) -> str:
    place, _, end = name.rpartition(".")
    block, _, rest = place.removeprefix("blk.").partition(".")
    in_layer = place.startswith("blk.") and block.isdecimal() and rest in _LAYER
    if end == "weight" and in_layer:
        return f"model.layers.{block}.{_LAYER[rest]}.weight"
    if end == "weight" and place in _OUTSIDE:
        return f"{_OUTSIDE[place]}.weight"
    fault = f"tensor {name!r} has no place in a plain Llama model"
    raise file.error(fault, OTHER)


def _float32(file: File, tensor, config: dict) -> np.ndarray:
    rows, heads = tensor.data, None
    if ".attn_q." in tensor.name:
        heads = config["num_attention_heads"]
    elif ".attn_k." in tensor.name:
        heads = config["num_key_value_heads"]
    if heads:
        size = heads * config["hidden_size"] // config["num_attention_heads"]
        if len(rows) != size:
            fault = f"tensor {tensor.name!r} has {len(rows)} rows, expected {size}"
            raise file.error(fault)
        rows = rows[_halves(size, heads)]
    try:
        with np.errstate(over="raise", invalid="raise"):
            array = dequantize(rows, tensor.tensor_type)
    except (FloatingPointError, ValueError) as error:
        fault = f"tensor {tensor.name!r} holds no weights ({error})"
        raise file.error(fault) from None
    except NotImplementedError:
        raise file.error(
            f"tensor {tensor.name!r} has type {tensor.tensor_type.name}, which cannot "
            "be turned to float32 here",
            "take a file in Q8_0, Q4_K_M, F16 or F32",
        ) from None
    # Numbers that were float32 already are still those of the file.
    return np.array(array) if isinstance(array, np.memmap) else array


def _halves(rows: int, heads: int) -> np.ndarray:
    """Which row of the file each row of Hugging Face's q or k is.

    llama.cpp turns neighbours by one angle, Hugging Face the first half of a head with
    the second: rows 0, 1, 2 .. of a head here are 0, 2, 4 .. and then 1, 3, 5 .. there.
    """
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).ravel()
