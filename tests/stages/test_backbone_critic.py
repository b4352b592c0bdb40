"""A critic with a decoder's features: what it learns, keeps, and leaves alone."""

import dataclasses
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from ppg_jax import run_dir
from ppg_jax.data import tokenization
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue, write_jsonl
from ppg_jax.data.pairs import PairEncoder, pairs
from ppg_jax.errors import UserError
from ppg_jax.files import read_json, write_json
from ppg_jax.inference import judging
from ppg_jax.inference.critic import Critic
from ppg_jax.models import adapters, peft, pretrained
from ppg_jax.models.classifier import Classifier
from ppg_jax.serve import export
from ppg_jax.stages import critic, evaluate, reinforce
from ppg_jax.systems.generators import Generators
from ppg_jax.systems.system import Asking
from ppg_jax.training.train_state import OptimizerConfig, TrainState, params_sha256
from tests import models_for_tests as small
from tests import run_for_tests as runs

# ---- pairs as a decoder reads them ----


def test_a_pair_of_a_decoder_has_an_end_after_each_of_the_two():
    tokenizer = small.tokenizer()
    profile, response = "i have two dogs. i sing.", "are you a nurse ?"
    a, b = (tokenizer(t)["input_ids"] for t in (profile, response))
    end = tokenizer.eos_token_id
    whole = [*a, end, *b, end]
    for limit in (512, len(whole), len(whole) - 3, len(b) + 2, len(b), 4):
        (row,) = PairEncoder(tokenizer, limit)([profile], [response])
        kept = b[: limit - 2]
        expected = [*a[: limit - 2 - len(kept)], end, *kept, end]
        assert row.tolist() == expected and len(row) == min(limit, len(whole))
    (row,) = PairEncoder(tokenizer, 512)([""], [response])
    assert row.tolist() == [end, *b, end]


def test_a_tokenizer_without_an_end_makes_no_pairs():
    tokenizer = small.tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="has no end token"):
        PairEncoder(tokenizer, 64)


# ---- the stage ----

# Who says "woof" has dogs: plain to a reader, but no word is in common.
SOUNDS = {"dogs": "woof", "cats": "meow"}
KINDS = {
    "llama": {"init_stage": "persona", "adapter_rank": 4},
    "gpt2": {"init_stage": "dialogue", "adapter_rank": 0},
}


def woof_dialogues(split: str, number: int):
    """Half of the speakers have dogs, half cats, and the partner the other kind."""
    for n in range(number):
        own, other = list(SOUNDS)[:: 1 if n % 2 else -1]
        context = f"hi {split} {n}"
        yield Dialogue(f"{split}{n}", (own,), (other,), (context, SOUNDS[own]))


def write_generators(workdir, kind: str):
    """`dialogue`, a whole model, and `persona`, adapters of it; both have finished."""
    words = [*SOUNDS, *SOUNDS.values(), "."] * 9
    tokenizer = tokenization.train_byte_level_bpe(words, 280)
    model, params = small.DECODERS[kind](len(tokenizer), n_positions=32)
    params = jax.tree.map(lambda p: 0.6 * p if p.ndim == 2 else p, params)
    base = pretrained.export(model, params, tokenizer, workdir / "dialogue" / "model")
    learned, _ = adapters.split(adapters.add(params, 4, 0))
    tree = adapters.join(learned, params)
    pretrained.export(model, tree, tokenizer, workdir / "persona" / "model", str(base))
    for name, trained in {"dialogue": params, "persona": learned}.items():
        sums = {"params_sha256": params_sha256(trained)}
        write_json(workdir / name / "result.json", sums)


@pytest.fixture(scope="module", params=KINDS)
def woof(request, tmp_path_factory):
    """(config, run directory, result, what the optimizer was given)."""
    folder = tmp_path_factory.mktemp("woof")
    for split, number in {"train": 60, "valid": 20, "test": 22}.items():
        write_jsonl(woof_dialogues(split, number), folder / f"{split}.jsonl")
    write_generators(folder / "run", request.param)
    config = critic.Config(
        name="critic_backbone",
        data=DataConfig(source=str(folder)),
        init="",
        max_length=16,
        dropout=False,
        batch_size=24,
        epochs=18.0,
        optimizer=OptimizerConfig(learning_rate=1e-2, clip_norm=1.0),
        checkpoint_every=40,
        evaluate_every=45,
        **KINDS[request.param],
    )
    given, create = [], TrainState.create.__func__

    def record(cls, params, tx):
        given.append(params)
        return create(cls, params, tx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainState, "create", classmethod(record))
        result = critic.run(config, folder / "run")
    return config, folder / "run", result, given


