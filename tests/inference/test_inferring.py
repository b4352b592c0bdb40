"""Along a conversation each utterance is asked for once, and what was said stays."""

import dataclasses

import pytest

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.told import unheard
from ppg_jax.inference.generator import Completion
from ppg_jax.inference.inferring import KNOWN, Inferring
from ppg_jax.inference.sampling import Decoding
from tests import models_for_tests as small

TALK = ("hi, i sing.", "oh.", "two dogs here.", "nice.", "i love tea.")
INSTANCE = Instance("d:2", 2, ("i paint.",), (), TALK, "")
WRITTEN = {1: "i sing. i run.", 3: "i have two dogs. i run.", 5: "i love tea. i run."}


class Written:
    """A generator that writes what its prompts ask for, and counts them."""

    def __init__(self, prompts, **decoding):
        self.decoding = Decoding(9, **decoding)
        self.prompts, self.asked, self.known = prompts, [], {}

    def knows(self, instance: Instance, text: str) -> None:
        tokens = self.prompts._encode(f" {text}")
        self.known[tuple(self.prompts.persona_prompt(instance))] = tokens

    def __call__(self, params, prompts, seed, ids, limit, without):
        self.asked.append((prompts, list(ids), without))
        return [
            Completion(tuple(self.known[tuple(prompt)]), True, -float(number))
            for prompt, number in zip(prompts, ids, strict=True)
        ]


def inferring(grounded: bool = True, **decoding) -> tuple[Inferring, Written]:
    prompts = small.prompts()
    generator = Written(prompts, **decoding)
    for length, text in WRITTEN.items():
        generator.knows(after(length), text)
    return Inferring(prompts, generator, None, grounded), generator


def after(length: int) -> Instance:
    turn = length // 2
    return dataclasses.replace(
        INSTANCE, id=f"d:{turn}", turn=turn, context=TALK[:length]
    )


def test_of_what_is_inferred_along_a_conversation_what_was_said_stays():
    infer, generator = inferring()
    (told,) = infer([INSTANCE], [7], 0)
    assert told.text == "i love tea. i have two dogs. i sing."
    assert told.sentences == ("i love tea.", "i have two dogs.", "i sing.")
    assert told.ended and told.log_prob == -14  # of the last one
    ((rows, ids, _),) = generator.asked
    assert rows == [infer._prompts.persona_prompt(after(n)) for n in WRITTEN]
    assert ids == [14] * 3


def test_with_guesses_it_is_the_last_one_alone():
    infer, generator = inferring(grounded=False)
    (told,) = infer([INSTANCE], [0], 0)
    assert told.text == "i love tea. i run."
    assert [len(rows) for rows, *_ in generator.asked] == [1]


def test_the_next_utterance_of_a_conversation_asks_for_one_more():
    infer, generator = inferring()
    texts = [infer([after(length)], [0], 0)[0].text for length in WRITTEN]
    assert texts[0] == "i sing." and texts[2] == infer([INSTANCE], [0], 0)[0].text
    assert [len(rows) for rows, *_ in generator.asked] == [1, 1, 1, 0]


def test_requests_of_one_conversation_ask_for_each_moment_once():
    infer, generator = inferring()
    together = infer([INSTANCE, after(1), after(3)], [0, 1, 2], 0)
    assert [t.text for t in together[1:]] == ["i sing.", "i have two dogs. i sing."]
    assert [len(rows) for rows, *_ in generator.asked] == [3]


def test_what_is_drawn_belongs_to_its_number_and_seed():
    infer, generator = inferring(temperature=1.0)
    for numbers, seed in [([4, 5], 0), ([4, 5], 0), ([5, 6], 0), ([5], 1)]:
        infer([after(1)] * len(numbers), numbers, seed)
    assert [ids for _, ids, _ in generator.asked] == [[8, 10], [], [12], [10]]


@pytest.mark.parametrize("contrast", [0.0, 1.0])
def test_a_contrast_has_each_moment_without_its_conversation(contrast):
    infer, generator = inferring(contrast=contrast)
    infer([INSTANCE], [0], 0)
    ((_, _, without),) = generator.asked
    prompt = infer._prompts.persona_prompt(unheard(INSTANCE))
    assert without == ([prompt] * 3 if contrast else [])


def test_what_is_remembered_has_a_bound():
    infer, generator = inferring()
    several = [
        dataclasses.replace(after(1), context=(f"{n}",)) for n in range(KNOWN + 9)
    ]
    for instance in several:
        generator.knows(instance, "i sing.")
    assert len(infer(several, range(len(several)), 0)) == KNOWN + 9
    assert len(infer._known) == KNOWN
    infer(several[:1], [0], 0)  # the oldest were forgotten
    assert [len(rows) for rows, *_ in generator.asked] == [KNOWN + 9, 1]
