"""What a partner said is heard as it was meant, without what it says of "you"."""

import pytest

from ppg_jax.data.heard import as_meant, without_you


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (["i have three cats . wait , i meant two cats"], ["i have two cats"]),
        (["i have three cats", "sorry , i meant two lol"], ["i have two cats", ""]),
        (
            ["i have 3 cats and a goat . i meant 2 cats !"],
            ["i have 2 cats and a goat !"],
        ),
        (["i am 34 and a nurse", "oops i mean 35"], ["i am 35 and a nurse", ""]),
        (["i live in rome , i mean bonn"], ["i live in bonn"]),
        (
            ["i paint . i live in rome no wait i meant bonn ."],
            ["i paint . i live in bonn ."],
        ),
        (["i am a nurse . i mean a nurse aide"], ["i am a nurse aide"]),
        (["my mom , i mean stepmom , sails"], ["my stepmom sails"]),
        (["i have two cats . i meant goats not cats"], ["i have two goats"]),
        (["i meant two cats"], None),  # nothing was said before
        (["i love it , i mean , it is fine"], None),
        (["i love cats , i mean they are soft"], None),
        (["i sing . you know what i mean ?"], None),
        (["i sing . i mean it ."], None),
        (["i love cats , i mean honestly"], None),
        (["i love cats , i mean wow"], None),
        (["?!", "i mean two cats"], None),
        (["i sing", "i meant to call you"], None),
        (["i sing . i mean who would not like to do that"], None),
        (["cats , i mean all of them , even old ones"], None),
    ],
)
def test_what_was_put_right_is_heard_as_it_was_meant(said, meant):
    heard = [" ".join(text.split()) for text in as_meant(said)]
    assert heard == (said if meant is None else meant)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("so you are a sailor , right ?", "so ?"),
        ("ok . you must love maps , i sail . hi", "ok . , i sail . hi"),
        ("ok . you must love maps , i do . hi", None),
        ("i like that you have a boat", "i like that"),
        ("i bet your goats are loud , i have cats", "i bet , i have cats"),
        ("i hear you live in rome", "i hear"),
        ("do you have a boat ?", None),
        ("oh , wow , your boats are big . mine sank", "oh , wow , . mine sank"),
        ("do you like maps ?", "do you like maps ?"),
        ("are you a sailor ?", "are you a sailor ?"),
        ("i am a sailor like you are", "i am a sailor like"),
        ("so you are from rome ? me too", "so you are from rome ? me too"),
        ("you and i sail", "you and i sail"),
    ],
)
def test_what_is_stated_of_you_is_not_of_the_speaker(text, left):
    assert without_you(text).strip() == (text if left is None else left)
