"""Who was inferred is told each sentence once, in the tokens that were sampled."""

import dataclasses
import functools

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.data.sentences import (
    once,
    says_again,
    says_more,
    sentences,
    takes_over,
    text_once,
)
from ppg_jax.data.tokenization import load_tokenizer
from ppg_jax.data.told import MOMENTS, grounded_persona, moments, told_persona
from tests import models_for_tests as small

NOBODY = Instance("", 0, (), (), (), "")


@functools.cache
def tiny() -> Prompts:
    return small.prompts()


def told(prompts: Prompts, text: str, ended: bool = True) -> str:
    tokens = prompts.tokenizer.encode(text, add_special_tokens=False)
    return prompts.text(told_persona(prompts, tokens, NOBODY, ended))


CASES = [
    (" i sing. i sing.", "i sing."),
    (" i sing. i run. I sing !", "i sing. i run."),
    (" i sing. i run. i sing. i love tea.", "i sing. i run. i love tea."),
    (" i run. i sing . i  sing! i run?", "i run. i sing ."),
    (" i sing. . . i run.", "i sing. i run."),
    ("\ni sing.\ni sing.\ni run.", "i sing.\ni run."),
    (" i sing. i sing", "i sing."),
    (" i love tea", "i love tea"),
    ("...", "..."),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_repeated_sentence_goes_and_the_first_stays(text, expected):
    assert told(tiny(), text) == expected


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_so_it_is_with_gpt2s_own_tokens(shared, text, expected):
    tokenizer = load_tokenizer(shared / "tokenizers" / "gpt2")
    assert told(Prompts(tokenizer, PromptConfig()), text) == expected


@pytest.mark.parametrize("name", ["tiny", "gpt2"])
def test_what_stays_are_the_sampled_tokens_and_the_end(request, name):
    prompts = tiny()
    if name == "gpt2":
        folder = request.getfixturevalue("shared") / "tokenizers" / "gpt2"
        prompts = Prompts(load_tokenizer(folder), PromptConfig())
    encode = functools.partial(prompts.tokenizer.encode, add_special_tokens=False)
    # Single letters: encoding the text again would merge them.
    letters = prompts.tokenizer.convert_tokens_to_ids(["Ġ", *"nurse."])
    first, second, last = encode(" i sing."), encode(" i run."), encode(" i love tea.")
    sampled = [*first, *letters, *first, *second, *letters, *last]
    kept = [*first, *letters, *second, *last, prompts.end_id]
    assert told_persona(prompts, sampled, NOBODY) == kept
    assert told_persona(prompts, kept[:-1], NOBODY) == kept


def test_a_last_sentence_that_was_cut_goes_if_a_whole_one_is_there():
    assert told(tiny(), " i sing. i love", ended=False) == "i sing."
    assert told(tiny(), " i sing. i run.", ended=False) == "i sing. i run."
    assert told(tiny(), " i love", ended=False) == "i love"
    assert told(tiny(), " i sing. i love", ended=True) == "i sing. i love"
    assert told(tiny(), " i sing. i run. i sing", ended=False) == "i sing. i run."


def test_what_tells_of_the_speaker_is_not_told_of_the_partner():
    own, said = ("i work in a library.", "i sing."), ("hi.", "i am a librarian.", "ok.")
    instance = Instance("", 0, own, (), said, "")

    def told_of(text, instance):
        tokens = tiny().tokenizer.encode(text, add_special_tokens=False)
        return tiny().text(told_persona(tiny(), tokens, instance))

    text = " i work as a librarian. i love tea. i sing."
    assert told_of(text, instance) == "i love tea."
    assert told_of(" i sing.", instance) == "i sing."
    assert told_of(" i work as a librarian. i sing.", instance) == (
        "i work as a librarian."
    )
    heard = dataclasses.replace(instance, context=(*said, "oh.", "i sing, too."))
    assert told_of(text, heard) == "i love tea. i sing."
    assert told_of(text, NOBODY) == text.strip()
    assert told_of(" \u2665. i love tea.", instance) == "\u2665. i love tea."


TALK = ("hi, i sing.", "oh.", "two dogs here.", "nice.", "i love tea.")
AFTER_TALK = Instance("d:2", 2, ("i paint.",), (), TALK, "")


def grounded(*texts: str, instance: Instance = AFTER_TALK, prompts=None) -> str:
    """Of personas that were inferred along a conversation."""
    prompts = prompts or tiny()
    told = [prompts.generated_persona(prompts._encode(f" {t}")) for t in texts]
    return prompts.text(grounded_persona(prompts, told, moments(instance)))


def test_moments_are_what_was_known_after_each_utterance_of_the_partner():
    found = moments(AFTER_TALK)
    assert [m.context for m in found] == [TALK[:1], TALK[:3], TALK]
    assert [(m.id, m.turn) for m in found] == [("d:0", 0), ("d:1", 1), ("d:2", 2)]
    assert found[-1] is AFTER_TALK
    second = dataclasses.replace(AFTER_TALK, id="d:3", turn=3, context=("yo.", *TALK))
    ends = [(m.id, len(m.context)) for m in moments(second)]
    assert ends == [("d:1", 2), ("d:2", 4), ("d:3", 6)]
    assert moments(NOBODY) == [NOBODY]
    long = dataclasses.replace(AFTER_TALK, id="d:99", turn=99, context=("yo.",) * 199)
    found = moments(long)
    assert len(found) == MOMENTS and found[-1] is long
    assert [len(m.context) for m in found[:2]] == [73, 75]


def test_what_nobody_said_is_not_told_and_what_was_inferred_before_is_remembered():
    assert grounded("i sing.", "i have two dogs.", "i love tea. i run.") == (
        "i love tea. i have two dogs. i sing."
    )
    assert grounded("i run.", "i paint.", "i am two dogs.") == "i am two dogs."
    # Half of it was said: enough for now, too little to be remembered.
    assert grounded("", "", "i love wet dogs.") == "i love wet dogs."
    assert grounded("", "i love wet dogs.", "") == ""
    assert grounded("", "", "i love dogs and i paint.") == "i love dogs."
    # Not yet said when it was inferred.
    assert grounded("i have two dogs.", "", "") == ""
    # What says little beside another goes.
    assert grounded("", "i have two dogs.", "two dogs sing.") == "two dogs sing."
    heard = dataclasses.replace(
        AFTER_TALK,
        context=("i would love to chat",),
        self_persona=("i love to sing.",),
        turn=0,
        id="d:0",
    )
    assert grounded("i love to sing.", instance=heard) == ""  # it is the speaker's
    # Newer or older, but for the one that says more.
    assert grounded("", "i love to sing.", "i like singing.") == "i like singing."
    assert grounded("", "i sing to two dogs.", "i have two dogs.") == (
        "i sing to two dogs."
    )
    # What says again what two others say takes the place of neither.
    assert grounded("", "i sing to two dogs.", "i sing. i have dogs.") == (
        "i sing. i have dogs."
    )
    assert grounded("", "i love tea.", "i sing to dogs. i like tea. i have dogs.") == (
        "i sing to dogs. i like tea."
    )


def test_what_is_told_has_the_form_of_the_data():
    said = ("i am a sailor",)
    heard = dataclasses.replace(AFTER_TALK, context=said, turn=0, id="d:0")
    assert grounded("i m a Sailor.", instance=heard) == "i am a sailor."
    typed = small.prompts(text="as_typed")
    assert grounded("", "", "I sing.", prompts=typed) == "I sing."
    assert grounded("", "", "I sing.") == "i sing."


def test_what_was_said_and_then_denied_is_told_no_longer():
    said = ("i have two dogs", "hm", "i sing", "hm")
    for newest, told in [("no, no dogs", "i sing."), ("ok", "i sing. i have dogs.")]:
        now = dataclasses.replace(AFTER_TALK, context=(*said, newest))
        assert grounded("i have dogs.", "i sing.", "", instance=now) == told


def test_ages_and_what_others_do_are_told_of_whom_they_were_said_of():
    def told(heard, text):
        instance = dataclasses.replace(AFTER_TALK, context=(heard,), turn=0, id="d:0")
        return grounded(text, instance=instance)

    assert told("24, and you?", "i am 24 years old.") == "i am 24 years old."
    assert told("24, and you?", "i am a 24 year old nurse.") == ""  # no nurse
    assert told("i turned twenty-four.", "i am 24.") == "i am 24."
    assert told("my son is 24 years old.", "i am 24.") == "my son is 24."
    assert told("my son is only 24.", "i am 24 years old.") == "my son is 24 years old."
    assert told("my 24 year old son sings.", "i am 24.") == "my son is 24."
    assert told("i have a 24 year old son.", "i am 24.") == "my son is 24."
    assert told("i was a 24 year old nurse.", "i am a nurse.") == (
        "i used to be a nurse."
    )
    girl = "we have a little girl , she turns five in june ."
    assert told(girl, "i am 5 years old.") == "my girl is 5 years old."
    assert told("my wife sings.", "i sing.") == "my wife sings."
    assert told("my wife and i sing.", "i sing.") == "i sing."
    assert told("my parents sing.", "i sing.") == "my parents sing."
    assert told("i was a nurse for years.", "i am a nurse.") == "i used to be a nurse."
    assert told("i used to sing.", "i sing.") == "i used to sing."
    assert told("i used to sing, i love tea.", "i paint.") == ""
    said = told("i was a nurse.", "i am a nurse. i was a nurse.")
    assert said == "i used to be a nurse."
    assert told("my mom was a nurse.", "i am a nurse.") == "my mom used to be a nurse."
    assert told("my son passed his exam.", "i have a son.") == "i have a son."
    assert told("i was a marathon runner.", "i ran a marathon.") == ""
    assert told("i was a nurse.", "i am not a nurse.") == ""
    assert told("my mom was a nurse.", "my mom is a nurse.") == (
        "my mom used to be a nurse."
    )
    assert told("i sing and have two cats. i mean two dogs.", "i have two cats.") == ""
    assert told("i sang in college.", "i sing.") == ""
    assert told("i sing and paint.", "i sing and run.") == "i sing."
    assert told("so you sing ? you must love tea.", "i love tea.") == ""
    assert told("you must sing , i love tea.", "i love tea.") == "i love tea."
    both = ("my dad is a nurse.", "oh.", "my mom is a nurse.")
    after = dataclasses.replace(AFTER_TALK, context=both, turn=1, id="d:1")
    assert grounded("", "i am a nurse.", instance=after) == "my mom is a nurse."


def test_no_number_is_told_that_the_partner_has_not_said():
    assert grounded("", "", "i have three dogs.") == "i have dogs."
    assert grounded("", "i have two dogs.", "i have 3 dogs.") == "i have two dogs."
    assert grounded("i sing for 12 years.", "", "") == ""
    assert grounded("", "", "i sing , canada.") == "i sing."
    # Guessed before it was said.
    later = dataclasses.replace(
        AFTER_TALK, context=("i walk dogs.", "oh.", "two of them."), turn=1, id="d:1"
    )
    assert grounded("i walk two dogs.", "", instance=later) == "i walk two dogs."


@pytest.mark.parametrize(
    ("sentence", "other", "again", "more"),
    [
        ("i am a plumber from ohio.", "i live in ohio.", True, True),
        ("i love to workout.", "i like to workout.", True, False),
        ("my favorite food is pizza.", "i love pizza.", True, True),
        ("i love dogs.", "i love cats.", False, False),
        ("i do not like dogs.", "i love dogs.", False, False),
        ("i like it.", "i like you.", True, False),
        ("i have a dog named max.", "i have a cat named max.", False, False),
        ("i have a dog named max.", "i have a dog.", True, True),
        ("my mom is a nurse.", "i am a nurse.", False, True),
        ("my older sister is a nurse.", "i am a nurse.", False, True),
        ("my mom is a nurse.", "my dad is a nurse.", False, False),
        ("my wife is vegan.", "my wife is a vegan.", True, False),
        ("my dream is to sail.", "i sail.", True, True),
        ("i am a fire fighter.", "i am a firefighter.", True, False),
        ("i have 3 sheds.", "i have three sheds.", True, False),
        ("i own 25 hens.", "i own twenty five hens.", True, False),
        ("i have 3 kids.", "i have three children.", True, False),
        ("my mom rows.", "my mother rows.", True, False),
        ("my kids row boats.", "my children row.", True, True),
        ("i am a mom of 3 kids.", "i have three children.", True, True),
        ("i have 3 sheds.", "i have two hens.", False, False),
        ("i am a fire fighter.", "i am not a firefighter.", False, False),
        ("!", "?", False, False),
    ],
)
def test_verbs_of_liking_and_living_make_no_second_trait(sentence, other, again, more):
    assert says_again(sentence, other) is says_again(other, sentence) is again
    assert says_more(sentence, other) is more
    assert not says_more(other, sentence)


def test_where_nothing_was_said_nothing_is_told():
    assert grounded("i run.", "i run.", "i run.") == ""
    said = moments(AFTER_TALK)
    assert grounded_persona(tiny(), [[tiny().end_id]] * 3, said) == []


def test_what_all_was_said_stays_as_it_was_sampled():
    prompts = tiny()
    letters = prompts.tokenizer.convert_tokens_to_ids(["Ġ", *"dogs."])
    sampled = [*letters, *prompts._encode(" i sing."), prompts.end_id]
    told = [[prompts.end_id], [prompts.end_id], sampled]
    assert grounded_persona(prompts, told, moments(AFTER_TALK)) == sampled


def test_what_is_remembered_has_room_beside_what_is_inferred_now():
    short = small.prompts(max_persona_tokens=10)
    told = grounded("i sing.", "i have two dogs.", "i love tea.", prompts=short)
    assert told == "i love tea."
    whole = tiny().persona_target(["i love tea.", "i have two dogs."])
    assert len(tiny().persona_target(["i love tea."])) <= 10 < len(whole)


def test_what_is_told_is_never_longer_than_a_generated_persona():
    prompts = small.prompts(max_persona_tokens=6)
    sampled = prompts.tokenizer.encode(" i love tea and dogs and tea and dogs")
    cut = told_persona(prompts, sampled[:6], NOBODY, ended=False)
    assert cut == prompts.generated_persona(sampled[:6]) and len(cut) == 6


def spanning() -> Prompts:
    """A tokenizer that knows no words: ". i" can be one token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=275,
        initial_alphabet=alphabet,
        special_tokens=["<end>"],
        show_progress=False,
    )
    bpe.train_from_iterator(["i sing. i run. i tea. i two. i paint."] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>")
    return Prompts(tokenizer, PromptConfig())


def test_where_a_token_spans_a_border_what_stays_is_written_anew():
    prompts = spanning()
    text = " i sing. i sing. i run. i two. i run. i pa"
    sampled = prompts.tokenizer.encode(text)
    assert any(". i" in prompts.tokenizer.decode([token]) for token in sampled)
    kept = told_persona(prompts, sampled, NOBODY, ended=False)
    assert kept == prompts.persona_target(["i sing.", "i run.", "i two."])


def test_sentences_are_the_same_whatever_their_case_spaces_and_marks():
    said = sentences("i love tea . I love, tea! i love green tea.")
    assert once(said) == [0, 2]


def test_sentences_about_nearly_the_same_are_the_same():
    said = ["i like knitting.", "i like to knit.", "i like my mother's knitting."]
    assert once(said) == [0, 2]
    said = "i play drums in a band on fridays. i play drums in a band on friday nights."
    assert once(sentences(said)) == [0]
    different = ["i have two cats.", "i have two dogs.", "i am a nurse.", "am i ?", "!"]
    assert once(different) == [0, 1, 2, 3]


def test_a_reply_says_each_sentence_once_and_is_else_untouched():
    assert text_once("i am sorry . oh ! i am sorry .") == "i am sorry . oh !"
    assert text_once("i am sorry .  oh ! ") == "i am sorry .  oh ! "
    assert text_once("") == ""
    for asked in (
        "i have kids . do you have kids ?",
        "i am married . are you married ?",
        "you like tea . you like tea ?",
        "yes . yes , i do .",
        "i like it . you like it .",
        "i love my dog , my dog is the best .",
        "if you can , you can make extra money",
    ):
        assert text_once(asked) == asked
    assert text_once("oh , i love tea , i love tea .") == "oh , i love tea ."
    assert text_once("hi , i love my tea . i love my tea .") == "hi , i love my tea ."
    assert (
        text_once("hi , i love tea . i love tea .") == "hi , i love tea . i love tea ."
    )
    assert text_once("i love tea , i love teas .") == "i love tea , i love teas ."
    assert text_once("no , no , i do not .") == "no , no , i do not ."


def test_a_reply_does_not_say_what_an_earlier_one_said():
    before = ["hi ! i work in a library .", "yes . so do i ."]
    again = "i work in a Library . i sing ."
    assert text_once(again, before) == "i sing ."
    assert text_once("i work in a library .", before) == "i work in a library ."
    assert text_once("yes . i sing .", before) == "yes . i sing ."
    assert text_once("i have a dog. i sing .", ["i have a dog."]) == "i sing ."
    assert text_once("i sing . so do i .", ["so do i ."]) == "i sing . so do i ."
    assert text_once("i sing .  i run .", before) == "i sing .  i run ."
    asks = "oh . you work in a library ?"
    assert text_once(asks, ["you work in a library ."]) == asks


def test_an_abbreviation_ends_no_sentence():
    for text in (
        "i live in the u. s. now.",
        "my ph. d. is in math.",
        "Dr. Who, mrs. X",
    ):
        assert sentences(text) == (text,)
    assert sentences("so do i. you sing.") == ("so do i.", "you sing.")
    assert sentences("i live in st. louis. i run.")[1:] == ("i run.",)


@pytest.mark.parametrize(
    ("reply", "heard", "taken"),
    [
        ("i have two sons.", "i have two sons, you?", True),
        ("oh , i have 2 sons , it is quiet .", "i have got two sons.", True),
        ("i have two sons too.", "i have two sons.", False),
        ("i love boats.", "i love boats.", False),
        ("i have a boat.", "do you have a boat?", False),
        ("do i have a boat?", "i have a boat.", False),
        ("i have a boat and a cat.", "i have a boat.", False),
        ("i sing.", "i have a boat.", False),
        ("i paint boats.", "i have a boat. i paint. and you?", True),
        ("you have a boat.", "i have a boat.", False),
        ("my cat sings.", "i have a cat that sings.", False),
        ("i paint.", "i paint.", False),
        ("i have no boat.", "i have a boat.", False),
        ("i do not have two boats.", "i have two boats.", False),
        ("i have a boat.", "i do not have a boat.", False),
        ("i have a boat.", "i want a boat.", False),
        ("i do not drink beer.", "i do not drink beer.", True),
        ("Also, I have two sons.", "I have two sons.", False),
        ("I have two sons.", "I have two sons, you?", True),
        ("", "", False),
    ],
)
def test_a_reply_that_is_what_the_partner_alone_is(reply, heard, taken):
    assert takes_over(reply, heard, ["i have a cat.", "my cat sings."]) is taken
    assert not takes_over(reply, heard, [heard])
