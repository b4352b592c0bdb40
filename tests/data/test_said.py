"""Said is said in own words, and what was said first is learned first."""

import concurrent.futures
import dataclasses
import sys

import numpy as np
import pytest
import snowballstemmer

from ppg_jax.data import personachat, said, stems
from ppg_jax.data.dialogue import Dialogue, Instance, instances
from ppg_jax.data.examples import examples
from ppg_jax.data.said import (
    first_said,
    is_grounded,
    is_ones_own,
    is_said,
)
from tests import models_for_tests as small


@pytest.mark.parametrize(
    ("trait", "heard", "said"),
    [
        ("i love gardening.", ["my gardens are what i loved"], True),  # by its stems
        ("i own two red cars.", ["a red one"], False),  # one stem of four
        ("i own two red cars.", ["a red one", "and two"], True),  # half of them
        ("i am a nurse.", ["i am a teacher", "are you ?"], False),
        ("i am who i am.", ["who am i"], True),  # of function words alone: all of them
        ("i am a nurse.", [], False),
        ("...", ["..."], False),
    ],
)
def test_a_trait_is_said_if_half_of_its_content_stems_were_heard(trait, heard, said):
    assert is_said(trait, heard) is said


def test_how_much_partners_say_is_what_was_measured_before(shared):
    """ANCHORS, 1.4: percent of traits said after so many exchanges, test split."""
    file = shared / "data/personachat/test_both_original_no_cands.txt"
    asked = instances(personachat.read(file))
    for exchanges, percent in [(1, 5), (3, 29), (5, 48), (7, 57)]:
        said = [
            is_said(trait, instance.context[::-2])
            for instance in asked
            if len(instance.context[::-2]) == exchanges
            for trait in instance.partner_persona
        ]
        assert abs(100 * np.mean(said) - percent) < 1.5


def test_a_trait_is_said_by_the_utterance_that_completes_half_of_it():
    persona = ["i own two red cars.", "i sing.", "i am tall."]
    heard = ["a red one", "and two", "i sing about cars"]
    assert first_said(persona, heard) == [1, 2, 3]
    assert first_said(persona, []) == [0, 0, 0]


DIALOGUE = Dialogue(
    "told",
    self_persona=("i run.",),
    partner_persona=("i am tall.", "i own two red cars.", "i love to sing."),
    utterances=(
        "hi ! i sing a lot .",
        "i run .",
        "i drive my two cars .",
        "nice .",
        "my height is fine .",
        "are you tall ?",
    ),
)


@pytest.mark.parametrize("batching", ["dialogue", "instance"])
def test_what_the_partner_has_said_so_far_is_learned_first(batching):
    prompts = small.prompts()
    learn = (prompts, [DIALOGUE], "persona", batching)
    tall, cars, sing = DIALOGUE.partner_persona
    given = targets(prompts, examples(*learn))
    assert given == [f"{tall} {cars} {sing}"] * 3
    ordered = targets(prompts, examples(*learn, persona_order="said_first"))
    # What was said first stands first; unsaid traits stay as given.
    assert ordered == [f"{sing} {tall} {cars}"] + [f"{sing} {cars} {tall}"] * 2


def targets(prompts, made) -> list[str]:
    """The text of each target, by instance."""
    return [
        prompts.text(e.tokens[e.target_of == n + 1])
        for e in made
        for n in range(len(e.ids))
    ]


