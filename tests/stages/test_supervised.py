"""Supervised training learns what generation will ask for, however it is cut."""

import dataclasses
import json
import weakref

import jax
import numpy as np
import pytest

from ppg_jax import run_dir
from ppg_jax.data.batching import Batches, collate
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import instances, write_jsonl
from ppg_jax.data.examples import checked, examples, partner_tokens
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.errors import UserError
from ppg_jax.files import read_metrics
from ppg_jax.inference.generator import Generator
from ppg_jax.inference.sampling import Decoding
from ppg_jax.inference.scoring import Scorer, mean_nll
from ppg_jax.models import pretrained
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.stages import supervised
from ppg_jax.stages.supervised import Config
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    make_optimizer,
    params_sha256,
)
from tests import models_for_tests as small
from tests.stages.interrupted import compiled_once, stopped_before

PROMPTS = PromptConfig(max_length=256, max_persona_tokens=40)


@pytest.fixture(scope="module", autouse=True)
def same_train_step():
    with compiled_once(supervised, "make_optimizer", "make_train_step"):
        yield


def config(source: str, **changes) -> Config:
    defaults = Config(
        name="response",
        task="response",
        data=DataConfig(source=source),
        prompts=PROMPTS,
        tokenizer="bpe:300",
        # One kind of dropout: the random bits are what takes long to compile.
        model=GPT2Config(
            n_positions=256, n_embd=32, n_layer=1, n_head=2, embd_pdrop=0, attn_pdrop=0
        ),
        dropout=False,
        batch_size=2,
        epochs=80,
        optimizer=OptimizerConfig(learning_rate=1e-2, clip_norm=1.0),
        evaluate_every=0,
        keep="last",
        checkpoint_every=1000,
    )
    return dataclasses.replace(defaults, **changes)


def test_a_prompt_that_the_model_has_no_positions_for_is_refused(source, tmp_path):
    longer = dataclasses.replace(PROMPTS, max_length=257)
    with pytest.raises(UserError, match="max_length=257 is more than the 256 position"):
        supervised.run(config(source, prompts=longer), tmp_path)


@pytest.mark.parametrize("told", ["none", "gold"])
def test_personas_without_room_are_refused_before_anything_is_learned(told, tmp_path):
    """Of the test split, too, and of whoever is told of: not after hours."""
    long = ("i have a horse. " * 30,)
    last = dataclasses.replace(small.DIALOGUES[0], id="last", partner_persona=long)
    if told == "none":
        last = last.swapped()
    for split in ("train", "valid", "test"):
        dialogues = (*small.DIALOGUES, *([last] if split == "test" else []))
        write_jsonl(dialogues, tmp_path / f"{split}.jsonl")
    asked = config(str(tmp_path), partner_persona=told)
    with pytest.raises(UserError, match=r"instance last.*raise it or shorten the pers"):
        supervised.run(asked, tmp_path / "run")
    assert not (tmp_path / "run" / "response").exists()


def test_a_stage_that_has_begun_is_not_refused_for_what_is_asked_at_last(
    tmp_path, monkeypatch
):
    """No workdir of before is locked out by a test split that does not fit."""
    begun = tmp_path / "run" / "response"
    asked, seen = config(str(tmp_path)), []
    for split in ("train", "valid"):
        write_jsonl(small.DIALOGUES, tmp_path / f"{split}.jsonl")
    monkeypatch.setattr(supervised, "require_room", lambda *given: seen.append(given))
    monkeypatch.setattr(supervised, "train", lambda *given: {})
    monkeypatch.setattr(run_dir, "report_done", lambda name, result, models: result)
    supervised.run(asked, tmp_path / "run")
    assert len(seen) == 1 and (begun / run_dir.FINGERPRINT).exists()
    (begun / run_dir.RESULT).unlink()
    supervised.run(asked, tmp_path / "run")
    assert len(seen) == 1


def test_what_bm25_chooses_has_to_fit_at_every_turn():
    """The long sentence is the first one asked about at the second turn."""
    first = small.DIALOGUES[0]
    long = "my car is red. " * 30
    partner = ("i am a nurse.", "i love tea.", "i run.", long)
    talk = ("a nurse , tea , run", "oh .", "my car is red", "nice .")
    dialogue = dataclasses.replace(first, partner_persona=partner, utterances=talk)
    made = Prompts(small.tokenizer(), PROMPTS)
    with pytest.raises(UserError, match="instance a:1: its personas and the room"):
        supervised.require_room(made, [dialogue], "response", "top3")
    supervised.require_room(made, [dialogue], "dialogue", "gold")


