"""Adapters change nothing until they are trained, and nothing but themselves then."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ppg_jax.data import tokenization
from ppg_jax.errors import UserError
from ppg_jax.files import read_json
from ppg_jax.models import adapters, peft, pretrained, starts, tensor_files
from ppg_jax.models.quantize import quantize
from ppg_jax.models.weight_map import FAMILIES
from tests import models_for_tests as small

TOKENS = np.arange(12).reshape(2, 6)


@pytest.fixture
def tiny(decoder):
    """(model, params) of each family."""
    return decoder(300, n_layer=1)


def trained(params, seed: int = 0):
    """Adapters that matter, as after training."""
    learned, base = adapters.split(params)
    draw = np.random.default_rng(seed).normal
    learned = jax.tree.map(lambda p: jnp.float32(draw(0, 0.3, p.shape)), learned)
    return adapters.join(learned, base)


def logits(model, params):
    return np.asarray(jax.jit(model.apply)({"params": params}, TOKENS))


def test_a_fresh_adapter_changes_no_logit_and_has_its_rank(tiny):
    model, params = tiny
    fresh = adapters.add(params, 3, seed=0)
    np.testing.assert_array_equal(logits(model, fresh), logits(model, params))
    assert adapters.rank(fresh) == 3 and adapters.rank(params) == 0
    learned, base = adapters.split(fresh)
    assert jax.tree.structure(base) == jax.tree.structure(params)
    leaves = zip(jax.tree.leaves(base), jax.tree.leaves(params), strict=True)
    assert all(a is b for a, b in leaves)  # no array is copied
    linear = [p for p in adapters.shapes(params) if "/" in p]
    assert len(jax.tree.leaves(learned)) == 2 * len(linear) > 0


def test_what_is_drawn_is_told_by_the_seed(tiny):
    _, params = tiny
    first, same, other = (
        adapters.split(adapters.add(params, 2, seed))[0] for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, first, same)
    a, b = (jax.tree.leaves(tree)[0] for tree in (first, other))
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("prepared", [False, True], ids=["kernels", "prepared"])
def test_merged_weights_say_what_adapters_say(tiny, prepared):
    model, params = tiny
    adapted = trained(adapters.add(params, 3, seed=0))
    expected = logits(model, adapters.merge(adapted))
    if prepared:
        learned, base = adapters.split(adapted)
        adapted = adapters.join(learned, quantize(base, "float32"))
    ours = logits(model, adapted)
    assert np.abs(ours - logits(model, params)).max() > 0.1
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())


def test_gradients_of_adapters_are_the_same_on_a_prepared_base(tiny):
    model, params = tiny
    learned, base = adapters.split(trained(adapters.add(params, 2, seed=0)))

    def gradient(base):
        def loss(learned):
            variables = {"params": adapters.join(learned, base)}
            return jnp.mean(jnp.sin(model.apply(variables, TOKENS)))

        return jax.jit(jax.grad(loss))(learned)

    plain, prepared = gradient(base), gradient(quantize(base, "float32"))
    assert adapters.has(plain) and adapters.split(plain)[1] == {}
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(prepared), strict=True):
        assert np.abs(a).max() > 0
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())


def test_a_folder_of_adapters_gives_the_same_logits_on_a_base_that_is_shared(
    tiny, tmp_path
):
    model, params = tiny
    tokenizer = small.tokenizer()
    pretrained.export(model, params, tokenizer, tmp_path / "base" / "model")
    folders, trees = [], []
    for seed in range(2):
        tree = trained(adapters.add(params, 3, seed), seed)
        folder = tmp_path / f"stage_{seed}" / "model"
        base = str(tmp_path / "base" / "model")
        folders.append(pretrained.export(model, tree, tokenizer, folder, base))
        trees.append(tree)
    names = {path.name for path in folders[0].iterdir()}
    assert {peft.CONFIG, peft.WEIGHTS} <= names and "config.json" not in names
    # All of the run directory is moved.
    moved = (tmp_path).rename(tmp_path.with_name(tmp_path.name + "_moved"))
    known = {}
    loaded = [
        pretrained.load(moved / f.relative_to(tmp_path), bases=known) for f in folders
    ]
    for (again, ours, same), tree in zip(loaded, trees, strict=True):
        assert again == model and same.get_vocab() == tokenizer.get_vocab()
        jax.tree.map(np.testing.assert_array_equal, ours, tree)
    bases = [jax.tree.leaves(adapters.split(tree)[1]) for _, tree, _ in loaded]
    assert len(known) == 1 and len(bases[0]) == len(jax.tree.leaves(params))
    assert all(a is b for a, b in zip(*bases, strict=True))


@pytest.mark.parametrize("base", ["base", "nowhere"])
def test_a_base_outside_the_run_directory_is_found_from_any_folder(
    base, tmp_path, monkeypatch
):
    """What is typed relative to one folder is a name in another, or nothing."""
    model, params = small.llama(300, n_layer=1)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    pretrained.export(model, params, small.tokenizer(), tmp_path / "base")
    tree, run = adapters.add(params, 2, 0), tmp_path / "run"
    folder = run / "group" / "stage" / "model"
    pretrained.export(model, tree, small.tokenizer(), folder, base)
    monkeypatch.chdir(run)
    if base == "base":
        assert pretrained.load(folder)[0] == model
        assert pretrained.base_of(folder) == str(tmp_path / "base")
    else:
        with pytest.raises(UserError, match="nowhere is no folder") as told:
            pretrained.load(folder)
        assert "\n" not in str(told.value)


def test_a_base_of_adapters_is_refused(tmp_path):
    model, params = small.llama(300, n_layer=1)
    tree, tokenizer = adapters.add(params, 2, 0), small.tokenizer()
    pretrained.export(model, params, tokenizer, tmp_path / "a")
    pretrained.export(model, tree, tokenizer, tmp_path / "b", str(tmp_path / "a"))
    pretrained.export(model, tree, tokenizer, tmp_path / "c", str(tmp_path / "b"))
    with pytest.raises(UserError, match="is no whole GPT-2 or Llama") as told:
        pretrained.load(tmp_path / "c")
    assert "\n" not in str(told.value)


def test_a_stage_keeps_merges_or_refuses_the_adapters_that_it_starts_from(tiny):
    _, params = tiny
    tree = trained(adapters.add(params, 3, seed=0))
    assert starts.adapted(tree, 3, 1, "response") is tree
    merged = starts.adapted(tree, 0, 1, "response")
    assert not adapters.has(merged)
    jax.tree.map(np.testing.assert_array_equal, merged, adapters.merge(tree))
    with pytest.raises(UserError, match=r"adapter_rank=2, but .* of rank 3"):
        starts.adapted(tree, 2, 1, "response")


def test_adapters_add_no_rows_for_new_tokens(tiny):
    model, params = tiny
    fresh = starts.Fresh(model.config, "float32", 0)
    with pytest.raises(UserError, match=r"305 tokens, the model 300, and adapters"):
        starts.with_vocabulary((model, params), fresh, 305, rank=2)
    larger, rows = starts.with_vocabulary((model, params), fresh, 305)
    assert larger.config.vocab_size == 305
    assert logits(larger, rows).shape[-1] == 305
    np.testing.assert_allclose(
        logits(larger, rows)[..., :300], logits(model, params), atol=1e-5
    )


def test_a_head_of_its_own_gets_rows_for_new_tokens_too():
    model, params = small.llama(300, n_layer=1, tie_word_embeddings=False)
    fresh = starts.Fresh(model.config, "float32", 0)
    larger, rows = starts.with_vocabulary((model, params), fresh, 305)
    after, before = logits(larger, rows), logits(model, params)
    np.testing.assert_allclose(after[..., :300], before, atol=1e-5)
    mean = before.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(after[..., 300:], np.tile(mean, 5), atol=1e-4)


# ---- folders that are something else ----


@pytest.fixture
def folder(tmp_path):
    model, params = small.llama(300, n_layer=1)
    base = pretrained.export(model, params, small.tokenizer(), tmp_path / "base")
    tree = trained(adapters.add(params, 3, 0))
    return pretrained.export(model, tree, small.tokenizer(), tmp_path / "a", str(base))


def reconfigure(folder, **changes):
    text = json.dumps(read_json(folder / peft.CONFIG) | changes)  # infinity, too
    (folder / peft.CONFIG).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"peft_type": "IA3"}, "'peft_type' is 'IA3', and only plain LoRA"),
        ({"use_dora": True}, "'use_dora' is True"),
        ({"bias": "all"}, "'bias' is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "'modules_to_save' is"),
        ({"rank_pattern": {"q_proj": 4}}, "'rank_pattern' is"),
        ({"alpha_pattern": {"q_proj": 4}}, "'alpha_pattern' is"),
        ({"alora_invocation_tokens": [5]}, "'alora_invocation_tokens' is"),
        ({"lora_bias": True}, "'lora_bias' is True.* has no biases to merge it into"),
        ({"layer_replication": [[0, 2]]}, "train plain LoRA .* does not merge this"),
        ({"peft_type": "PREFIX_TUNING"}, "train plain LoRA .* does not merge this"),
        ({"init_lora_weights": "pissa_niter_4"}, "'init_lora_weights' is 'pissa_ni"),
        ({"init_lora_weights": "lora_ga"}, "'init_lora_weights' is 'lora_ga', which"),
        ({"init_lora_weights": "OLoRA"}, "'init_lora_weights' is 'OLoRA', which"),
        (
            {"base_model_name_or_path": "gpt2", "revision": "main~2"},
            "'revision' is 'main~2', and gpt2 is known at",
        ),
        ({"base_model_name_or_path": "."}, "is no whole GPT-2 or Llama"),
        ({"lora_alpha": float("inf")}, "'lora_alpha' is inf, expected a number"),
        ({"lora_alpha": 10**400}, "'lora_alpha' is 1000"),
        ({"r": 0}, "'r' is 0, expected a number above 0"),
        ({"lora_alpha": None}, "'lora_alpha' is None, expected a number above 0"),
        ({"r": 4}, r"base asks for \[4, 32\] and"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path is None"),
        (
            {"base_model_name_or_path": "who/knows"},
            r"adapter_config\.json, base_model_name_or_path: who/knows is no folder",
        ),
    ],
)
def test_adapters_of_another_kind_are_refused_by_name(change, told, folder):
    reconfigure(folder, **change)
    with pytest.raises(UserError, match=told) as error:
        pretrained.load(folder)
    assert "\n" not in str(error.value)


def test_adapters_of_a_body_alone_are_those_of_the_language_model(folder):
    """PEFT names the layers without the language model's prefix there."""
    file, prefix = folder / peft.WEIGHTS, peft._PREFIX
    whole, expected = load_file(file), pretrained.load(folder)[1]
    [family] = [
        f.prefix
        for f in FAMILIES.values()
        if all(name.startswith(prefix + f.prefix) for name in whole)
    ]
    body = {n.replace(prefix + family, prefix): t for n, t in whole.items()}
    save_file(body, file)
    jax.tree.map(np.testing.assert_array_equal, pretrained.load(folder)[1], expected)
    save_file(body | dict([next(iter(whole.items()))]), file)
    with pytest.raises(UserError, match="there are two tensors for "):
        pretrained.load(folder)