@pytest.mark.parametrize(
    ("sentence", "heard", "share", "grounded"),
    [
        ("i am a farmer.", "we farm up north.", 0.5, True),
        ("i farm.", "i am a farmer, why?", 0.5, True),
        ("i am a teacher.", "i teach chemistry.", 1, True),
        ("i am a nurse.", "i work in a hospital.", 0.5, False),
        ("i have a car.", "i care a lot.", 0.5, False),  # three letters
        ("i am a musician.", "i make music.", 0.5, True),
        ("i am vegan.", "i just got back from vegas.", 0.5, False),
        ("i love to read.", "i am ready for bed.", 2 / 3, False),
        ("i am a movie star.", "i started a job, in movies.", 2 / 3, False),
        ("i have kids.", "i do not have any kids.", 0.5, False),
        ("i have no kids.", "i do not have any kids.", 0.5, True),
        ("i have kids.", "i do not care, i have kids.", 0.5, True),
        ("i have kids.", "no, kids take all my time.", 0.5, True),
        ("i am married.", "i'm not married and don't smoke", 0.5, False),
        ("i smoke.", "i'm not married and don't smoke", 0.5, False),
        ("i smoke.", "i aint a smoker", 0.5, False),
        ("i can swim.", "i cant swim", 0.5, False),
        ("i love to cook.", "i do not really like to cook.", 0.5, False),
        ("i have cars.", "i do not have dogs or red cars", 0.5, False),
        ("i eat fish.", "i do not eat any meat or fish", 0.5, False),
        ("i have birds.", "i do not have dogs, cats or birds", 0.5, False),
        ("i love the seas.", "i love the mountains", 0.5, False),
        ("i love the mountains.", "the mountains call", 0.5, True),
        ("i like to love.", "i love it", 0.5, True),
        ("my favorite color is blue.", "my favorite color is green", 0.5, False),
        ("my favorite color is blue.", "blue is my favorite color", 0.5, True),
        ("i have birds.", "i do not have dogs, i have cats or birds", 0.5, True),
        ("i drink wine.", "i rarely drink wine", 0.5, False),
        ("i paint.", "i am not tired after work so i paint", 0.5, True),
        ("i have a car.", "neither my wife nor i have a car", 0.5, False),
        ("i own a van.", "you better not be laughing at my van", 0.5, True),
        ("i love cats.", "no i love cats.", 0.5, True),
        ("i am a manager.", "i work at at and t as a manager", 0.5, True),
        ("i eat pizza.", "i cannot stop eating pizza", 0.5, True),
        ("i do not smoke.", "i smoke.", 0.5, False),
        ("i do not smoke.", "i smoke. i do not drink.", 0.5, False),
        ("i eat eggs.", "i do not smoke, drink, or eat eggs.", 0.5, False),
        ("i drink.", "i do not smoke, drink, or eat eggs.", 0.5, False),
        ("i drink.", "i do not smoke, i drink, or eat eggs.", 0.5, True),
        ("i drink.", "i do not smoke. drink, or eat eggs?", 0.5, True),
        ("i drink.", "i do not smoke, but drink, or eat eggs.", 0.5, True),
        ("i bake.", "i never sing, hum or dance, bake all day.", 0.5, True),
        ("i love fudge.", "i cannot get enough of fudge.", 0.5, True),
        ("i get enough sleep.", "i do not get enough sleep.", 0.5, False),
        ("i love sledding.", "nothing is better than sledding.", 0.5, True),
        ("i love sledding.", "nothing like sledding at night.", 0.5, True),
        ("i like fudge.", "i eat nothing with fudge.", 0.5, False),
        ("i love fudge.", "i cannot live without fudge.", 0.5, True),
        ("i love fudge.", "i never bake without fudge.", 0.5, True),
        ("i eat fudge.", "i bake without fudge.", 0.5, False),
        ("i am a grandma.", "i cannot believe i am a grandma.", 0.5, True),
        ("i am in luck.", "i do not believe in luck.", 0.5, False),
        ("i love ponies.", "oh, who does not love ponies?", 0.5, True),
        ("i own ponies.", "my aunt who does not own ponies", 0.5, False),
        ("i am a sailor.", "i am not just a sailor.", 0.5, True),
        ("i am vegan.", "no fish or eggs because i am vegan", 0.5, True),
        ("i have a canoe.", "no sailboat here just a canoe", 0.5, True),
        ("i sail.", "i do not fly so i sail", 0.5, True),
        ("i eat fudge.", "i do not eat so much fudge", 0.5, False),
        ("i sail.", "i do not fly and i sail", 0.5, True),
        ("i do not like eels.", "i do not like owls but i love eels.", 0.5, False),
        ("i do not like owls.", "i do not like owls but i love eels.", 0.5, True),
        ("i live in rome , not rome.", "i live in bonn, not rome.", 0.5, False),
        ("i do not speak thai.", "i do not speak dutch, i speak thai.", 0.5, False),
        ("i do not speak dutch.", "i do not speak dutch, i speak thai.", 0.5, True),
        ("i do not eat raw red eels.", "i do not eat eels.", 0.5, True),
        ("i eat rice but no eels.", "i eat rice. i never eat eels.", 0.5, True),
        ("i hate my shift.", "i do not have a shift.", 0.5, False),
        ("i do not have goats.", "do you have goats ? i do not.", 0.5, True),
        ("i have goats.", "do you have goats ? no , i do not really.", 0.5, False),
        ("i like goats.", "goats ? i do not, but my dad does.", 0.5, False),
        ("i like goats.", "do you like goats ? i do not row.", 0.5, True),
        ("i have goats.", "do you have goats ? i have.", 0.5, True),
        ("i sail.", "if i am not rowing i am sailing.", 0.5, True),
        ("i sail.", "i do not think i sail.", 0.5, False),
        ("i do not like eels.", "i am not a big fan of eels.", 0.5, True),
        ("i like eels.", "not really into eels.", 0.5, False),
        ("i hate my shift.", "i hate my shift.", 0.5, True),
        ("i do not like my boss.", "i do not like my boss.", 0.5, True),
        ("i hate my boss.", "i like my boss, i hate rain.", 0.5, False),
        ("i paint boats.", "i paint.", 0.5, True),
        ("i paint boats.", "i paint.", 2 / 3, False),
        ("i paint old boats.", "my boats are old.", 2 / 3, True),
        ("!", "hello!", 0.5, False),
    ],
)
def test_a_sentence_is_grounded_in_what_was_said_and_not_denied(
    sentence, heard, share, grounded
):
    assert is_grounded(sentence, ["hm.", heard], share) is grounded
    assert not is_grounded(sentence, [], share)


