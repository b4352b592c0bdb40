"""The embedded corpus is reproducible, free of contradictions and not too easy."""

import collections
import dataclasses
import hashlib
import itertools
import json
import re

import numpy as np
import pytest

from ppg_jax.data import persona_world
from ppg_jax.data.persona_world_traits import AREAS, CONFLICTS, HINTS, TRAITS
from ppg_jax.errors import UserError
from ppg_jax.metrics import overlap

# Function words and numbers: to share them says nothing about a trait.
_FUNCTION_WORDS = """
    a about after again all always am an and any are as at be been before but by can
    cannot could did do does down each every everything for from had has have he her
    here him his how i if in into is it its just let many me more most much must my
    never no not now of off often on once one only or other others our out over own
    right she should so some still than that the their them then there these they
    this through to too two three four five six nine until up us was we well were
    what when where which who will with would yes you your
"""
STOP = frozenset(_FUNCTION_WORDS.split())
_KINDS = """accept answer ask back comment common confirm correct deny follow generic
    greet guess hint implies invite leave mood probe rumour says well why wonder"""
KINDS = frozenset(_KINDS.split())
OWNER = {sentence: trait for trait in TRAITS for sentence in trait.persona}


@pytest.fixture(scope="module")
def corpus():
    return persona_world.generate()


@pytest.fixture(scope="module", params=[8, 5], ids=["whole", "smaller"])
def either_corpus(request):
    """The whole world and the smallest."""
    return persona_world.generate(areas=request.param)


@pytest.fixture(scope="module")
def annotated():
    """Dialogues with the parts their turns were made of."""
    return list(persona_world.conversations(0, "train", 1600))


@pytest.fixture(scope="module", params=[8, 5], ids=["whole", "smaller"])
def talks(request):
    """As `annotated`, of the whole world and of the smallest."""
    return list(persona_world.conversations(0, "train", 1600, areas=request.param))


def content(text: str) -> frozenset[str]:
    """Content words by their first five letters: `paint` meets `paintings`."""
    words = re.findall(r"[a-z]+", text)
    return frozenset(word[:5] for word in words if word not in STOP)


def profile(persona) -> frozenset[str]:
    return frozenset(OWNER[sentence].name for sentence in persona)


def pairs(dialogues) -> tuple[list[tuple[str, str]], np.ndarray]:
    """(self persona, response): own ones, and as many of the next dialogue but two."""
    texts, labels = [], []
    for dialogue, other in zip(dialogues, dialogues[3:], strict=False):
        persona = " ".join(dialogue.self_persona)
        for mine, theirs in zip(dialogue.instances(), other.instances(), strict=False):
            texts += [(persona, mine.response), (persona, theirs.response)]
            labels += [1, 0]
    return texts, np.array(labels)


def test_a_seed_gives_the_same_corpus_on_every_machine(corpus):
    records = [dataclasses.asdict(d) for split in corpus.values() for d in split]
    digest = hashlib.sha256(json.dumps(records).encode()).hexdigest()
    assert digest == "6805fbc4e24f4d7b74b71781a39d286fd9789f085aa61e4cc12e18ebd5c5ff73"


def test_seeds_differ_and_sizes_take_the_first_ones(corpus):
    few = persona_world.generate(0, {"train": 3, "test": 2})
    assert few == {"train": corpus["train"][:3], "test": corpus["test"][:2]}
    assert persona_world.generate(1, {"train": 3}) != {"train": few["train"]}


@pytest.mark.parametrize("seed", range(1, 6))
def test_no_seed_fails(seed):
    for split in persona_world.SPLITS:
        assert len(list(persona_world.conversations(seed, split, 60))) == 60


def test_no_profile_of_valid_or_test_talks_in_train(corpus):
    seen = {
        split: {profile(p) for d in ds for p in (d.self_persona, d.partner_persona)}
        for split, ds in corpus.items()
    }
    for one, other in itertools.combinations(seen.values(), 2):
        assert not one & other
    names = {trait.name for trait in TRAITS}
    assert all(frozenset().union(*profiles) == names for profiles in seen.values())


def test_a_profile_is_three_to_five_traits_that_do_not_contradict(corpus):
    for dialogue in itertools.chain(*corpus.values()):
        for persona in (dialogue.self_persona, dialogue.partner_persona):
            traits = [OWNER[sentence] for sentence in persona]
            assert 3 <= len(traits) <= 5
            assert len({trait.area for trait in traits}) == len(traits)
            assert not any(pair <= profile(persona) for pair in CONFLICTS)


def test_a_smaller_world_is_the_same_in_small():
    corpus = persona_world.generate(0, {"train": 800, "valid": 80, "test": 80}, areas=5)
    seen = [
        {profile(p) for d in ds for p in (d.self_persona, d.partner_persona)}
        for ds in corpus.values()
    ]
    assert not any(one & other for one, other in itertools.combinations(seen, 2))
    areas = {name: trait.area for name, trait in ((t.name, t) for t in TRAITS)}
    for found in frozenset().union(*seen):
        assert 2 <= len(found) <= 4 and len({areas[name] for name in found}) == len(
            found
        )
        assert {areas[name] for name in found} <= set(list(AREAS)[:5])
    said = list(persona_world.conversations(0, "train", 800, areas=5))
    assert {len(turns) for _, turns in said} == {4, 6}
    parts = [part for _, turns in said for turn in turns for part in turn]
    assert {part.kind for part in parts} == KINDS
    assert {part.trait.area for part in parts if part.trait} == set(list(AREAS)[:5])


