"""PAML's shapes and its folder; its equations: tests/parity."""

import math

import jax
import numpy as np
import pytest

from ppg_jax.data.dialogue import instances
from ppg_jax.data.speaker_tasks import read, texts
from ppg_jax.data.vocabulary import Vocabulary
from ppg_jax.errors import UserError
from ppg_jax.models import paml
from ppg_jax.models.paml import PAML, PAMLConfig, initial_params, shapes_of, sinusoids
from ppg_jax.training.train_state import params_sha256
from tests import paml_for_tests as tiny

DIALOGUES = tiny.dialogues("train", 2)


def test_the_published_size_is_that_of_the_published_description():
    """Vocabulary 18.4 k, vectors of 300, six layers twice, attention of 40, filter 50:
    7.7 million, 5.5 of them in words' vectors."""
    words, width, depth, filter_ = 18400, 300, 40, 50
    attention = 4 * width * depth
    convolutions = 3 * width * filter_ + filter_ + 3 * filter_ * width + width
    expected = (
        words * width
        + words  # the bias of the output layer
        + 2 * width * width  # between words' vectors and layers
        + 6 * (attention + convolutions + 2 * 2 * width)
        + 6 * (2 * attention + convolutions + 3 * 2 * width)
        + 2 * 2 * width
        + width
        + 1
    )
    shapes = shapes_of(PAML(PAMLConfig()))
    assert sum(map(math.prod, shapes.values())) == expected == 7_686_101
    assert math.prod(shapes["words"]) == 5_520_000


@pytest.fixture(scope="module")
def made():
    vocabulary = Vocabulary.of(texts(DIALOGUES))
    sizes = {"width": 6, "layers": 1, "heads": 2, "depth": 4, "filter": 5}
    model = PAML(PAMLConfig(vocab_size=len(vocabulary), **sizes))
    params = jax.tree.map(lambda p: p + 0.1, initial_params(model, 1))
    return model, params, vocabulary


def test_other_rows_and_more_padding_change_nothing(made):
    model, params, vocabulary = made
    asked = instances(DIALOGUES)
    apply = jax.jit(model.apply)
    alone, among = (read(vocabulary, asked[:n], 4) for n in (1, 4))
    wide = alone.replace(
        context=np.pad(alone.context, [(0, 0), (0, 7)]),
        response=np.pad(alone.response, [(0, 0), (0, 5)]),
    )
    said, other, padded = (
        apply({"params": params}, turns) for turns in (alone, among, wide)
    )
    width = int(alone.counted[0].sum())
    for more in (other, padded):
        for one, two in zip(said, more, strict=True):
            two = two[..., : one.shape[-1]] if two.ndim > 2 else two
            np.testing.assert_allclose(one[0, :width], two[0, :width], atol=1e-6)
    assert not np.allclose(said.logits[1], other.logits[1])
    np.testing.assert_allclose(padded.copying[0, :width].sum(axis=-1), 1, rtol=1e-6)


def test_a_word_sees_none_that_follow(made):
    model, params, vocabulary = made
    turns = read(vocabulary, instances(DIALOGUES)[:2], 2)
    later = turns.response.copy()
    later[:, 4] = 5
    apply = jax.jit(model.apply)
    one, two = (
        apply({"params": params}, turns.replace(response=r))
        for r in (turns.response, later)
    )
    np.testing.assert_allclose(one.logits[:, :4], two.logits[:, :4], atol=1e-6)
    assert not np.allclose(one.logits[:, 4], two.logits[:, 4])


def test_sinusoids_have_the_published_wave_lengths():
    waves = sinusoids(40, 7)
    assert waves.shape == (40, 7) and (waves[:, 6] == 0).all()
    places = np.arange(40)
    np.testing.assert_allclose(waves[:, 0], np.sin(places), atol=1e-6)
    np.testing.assert_allclose(waves[:, 4], np.cos(places / 100), atol=1e-6)
    np.testing.assert_allclose(waves[:, 2], np.sin(places / 1e4), atol=1e-6)


def test_a_folder_comes_back_as_it_was(made, tmp_path):
    model, params, vocabulary = made
    paml.save(tmp_path / "model", model, params, vocabulary)
    again = paml.load(tmp_path / "model")
    assert again.model == model and again.vocabulary == vocabulary
    assert params_sha256(again.params) == params_sha256(params)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", '{"vocab_size": 3}'),
        ("config.json", '{"floors": 3}'),
        ("config.json", "[]"),
        ("model.safetensors", "nothing"),
        ("vocabulary.json", "{}"),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(made, tmp_path, file, content):
    model, params, vocabulary = made
    paml.save(tmp_path / "model", model, params, vocabulary)
    (tmp_path / "model" / file).write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)) as error:
        paml.load(tmp_path / "model")
    assert "\n" not in str(error.value)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="depth=6 is no multiple of heads=4"):
        PAMLConfig(depth=6)
    with pytest.raises(ValueError, match="layers=0 must be a whole number"):
        PAMLConfig(layers=0)
