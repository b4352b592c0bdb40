"""A reply that was said before is asked for once more, without the self persona; one
that takes over what the partner is, without the partner's."""

import dataclasses

from ppg_jax.data.dialogue import Instance
from ppg_jax.inference.generator import Completion
from ppg_jax.inference.replying import Replying
from ppg_jax.inference.sampling import Decoding
from tests import models_for_tests as small

TALK = ("hi!", "i sing all day.", "so do i.", "i sing all night.", "and you?")
INSTANCE = Instance("d:2", 2, ("i sing.",), (), TALK, "")
BARE = dataclasses.replace(INSTANCE, self_persona=())


class Written:
    """A generator that writes what it knows of each prompt, and counts them."""

    def __init__(self, prompts, known, **decoding):
        self.prompts, self.decoding, self.asked = prompts, Decoding(9, **decoding), []
        self.known = {
            tuple(prompts.response_prompt(instance, None)): prompts._encode(f" {text}")
            for instance, text in known
        }

    def __call__(self, params, prompts, seed, ids, limit, without):
        self.asked.append((list(ids), len(without)))
        return [
            Completion(tuple(self.known[tuple(prompt)]), True, -1.0)
            for prompt in prompts
        ]


def said(*known, **decoding):
    """What is said to the instances, by what is written of each, and what was asked."""
    prompts = small.prompts()
    generator = Written(prompts, known, **decoding)
    reply = Replying(prompts, generator, None)
    asked = [instance for instance, _ in known if instance.self_persona]
    made = reply(asked, [None] * len(asked), range(len(asked)), 0)
    texts = [(one.text, prompts.text(one.completion.tokens)) for one in made]
    return texts, [ids for ids, _ in generator.asked]


def test_what_was_said_before_is_asked_for_without_the_self_persona():
    other = dataclasses.replace(INSTANCE, context=("oh?",))
    replies, asked = said(
        (INSTANCE, "i sing all day."), (other, "i paint."), (BARE, "tell me more.")
    )
    assert replies == [("tell me more.",) * 2, ("i paint.",) * 2]
    assert asked == [[1, 3], [1]]


def test_what_is_new_in_a_part_or_was_the_partners_stays():
    for text, shown in [
        ("i sing all day. and i run.", "and i run."),
        ("so do i.", "so do i."),
        ("hi.", "hi."),
    ]:
        replies, asked = said((INSTANCE, text), (BARE, "tell me more."))
        assert replies == [(shown, text)] and asked == [[1]]


def test_where_the_second_is_no_better_the_first_stays():
    for second in ("i sing all night.", ""):
        replies, _ = said((INSTANCE, "i sing all day."), (BARE, second))
        assert replies == [("i sing all day.",) * 2]


def test_who_has_no_persona_is_asked_once():
    prompts = small.prompts()
    generator = Written(prompts, [(BARE, "i sing all day.")])
    (one,) = Replying(prompts, generator, None)([BARE], [None], [0], 0)
    assert one.text == "i sing all day." and generator.asked == [([1], 0)]


def test_a_contrast_is_asked_for_both_times():
    prompts = small.prompts()
    known = [(INSTANCE, "i sing all day."), (BARE, "tell me more.")]
    generator = Written(prompts, known, contrast=0.5)
    (one,) = Replying(prompts, generator, None)([INSTANCE], [None], [4], 0)
    assert one.text == "tell me more."
    assert generator.asked == [([9], 1), ([9], 1)]


def test_what_the_partner_alone_is_is_asked_for_without_the_partner_persona():
    prompts = small.prompts()
    heard = dataclasses.replace(INSTANCE, context=("i am a nurse, and you?",))
    told = prompts.generated_persona(prompts._encode(" i am a nurse."))
    for first, second, shown in [
        ("i am a nurse.", "i sing a lot.", "i sing a lot."),
        ("i am a nurse too.", "i sing a lot.", "i am a nurse too."),
        ("i am a nurse.", "yes, i am a nurse.", "i am a nurse."),
    ]:
        generator = Written(prompts, [(heard, second)])
        prompt = tuple(prompts.response_prompt(heard, told))
        generator.known[prompt] = prompts._encode(f" {first}")
        (one,) = Replying(prompts, generator, None)([heard], [told], [3], 0)
        assert one.text == shown
        again = [([7], 0)] * ("too" not in first)
        assert generator.asked == [([7], 0), *again]
    # Told no persona, there is no other way to ask.
    generator = Written(prompts, [(heard, "i am a nurse.")])
    (one,) = Replying(prompts, generator, None)([heard], [None], [3], 0)
    assert one.text == "i am a nurse." and len(generator.asked) == 1
