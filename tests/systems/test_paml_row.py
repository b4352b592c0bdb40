"""PAML's row keeps the contract of rows (`test_contract`), and cheats at nothing."""

import dataclasses
import functools
import math
import shutil

import jax
import numpy as np
import pytest

from ppg_jax.data.dialogue import instances
from ppg_jax.data.speaker_tasks import read
from ppg_jax.data.vocabulary import END, PAD, START, UNKNOWN
from ppg_jax.errors import UserError
from ppg_jax.files import read_jsonl
from ppg_jax.inference.adapting import Speaker, step
from ppg_jax.inference.beam import Beam, without_repeats
from ppg_jax.inference.pointer import word_log_probs
from ppg_jax.models import paml
from ppg_jax.stages import evaluate
from ppg_jax.systems import swapped
from ppg_jax.systems.paml import PAML
from ppg_jax.systems.system import Asking
from tests import paml_for_tests as tiny
from tests import run_for_tests as runs

DIALOGUES = tiny.dialogues("test", 3)
ASKED = instances(DIALOGUES)


def asking(evaluated=DIALOGUES, **options) -> Asking:
    _, workdir, _ = tiny.finished()
    return Asking(workdir, (), runs.PROMPTS, evaluated=evaluated, **options)


@pytest.fixture(scope="module")
def row() -> PAML:
    config, _, _ = tiny.finished()
    return PAML("PAML", config.name, steps=3)


@pytest.fixture(scope="module")
def shared() -> Asking:
    """One for all tests: what it compiles serves them all."""
    return asking()


@pytest.fixture(scope="module")
def answers(row, shared):
    return row.load(shared)


@pytest.fixture(scope="module")
def loaded():
    config, workdir, _ = tiny.finished()
    return paml.load(workdir / config.name / "model")


def others_of(speaker_of, evaluated, shared) -> list:
    """The answers of a row to whom another split is evaluated, same programs."""
    made = dataclasses.replace(shared, evaluated=evaluated)
    return speaker_of.load(made)


def next_word(loaded, instance):
    """What was said so far, at most seven words -> log p of all words that follow."""
    context = read(loaded.vocabulary, [instance], 1).context

    @jax.jit
    def all_places(words):
        call = functools.partial(loaded.model.apply, {"params": loaded.params})
        memory = call(context, method="encode")
        said = call(memory, context, words, method="say")
        return word_log_probs(said, context)[0]

    def after(said):
        words = np.full((1, 7), PAD, np.int32)
        words[0, : len(said)] = said
        return all_places(words)[len(said) - 1]

    return after


def nlls(scores) -> list[float]:
    return [score.nll for score in scores]


def test_answers_and_scores_are_in_the_order_asked_and_alone_as_among_others(answers):
    said, scores = answers.respond(ASKED), answers.score(ASKED)
    assert len(said) == len(scores) == len(ASKED) > 8
    assert answers.respond(ASKED[::-1])[::-1] == said
    assert answers.respond(ASKED[2:3]) == said[2:3]
    np.testing.assert_allclose(answers.score(ASKED[::-1])[::-1], scores, rtol=1e-5)
    np.testing.assert_allclose(answers.score(ASKED[2:3]), scores[2:3], rtol=1e-5)
    assert {answer.told for answer in said} == {None}


def test_the_dialogue_that_is_asked_is_never_learned_from(row, answers, shared):
    """Whatever its gold responses are, or how often it stands there."""
    (first, *rest), asked = DIALOGUES, ASKED[:2]
    zebras = dataclasses.replace(
        first, utterances=(*first.utterances[:3], "zebras are here !")
    )
    own = answers.score(asked), answers.respond(asked)
    changed = others_of(row, (zebras, *rest), shared)
    twice = others_of(row, (*DIALOGUES, dataclasses.replace(first, id="x")), shared)
    for other in (changed, twice):
        assert (other.score(asked), other.respond(asked)) == own


def test_the_speakers_other_dialogues_are_learned_from_and_no_strangers(
    row, answers, shared
):
    asked = ASKED[:2]
    without = others_of(row, [d for d in DIALOGUES if d.id != "test:4"], shared)
    assert not np.allclose(nlls(without.score(asked)), nlls(answers.score(asked)))
    own = [d for d in DIALOGUES if d.self_persona == DIALOGUES[0].self_persona]
    stranger = others_of(row, own, shared)
    assert stranger.score(asked) == answers.score(asked)


def test_adaptation_helps_who_says_the_same_again(row, answers, shared):
    unadapted = dataclasses.replace(row, steps=0).load(shared)
    alone = others_of(row, (), shared)
    assert unadapted.score(ASKED) == alone.score(ASKED)
    per_word = [
        sum(nlls(way.score(ASKED))) / sum(s.tokens for s in way.score(ASKED))
        for way in (answers, unadapted)
    ]
    assert per_word[0] < 0.8 * per_word[1]