@pytest.mark.parametrize(
    ("sentence", "heard", "grounded"),
    [
        ("i am a drummer.", "i want to be a drummer.", False),
        ("i am a drummer.", "i'd love to be a drummer.", False),
        ("i am a drummer.", "i would really love to be a drummer.", False),
        ("i am a drummer.", "i would. drummer by trade.", True),
        ("i love to paint.", "i want to paint.", True),
        ("i have boats.", "i wish i had a few boats", False),
        ("i paint boats.", "i wish i could paint boats", False),
        ("i want to be a drummer.", "i want to be a drummer.", True),
        ("i am a drummer.", "i want to but i am a drummer", True),
        ("i am a drummer.", "i would say i am a drummer", True),
        ("i have boats.", "i wish my boats could sail", True),
        ("i own boats.", "i hope the boats do well", True),
        ("i like boats.", "i want boats.", True),
        ("i am a locksmith.", "i used to be a locksmith", False),
        ("i used to be a locksmith.", "i used to be a locksmith", True),
        ("i paint boats.", "i am used to painting boats", True),
        ("i paint boats.", "i used paint for my boats", True),
        ("i sail the sea.", "if i won a lot, i would sail the sea", False),
        ("i sail the sea.", "i would sail the sea if i could swim", False),
        ("i sail.", "if i win i would dance. i sail", True),
        ("i sail.", "i sail a lot and if i won i would dance", True),
        ("i sail.", "if i have time i sail", True),
        ("i sail.", "when i have time i sail", True),
        ("i would sail if i won.", "if i won i would sail", True),
        ("i was a sailor.", "i almost became a sailor", False),
        ("i sail.", "i almost always sail", True),
        ("i moved to rome.", "i am going to move to rome", False),
        ("i go to college.", "i am going to college", True),
        ("i am going to move.", "i am going to move", True),
        ("i am a sailor.", "i am studying to become a sailor", False),
        ("i am a sailor.", "i am in school to be a sailor", False),
        ("i study to be a sailor.", "i study to be a sailor", True),
        ("i am a sailor.", "it is good to be a sailor", True),
        ("i have a goat.", "i am thinking of getting a goat", False),
        ("i have a goat.", "i am thinking of my goat", True),
        ("i smoke.", "i quit smoking", False),
        ("i smoke.", "i gave up smoking last year", False),
        ("i smoke.", "i quit because smoking is bad", True),
        ("i am a locksmith.", "i was a locksmith until 2010", False),
        ("i am a locksmith.", "i was born a locksmith", True),
        ("i am a locksmith.", "i was a locksmith for ten years", False),
        ("i was a locksmith.", "i was a locksmith for ten years", True),
        ("i am a paint salesman.", "i was a used paint salesman, i bake", False),
        ("i bake.", "i was a locksmith but now i bake", True),
        ("i bake bread.", "i was a locksmith now baking bread", True),
        ("i am a bit late.", "i was a bit late", True),
        ("i love boats.", "it was a boats trip", True),
        ("i have a boat.", "i had a boat when i was young", False),
        ("i have a boat.", "i had a boat made yesterday", True),
        ("i have a boat.", "i sold my boat", False),
        ("i have a goat.", "my goat died last year", False),
        ("i have a goat.", "my goat sleeps, a neighbor died", True),
        ("i have a goat.", "my goat passed away", False),
        ("i have a son.", "my son passed his exam", True),
        ("i have a daughter.", "i had a daughter two years ago", True),
        ("i have two goats.", "i was a locksmith and have two goats", True),
        ("i have two goats.", "i sold my boat and bought two goats", True),
        ("i have two goats.", "i used to be a locksmith and have two goats", False),
        ("i work as a locksmith.", "i worked as a locksmith before", False),
        ("i am a locksmith.", "i worked as a locksmith before", False),
        ("i am a locksmith.", "i have worked as a locksmith since 2010", True),
        ("i live in rome.", "i moved to rome, i am moving to bonn", True),
        ("i live in bonn.", "i moved to rome, i am moving to bonn", False),
        ("i am married.", "i am getting married in june", False),
        ("i am getting married.", "i am getting married in june", True),
        ("i have a goat.", "we are adopting a goat", False),
        ("i have a goat.", "i have always wanted a goat", False),
        ("i have a goat.", "i am looking for a goat", False),
        ("i have a goat.", "i am looking after my goat", True),
        ("i have a boat.", "i need a boat", False),
        ("i have a boat.", "i need my boat", True),
        ("i am a sailor.", "i cannot wait to be a sailor", False),
        ("i own a boat.", "my dream is to own a boat", False),
        ("i am a sailor.", "i will be a sailor soon", False),
        ("i am a locksmith.", "everybody says i should be a locksmith", False),
        ("i love running.", "i swim instead of running", False),
        ("i love swimming.", "i love swimming rather than running", True),
        ("i love swimming.", "i would love swimming instead , of course", True),
        ("i am retired.", "i will sail when i retire in a few years", False),
        ("i am retired.", "i sail since i retired", True),
        ("i play chess.", "i played chess in high school", False),
        ("i used to play chess.", "i played chess in high school", True),
        ("i take ballet.", "as a kid i took ballet", False),
        ("i used to take ballet.", "as a kid i took ballet", True),
        ("i study law.", "i studied law in college", False),
        ("i studied law in college.", "i studied law in college", True),
        ("i play chess.", "i played chess in college and still do", True),
        ("i play chess.", "i have played chess since high school", True),
        ("i play chess.", "i played chess yesterday", True),
        ("i play chess.", "i play chess in high school", True),
        ("i have a wife.", "i met my wife in college", True),
        ("i have a boat.", "i sold my car and my boat", False),
        ("i have a boat.", "i lost my goat and my old boat last year", False),
        ("i have a wife.", "i lost my job and my wife was upset", True),
        ("i have a wife.", "i sold my car and my wife works late", True),
        ("i have a dog.", "my cat died and a dog moved in", True),
        ("i have a cat.", "my cat died and a dog moved in", False),
        ("i have kids.", "she asked me if i have kids", False),
        ("i am married.", "my mom keeps asking if i am married", False),
        ("i am a model.", "people ask me whether i am a model", False),
        ("i am a model.", "my aunt thinks i am a model", False),
        ("i am a model.", "i think i am a model", True),
        ("i am a model.", "people think i am rich , i am a model", True),
        ("people think i am a model.", "people think i am a model", True),
        ("i lose weight.", "my doctor says i should lose weight", False),
        ("i should lose weight.", "my doctor says i should lose weight", True),
        ("i have asthma.", "my doctor says i have asthma", True),
        ("i have a dog.", "i should mention i have a dog", True),
        ("i drink tea.", "ask me if you like , i drink tea", True),
        ("i am vegan.", "i was vegan for like 3 years", False),
        ("i used to be vegan.", "i was vegan for like 3 years", True),
        ("i am vegan.", "i have been vegan for three years", True),
        ("i work at a bank.", "i got laid off from the bank", False),
        ("i am a teacher.", "i retired from teaching", False),
        ("i am retired.", "i retired from teaching", True),
        ("i am a lawyer.", "he said i am a lawyer and lied", False),
        ("i am a vegan.", "my pal is always like i am a vegan", False),
        ("i am a lawyer.", "i said i am a lawyer", True),
        ("i have a baby.", "we are trying for a baby", False),
        ("i am a cashier.", "i quit my job as a cashier", False),
        ("i am in a band.", "i quit the band", False),
        ("i have a girlfriend.", "i broke up with my girlfriend", False),
        ("i have a girlfriend.", "i row with my girlfriend", True),
        ("i have a dog.", "i am trying to sleep but my dog barks", True),
        ("i speak thai.", "my goal is to learn thai", False),
        ("i am a sailor.", "my dad wants me to be a sailor", False),
        ("i live in rome.", "imagine living in rome", False),
    ],
)
def test_what_is_wished_for_or_over_is_not_what_one_is_or_has(
    sentence, heard, grounded
):
    assert is_grounded(sentence, ["hm.", heard]) is grounded