def test_a_decoder_learns_what_words_in_common_do_not_tell(woof):
    _, _, result, _ = woof
    for split in ("valid", "test"):
        judges = result["accuracy"][split]["self"]
        assert judges["critic"]["accuracy"] == result[f"{split}_accuracy"] > 0.9
        for control in ("overlap", "lexical", "random"):
            assert abs(judges[control]["accuracy"] - 0.5) < 0.2


def test_what_is_trained_alone_has_an_optimizer_and_the_base_stays(woof):
    config, workdir, result, (given,) = woof
    assert run_dir.result_of(workdir / "dialogue")["params_sha256"] == params_sha256(
        pretrained.load(workdir / "dialogue" / "model")[1]
    )
    _, whole, _ = pretrained.load(workdir / "critic_backbone" / "model")
    learned, base = adapters.split(whole)
    assert jax.tree.structure(given) == jax.tree.structure(learned)
    assert params_sha256(learned) == result["params_sha256"]
    count = sum(p.size for p in jax.tree.leaves(learned))
    assert result["trained_parameters"] == count
    assert result["parameters"] == sum(p.size for p in jax.tree.leaves(whole))
    assert adapters.rank(whole) == config.adapter_rank
    if config.adapter_rank:
        _, theirs = adapters.split(pretrained.load(workdir / "persona" / "model")[1])
        assert count < result["parameters"] / 2
        jax.tree.map(np.testing.assert_array_equal, base, theirs)
        named = read_json(workdir / "critic_backbone" / "model" / peft.CONFIG)
        assert named["base_model_name_or_path"] == "../../dialogue/model"


def test_a_loaded_critic_is_the_one_that_was_trained(woof):
    config, workdir, result, _ = woof
    judge = Critic.load(workdir / "critic_backbone" / "model")
    assert isinstance(judge.model, Classifier)
    asked = pairs(list(woof_dialogues("test", 22)), "self", config.seed)
    right = (judging.scores_of(judge, asked) > 0.5) == [p.label for p in asked]
    assert right.mean() == result["test_accuracy"]
    # It cuts where it was cut in training.
    (row,) = judge._encoder(["dogs " * 30], ["woof"])
    assert len(row) == config.max_length


def test_a_resumed_run_repeats_the_uninterrupted_one(woof, tmp_path, monkeypatch):
    config, workdir, uninterrupted, _ = woof
    for name in ("dialogue", "persona"):
        shutil.copytree(workdir / name, tmp_path / name)
    make_train_step = critic.make_train_step

    def interrupting(*arguments):
        train_step = make_train_step(*arguments)

        def step(state, *given):
            if state.step == 57:
                os.kill(os.getpid(), signal.SIGTERM)
            return train_step(state, *given)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(critic, "make_train_step", interrupting)
        with pytest.raises(SystemExit):
            critic.run(config, tmp_path)
    assert not (tmp_path / "critic_backbone" / "result.json").exists()
    resumed = critic.run(config, tmp_path)
    assert resumed["params_sha256"] == uninterrupted["params_sha256"]
    monkeypatch.setattr(critic, "make_train_step", None)
    assert critic.run(config, tmp_path) == resumed  # and is left alone


def test_a_critic_of_an_older_generator_is_told(woof, tmp_path):
    config, workdir, *_ = woof
    run = shutil.copytree(workdir, tmp_path / "run")
    run_dir.require_fresh(run, "critic_backbone")
    stage = run / config.init_stage / "result.json"
    write_json(stage, read_json(stage) | {"params_sha256": "0" * 64})
    with pytest.raises(UserError, match=f"made from another {config.init_stage} than"):
        run_dir.require_fresh(run, "critic_backbone")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"init": "smollm2"}, "give one of the three"),
        ({"init_stage": ""}, "give one of the three"),
        ({"init_stage": "", "tokenizer": "wordpiece:90"}, "adapter_rank=4 adapts what"),
        ({"adapter_rank": -1}, "adapter_rank=-1 must be 0 or more"),
    ],
)
def test_what_a_critic_starts_from_is_one_thing(fields, told):
    settings = {"init": "", "init_stage": "persona", "adapter_rank": 4} | fields
    with pytest.raises(ValueError, match=told):
        critic.Config(**settings)


