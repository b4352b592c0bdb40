"""PerCVAE's row keeps the contract of rows (`test_contract`)."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from ppg_jax.data.dialogue import instances
from ppg_jax.data.persona_lines import read, word_weights
from ppg_jax.data.vocabulary import END, START
from ppg_jax.errors import UserError
from ppg_jax.inference import latent
from ppg_jax.inference.sampling import Decoding
from ppg_jax.models import percvae
from ppg_jax.models.percvae import Plan
from ppg_jax.systems import swapped
from ppg_jax.systems.percvae import PerCVAE
from ppg_jax.systems.system import Asking
from tests import percvae_for_tests as tiny
from tests import run_for_tests as runs

DIALOGUES = runs.dialogues("test", 4)
ASKED = instances(DIALOGUES)


def asking(**options) -> Asking:
    _, workdir, _ = tiny.finished()
    return Asking(workdir, DIALOGUES, runs.PROMPTS, batch_size=4, **options)


@pytest.fixture(scope="module")
def row() -> PerCVAE:
    config, _, _ = tiny.finished()
    return PerCVAE("PerCVAE", config.name)


@pytest.fixture(scope="module")
def answers(row):
    return row.load(asking())


@pytest.fixture(scope="module")
def loaded():
    config, workdir, _ = tiny.finished()
    return percvae.load(workdir / config.name / "model")


def test_answers_and_scores_are_in_the_order_asked_and_alone_as_among_others(answers):
    said, scores = answers.respond(ASKED), answers.score(ASKED)
    assert len(said) == len(scores) == len(ASKED) > 4
    assert answers.respond(ASKED[::-1])[::-1] == said
    assert answers.respond(ASKED[2:3]) == said[2:3]
    np.testing.assert_allclose(answers.score(ASKED[::-1])[::-1], scores, rtol=1e-5)
    np.testing.assert_allclose(answers.score(ASKED[2:3]), scores[2:3], rtol=1e-5)
    assert {answer.told for answer in said} == {None}


def test_the_same_seed_gives_the_same_answers_and_another_one_another_z(row, answers):
    sampled = [
        row.load(asking(temperature=1.0, seed=seed)).respond(ASKED)
        for seed in (3, 3, 4)
    ]
    assert sampled[0] == sampled[1] != sampled[2]
    other = row.load(asking(seed=1)).score(ASKED)
    assert not np.allclose(
        [s.nll for s in answers.score(ASKED)], [s.nll for s in other]
    )


def test_it_finds_its_own_data_likelier_than_strange_words(answers):
    strange = [dataclasses.replace(i, response="tea sing hi hi") for i in ASKED]
    for own, other in zip(answers.score(ASKED), answers.score(strange), strict=True):
        assert own.nll / own.tokens < other.nll / other.tokens - 1
    assert len({answer.text for answer in answers.respond(ASKED)}) > 2


def test_a_score_is_the_sum_by_hand_and_an_unknown_word_has_its_share(
    row, answers, loaded
):
    """Word by word, as it speaks, where the score is of whole batches."""
    instance = dataclasses.replace(ASKED[3], response="i sing zebras")
    words = [*loaded.vocabulary.encode(instance.response), END]
    drawn = answers.model._read([instance])[1]
    lines = read(loaded.vocabulary, [instance], 4)
    call = lambda *a, **k: model_apply(loaded, *a, **k)  # noqa: E731
    condition = call(lines, method="condition")
    z = call(condition, method="prior").at(drawn.noise)
    states = call(condition, z, method="plan").states
    by_hand, last = 0.0, START
    for word in words:
        states, logits, _ = call(states, np.full(4, last), method="say")
        by_hand -= float(jax.nn.log_softmax(logits[0])[word])
        last = word
    (score,) = answers.score([instance])
    assert score.tokens == 4
    assert score.nll == pytest.approx(by_hand, rel=1e-4)
    fewer = dataclasses.replace(loaded.vocabulary, left_out=6)
    asked = latent.Asked(loaded._replace(vocabulary=fewer), Decoding(1), 4, 0)
    (dearer,) = asked.score([instance])
    assert dearer.nll == pytest.approx(score.nll + math.log(7), rel=1e-5)


def model_apply(loaded, *arguments, method: str):
    return loaded.model.apply({"params": loaded.params}, *arguments, method=method)


def test_what_it_does_not_read_changes_nothing(row, answers):
    others = [dataclasses.replace(i, id="x", partner_persona=("a",)) for i in ASKED]
    assert answers.score(others) == answers.score(ASKED)
    assert answers.respond(others) == answers.respond(ASKED)
    assert swapped.records(row, asking(), ASKED, [*ASKED[2:], *ASKED[:2]]) is None
    mine = dataclasses.replace(ASKED[-1], self_persona=("i have a car.",))
    assert answers.score([mine]) != answers.score(ASKED[-1:])


def test_the_words_of_the_likeliest_line_are_weighted_as_published(loaded):
    lines = read(loaded.vocabulary, ASKED[-1:], 1)
    weights = word_weights(loaded.vocabulary, DIALOGUES)
    log_probs = np.log([[0.1, 0.6, 0.1, 0.1, 0.05, 0.05]])
    gains = np.asarray(latent.gains(Plan(None, None, log_probs), lines, weights))
    told = [*loaded.vocabulary.encode(ASKED[-1].self_persona[0].strip(".")), END]
    assert set(np.flatnonzero(gains[0])) == set(told)
    rng = np.random.default_rng(0)
    logits, kinds = rng.normal(0, 3, gains.shape), np.array([[0.2, -3.0]])
    other, own = np.exp(kinds - np.log(np.exp(kinds).sum()))[0] ** (1 / math.exp(5))
    other, own = other / (other + own), own / (other + own)
    mask = gains[0] > 0
    published = logits[0] * np.where(mask, 2.5 * weights * own, 0.15 * other)
    greedy = latent.choose(logits, kinds, gains, Decoding(1), np.zeros(1))
    assert greedy.tolist() == [published.argmax()]
    sampling = Decoding(1, temperature=1e-3)
    drawn = latent.choose(logits, kinds, gains, sampling, np.full(1, 0.5))
    assert drawn.tolist() == [published.argmax()]
    none = np.log([[0.1, 0.1, 0.1, 0.1, 0.1, 0.5]])  # a line that is not there
    assert not latent.gains(Plan(None, None, none), lines, weights).any()


def test_a_stage_that_has_not_finished_is_told_with_the_command(row, tmp_path):
    of = Asking(tmp_path, DIALOGUES, runs.PROMPTS)
    with pytest.raises(UserError, match=r"python -m launch\.train --stage=poem"):
        row.load(of)


def test_it_is_described_as_a_row_that_infers_no_partner(row):
    assert row.needs == ("poem",) and row.given_gold is row
    assert row.description["models"] == {"response": "poem/model", "persona": None}
    assert not row.description["control"]