@pytest.mark.parametrize(
    ("sentence", "heard", "grounded"),
    [
        ("i live in rome.", "i have been to rome twice", False),
        ("i have been to rome.", "i have been to rome twice", True),
        ("i live in rome.", "we visited rome , it is big", False),
        ("i live in rome.", "my flight to rome is late", False),
        ("i live in rome.", "i was born in rome but live in bonn", False),
        ("i live in bonn.", "i was born in rome but live in bonn", True),
        ("i live in rome.", "i was born in rome and still live here", True),
        ("i live in bonn.", "i live in a town", False),
        ("i love rome.", "we visited rome", True),
        ("i am from rome.", "i am from rome originally", True),
        ("i live in rome.", "i moved from rome to bonn", False),
        ("i live in bonn.", "i moved from rome to bonn", True),
        ("i live in rome.", "i moved here from rome last year", False),
        ("i live in rome.", "i moved to rome from bonn", True),
        ("i live in bonn.", "i moved to rome from bonn", False),
        ("i live in rome.", "we traveled to rome", False),
        ("i live in rome.", "i am from rome", True),
    ],
)
def test_one_does_not_live_where_one_was_born_or_has_been(sentence, heard, grounded):
    assert is_grounded(sentence, ["hm.", heard]) is grounded


@pytest.mark.parametrize(
    ("sentence", "heard", "grounded"),
    [
        ("i am allergic to nuts.", "i am allergic to fur", False),
        ("i am allergic to fur.", "i am super allergic to fur", True),
        ("i am allergic to cats.", "i love cats", False),
        ("i am allergic.", "i am allergic", True),
        ("i speak french.", "i speak english", False),
        ("i speak english and french.", "i speak english", True),  # cut elsewhere
        ("i drive a tractor.", "i drive to work", False),
        ("i drive.", "i drive to work", True),
        ("i study law.", "i study a lot", False),
        ("i am a cat person.", "i am a dog person", False),
        ("i have been married for 5 years.", "we are engaged , 5 years", False),
        ("i am married to a cook.", "my husband is a cook", True),
        ("i am single.", "i am a single mom", True),
        ("i have six kids.", "i am the youngest of six kids", False),
        ("i have kids.", "i am one of 4 kids", False),
        ("i have six kids.", "i have six kids , the oldest of them sails", True),
    ],
)
def test_one_word_in_common_is_too_little_where_the_other_one_is_meant(
    sentence, heard, grounded
):
    assert is_grounded(sentence, ["hm.", heard]) is grounded