def test_data_of_another_form_than_what_people_type_is_told(tmp_path, capsys):
    supervised.tell_form("personachat", small.DIALOGUES)
    assert capsys.readouterr().err == ""
    typed = [dataclasses.replace(small.DIALOGUES[0], utterances=("Hi!", "I'm in."))]
    supervised.tell_form("personachat", typed * 9)
    told = capsys.readouterr().err
    assert told.startswith("100% of the utterances of training are not written as ")
    assert "'Hi!' is brought into 'hi !'" in told and "prompts.text=as_typed" in told
    supervised.tell_form("as_typed", typed)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("empty", ["train", "valid"])
def test_a_split_without_a_response_is_refused(empty, tmp_path):
    silent = [dataclasses.replace(d, utterances=("hi .",)) for d in small.DIALOGUES]
    for split in ("train", "valid"):
        dialogues = silent if split == empty else small.DIALOGUES
        write_jsonl(dialogues, tmp_path / f"{split}.jsonl")
    with pytest.raises(UserError, match=f"the {empty} split of .* has no response"):
        supervised.run(config(str(tmp_path)), tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "batching", "changes"),
    [
        ("response", "dialogue", {}),
        ("persona", "instance", {"batch_size": 5, "evaluate_every": 40}),
    ],
)
def test_two_dialogues_are_learned_by_heart(task, batching, changes, source, tmp_path):
    """Also that prompts, positions and ends are those that generation will use."""
    chosen = config(source, name=task, task=task, batching=batching, **changes)
    result = supervised.run(chosen, tmp_path)
    assert result["steps"] == 80
    assert result["valid_ppl"] < 1.1
    losses = [
        r["loss"]
        for r in read_metrics(tmp_path / task / "metrics.jsonl")
        if "loss" in r
    ]
    assert losses[-1] < 0.1 < losses[0]
    model, params, tokenizer = pretrained.load(tmp_path / task / "model")
    prompts = Prompts(tokenizer, PROMPTS)
    if task == "persona":
        asked = [prompts.persona_prompt(i) for i in instances(small.DIALOGUES)]
        gold = [
            prompts.persona_target(i.partner_persona)
            for i in instances(small.DIALOGUES)
        ]
    else:
        asked = [
            prompts.response_prompt(i, prompts.persona_target(i.partner_persona))
            for i in instances(small.DIALOGUES)
        ]
        gold = [prompts.response_target(i.response) for i in instances(small.DIALOGUES)]
    generator = Generator(model, Decoding(40), prompts.end_id, batch_size=5, bucket=216)
    said = generator(params, asked)
    assert [[*c.tokens, prompts.end_id] for c in said] == gold
    assert all(c.ended for c in said)


def trajectory(rows, micro_batches: int, seed: int = 0):
    """Metrics of three updates and the parameters after them."""
    prompts = small.prompts()
    chosen = instances(small.DIALOGUES)
    examples = [prompts.response_example(instance, None) for instance in chosen]
    model, params = small.gpt2(300, n_layer=1)
    # A large eps: gradients that are zero but for rounding must not become steps.
    tx = make_optimizer(OptimizerConfig(learning_rate=1e-2, eps=1e-3, clip_norm=1.0), 3)
    state = TrainState.create(params, tx)
    step = supervised.make_train_step(model, tx, micro_batches, seed, dropout=False)
    logged = []
    for number in range(3):
        batch = collate(
            [examples[n % 5] for n in range(number, number + rows - 1)], rows
        )
        state, metrics = step(state, batch, {})
        logged.append(jax.device_get(metrics))
    return logged, jax.device_get(state.params)


def test_micro_batches_change_no_trajectory():
    """1 x 8 rows and 8 x 1: one of the eight has no targets at all."""
    expected_metrics, expected = trajectory(8, 1)
    metrics, params = trajectory(8, 8)
    for ours, theirs in zip(metrics, expected_metrics, strict=True):
        assert ours["targets"] == theirs["targets"]
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-5)
        np.testing.assert_allclose(ours["grad_norm"], theirs["grad_norm"], rtol=1e-4)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


RESUMED = {"dropout": True, "epochs": 6, "checkpoint_every": 2}


