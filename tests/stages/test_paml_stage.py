"""PAML's stage: it learns to adapt, and a resumed run is the same."""

import dataclasses
import os
import signal

import jax
import pytest

from ppg_jax.data.corpus import load_splits
from ppg_jax.errors import UserError
from ppg_jax.files import read_metrics
from ppg_jax.models import paml as model_of
from ppg_jax.stages import paml
from ppg_jax.training.train_state import params_sha256
from tests import paml_for_tests as tiny


@pytest.fixture(scope="module")
def done():
    return tiny.finished()


def measured(done) -> dict[int, dict]:
    config, workdir, _ = done
    log = read_metrics(workdir / config.name / "metrics.jsonl")
    return {r["step"]: r for r in log if "valid_ppl" in r}


def test_training_lowers_the_perplexity_after_adaptation_and_keeps_the_best(done):
    _, _, result = done
    found = measured(done)
    assert result["steps"] == 40 and list(found) == [0, 10, 20, 30, 40]
    assert result["valid_ppl"] < found[0]["valid_ppl"] / 3
    best = min(found, key=lambda step: found[step]["valid_nll"])
    assert result["kept_step"] == best
    for name in ("valid_ppl", "valid_ppl_unadapted"):
        assert result[name] == pytest.approx(found[best][name], rel=1e-5)
    assert result["speakers"] == tiny.SPEAKERS


def test_the_curves_have_the_loss_of_both_dialogues(done):
    config, workdir, _ = done
    log = read_metrics(workdir / config.name / "metrics.jsonl")
    records = [r for r in log if "loss" in r]
    assert [r["step"] for r in records] == [10, 20, 30, 40]
    assert records[-1]["loss"] < records[0]["loss"] / 2
    # Of the one before a step, of the other after it.
    assert records[-1]["loss"] < records[-1]["loss_known"] / 2


def test_without_steps_nothing_is_adapted(done):
    config, workdir, result = done
    loaded = model_of.load(workdir / config.name / "model")
    valid = paml.tasks_of(config, load_splits(config.data), "valid")

    def ppl(**changed):
        changed = dataclasses.replace(config, **changed)
        measure = paml.make_measure(changed, loaded.model, loaded.vocabulary, valid)
        return measure(loaded.params)

    none, more = ppl(inner_steps=0), ppl(tasks=5)
    assert none["valid_ppl"] == pytest.approx(none["valid_ppl_unadapted"])
    assert none["valid_ppl"] == pytest.approx(result["valid_ppl_unadapted"], rel=1e-5)
    assert more["valid_ppl"] == pytest.approx(result["valid_ppl"], rel=1e-5)


def test_a_resumed_run_repeats_the_uninterrupted_one(done, tmp_path, monkeypatch):
    _, _, uninterrupted = done
    config, make = tiny.config(tmp_path), paml.make_train_step

    def interrupting(*arguments):
        train_step = make(*arguments)

        def step(state, known, asked):
            if state.step == 23:
                os.kill(os.getpid(), signal.SIGTERM)
            return train_step(state, known, asked)

        return step

    monkeypatch.setattr(paml, "make_train_step", interrupting)
    with pytest.raises(SystemExit) as stopped:
        paml.run(config, tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / config.name / "result.json").exists()
    monkeypatch.undo()
    resumed = paml.run(config, tmp_path)
    assert resumed["params_sha256"] == uninterrupted["params_sha256"]


def test_a_finished_run_is_left_alone_and_another_setting_is_refused(done, monkeypatch):
    config, workdir, result = done
    monkeypatch.setattr(paml, "train", None)
    assert paml.run(config, workdir) == result
    with pytest.raises(UserError, match="inner_steps was 1, is 2"):
        paml.run(dataclasses.replace(config, inner_steps=2), workdir)
    loaded = model_of.load(workdir / config.name / "model")
    assert params_sha256(loaded.params) == result["params_sha256"]
    assert result["parameters"] == sum(p.size for p in jax.tree.leaves(loaded.params))


def test_what_cannot_be_trained_is_told_in_one_line(tmp_path):
    config = tiny.config(tmp_path)
    (tmp_path / "data" / "valid.jsonl").write_text('{"utterances": ["hi", "ho"]}\n')
    with pytest.raises(UserError, match=r"the valid split .* no speaker with two"):
        paml.run(config, tmp_path)
    with pytest.raises(ValueError, match="inner_rate=0 must be more than 0"):
        dataclasses.replace(config, inner_rate=0)