@pytest.mark.parametrize("areas", [4, 9])
def test_a_world_of_another_size_is_refused(areas):
    with pytest.raises(UserError, match=f"areas={areas}: persona_world has 5 to 8"):
        persona_world.generate(areas=areas)


def test_nobody_speaks_against_their_own_profile(talks):
    for dialogue, turns in talks:
        sides = (dialogue.partner_persona, dialogue.self_persona)
        for index, part in ((i, p) for i, turn in enumerate(turns) for p in turn):
            mine = profile(sides[index % 2])
            if part.mine:
                assert part.trait.name in mine
            if part.kind == "deny":
                assert part.area not in {OWNER[s].area for s in sides[index % 2]}
            if part.kind in ("comment", "leave") and part.trait:
                assert part.trait.name in profile(sides[1 - index % 2])


def test_every_question_is_answered_by_the_next_turn(talks):
    answers = {
        "mood": {"well"},
        "why": {"says", "implies"},
        "guess": {"confirm", "correct"},
        "probe": {"confirm", "correct"},
        "rumour": {"confirm", "correct"},
        "ask": {"says", "implies", "hint", "deny"},
        "back": {"says", "implies", "hint", "deny"},
        "follow": {"answer"},
        "invite": {"accept"},
    }
    assert set(answers) == set(persona_world.QUESTIONS)
    for _, turns in talks:
        for turn, reply in itertools.pairwise(turns):
            if turn[-1].kind in answers:
                assert answers[turn[-1].kind] & {part.kind for part in reply}


def test_the_utterances_are_the_parts_and_self_speaks_last(annotated):
    for dialogue, turns in annotated:
        assert len(turns) in (6, 8) and not dialogue.self_speaks_first
        assert dialogue.response_indices()[-1] == len(turns) - 1
        joined = tuple(" ".join(map(str, turn)) for turn in turns)
        assert joined == dialogue.utterances
        assert all(0 < len(u.split()) <= 36 for u in joined)


def test_every_kind_of_part_occurs(annotated):
    parts = [part for _, turns in annotated for turn in turns for part in turn]
    assert {part.kind for part in parts} == KINDS
    said = {part.text for part in parts}
    assert set(HINTS) <= said
    assert all(set(trait.says + trait.implies) & said for trait in TRAITS)


@pytest.mark.parametrize("trait", TRAITS, ids=lambda trait: trait.name)
def test_what_is_implied_shares_no_content_word_with_the_persona(trait):
    named = frozenset().union(*map(content, trait.persona))
    for text in (*trait.implies, *(answer for _, answer in trait.follow_ups)):
        assert not content(text) & named, text
    for text in trait.says:
        assert content(text) & named, text


def test_the_traits_fill_the_areas_evenly_and_every_hint_is_ambiguous():
    assert set(collections.Counter(trait.area for trait in TRAITS).values()) == {4}
    assert {trait.area for trait in TRAITS} == set(AREAS)
    names = {trait.name for trait in TRAITS}
    assert all(
        len(fitting) >= 2 and set(fitting) <= names for fitting in HINTS.values()
    )
    assert set().union(*HINTS.values()) == names


def test_most_responses_depend_on_each_of_the_two_personas(talks):
    turns = [turn for _, turns in talks for turn in turns[1::2]]
    about_me = [any(p.mine for p in turn) for turn in turns]
    about_you = [any(p.trait and not p.mine for p in turn) for turn in turns]
    assert 0.85 < np.mean(about_me) < 0.95  # some are only greetings and remarks
    assert 0.70 < np.mean(about_you) < 0.90


def test_suspicions_are_mostly_right(talks):
    right = [
        part.trait.name in profile((d.self_persona, d.partner_persona)[index % 2])
        for d, turns in talks
        for index, turn in enumerate(turns)
        for part in turn
        if part.kind in ("probe", "rumour", "wonder")
    ]
    assert 0.85 < np.mean(right) < 0.97


def test_shared_words_alone_do_not_tell_whose_response_it_is(either_corpus):
    held_out = either_corpus["valid"] + either_corpus["test"]
    train, test = pairs(either_corpus["train"]), pairs(held_out)
    control = overlap.OverlapClassifier.fit(*train)
    assert 0.60 < overlap.accuracy(control.score(test[0]), test[1]).mean() < 0.72
    counted = [len(content(a) & content(b)) > 0 for a, b in test[0]]
    assert 0.60 < (np.array(counted) == test[1]).mean() < 0.72


def test_no_reply_and_no_opening_is_common(corpus):
    responses = [i.response for d in corpus["train"][:1600] for i in d.instances()]
    assert len(set(responses)) > 0.9 * len(responses)
    openings = collections.Counter(" ".join(r.split()[:3]) for r in responses)
    assert openings.most_common(1)[0][1] < 0.12 * len(responses)


def test_the_vocabulary_is_compact_and_text_has_personachat_s_form(corpus):
    words = set()
    for dialogue in itertools.chain(*corpus.values()):
        for sentence in (*dialogue.self_persona, *dialogue.partner_persona):
            assert re.fullmatch(r"[a-z][a-z ]*[a-z]\.", sentence)
            words |= set(sentence[:-1].split())
        for utterance in dialogue.utterances:
            assert re.fullmatch(r"([a-z]+|[.,?!])( ([a-z]+|[.,?!]))*", utterance)
            words |= set(utterance.split())
    assert 600 <= len(words) <= 1200