def test_a_folder_that_names_itself_as_its_base_has_no_tokenizer_either(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    reconfigure(folder, base_model_name_or_path=".")
    with pytest.raises(UserError, match="is no whole GPT-2 or Llama"):
        pretrained.load_tokenizer(folder)


def test_a_tokenizer_of_more_tokens_than_the_base_has_rows_is_refused(folder):
    tokenizer = small.tokenizer()
    tokenizer.add_tokens([f"word{n}" for n in range(9)])
    tokenization.save(tokenizer, folder)
    told = r"has 309 tokens, its base has 300; 'word0', 'word1', 'word2', .. came later"
    with pytest.raises(UserError, match=told):
        pretrained.load(folder)


def test_a_pad_token_without_a_row_is_left_out_of_adapters_tokenizer(folder, capsys):
    tokenizer = small.tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    expected = pretrained.load_tokenizer(folder / "../base").get_vocab()
    assert pretrained.load_tokenizer(folder).get_vocab() == expected
    for _ in range(2):
        assert pretrained.load(folder)[2].get_vocab() == expected
    assert capsys.readouterr().err.count("left out '[PAD]' of its tokenizer") == 1


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({"lora_alpha": 12}, 4),
        ({"lora_alpha": 1.5}, 0.5),
        ({"lora_alpha": 6, "use_rslora": True}, 6 / 3**0.5),
    ],
)
def test_the_factor_of_peft_is_part_of_b(settings, factor, folder):
    _, before, _ = pretrained.load(folder)
    reconfigure(folder, **settings)
    _, after, _ = pretrained.load(folder)
    one, other = (t["layers_0"]["self_attn"]["q_proj"] for t in (before, after))
    np.testing.assert_array_equal(one["lora_a"], other["lora_a"])
    np.testing.assert_allclose(other["lora_b"], factor * one["lora_b"], rtol=1e-6)


