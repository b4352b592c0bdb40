"""Text as people type it takes the data's form; what is in that form stays."""

import random
import string
import time
import unicodedata

import pytest

from ppg_jax.data import persona_world, personachat
from ppg_jax.data.dialogue import instances
from ppg_jax.data.normalization import (
    normalized,
    normalized_persona,
    normalized_sentence,
)
from ppg_jax.inference.pipeline import Request


def utterance(text: str) -> str:
    return normalized(text, "personachat")


def profile(*texts: str) -> tuple[str, ...]:
    return normalized_persona(texts, "personachat")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (
            "Hi! I'm a nurse, I've got 3 cats.",
            "hi ! i am a nurse , i have got 3 cats .",
        ),
        ("You   sing?!  OK...", "you sing ? ! ok . . ."),
        ("Wow…really?", "wow . . . really ?"),
        (
            "I can’t, won’t and didn't; he’d say it's “fine”.",
            "i cannot , will not and did not ; he would say it is fine .",
        ),
        ("im sure you dont, thats all", "i am sure you do not , that is all"),
        ("y'all ain't my mom's dogs'", "yall aint my moms dogs"),
        ("My dog's a pug, my mom's the best", "my dog is a pug , my mom is the best"),
        ("My dog's toy; let's not", "my dogs toy ; lets not"),
        ("I'm well — and you - you?", "i am well , and you , you ?"),
        ("my part-time co-worker", "my part time co worker"),
        ("(Really) [yes] *so*", "really yes so"),
        ("R&B and/or jazz", "r and b and or jazz"),
        ("Hobbies: tea,cake.And you?", "hobbies , tea , cake . and you ?"),
        ("one\ntwo\tthree\x00four", "one two three four"),
        ("Ｈｅｌｌｏ！", "hello !"),
        ("nice :) and you ;-)?", "nice and you ?"),
        ("nice to meet you :)", "nice to meet you"),
        ("I'm 5'9\" tall", "i am 5 9 tall"),
        ("I <3 my 2½ acres, from 9–5", "i my 2 1/2 acres , from 9 5"),
        ("10² on 1/2/2020", "10 2 on 1 2 2020"),
    ],
)
def test_what_is_typed_gets_the_form_of_the_data(typed, expected):
    assert utterance(typed) == expected


@pytest.mark.parametrize(
    "word",
    [
        "3.5",
        "2,000",
        "10:30",
        ".5",
        "1/2",
        "-5",
        "$1.50",
        "https://a.org/b?c=d&e=f#g",
        "www.example.org",
        "example.com/x",
        "bob.smith+x@mail.co.uk",
        "e.g.",
        "u.s.",
        "p.m.",
    ],
)
def test_a_number_or_an_address_is_one_word(word):
    assert utterance(f"See {word.upper()}, ok?") == f"see {word} , ok ?"
    assert utterance(f"See ({word})!") == f"see {word} !"


@pytest.mark.parametrize(
    "text",
    ["你好", "हिन्दी में", "привет", "مرحبا", "👩\u200d⚕️", "i love 🍕 !", "naïve café"],
)
def test_other_scripts_and_emoji_stay(text):
    assert utterance(text) == text


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("I'm a nurse.", "i am a nurse."),
        ("I love tea, and dogs!!", "i love tea , and dogs."),
        ("I sing. I've run...", "i sing. i have run."),
        ("Who am I?", "who am i ?"),
        ("I sing", "i sing"),
        ("i live in the U.S.", "i live in the u.s."),
    ],
)
def test_a_persona_sentence_has_no_space_before_its_full_stop(typed, expected):
    assert profile(typed) == (expected,)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("i m a sailor.", "i am a sailor."),
        ("i don t row , i can t.", "i do not row , i cannot."),
        ("he s a Sailor !", "he is a sailor."),
        ("we ve boats", "we have boats"),
        ("i took vitamin d.", "i took vitamin d."),
        ("i row.", "i row."),
        ("i am a accountant.", "i am an accountant."),
        ("i am a older sailor, a rower.", "i am an older sailor , a rower."),
        ("a one man band of a european.", "a one man band of a european."),
        ("i take vitamin a and d.", "i take vitamin a and d."),
        ("my team a is big.", "my team a is big."),
    ],
)
def test_what_a_generator_wrote_gets_the_form_of_the_data(written, expected):
    assert normalized_sentence(written, "personachat") == expected
    assert normalized_sentence(written, "as_typed") == written


def test_as_typed_leaves_everything():
    assert normalized("I'm B.\n", "as_typed") == "I'm B.\n"
    assert normalized_persona(["I'm B."], "as_typed") == ("I'm B.",)


def unchanged(dialogues) -> None:
    for dialogue in dialogues:
        for text in dialogue.utterances:
            assert utterance(text) == text
        for persona in (dialogue.self_persona, dialogue.partner_persona):
            assert profile(*persona) == persona


def test_the_embedded_corpus_stays_as_it_is():
    sizes = {"train": 300, "valid": 100, "test": 100}
    for dialogues in persona_world.generate(0, sizes, 8).values():
        unchanged(dialogues)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_all_of_personachat_stays_as_it_is(shared, split):
    path = shared / "data" / "personachat" / f"{split}_both_original_no_cands.txt"
    dialogues = personachat.read(path)
    unchanged(dialogues)
    asked = instances(dialogues[:50])
    for instance in asked:
        request = Request(instance.self_persona, instance.context)
        same = request.instance("personachat")
        assert same.self_persona == instance.self_persona
        assert same.context == instance.context


PIECES = ("i'm ", "don't", "im", "e.g.", "u.s.", "www.a.com", "a@b.co", "3.5", "--")
PIECES += (" - ", ":)", ";p", "’", "“", "—", "…", "İ", "Σ", "ß", "\u0301", "\u200d")


def random_text(rng: random.Random) -> str:
    draw = rng.choice(
        [
            lambda: rng.choice([*PIECES, *string.printable]),
            lambda: rng.choice(PIECES),
            lambda: chr(rng.choice([rng.randrange(0x250), rng.randrange(0xD800)])),
            lambda: chr(rng.randrange(0xE000, 0x110000)),
        ]
    )
    return "".join(draw() for _ in range(rng.randint(0, 12)))


def test_any_text_stays_what_it_has_become_and_something():
    rng = random.Random(0)
    for _ in range(20_000):
        text = random_text(rng)
        once, (stated,) = utterance(text), profile(text)
        assert utterance(once) == once, repr(text)
        assert profile(stated) == (stated,), repr(text)
        assert once == " ".join(once.split())
        if any(unicodedata.category(c)[0] not in "ZC" for c in text):
            assert once and stated, repr(text)


def test_long_runs_take_no_longer_than_long_texts():
    for run in ("a", "-", "1.", "a.", "a@", "a-", "'", ":)", "www.", "a'm"):
        utterance(run * 20_000)  # a second each, or an hour, if it were quadratic


def test_a_long_run_of_marks_in_a_persona_takes_no_longer_than_others():
    took = []
    for marks in (5_000, 20_000):
        start = time.process_time()
        (made,) = profile("?" * marks + "x")
        took.append(time.process_time() - start)
        assert made.startswith("? ?") and made.endswith("x")
    assert took[1] < 9 * took[0]  # 16 times as long if each mark looked at all others
    assert profile("why ? ! !", "why ! ? !", "why ?", "so . .") == (
        "why ?",
        "why ! ?",
        "why ?",
        "so.",
    )
