"""Who speaks in which dialogues, and what PAML reads of them."""

import dataclasses

import jax
import numpy as np
import pytest

from ppg_jax.data.dialogue import Dialogue, instances
from ppg_jax.data.speaker_tasks import (
    CONTEXT,
    RESPONSE,
    ROW_STEP,
    Others,
    TaskBatches,
    read,
    read_tasks,
    speakers,
    tasks,
    texts,
)
from ppg_jax.data.vocabulary import END, PAD, START, Vocabulary
from tests import paml_for_tests as tiny

DIALOGUES = tiny.dialogues("train", 3)
VOCABULARY = Vocabulary.of(texts(DIALOGUES))


def saying(*utterances: str, persona=("i sing.",), **fields) -> Dialogue:
    return Dialogue("d", tuple(persona), (), utterances, **fields)


def test_all_that_was_said_is_read_and_no_persona():
    first, second = DIALOGUES[0].instances()
    turns = read(VOCABULARY, [second, None], 3)
    words = VOCABULARY.encode("hi 0 hello 0 are you ?")
    assert turns.context[0, : len(words)].tolist() == words
    assert (turns.context[0, len(words) :] == PAD).all()
    said = [START, *VOCABULARY.encode("i sing ."), END]
    assert turns.response[0, : len(said)].tolist() == said
    assert turns.counted[0].sum() == len(said) - 1
    assert (turns.context[1:] == PAD).all() and not turns.counted[1:].any()
    silent = dataclasses.replace(first, context=())
    assert read(VOCABULARY, [silent], 1).context[0, :2].tolist() == [START, PAD]
    assert not set(texts(DIALOGUES)) & {"i am nice."}


def test_long_conversations_lose_their_beginning_and_long_responses_their_end():
    (long,) = saying("hi hello " * CONTEXT, "hi " * 90).instances()
    turns = read(VOCABULARY, [long], 1)
    assert turns.context.shape == (1, CONTEXT) and (turns.context != PAD).all()
    assert turns.context[0, -1] == VOCABULARY.encode("hello")[0]
    assert turns.counted.sum() == RESPONSE and turns.response[0, RESPONSE] == END
    whole = read(VOCABULARY, [long], 1, whole=True)
    assert whole.counted.sum() == 91


def test_a_task_is_a_dialogue_with_rows_of_padding():
    made = read_tasks(VOCABULARY, [DIALOGUES[1], None], 16)
    assert made.context.shape[:2] == made.response.shape[:2] == (2, ROW_STEP)
    assert made.counted.any(axis=2).tolist() == [
        [True, True, False, False],
        [False] * 4,
    ]
    flat = read(VOCABULARY, instances(DIALOGUES[1:2]), 2)
    np.testing.assert_array_equal(made.response[0, :2], flat.response)
    first = read_tasks(VOCABULARY, DIALOGUES[:2], 1).counted.any(axis=2)
    assert first.tolist() == [[True, False, False, False]] * 2
    long = saying(*["hi", "ho"] * (ROW_STEP + 1))
    assert read_tasks(VOCABULARY, [long], 16).context.shape[1] == 2 * ROW_STEP


def test_speakers_are_base_personas_and_equal_profiles_where_chance_links_most():
    def of(*profiles):
        found = speakers([saying("hi", "ho", persona=p) for p in profiles])
        return found.tolist()

    sing, run, tea, car, two = "i sing.", "i run.", "i love tea.", "i have a car.", "x"
    apart = [(car, two)] * 2 + [(sing, two)] * 2
    assert of((sing, run, tea), (tea, sing), *apart) == [0, 0, 1, 1, 2, 2]
    linked = [(sing, run), (sing, run, tea), (run, tea), (tea, run), (two,)]
    assert of(*linked) == [0, 1, 2, 2, 3]
    assert of((), ()) == [0, 1]


def test_who_speaks_once_is_no_task():
    alone = saying("hi", "ho", persona=("i paint.",))
    silent = saying("hi", persona=("i sing.",))
    found = tasks([DIALOGUES[0], alone, DIALOGUES[4], DIALOGUES[1], silent])
    assert found == [(DIALOGUES[0], DIALOGUES[4])]


def test_the_other_dialogues_never_hold_the_one_that_is_asked():
    copy = dataclasses.replace(DIALOGUES[0], id="copy")
    mirrored = dataclasses.replace(
        DIALOGUES[0].swapped(), self_persona=DIALOGUES[0].self_persona
    )
    split = [*DIALOGUES, copy, mirrored]
    others = Others(split, 20)
    for instance in DIALOGUES[0].instances():
        assert others(instance) == (4, 8)
        renamed = dataclasses.replace(instance, id="x", response="?")
        assert others(renamed) == (4, 8)
    assert Others(split, 1)(next(DIALOGUES[4].instances())) == (0,)
    assert Others(split, 0)(instance) == ()
    stranger = dataclasses.replace(instance, self_persona=("i fly.",))
    assert others(stranger) == ()
    assert others(dataclasses.replace(instance, self_persona=())) == ()


def test_an_epoch_has_each_speaker_once_with_two_dialogues():
    groups = tasks(DIALOGUES)
    batches = TaskBatches(VOCABULARY, groups, 3, 2, seed=5)
    assert batches.steps_per_epoch == pytest.approx(4 / 3)
    seen = []
    for step in range(4):  # three epochs of four speakers
        known, asked = batches(step)
        for one, two in zip(known.context, asked.context, strict=True):
            assert (one[1, 2:4] == two[1, 2:4]).all()  # "hello" and who
            assert one[1, 1] != two[1, 1]  # which dialogue
            seen.append(one[1, 3])
    each = [sorted(seen[at : at + 4]) for at in (0, 4, 8)]
    assert each[0] == each[1] == each[2] and len(set(each[0])) == 4
    again = TaskBatches(VOCABULARY, groups, 3, 2, seed=5)(3)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(batches(3)), strict=True):
        np.testing.assert_array_equal(a, b)
    other = TaskBatches(VOCABULARY, groups, 3, 2, seed=6)
    assert any((other(s)[0].context != batches(s)[0].context).any() for s in range(4))
