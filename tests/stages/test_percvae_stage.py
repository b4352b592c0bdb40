"""PerCVAE's stage: it learns, and a resumed run is the same."""

import dataclasses
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.errors import UserError
from ppg_jax.files import read_metrics
from ppg_jax.models import percvae as model_of
from ppg_jax.models.percvae import Gaussian
from ppg_jax.stages import percvae
from ppg_jax.training.train_state import params_sha256
from tests import percvae_for_tests as tiny


@pytest.fixture(scope="module")
def done():
    return tiny.finished()


def test_training_lowers_the_perplexity_and_keeps_the_best_bound(done):
    config, workdir, result = done
    log = read_metrics(workdir / config.name / "metrics.jsonl")
    measured = {r["step"]: r for r in log if "valid_ppl" in r}
    assert result["steps"] == 80 and list(measured) == [0, 20, 40, 60, 80]
    assert result["valid_ppl"] < measured[0]["valid_ppl"] / 4
    best = min(measured, key=lambda step: measured[step]["valid_elbo"])
    assert result["kept_step"] == best
    for name in ("valid_ppl", "valid_elbo", "valid_kl"):
        assert result[name] == pytest.approx(measured[best][name], rel=1e-5)
    bound = result["valid_reconstruction"] + result["valid_kl"] * 8 / 29
    assert result["valid_elbo"] == pytest.approx(bound)  # 8 responses, 29 tokens


def test_the_curves_have_each_term_of_the_loss(done):
    config, workdir, _ = done
    log = read_metrics(workdir / config.name / "metrics.jsonl")
    records = [r for r in log if "loss" in r]
    assert [r["step"] for r in records] == list(range(10, 81, 10))
    for record in records:
        assert record["kl_weight"] == pytest.approx(min(1, (record["step"] - 1) / 40))
        parts = {n: jnp.float32(record[n]) for n in ("reconstruction", "kl")}
        parts |= {n: record[n] for n in ("bag_of_words", "selection", "position")}
        total = percvae.loss_of(parts, record["kl_weight"])
        assert record["loss"] == pytest.approx(float(total), rel=1e-5)


def test_a_resumed_run_repeats_the_uninterrupted_one(done, tmp_path, monkeypatch):
    _, _, uninterrupted = done
    config, make = tiny.config(tmp_path), percvae.make_train_step

    def interrupting(*arguments):
        train_step = make(*arguments)

        def step(state, lines):
            if state.step == 47:
                os.kill(os.getpid(), signal.SIGTERM)
            return train_step(state, lines)

        return step

    monkeypatch.setattr(percvae, "make_train_step", interrupting)
    with pytest.raises(SystemExit) as stopped:
        percvae.run(config, tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / config.name / "result.json").exists()
    monkeypatch.undo()
    resumed = percvae.run(config, tmp_path)
    assert resumed["params_sha256"] == uninterrupted["params_sha256"]


def test_a_finished_run_is_left_alone_and_another_setting_is_refused(done, monkeypatch):
    config, workdir, result = done
    monkeypatch.setattr(percvae, "train", None)
    assert percvae.run(config, workdir) == result
    with pytest.raises(UserError, match="seed was 0, is 1"):
        percvae.run(dataclasses.replace(config, seed=1), workdir)
    loaded = model_of.load(workdir / config.name / "model")
    assert params_sha256(loaded.params) == result["params_sha256"]
    assert result["parameters"] == sum(p.size for p in jax.tree.leaves(loaded.params))


def test_kl_is_that_of_two_gaussians_by_integration():
    values = np.linspace(-30, 30, 20001)
    q, p = Gaussian(0.7, np.log(1.5)), Gaussian(-0.4, np.log(0.6))

    def density(g):
        variance = np.exp(g.log_variance)
        away = (values - g.mean) ** 2 / variance
        return np.exp(-away / 2) / np.sqrt(2 * np.pi * variance)

    parts = density(q) * (np.log(density(q) + 1e-300) - np.log(density(p) + 1e-300))
    by_hand = np.trapezoid(parts, values)
    rows = [Gaussian(*(np.full((2, 3), value) for value in g)) for g in (q, p)]
    np.testing.assert_allclose(percvae.kl(*rows), [3 * by_hand] * 2, rtol=1e-4)


def test_what_cannot_be_trained_is_told_in_one_line(tmp_path):
    config = tiny.config(tmp_path)
    (tmp_path / "data" / "train.jsonl").write_text('{"utterances": ["hi"]}\n')
    with pytest.raises(UserError, match="no response to learn; give dialogues of two"):
        percvae.run(config, tmp_path)
    with pytest.raises(ValueError, match="kl_steps=0 must be more than 0"):
        dataclasses.replace(config, kl_steps=0)
