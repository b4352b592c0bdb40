"""What is swapped is another dialogue's, and nothing else changes."""

import dataclasses

import numpy as np
import pytest

from ppg_jax.data.dialogue import Instance, dialogue_of, instances
from ppg_jax.files import read_json, write_json
from ppg_jax.systems import swapped
from ppg_jax.systems.generators import Generators, PersonaGenerator
from ppg_jax.systems.system import Asking
from tests import run_for_tests as runs

# No partner has the sentence that all of them have there.
DIALOGUES = tuple(
    dataclasses.replace(d, partner_persona=d.partner_persona[:1])
    for d in runs.dialogues("test", 5)
)
ASKED = instances(DIALOGUES)


def asking() -> Asking:
    return Asking(runs.finished_run(), DIALOGUES, runs.PROMPTS)


def alone(id: str, mine: str, theirs: str, said: int = 1) -> Instance:
    context = tuple(f"{id} {n}" for n in range(said))
    return Instance(id, 0, (mine,), (theirs,), context, "yes")


def test_whole_dialogues_are_chosen_and_the_seed_alone_draws_them():
    draws = [swapped.chosen(ASKED, 2, seed) for seed in (0, 0, 1, 2, 3)]
    for some in draws:
        names = {dialogue_of(i.id) for i in some}
        assert len(names) == 2
        assert some == [i for i in ASKED if dialogue_of(i.id) in names]
    assert draws[0] == draws[1] and any(draws[0] != other for other in draws[2:])
    assert swapped.chosen(ASKED, 0, 0) == []
    assert swapped.chosen(ASKED, 99, 0) == list(ASKED)


def test_a_stranger_is_as_far_on_and_shares_no_persona_sentence_of_any_side():
    me = alone("a:0", "i sing.", "i run.")
    for other in [
        alone("b:0", "i paint.", "I run !"),  # the same partner
        alone("b:0", "i sing", "i fly."),  # the same self
        alone("b:0", "i run.", "i fly."),  # the partner is self here
        alone("b:0", "i paint.", "i fly.", said=3),  # another turn
    ]:
        assert swapped.strangers([me], [me, other], 0) == [None]
    nobody = [Instance(id, 0, (), (), ("hi",), "yes") for id in ("a:0", "a:1", "b:0")]
    assert swapped.strangers(nobody[:1], nobody[:2], 0) == [None]
    assert swapped.strangers(nobody[:1], nobody, 0) == nobody[2:]
    good = alone("b:0", "i paint.", "i fly.")
    for seed in range(5):
        assert swapped.strangers([me], [me, other, good], seed) == [good]


def test_strangers_are_drawn_by_the_seed():
    pool = [alone(f"{n}:0", f"i am {n}.", f"i like {n}.") for n in range(30)]
    first, again, other = (swapped.strangers(pool, pool, s) for s in (0, 0, 1))
    assert first == again != other
    assert len({stranger.id for stranger in first}) > 10


ROWS = {
    "personas": PersonaGenerator("a", "persona"),
    "told gold": Generators("b", "response", told="gold"),
    "told what is inferred": Generators("c", "response", persona="persona"),
}


@pytest.mark.parametrize("name", ROWS)
def test_scores_are_those_of_the_own_and_of_the_strangers(name):
    row = ROWS[name]
    some = list(ASKED)
    others = swapped.strangers(some, ASKED, 0)
    assert all(others)
    records = swapped.records(row, asking(), some, others)
    folder = "persona" if row.kind == "personas" else "response"
    generator = runs.load_generator(runs.finished_run() / folder / "model")
    for key, given in [("nll", some), ("nll_other", others)]:
        expected = by_hand(row.kind, generator, some, given)
        seen = [record[key] for record in records]
        np.testing.assert_allclose(seen, expected, rtol=1e-4)
    assert [r["id"] for r in records] == [i.id for i in some]
    assert [r["other"] for r in records] == [i.id for i in others]
    differ = [abs(r["nll"] - r["nll_other"]) for r in records]
    assert np.mean(np.array(differ) > 1e-3) >= 0.5  # the first turns are all one


def by_hand(kind: str, generator, some, given) -> list[float]:
    """Of a response: the gold one, told the gold partner persona of `given`."""
    model, params, prompts = generator
    if kind == "responses":
        scores = runs.scored(generator, some, runs.gold(prompts, given))
        return [scores[i.id].nll for i in some]
    pairs = zip(some, given, strict=True)
    mixed = [dataclasses.replace(i, context=g.context) for i, g in pairs]
    examples = [prompts.persona_example(i) for i in mixed]
    scores = runs._scorer(model)(params, examples)
    return [scores[i.id].nll for i in some]


def test_the_gold_persona_is_the_same_text_in_both_contexts(tmp_path):
    """Learned said first, of three sentences: in the order of the own conversation."""
    workdir = runs.write_run(tmp_path)
    path = workdir / "persona" / "fingerprint.json"
    write_json(path, read_json(path) | {"persona_order": "said_first"})
    gold, strange = ("i run.", "i sing.", "i paint."), ("i love tea.",)
    own = Instance("a:0", 0, ("i am.",), gold, ("i paint.", "hi", "i run."), "yes")
    other = Instance("b:0", 0, (), strange, ("i sing.", "hi", "i love tea."), "yes")
    row, at = PersonaGenerator("a", "persona"), Asking(workdir, (), runs.PROMPTS)
    (record,) = swapped.records(row, at, [own], [other])
    said_first = ("i paint.", "i run.", "i sing.")
    ordered = [dataclasses.replace(own, partner_persona=said_first)]
    generator = runs.load_generator(workdir / "persona" / "model")
    for key, given in [("nll", own), ("nll_other", other)]:
        (expected,) = by_hand("personas", generator, ordered, [given])
        np.testing.assert_allclose(record[key], expected, rtol=1e-5)
    assert row.load(at).score([own])[0].nll == pytest.approx(record["nll"], rel=1e-5)


def test_a_row_that_heeds_nothing_has_no_records():
    row = Generators("a", "response", told="none")
    others = swapped.strangers(ASKED, ASKED, 0)
    assert swapped.records(row, asking(), list(ASKED), others) is None


def test_a_row_that_infers_is_told_gold_with_the_same_response_generator():
    row = Generators("a", "response", persona="persona", against=("x",))
    assert row.given_gold == dataclasses.replace(row, persona="", told="gold")
    for same in (ROWS["personas"], ROWS["told gold"], Generators("a", "response")):
        assert same.given_gold is same