@pytest.mark.parametrize(
    ("sentence", "heard", "grounded"),
    [
        ("i am a retired woman.", "i am retired.", False),
        ("i am a retired woman.", "a retired lady.", True),
        ("i am a homemaking mom.", "i do homemaking.", False),
        ("my mother paints boats.", "my mom paints boats.", True),
        ("i have a wife and dogs.", "i have dogs.", False),
        ("i have a wife and dogs.", "dogs, and two ex-wives.", True),
        ("i have a wife and dogs.", "dogs, but i do not have a wife.", False),
        ("i am a mother.", "a mom of three.", True),
        ("i am a father.", "my late dad began it.", False),
        ("i am a father.", "my dad began it, i am a dad", True),
        ("i am a female.", "i teach at a girls school", False),
        ("i am a father.", "my mother and father teach", False),
        ("i am a mother.", "i love your mother", False),
        ("i am a mother.", "my job is hard as a mother", True),
        ("i am a wife.", "my wife is a doctor", False),
        ("i am a retired wife.", "i am a retired wife and mother", True),
        ("i am tall like my father.", "my father is tall", True),
        ("my wife paints.", "my wifes hobby is to paint", True),
        ("i manage dogs.", "i manage dogs.", True),
    ],
)
def test_whether_women_or_men_are_told_of_is_not_guessed(sentence, heard, grounded):
    assert is_grounded(sentence, ["hm.", heard]) is grounded


