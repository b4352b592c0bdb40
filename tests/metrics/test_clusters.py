"""A base persona is found again, and the tests that resample it keep their level."""

import numpy as np
import pytest

from ppg_jax.data import persona_world, personachat
from ppg_jax.data.dialogue import instances
from ppg_jax.metrics.clusters import base_personas, normalized, unit
from tests import type_one_error

SPLITS = {"test": 968, "valid": 1000}


def test_two_sentences_in_common_make_one_base_persona_and_links_carry_on():
    found = base_personas(
        [
            ("i sing.", "i cook.", "i swim."),
            ("i have a dog.", "i am tall."),
            ("I swim", " i cook . ", "i fish."),  # two with the first
            ("i fish.", "i swim.", "i paint."),  # two with the third alone
            ("i sing.", "i am tall."),  # one with each
        ]
    )
    assert found.tolist() == [0, 1, 0, 0, 2]


def test_equal_profiles_are_one_whatever_their_length_and_empty_ones_are_not():
    profiles = [("i sing.",), (), ("I sing!",), ("i sing.", "i sing."), (), (" . ",)]
    assert base_personas(profiles).tolist() == [0, 1, 0, 0, 2, 3]
    assert base_personas([]).shape == (0,)


def test_the_order_of_profiles_does_not_matter():
    rng = np.random.default_rng(0)
    profiles = [tuple(map(str, rng.choice(40, 4))) for _ in range(120)]
    found, order = base_personas(profiles), rng.permutation(120)
    assert 1 < found.max() + 1 < 120
    shuffled = base_personas([profiles[i] for i in order])
    same = found[order][:, None] == found[order]
    np.testing.assert_array_equal(shuffled[:, None] == shuffled, same)


def test_clusters_are_the_components_of_a_graph_by_brute_force():
    rng = np.random.default_rng(1)
    profiles = [tuple(map(str, rng.choice(25, n))) for n in rng.integers(0, 5, 60)]
    sets = [set(profile) for profile in profiles]
    linked = np.array(
        [[len(a & b) > 1 or (bool(a) and a == b) for b in sets] for a in sets]
    )
    linked |= np.eye(len(sets), dtype=bool)
    for _ in range(6):  # paths of up to 64 links
        linked = linked.astype(int) @ linked > 0
    found = base_personas(profiles)
    np.testing.assert_array_equal(found[:, None] == found, linked)


def test_a_unit_is_never_less_than_a_dialogue():
    found = unit(["a", "a", "b", "c"], [(), (), (), ("i sing.",)])
    assert (found.name, found.count) == ("base persona", 3)
    assert found.groups.tolist() == [0, 0, 1, 2]


def test_where_chance_links_most_dialogues_these_are_the_unit():
    world = persona_world.generate(0, {"train": 2000}, 8)["train"]
    profiles = [d.partner_persona for d in world]
    assert np.bincount(base_personas(profiles)).max() > 1000
    found = unit([d.id for d in world], profiles)
    assert (found.name, found.count) == ("dialogue", 2000)
    alike = unit(["a", "b"], [("i sing.",)] * 2)
    assert (alike.name, alike.count) == ("dialogue", 2)


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_of_real_personachat_has_100_base_personas_a_side(shared, split):
    path = shared / f"data/personachat/{split}_both_original_no_cands.txt"
    dialogues = personachat.read(path)
    assert len(dialogues) == SPLITS[split]
    sides = {
        name: [getattr(d, name) for d in dialogues]
        for name in ("partner_persona", "self_persona")
    }
    for profiles in sides.values():
        found = base_personas(profiles)
        assert found.max() + 1 == 100
        assert np.bincount(found).min() >= 4 and np.bincount(found).max() <= 18
        told = [set() for _ in range(100)]
        for number, profile in zip(found, profiles, strict=True):
            told[number] |= set(map(normalized, profile))
        assert {len(sentences) for sentences in told} <= {4, 5}  # so nothing chains
    # Both sides were given the same hundred.
    assert base_personas([p for side in sides.values() for p in side]).max() + 1 == 100
    asked = instances(dialogues)
    names = [i.id.rpartition(":")[0] for i in asked]
    found = unit(names, [i.partner_persona for i in asked])
    assert (found.name, found.count) == ("base persona", 100)


@pytest.mark.parametrize("null", type_one_error.NULLS)
def test_base_personas_keep_the_level_that_dialogues_break(shared, null):
    split = type_one_error.read(shared / "data/personachat", "ROUGE-L")
    for dialogues, broken in ((0, 0.3), (320, 0.15)):
        found = type_one_error.rates(split, null, dialogues)
        assert found["base persona"] <= 0.08
        assert found["dialogue"] > broken


def test_personas_that_recur_in_half_of_the_dialogues_are_base_personas():
    personas = [("i sing.",)] * 2 + [("i run.",), ("i fly.",)]
    half = unit(["a", "b", "c", "d"], personas)
    assert (half.name, half.count) == ("base persona", 3)