def test_adaptation_is_gradient_descent_in_the_order_of_the_dialogues(
    answers, loaded, monkeypatch
):
    config, _, _ = tiny.finished()
    monkeypatch.setattr("ppg_jax.inference.adapting.LEARNED", 3)
    known, params = [*ASKED[8:10], *ASKED[16:18]], loaded.params
    once = jax.jit(lambda *given: step(loaded.model, *given, config.inner_rate))
    for _ in range(2):
        for part in (known[:3], known[3:]):
            params = once(params, read(loaded.vocabulary, part, 3))
    speaker = Speaker(loaded, config.inner_rate, Beam())
    by_hand = answers._speaker.score(params, ASKED[:2])
    adapted = answers._speaker.score(speaker.adapted(known, 2), ASKED[:2])
    np.testing.assert_allclose(nlls(by_hand), nlls(adapted), rtol=1e-4)


def test_a_score_is_the_sum_by_hand_and_an_unknown_word_has_its_share(
    row, shared, loaded
):
    """Word by word, as it speaks, where the score is of whole batches."""
    instance = dataclasses.replace(ASKED[3], response="i sing zebras")
    words = [*loaded.vocabulary.encode(instance.response), END]
    after, by_hand, said = next_word(loaded, instance), 0.0, [START]
    for word in words:
        by_hand -= float(after(said)[word])
        said.append(word)
    (score,) = dataclasses.replace(row, steps=0).load(shared).score([instance])
    assert score.tokens == 4
    assert score.nll == pytest.approx(by_hand, rel=1e-4)
    fewer = dataclasses.replace(loaded.vocabulary, left_out=6)
    other = Speaker(loaded._replace(vocabulary=fewer), 0.1, Beam())
    (dearer,) = other.score(loaded.params, [instance])
    assert dearer.nll == pytest.approx(score.nll + math.log(7), rel=1e-5)


def test_a_beam_of_one_says_the_likeliest_word_each_time(loaded):
    instance, beam = ASKED[3], Beam(1, 2, 4)
    after, said = next_word(loaded, instance), [START]
    while END not in said and len(said) <= beam.longest:
        likely = np.array(after(said))
        likely[[PAD, UNKNOWN, START, *[END] * (len(said) <= beam.shortest)]] = -np.inf
        said.append(int(likely.argmax()))
    (text,) = Speaker(loaded, 0.1, beam).respond(loaded.params, [instance])
    words = loaded.vocabulary.encode(text)
    assert words == without_repeats([w for w in said if w not in (START, END)])
    assert words


def test_what_it_does_not_read_changes_nothing(row, answers, shared):
    others = [dataclasses.replace(i, id="x", partner_persona=("a",)) for i in ASKED]
    assert answers.score(others) == answers.score(ASKED)
    assert answers.respond(others) == answers.respond(ASKED)
    assert swapped.records(row, shared, ASKED, [*ASKED[3:], *ASKED[:3]]) is None


def test_evaluation_gives_it_the_whole_split_however_few_are_asked(
    row, answers, tmp_path, monkeypatch
):
    config, workdir, _ = tiny.finished()
    shutil.copytree(workdir, tmp_path / "run")
    runs.write_config(tmp_path / "run")
    monkeypatch.setattr(evaluate, "write_traits", lambda *_: None)
    asks = evaluate.Config(data=config.data, prompts=runs.PROMPTS, max_dialogues=2)
    evaluate.run(asks, tmp_path / "run", {"mine": row})
    folder = tmp_path / "run" / "evaluate"
    found = [record for _, record in read_jsonl(folder / "responses" / "mine.jsonl")]
    asked = evaluate.chosen(asks, DIALOGUES)
    assert [r["id"] for r in found] == [i.id for i in asked] and len(asked) == 4
    np.testing.assert_allclose([r["nll"] for r in found], nlls(answers.score(asked)))
    assert [r["response"] for r in found] == [a.text for a in answers.respond(asked)]
    assert not (folder / "swapped" / "responses" / "mine.jsonl").exists()


def test_a_stage_that_has_not_finished_is_told_with_the_command(row, tmp_path):
    of = Asking(tmp_path, DIALOGUES, runs.PROMPTS)
    with pytest.raises(UserError, match=r"python -m launch\.train --stage=poem"):
        row.load(of)


def test_it_is_described_as_a_row_that_infers_no_partner(row):
    assert row.needs == ("poem",) and row.given_gold is row
    assert row.description["models"] == {"response": "poem/model", "persona": None}
    assert row.description["steps"] == 3 and not row.description["control"]
    with pytest.raises(ValueError, match="steps=-1 must be 0 or more"):
        dataclasses.replace(row, steps=-1)
