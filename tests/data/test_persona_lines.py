"""What PerCVAE reads, as arrays."""

import dataclasses
import math

import numpy as np
import pytest

from ppg_jax.data.dialogue import Dialogue, instances
from ppg_jax.data.persona_lines import (
    LINE,
    LINES,
    UTTERANCE,
    LineBatches,
    read,
    texts,
    word_weights,
)
from ppg_jax.data.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

TALK = Dialogue(
    id="d",
    self_persona=("I have two dogs.", "i sing."),
    partner_persona=("i am tall.",),
    utterances=("hi !", "hello , do you sing ?", "no", "i have two dogs"),
)
KNOWN = Vocabulary.of(texts([TALK]))


def words(text: str) -> list[int]:
    return KNOWN.encode(text)


def test_the_last_utterance_and_the_own_persona_are_read():
    lines = read(KNOWN, instances([TALK]), 3)
    assert lines.said.shape == (3, UTTERANCE)
    assert lines.persona.shape == (3, LINES, LINE)
    assert lines.said[1].tolist()[:4] == [START, *words("no"), END, PAD]
    held = [[w for w in line if w] for line in lines.persona[1].tolist()]
    dogs, sing = ([*words(t), END] for t in ("i have two dogs", "i sing"))
    assert held == [[END], dogs, sing, [], [], []]
    assert lines.response[1].tolist()[:6] == [START, *words("i have two dogs"), END]
    assert lines.targets[1].tolist()[:6] == [*words("i have two dogs"), END, PAD]
    assert lines.counted.sum(axis=1).tolist() == [7, 5, 0]
    assert "tall" not in KNOWN.words


def test_what_is_too_long_keeps_its_end():
    long = dataclasses.replace(
        instances([TALK])[1],
        self_persona=("two " * 40,) + ("i sing",) * 7,
        context=("no " * 40,),
        response="two " * 40,
    )
    cut, whole = (read(KNOWN, [long], 1, w) for w in (False, True))
    assert cut.said[0].tolist() == [START, *words("no") * 28, END]
    assert cut.persona[0, 1].tolist() == [*words("two") * 14, END]
    assert (cut.persona[0, -1] != PAD).any()
    assert cut.counted.sum() == 29 and whole.counted.sum() == 41
    nothing = read(KNOWN, [dataclasses.replace(long, context=(), response="")], 1)
    assert nothing.said[0].tolist()[:3] == [START, END, PAD]
    assert nothing.counted.sum() == 1


def test_a_frequent_word_weighs_less():
    weights = word_weights(KNOWN, [TALK])
    (dogs,), (hi,) = words("dogs"), words("hi")
    assert weights[dogs] == pytest.approx(1 / math.log(2 + 4.5))
    assert weights[hi] == pytest.approx(1 / math.log(1 + 4.5))
    assert weights[END] == pytest.approx(1 / math.log(6 + 4.5))
    assert weights[UNKNOWN] == pytest.approx(weights[hi])


def test_an_epoch_has_every_response_once_and_a_step_its_batch():
    talks = [
        dataclasses.replace(TALK, id=str(n), utterances=("no", "i " * n, "hi", "two"))
        for n in range(5)
    ]
    asked = instances(talks)
    batches = LineBatches(KNOWN, asked, 4, seed=1)
    assert batches.steps_per_epoch == 3
    again = LineBatches(KNOWN, asked, 4, seed=1)
    for step in (4, 0, 4):
        for a, b in zip(
            dataclasses.astuple(batches(step)),
            dataclasses.astuple(again(step)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    seen = [row for n in range(3) for row in batches(n).response if row.any()]
    ours = [row for row in read(KNOWN, asked, len(asked)).response]
    assert sorted(map(bytes, seen)) == sorted(map(bytes, ours))