def test_a_stage_has_to_be_finished_before():
    assert critic.Config(init="", init_stage="persona").needs == ("persona",)
    assert critic.Config().needs == ()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"init": "critic"}, "adapter_rank=4 of critic_backbone adapts a GPT-2 or a"),
        ({"init": "critic", "adapter_rank": 0, "init_layers": 7}, "between 1 and 1"),
        ({"init": "persona", "init_layers": 1}, "init_layers of the critic is for a D"),
        ({"init": "persona", "adapter_rank": 3}, r"rank=3, but .* of rank 4; give"),
        ({"init": "persona", "max_length": 90}, "at most 32, the model's positions"),
    ],
)
def test_what_does_not_fit_the_start_is_one_line(woof, fields, told):
    config, workdir, *_ = woof
    if not config.adapter_rank:
        pytest.skip("of adapters alone")
    runs.export_critic(workdir / "critic" / "model")
    fields = fields | {"init": str(workdir / fields["init"] / "model")}
    asked = dataclasses.replace(config, **fields | {"init_stage": ""})
    with pytest.raises(UserError, match=told) as error:
        critic.initial(asked, critic.start_of(asked, workdir, ()))
    assert "\n" not in str(error.value)


# ---- what asks a critic ----


@pytest.fixture(scope="module", params=small.DECODERS)
def judged(request, tmp_path_factory):
    """(run directory, data): generators and critic are adapters of one model."""
    workdir = tmp_path_factory.mktemp("run")
    data = runs.write_stages(workdir)
    tokenizer, kind = small.tokenizer(), small.DECODERS[request.param]
    model, params = kind(len(tokenizer), n_positions=64, n_layer=1)
    base = pretrained.export(model, params, tokenizer, workdir / "dialogue" / "model")
    for seed, name in enumerate(("persona", "response")):
        shutil.rmtree(workdir / name / "model")
        learned, _ = adapters.split(adapters.add(params, 2, seed))
        tree = adapters.join(learned, params)
        pretrained.export(model, tree, tokenizer, workdir / name / "model", str(base))
        sums = {"params_sha256": params_sha256(learned)}
        write_json(workdir / name / "result.json", sums)
    shutil.rmtree(workdir / "critic")
    asked = critic.Config(
        data=data,
        init="",
        init_stage="persona",
        adapter_rank=2,
        max_length=32,
        batch_size=4,
        epochs=1 / 3,
        evaluate_every=0,
    )
    critic.run(asked, workdir)
    return workdir, data


def same(a: dict, b: dict) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x is y for x, y in leaves)


def test_reinforce_holds_the_base_of_critic_and_policies_once(judged):
    workdir, data = judged
    asked = reinforce.Config(
        data=data,
        prompts=runs.PROMPTS,
        batch_size=4,
        updates=1,
        validation_instances=2,
        evaluate_every=1,
        checkpoint_every=0,
    )
    result = reinforce.run(asked, workdir)
    assert result["updates"] == 1
    inputs = reinforce._load(asked, workdir)
    learned, base = adapters.split(inputs.critic.params)
    assert all(same(base, policy.base) for policy in inputs.policies)
    assert inputs.sums["critic"] == params_sha256(learned)
    assert inputs.sums["base of the critic"] == params_sha256(base)
    run_dir.require_fresh(workdir, "reinforce")
    assert run_dir.weights_of(run_dir.result_of(workdir / "critic")) == {
        "model": params_sha256(learned)
    }


def test_an_evaluation_holds_the_base_of_critic_and_rows_once(judged):
    workdir, data = judged
    asking = Asking(workdir, (), runs.PROMPTS)
    judge = evaluate.critics_of(evaluate.Config(data=data), asking)["critic_score"]
    answers = Generators("a", "response", persona="persona").load(asking)
    _, base = adapters.split(judge.params)
    for part in (answers.response, answers.persona):
        assert same(base, adapters.split(part.params)[1])
    alone = Critic.load(workdir / "critic" / "model")
    texts = [["i sing.", "i run."], ["hello", "i paint."]]
    np.testing.assert_allclose(judge.score(*texts), alone.score(*texts), atol=1e-5)


def test_an_exported_critic_is_whole_and_judges_the_same(judged, tmp_path):
    workdir, _ = judged
    runs.write_config(workdir)
    values = run_dir.read_experiment(workdir)
    row = Generators("ours", "response", persona="persona")
    rows = [{"name": "ours", **row.description}]
    runs.write_experiment(workdir, values | {"systems": rows})
    export.run(export.Config(str(tmp_path / "out"), "ours"), workdir)
    texts = [["i sing.", "i run."], ["hello", "i paint."]]
    whole = Critic.load(tmp_path / "out" / "critic")
    assert not adapters.has(whole.params)
    expected = Critic.load(workdir / "critic" / "model").score(*texts)
    np.testing.assert_allclose(whole.score(*texts), expected, atol=1e-5)