@pytest.mark.parametrize(
    ("sentence", "heard", "grounded"),
    [
        ("i am a dentist.", "i met a dentist yesterday", False),
        ("i am a pilot.", "went on a date with a very nice pilot", False),
        ("i am a pilot.", "i am engaged to a pilot", False),
        ("i am a plumber.", "we hired a plumber to fix the sink", False),
        ("i am a plumber.", "i hired two plumbers", False),
        ("i am a lawyer.", "i work for a lawyer", False),
        ("i am a dentist.", "my dentist told me so", False),
        ("i am a therapist.", "i love the therapist i have", False),
        ("i am a doctor in rome.", "my doctor in rome is old", False),
        ("i am a punk band.", "i play in a punk band", False),
        ("i am a 12 hour night shift.", "i work 12 hour night shifts", False),
        ("i am a dentist.", "i am a dentist and met a pilot", True),
        ("i am a dentist.", "i met a dentist . i am a dentist", True),
        ("i am a dentist.", "dentist here , i work with a nurse", True),
        ("i am a nurse.", "i work as a school nurse", True),
        ("i am a nurse.", "i like being a nurse", True),
        ("i am a nurse.", "i love my nurse friends", True),
        ("i am a nurse.", "i am in nursing school", False),
        ("i am a nurse.", "i am still a nurse", True),
        ("i am a nurse.", "i became a nurse last year", True),
        ("i am a wheelchair.", "i use a wheelchair", False),
        ("i am a truck.", "i drive an old truck", False),
        ("i am a food truck.", "i own a food truck", False),
        ("i am a pilot.", "i know a guy who is a pilot", False),
        ("i am a pilot.", "hm , she is a pilot", False),
        ("i am a pilot.", "my job is a pilot", True),
        ("i am a farmer.", "i love my farm", True),
        ("i am a cat person.", "i have a cat", True),
        ("i am a dog lover.", "i love my dog", True),
        ("i am a nurse.", "my job is nurse", True),
        ("i am the manager.", "i am the manager", True),
    ],
)
def test_whom_one_has_met_one_is_not(sentence, heard, grounded):
    assert is_grounded(sentence, ["hm.", heard]) is grounded


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("i drive a tram in lisbon , canada.", "i drive a tram in lisbon."),
        ("i am from lisbon, the united states", "i am from lisbon"),
        ("i live in lisbon , portugal .", "i live in lisbon , portugal ."),
        ("i drive trams , which i like a lot.", "i drive trams , which i like a lot."),
        ("i drive a tram.", "i drive a tram."),
        ("i earn 50,000.", "i earn 50,000."),
        ("i live in lisbon , june.", "i live in lisbon."),  # of a birthday
        ("i live in lisbon , june", "i live in lisbon"),
        ("i live in lisbon , belem", "i live in lisbon , belem"),
    ],
)
def test_an_end_that_nobody_said_is_left_out(sentence, told):
    heard = ["i drive a tram in lisbon", "it is in Portugal", "i earn a lot"]
    heard += ["my birthday is in june . i live in belem , lisbon"]
    assert said.without_guessed_end(sentence, heard) == told


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("i have a goat and a cat.", "i have a goat."),
        ("i have a goat and hens.", None),
        ("i have a goat , and a cat named otto .", "i have a goat ."),
        ("i row and sail boats.", "i row."),
        ("i am allergic to nuts and pollen.", "i am allergic to nuts."),
        ("i farm and row.", None),
        ("i have a goat and i row a lot.", None),
        ("i have a goat.", None),
    ],
)
def test_a_second_thing_that_nobody_said_is_left_out(sentence, told):
    heard = ["i have a goat and two hens", "i am allergic to nuts", "a farmer , i row"]
    kept = said.without_guessed_rest(sentence, heard)
    assert kept == (sentence if told is None else told)


