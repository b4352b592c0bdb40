"""A decoder as classifier reads the last real token, and its folders hold all of it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ppg_jax.errors import UserError
from ppg_jax.files import read_json, write_json
from ppg_jax.inference.critic import Critic
from ppg_jax.models import adapters, config_json, peft, pretrained, starts
from ppg_jax.models.classifier import Classifier, classifier_of, new_classifier
from ppg_jax.models.quantize import quantize
from tests import models_for_tests as small

TOKENS = np.random.default_rng(0).integers(300, size=(3, 7))
LENGTHS = (7, 4, 1)
MASK = np.arange(7)[None] < np.array(LENGTHS)[:, None]


@pytest.fixture
def tiny(decoder):
    """(decoder, its params, classifier, its params) of each family."""
    model, params = decoder(300, n_layer=2)
    width = params[next(n for n in ("wte", "embed_tokens") if n in params)]
    draw = np.random.default_rng(1).normal(size=(width["embedding"].shape[1], 2))
    return model, params, *classifier_of(model, params, jnp.float32(draw))


def logits(model, params, *given):
    return np.asarray(jax.jit(model.apply)({"params": params}, *given))


def adapted(params, seed: int = 0):
    """With adapters that matter, as after training."""
    learned, base = adapters.split(adapters.add(params, 3, seed))
    draw = np.random.default_rng(seed).normal
    learned = jax.tree.map(lambda p: jnp.float32(draw(0, 0.3, p.shape)), learned)
    return adapters.join(learned, base)


def test_the_last_real_token_is_read_and_a_pad_changes_nothing(tiny):
    model, params, judge, its = tiny
    padded = logits(judge, its, TOKENS, MASK)
    for row, length, ours in zip(TOKENS, LENGTHS, padded, strict=True):
        bare = row[None, :length]
        hidden = model.apply({"params": params}, bare, method="hidden_states")
        expected = hidden[0, -1] @ its["score"]["kernel"]
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(logits(judge, its, bare)[0], ours, atol=1e-5)
    other = np.where(MASK, TOKENS, 7)
    np.testing.assert_array_equal(logits(judge, its, other, MASK), padded)
    left = [np.roll(a, 3, axis=1) for a in (TOKENS[1:2], MASK[1:2])]
    np.testing.assert_allclose(logits(judge, its, *left), padded[1:2], atol=1e-5)
    assert np.isfinite(logits(judge, its, TOKENS, np.zeros_like(MASK))).all()


def test_nothing_but_a_head_is_added_and_no_array_is_copied(tiny):
    model, params, judge, its = tiny
    shapes = config_json.shapes_of(judge)
    found = jax.tree_util.tree_leaves_with_path(its)
    named = {"/".join(k.key for k in path): leaf.shape for path, leaf in found}
    assert named == shapes
    assert all(its[name] is part for name, part in params.items())
    _, drawn = new_classifier(model, params, 3)
    _, again = new_classifier(model, params, 3)
    _, other = new_classifier(model, params, 4)
    first, second, third = (t["score"]["kernel"] for t in (drawn, again, other))
    assert np.array_equal(first, second) and not np.array_equal(first, third)


def test_a_head_is_trained_beside_adapters_on_a_base_that_may_be_prepared(tiny):
    _, params, judge, its = tiny
    tree = adapted(its)
    learned, base = adapters.split(tree)
    assert learned["score"] is tree["score"] and "score" not in base
    assert jax.tree.structure(base) == jax.tree.structure(params)
    assert adapters.split(its) == (its, {})  # without adapters all is trained
    ready = adapters.join(learned, quantize(base, "float32"))
    expected = logits(judge, tree, TOKENS, MASK)
    np.testing.assert_allclose(
        logits(judge, ready, TOKENS, MASK), expected, rtol=1e-4, atol=1e-4
    )
    merged = adapters.merge(tree)
    np.testing.assert_allclose(
        logits(judge, merged, TOKENS, MASK), expected, rtol=1e-4, atol=1e-4
    )


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_whole_classifier_comes_back_bit_for_bit(tiny, tmp_path):
    *_, judge, its = tiny
    folder = pretrained.export(judge, its, small.tokenizer(), tmp_path / "a")
    model, params, _ = pretrained.load(folder)
    assert model == judge
    equal(params, its)
    config = read_json(folder / "config.json")
    assert config["architectures"] in (
        ["GPT2ForSequenceClassification"],
        ["LlamaForSequenceClassification"],
    )
    assert config["id2label"] == {"0": "unrelated", "1": "related"}
    tensors = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(tensors["score.weight"], its["score"]["kernel"].T)
    assert not (folder / "generation_config.json").exists()


def test_adapters_and_a_head_come_back_bit_for_bit_on_a_shared_base(tiny, tmp_path):
    model, params, judge, its = tiny
    tokenizer, known, base = small.tokenizer(), {}, str(tmp_path / "base")
    pretrained.export(model, params, tokenizer, base)
    tree, spoken = adapted(its), adapted(params, 1)
    folder = pretrained.export(judge, tree, tokenizer, tmp_path / "judge", base)
    pretrained.export(model, spoken, tokenizer, tmp_path / "speaker", base)
    config = read_json(folder / peft.CONFIG)
    assert config["task_type"] == "SEQ_CLS" and config["modules_to_save"] == ["score"]
    assert "base_model.model.score.weight" in load_file(folder / peft.WEIGHTS)
    found, ours, _ = pretrained.load(folder, bases=known)
    speaker, theirs, _ = pretrained.load(tmp_path / "speaker", bases=known)
    assert found == judge and speaker == model
    equal(ours, tree)
    bases = [jax.tree.leaves(adapters.split(t)[1]) for t in (ours, theirs)]
    assert len(known) == 1
    assert all(a is b for a, b in zip(*bases, strict=True))


def test_an_output_head_of_its_own_is_left_out(tmp_path):
    model, params = small.llama(300, n_layer=1, tie_word_embeddings=False)
    judge, its = new_classifier(model, params, 0)
    assert "lm_head" in params and "lm_head" not in its
    pretrained.export(judge, its, small.tokenizer(), tmp_path / "whole")
    equal(pretrained.load(tmp_path / "whole")[1], its)
    pretrained.export(model, params, small.tokenizer(), tmp_path / "base")
    base = str(tmp_path / "base")
    folder = tmp_path / "adapters"
    pretrained.export(judge, adapted(its), small.tokenizer(), folder, base)
    equal(pretrained.load(folder)[1], adapted(its))


# ---- heads of another kind ----


@pytest.fixture
def whole(tiny, tmp_path):
    *_, judge, its = tiny
    return pretrained.export(judge, its, small.tokenizer(), tmp_path / "whole")


def complaint(folder, load=pretrained.load) -> str:
    with pytest.raises(UserError) as told:
        load(folder)
    assert "\n" not in str(told.value)
    return str(told.value)


def rewrite(file, **changes):
    save_file(load_file(file) | changes, file)


def test_an_unknown_head_is_told_by_name(whole):
    file = whole / "model.safetensors"
    rewrite(file, **{"score.bias": np.zeros(2, np.float32)})
    assert "'score.bias' has no place in this model" in complaint(whole)
    tensors = load_file(file)
    score = tensors.pop("score.weight")
    tensors.pop("score.bias")
    save_file(tensors | {"classifier.weight": score}, file)
    assert "'classifier.weight' has no place in this model" in complaint(whole)
    save_file(tensors | {"score.weight": score[:, 1:].copy()}, file)
    assert "'score.weight' has shape [2, " in complaint(whole)


def test_a_critic_has_two_labels_and_is_no_language_model(tiny, tmp_path):
    model, params, _, its = tiny
    three = jnp.zeros((its["score"]["kernel"].shape[0], 3))
    many = classifier_of(model, params, three)
    for name, (made, tree) in {"three": many, "speaks": (model, params)}.items():
        folder = pretrained.export(made, tree, small.tokenizer(), tmp_path / name)
        told = complaint(folder, Critic.load)
        assert f"{name} is no classifier of two labels, which a critic is" in told
    assert pretrained.load(tmp_path / "three")[0].num_labels == 3
    config = json.loads((tmp_path / "three" / "config.json").read_text())
    assert config["id2label"]["2"] == "LABEL_2"


def test_a_critic_that_numbers_its_labels_otherwise_is_refused(whole):
    assert Critic.load(whole)
    path = whole / "config.json"
    values = json.loads(path.read_text())
    values["id2label"] = {"0": "related", "1": "unrelated"}
    path.write_text(json.dumps(values))
    assert "'id2label' names 0 'related', where a critic has 'unrelated'" in complaint(
        whole, Critic.load
    )


def test_adapters_of_an_unknown_head_are_told_by_name(tmp_path):
    model, params = small.llama(300, n_layer=1)
    judge, its = new_classifier(model, params, 0)
    base = str(pretrained.export(model, params, small.tokenizer(), tmp_path / "base"))
    folder = tmp_path / "judge"

    def written():
        pretrained.export(judge, adapted(its), small.tokenizer(), folder, base)
        return load_file(folder / peft.WEIGHTS), folder / peft.WEIGHTS

    head = "base_model.model.score.weight"
    tensors, file = written()
    rewrite(file, **{"base_model.model.score.bias": np.zeros(2, np.float32)})
    assert "score.bias' has no place in the base's model" in complaint(folder)
    save_file({n: a for n, a in tensors.items() if n != head}, file)
    assert f"tensor '{head}' is missing" in complaint(folder)
    save_file(tensors | {head: np.zeros((2, 5), np.float32)}, file)
    assert f"'{head}' has shape [2, 5], its base asks for ['*', 32]" in complaint(
        folder
    )
    written()
    values = read_json(folder / peft.CONFIG)
    saved = {"modules_to_save": ["score", "embed_tokens"]}
    write_json(folder / peft.CONFIG, values | saved)
    assert "'modules_to_save' is ['embed_tokens']" in complaint(folder)
    write_json(folder / peft.CONFIG, values | {"task_type": "TOKEN_CLS"})
    told = "has no place in the base's model: they are of TOKEN_CLS, and a classifier"
    assert f"tensor '{head}' {told}" in complaint(folder)
    save_file(tensors | {head.replace("weight", "bias"): tensors[head][0]}, file)
    assert f"score.bias' {told}" in complaint(folder)


def mapped(name: str) -> dict:
    """What PEFT says in place of a task of adapters that were given none."""
    return {"task_type": None, "auto_mapping": {"base_model_class": name}}


TEXTS, SPEAKS = "LlamaForSequenceClassification", "LlamaForCausalLM"


@pytest.mark.parametrize(
    "said", [{}, mapped(TEXTS), {"task_type": None}], ids=["task", "class", "nothing"]
)
def test_a_head_belongs_to_its_adapters_whichever_word_says_so(said, tmp_path):
    model, params = small.llama(300, n_layer=1)
    judge, its = new_classifier(model, params, 0)
    base = pretrained.export(model, params, small.tokenizer(), tmp_path / "base")
    tree, folder = adapted(its), tmp_path / "judge"
    pretrained.export(judge, tree, small.tokenizer(), folder, str(base))
    values = read_json(folder / peft.CONFIG)
    write_json(folder / peft.CONFIG, values | said)
    found, loaded, _ = pretrained.load(folder)
    assert isinstance(found, Classifier)
    jax.tree.map(np.testing.assert_array_equal, loaded, tree)


def test_a_base_may_be_a_classifier_whose_adapters_tell_what_is_read_of_it(tmp_path):
    """Of either form: its body, and its head where adapters of a classifier have
    none."""
    for tied in (True, False):
        model, params = small.llama(300, n_layer=1, tie_word_embeddings=tied)
        judge, its = new_classifier(model, params, 0)
        near = tmp_path / str(tied)
        whole = pretrained.export(judge, its, small.tokenizer(), near / "whole")
        tree, folder = adapted(its), near / "adapted"
        tree["score"] = {"kernel": its["score"]["kernel"] + 1}
        pretrained.export(judge, tree, small.tokenizer(), folder, str(whole))
        jax.tree.map(np.testing.assert_array_equal, pretrained.load(folder)[1], tree)
        body = {name: part for name, part in tree.items() if name != "score"}
        pretrained.export(model, body, small.tokenizer(), folder, str(whole))
        if tied:
            found, loaded, _ = pretrained.load(folder)
            assert found == model
            jax.tree.map(np.testing.assert_array_equal, loaded, body)
        else:
            assert "whole is a classifier, and has no output head" in complaint(folder)
        values = read_json(folder / peft.CONFIG)
        write_json(folder / peft.CONFIG, values | mapped(TEXTS))
        found, loaded, _ = pretrained.load(folder)
        assert isinstance(found, Classifier)
        expected = body | {"score": its["score"]}
        jax.tree.map(np.testing.assert_array_equal, loaded, expected)


def test_a_classifier_that_is_to_speak_is_told_as_one(whole):
    with pytest.raises(UserError, match="is no language model, but an encoder or"):
        starts.load(str(whole), "dialogue")