TABLE = "base_model.model.model.embed_tokens.weight"
ADAPTED = "base_model.model.model.embed_tokens.lora_embedding_A"
SCORED = "base_model.model.score.lora_A.weight"


def test_tensors_without_a_place_or_a_partner_are_named(folder):
    file = folder / peft.WEIGHTS
    tensors = load_file(file)
    name = next(n for n in tensors if n.endswith("q_proj.lora_B.weight"))
    without = {n: a for n, a in tensors.items() if n != name}
    for change, told in [
        (without, "q_proj has one of lora_A and lora_B only"),
        (tensors | {"x": tensors[name]}, "tensor 'x' has no place in the base"),
        (tensors | {TABLE: np.ones((400, 9), np.float32)}, "is of the token table"),
        (tensors | {ADAPTED: tensors[name]}, "without 'embed_tokens' in ta"),
        (tensors | {SCORED: tensors[name]}, "adapts 'score', and .*; merge it into"),
        ({}, "holds no adapters"),
    ]:
        save_file(change, file)
        with pytest.raises(UserError, match=told) as error:
            pretrained.load(folder)
        assert "\n" not in str(error.value)


def test_numbers_without_end_are_refused_before_any_is_read(folder, monkeypatch):
    file = folder / peft.WEIGHTS
    save_file(load_file(file) | {"x": np.ones(1 << 18, np.float32)}, file)
    told = "numbers, far more than adapter_config.json describes"

    def finite(array, name, file):
        assert file.parent != folder  # the base alone is read
        return array

    monkeypatch.setattr(tensor_files, "finite", finite)
    with pytest.raises(UserError, match=told):
        pretrained.load(folder)


def test_adapters_without_what_describes_them_are_told(folder):
    (folder / "adapter_config.json").unlink()
    with pytest.raises(UserError, match=r"adapter_config\.json is missing; a folder"):
        pretrained.load(folder)


def test_a_folder_without_a_tokenizer_has_that_of_its_base(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    _, _, tokenizer = pretrained.load(folder)
    assert tokenizer.get_vocab() == small.tokenizer().get_vocab()


def test_only_layers_with_adapters_are_told_to_peft(folder):
    _, params, _ = pretrained.load(folder)
    config = peft.config_of(params, FAMILIES["llama"], 1, "base")
    assert config["target_modules"] == sorted(
        f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")
    )
    _, params = small.gpt2(300)
    tree = adapters.add(params, 2, 0)
    for layer in ("h_0", "h_1"):
        mlp = {k: adapters.split(v)[1] or v for k, v in params[layer]["mlp"].items()}
        tree[layer] = tree[layer] | {"mlp": mlp}
    config = peft.config_of(tree, FAMILIES["gpt2"], 2, "base")
    expected = [f"transformer.h.{layer}.attn.c_proj" for layer in range(2)]
    assert config["target_modules"] == ["c_attn", *expected]