def test_a_stage_starts_from_another_stage_of_its_run(source, tmp_path):
    short = {"epochs": 2.0, "dropout": False}
    response = config(source, init_stage="dialogue", evaluate_every=1, **short)
    with pytest.raises(UserError, match=r"is not finished.*launch.train --stage=dial"):
        supervised.run(response, tmp_path)
    dialogue = config(source, name="dialogue", task="dialogue", **short)
    first = supervised.run(dialogue, tmp_path)
    begun = supervised.run(response, tmp_path)
    log = [
        r["valid_nll"]
        for r in read_metrics(tmp_path / "response" / "metrics.jsonl")
        if "valid_nll" in r
    ]
    model, params, tokenizer = pretrained.load(tmp_path / "dialogue" / "model")
    prompts = Prompts(tokenizer, PROMPTS)
    learned = examples(prompts, small.DIALOGUES, "response", "dialogue", "gold")
    scores = Scorer(model)(params, learned)
    assert log[0] == pytest.approx(mean_nll(scores.values()), rel=1e-4)
    assert begun["kept_step"] == begun["steps"] > 0
    assert begun["params_sha256"] != first["params_sha256"]
    other = jax.tree.map(lambda x: x + 1, params)
    pretrained.export(model, other, tokenizer, tmp_path / "dialogue" / "model")
    with pytest.raises(UserError, match="weights are damaged or another model's"):
        supervised.run(response, tmp_path)
    result = first | {"params_sha256": params_sha256(other)}  # trained anew
    (tmp_path / "dialogue" / "result.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match="initial weights"):
        supervised.run(response, tmp_path)


# Learned by heart, which helps the other dialogue at first alone.
BY_HEART = {"epochs": 40.0, "optimizer": OptimizerConfig(learning_rate=3e-2)}


@pytest.fixture(scope="module")
def apart(tmp_path_factory) -> str:
    """A folder with one dialogue to train on, and another to validate on."""
    folder = tmp_path_factory.mktemp("apart")
    for split, dialogues in [
        ("train", small.DIALOGUES[:1]),
        ("valid", small.DIALOGUES[1:]),
    ]:
        write_jsonl(dialogues, folder / f"{split}.jsonl")
    return str(folder)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_of_the_best_validation_are_kept_if_asked_for(
    keep, apart, tmp_path
):
    asked = config(apart, evaluate_every=1, keep=keep, **BY_HEART)
    result = supervised.run(asked, tmp_path)
    log = [
        (r["valid_ppl"], r["step"])
        for r in read_metrics(tmp_path / asked.name / "metrics.jsonl")
        if "valid_ppl" in r
    ]
    best, last = min(log), log[-1]
    assert best[0] < last[0]  # else nothing is shown
    kept = best if keep == "best" else last
    assert result["valid_ppl"] == pytest.approx(kept[0], rel=1e-4)
    assert result["kept_step"] == kept[1]
    _, params, _ = pretrained.load(tmp_path / asked.name / "model")
    assert params_sha256(params) == result["params_sha256"]


def test_training_stops_after_validations_that_were_no_better(apart, tmp_path):
    asked = config(apart, evaluate_every=1, patience=2, keep="best", **BY_HEART)
    result = supervised.run(asked, tmp_path)
    assert result["stopped_because"] == "no better for 2 validations"
    assert 0 < result["kept_step"] == result["steps"] - 2 < 38
    with pytest.raises(ValueError, match="evaluate_every=0 is never, but keep='best'"):
        config(apart, keep="best")


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """A run directory with dropout, and the result of the run."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, supervised.run(config(source, **RESUMED), workdir)


def test_a_stopped_run_ends_with_the_same_weights_dropout_and_order_included(
    finished, source, tmp_path, monkeypatch
):
    with stopped_before(batch=5):
        supervised.run(config(source, **RESUMED), tmp_path)
    assert not (tmp_path / "response" / "result.json").exists()
    initial, call, first, kept = supervised.initial, Batches.__call__, [], []

    def begin(*arguments):
        model, params = initial(*arguments)
        first.extend(map(weakref.ref, jax.tree.leaves(params)))
        return model, params

    def watch(self, step):
        kept.append(sum(leaf() is not None for leaf in first))
        return call(self, step)

    monkeypatch.setattr(supervised, "initial", begin)
    monkeypatch.setattr(Batches, "__call__", watch)
    result = supervised.run(config(source, **RESUMED), tmp_path)
    assert result["steps"] == 6
    assert result["params_sha256"] == finished[1]["params_sha256"]
    # Nor does it keep the weights it would have started from.
    assert first and kept and not any(kept)


def test_a_finished_run_is_reported_and_not_repeated(
    finished, source, monkeypatch, capsys
):
    workdir, result = finished
    monkeypatch.setattr(supervised, "initial", None)
    assert supervised.run(config(source, **RESUMED), workdir) == result
    assert f"params_sha256={result['params_sha256']}" in capsys.readouterr().out
    assert json.loads((workdir / "response" / "result.json").read_text()) == result


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"model": GPT2Config(n_layer=2)}, "model.n_layer was 1, is 2"),
        ({"tokenizer": "bpe:290"}, "bpe:290"),
        ({"prompts": PromptConfig(style="tokens")}, "special_tokens"),
    ],
)
def test_another_config_in_the_same_folder_is_refused_by_name(
    changed, told, finished, source
):
    with pytest.raises(UserError, match=told):
        supervised.run(config(source, **RESUMED | changed), finished[0])


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"seed": 0', b"\xff"])
def test_a_damaged_fingerprint_is_told_with_what_to_do(content, tmp_path):
    (tmp_path / "fingerprint.json").write_bytes(content)
    told = r"fingerprint.json: .* Delete that folder"
    with pytest.raises(UserError, match=told):
        run_dir.claim(tmp_path, OptimizerConfig(), {})
    with pytest.raises(UserError, match=told):
        run_dir.agree(tmp_path, OptimizerConfig(), {})
    assert (tmp_path / "fingerprint.json").read_bytes() == content


@pytest.mark.parametrize(
    ("split", "told"), [("train", "corpus_sha256"), ("valid", "validation data")]
)
def test_other_data_in_the_same_folder_are_refused_by_name(
    split, told, finished, source, tmp_path
):
    for name in ("train", "valid"):
        dialogues = small.DIALOGUES[:1] if name == split else small.DIALOGUES
        write_jsonl(dialogues, tmp_path / f"{name}.jsonl")
    with pytest.raises(UserError, match=told):
        supervised.run(config(str(tmp_path), **RESUMED), finished[0])


def test_the_same_data_from_elsewhere_are_the_same_run(finished, source, tmp_path):
    for name in ("train", "valid"):
        write_jsonl(small.DIALOGUES, tmp_path / f"{name}.jsonl")
    again = supervised.run(config(str(tmp_path), **RESUMED), finished[0])
    assert again == finished[1]


def test_what_a_response_generator_is_told_of_its_partner():
    prompts, (instance, *_) = small.prompts(), instances(small.DIALOGUES)
    instance = dataclasses.replace(
        instance,
        context=("tea ? i am a nurse",),
        partner_persona=("a cat.", "i love tea.", "my car", "i am a nurse."),
    )

    def told(partner_persona):
        return partner_tokens(prompts, partner_persona, instance)

    assert prompts.text(told("gold")) == "a cat. i love tea. my car. i am a nurse."
    assert told("none") is None
    top = prompts.text(told("top3"))
    assert "i love tea." in top and "i am a nurse." in top and top.count(".") == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "poem"},
        {"partner_persona": "bronze"},
        {"batching": "word"},
        {"dtype": "float8"},
        {"micro_batches": 3},
        {"epochs": 0.0},
        {"epochs": -1.0},
        {"partner_persona": "top3"},
        {"tokenizer": ""},
        {"init": "folder", "init_stage": "dialogue"},
        {"task": "dialogue", "batching": "instance"},
    ],
)
def test_a_wrong_config_is_refused_by_name(wrong, source):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(source, **wrong)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"init": "gpt2"}, "tokenizer='bpe:300' trains one anew, .*init='gpt2'"),
        ({"task": "persona", "partner_persona": "none"}, "is told to a response"),
        ({"seed": -1}, "seed=-1 must be 0 or more"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(source, changes, told):
    with pytest.raises(ValueError, match=told):
        config(source, **changes)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("persona", "no partner persona to learn; give .* partners have personas"),
        ("response", "no response to learn; give dialogues of two turns"),
        ("dialogue", "no response to learn; give dialogues of two turns"),
    ],
)
def test_a_split_without_anything_to_learn_is_told_by_the_task(task, told):
    with pytest.raises(UserError, match=f"the train split of x has {told}"):
        checked([], "train", "x", task)