@pytest.mark.parametrize(
    ("sentence", "heard", "told"),
    [
        ("i have a goat named wasp.", "wasps scare me. a goat", "i have a goat."),
        ("i have a goat named wasp .", "a wasp ! i have a goat", "i have a goat ."),
        ("i have a goat named goat.", "my goat is old", "i have a goat."),
        ("my goats name is goat.", "my goat is old", ""),
        ("i have a goat named tilly.", "a goat, her name is tilly", None),
        ("i have a goat named tilly.", "my goat tilly is old", None),
        ("i have a goat named tilly.", "tilly is my goat", None),
        ("my name is otto.", "what is your name? i met otto", ""),
        ("my name is otto.", "hi, i am otto", None),
        ("my name is otto.", "otto here", None),
        ("my goats name is tilly.", "my goat tilly is old", None),
        ("i have a goat.", "a goat", None),
        ("i am called a goat.", "they called me a goat", None),
    ],
)
def test_a_name_has_to_be_said_as_one(sentence, heard, told):
    kept = said.without_guessed_name(sentence, ["hm.", *heard.split(". ")])
    assert kept == (sentence if told is None else told)


@pytest.mark.parametrize(
    ("sentence", "heard", "grounded"),
    [
        ("i am a sailor.", "are you a sailor ? i bake", False),
        ("i am a sailor.", "are you a sailor ? so am i", True),
        ("i am a sailor.", "i am a sailor , are you a sailor ?", True),
        ("i have goats.", "do you have goats ?", False),
        ("i have goats.", "hi , do you have any goats ? i do", True),
        ("i have two goats.", "do you have goats ? we have two .", True),
        ("i like goats.", "do you like goats ?", True),
        ("i have been to rome.", "have you ever been to rome ?", False),
        ("my wife sails.", "is your wife at sea , or does she sail ?", False),
        ("i have goats.", "are your goats loud ? mine are", True),
        ("i have goats.", "how many goats do you have ?", False),
        ("i have goats.", "how many goats do you have ? i have two", True),
        ("i have kids.", "how old are your kids ?", False),
        ("i am a sailor.", "how long have you been a sailor ?", False),
        ("i sail.", "i sail . when did you start ?", True),
    ],
)
def test_what_is_asked_of_you_is_nothing_that_one_is_or_has(sentence, heard, grounded):
    assert is_grounded(sentence, ["hm.", heard]) is grounded


def test_stems_are_right_from_several_threads():
    """Without the cache, and with threads that are switched all the time."""
    words = ["teaching", "hospitals", "gardener", "musical", "relational"] * 1000
    alone = snowballstemmer.stemmer("porter")
    expected = [alone.stemWord(word) for word in words]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            stem = stems.stem.__wrapped__
            found = list(threads.map(lambda _: [*map(stem, words)], range(4)))
    finally:
        sys.setswitchinterval(before)
    assert found == [expected] * 4


def test_what_the_speaker_told_is_not_the_partners_for_one_word_in_common():
    context = ("i would love to chat",)
    instance = Instance("d:0", 0, ("i love to sing.",), (), context, "")
    assert is_ones_own("i love to sing.", instance, 2 / 3)
    assert not is_ones_own("i love to sing.", instance)
    said = dataclasses.replace(instance, context=("i love singing",))
    assert not is_ones_own("i love to sing.", said, 2 / 3)
