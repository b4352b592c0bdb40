"""PerCVAE's shapes and its folder; its equations: tests/parity."""

import math

import jax
import numpy as np
import pytest

from ppg_jax.data.dialogue import instances
from ppg_jax.data.persona_lines import read, texts, word_weights
from ppg_jax.data.vocabulary import Vocabulary
from ppg_jax.errors import UserError
from ppg_jax.models import percvae
from ppg_jax.models.percvae import PerCVAE, PerCVAEConfig, initial_params, shapes_of
from ppg_jax.training.train_state import params_sha256
from tests import run_for_tests as runs

SMALL = {"embedding": 4, "sentence": 3, "context": 5, "memory": 4, "hops": 2}
SMALL |= {"latent": 3, "prior": 4, "bag": 4, "decoder": 6}


def gru(inputs: int, units: int) -> int:
    return (inputs + units) * 3 * units + 3 * units


def dense(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def test_the_published_size_is_that_of_the_published_description():
    """Vocabulary 18,788, vectors of 300, a GRU of 300 in each direction, of 600 twice
    and of 500 twice, memory of 300 in three hops, z of 100."""
    words, vectors, condition = 18788, 300, 300 + 2 * 600
    expected = (
        words * vectors * (1 + 1 + 3)
        + 2 * gru(vectors, 300)
        + gru(600, 600)
        + gru(600, 600)
        + dense(condition + 600 + 300, 200)
        + dense(condition, 200)
        + dense(200, 200)
        + dense(300 + 100, 6)
        + dense(condition + 100, 400)
        + dense(400, words)
        + dense(condition + 100, 500)
        + 2 * gru(vectors, 500)
        + dense(500, words)
        + dense(500, 2)
    )
    shapes = shapes_of(PerCVAE(PerCVAEConfig()))
    assert sum(map(math.prod, shapes.values())) == expected == 55_202_084
    assert shapes["memory_3"] == shapes["words"] == (18788, 300)
    assert shapes["decoder/kernel"] == (300, 1500)


@pytest.fixture(scope="module")
def made():
    dialogues = runs.dialogues("train", 6)
    vocabulary = Vocabulary.of(texts(dialogues))
    model = PerCVAE(PerCVAEConfig(vocab_size=len(vocabulary), **SMALL))
    weights = word_weights(vocabulary, dialogues)
    return model, initial_params(model, 1), vocabulary, weights


def test_other_rows_and_more_padding_change_nothing(made):
    model, params, vocabulary, _ = made
    asked = instances(runs.dialogues("test", 3))
    noise = np.random.default_rng(0).standard_normal((4, 3), np.float32)
    apply = jax.jit(model.apply)
    alone, among = (read(vocabulary, asked[:n], 4) for n in (1, 4))
    wide = np.pad(alone.response, [(0, 0), (0, 5)])
    said, *others = (
        apply({"params": params}, lines, noise)
        for lines in (alone, among, alone.replace(response=wide))
    )
    width = said.logits.shape[1]
    for other in others:
        cut = other._replace(logits=other.logits[:, :width], positions=None)
        for one, two in zip(
            jax.tree.leaves(said._replace(positions=None)),
            jax.tree.leaves(cut),
            strict=True,
        ):
            np.testing.assert_allclose(one[0], two[0], atol=1e-6)
    assert not np.allclose(said.logits[1], others[0].logits[1])


def test_a_folder_comes_back_as_it_was(made, tmp_path):
    model, params, vocabulary, weights = made
    percvae.save(tmp_path / "model", model, params, vocabulary, weights)
    again = percvae.load(tmp_path / "model")
    assert again.model == model and again.vocabulary == vocabulary
    np.testing.assert_array_equal(again.weights, weights)
    assert params_sha256(again.params) == params_sha256(params)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", '{"vocab_size": 3}'),
        ("config.json", '{"layers": 3}'),
        ("config.json", "[]"),
        ("model.safetensors", "nothing"),
        ("vocabulary.json", "{}"),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(made, tmp_path, file, content):
    model, params, vocabulary, weights = made
    percvae.save(tmp_path / "model", model, params, vocabulary, weights)
    (tmp_path / "model" / file).write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)) as error:
        percvae.load(tmp_path / "model")
    assert "\n" not in str(error.value)
