"""What a report says of inferring is what the records say, and nothing without them."""

import json
import shutil

import numpy as np
import pytest

from ppg_jax.errors import UserError
from ppg_jax.report import inferred, predictions, report, results, scores
from ppg_jax.report import traits as numbers_of
from ppg_jax.report.trait_figures import swapped_by_turn, traits_by_turn
from tests.report.test_report import TURNS, make_run, read, write_jsonl, write_swapped


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "RESAMPLES", 60)
        patch.setattr(scores, "PERMUTATIONS", 99)
        yield


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def numbers(run_dir):
    return json.loads(json.dumps(results.compute(run_dir, False)))


def summed(records, *names) -> int:
    return sum(record[name] for record in records for name in names)


def test_the_columns_of_traits_are_shares_of_summed_counts(run_dir, numbers):
    records = read(run_dir, "traits/supervised.jsonl")
    right, inferred_ = summed(records, "right"), summed(records, "inferred")
    gold = summed(records, "said", "unsaid")
    many = len(records)
    expected = {
        "trait_f1": 2 * right / (inferred_ + gold),
        "trait_precision": right / inferred_,
        "trait_recall": right / gold,
        "trait_recall_said": summed(records, "right_said") / summed(records, "said"),
        "trait_recall_unsaid": summed(records, "right_unsaid")
        / summed(records, "unsaid"),
        "trait_exact_f1": 2 * summed(records, "exact") / (inferred_ + gold),
        "trait_any": sum(r["right"] > 0 for r in records) / many,
        "trait_repeated": sum(r["repeated"] > 0 for r in records) / many,
        "trait_copied": summed(records, "copied") / inferred_,
        "trait_of_self": summed(records, "of_self") / inferred_,
    }
    metrics = numbers["personas"]["supervised"]["metrics"]
    seen = {key: metrics[key]["value"] for key in metrics if key.startswith("trait")}
    assert seen == pytest.approx(expected)


def test_gold_personas_are_not_matched_with_themselves(numbers):
    metrics = numbers["personas"]["gold"]["metrics"]
    found = {key for key in metrics if key.startswith("trait")}
    assert found == {"trait_repeated", "trait_copied", "trait_of_self"}


def test_a_share_of_nothing_is_nothing():
    assert scores.share([[3, 4], [0, 0]]).tolist() == [0.75, 0]


def test_traits_by_turn_are_those_of_the_instances_of_the_turn(run_dir, numbers):
    known = read(run_dir, "instances.jsonl")
    records = read(run_dir, "traits/supervised.jsonl")
    points = numbers["traits"]["by_turn"]["trait_recall_unsaid"]["supervised"]
    assert points.keys() == {"1", "2", "3", "4", "4 or more", "all"}
    for turn in range(TURNS):
        some = [r for r, i in zip(records, known, strict=True) if i["turn"] == turn]
        point = points[str(turn + 1)]
        expected = summed(some, "right_unsaid") / summed(some, "unsaid")
        assert point["value"] == pytest.approx(expected)
        assert point["instances"] == len(some)
    assert numbers["traits"]["said"]["all"]["value"] == pytest.approx(1 / 3)


def test_exchanges_are_counted_one_by_one_up_to_eight():
    exchanges = np.array([1, 4, 7, 8, 9])
    taken = {k: v.tolist() for k, v in numbers_of.turns(exchanges).items()}
    assert taken["1"] == [True, False, False, False, False]
    assert taken["8 or more"] == [False, False, False, True, True]
    assert taken["4 or more"] == [False, True, True, True, True]
    assert all(taken["all"])


def test_perplexities_and_their_difference_are_those_of_the_records(run_dir, numbers):
    known = {i["id"]: i for i in read(run_dir, "instances.jsonl")}
    records = read(run_dir, "swapped/personas/supervised.jsonl")
    points = numbers["swapped"]["personas"]["supervised"]["by_turn"]
    for turn, some in [
        ("all", records),
        ("2", [r for r in records if known[r["id"]]["turn"] == 1]),
    ]:
        nats = [summed(some, k) / summed(some, "tokens") for k in ("nll", "nll_other")]
        point = points[turn]
        assert point["own"]["value"] == pytest.approx(np.exp(nats[0]))
        assert point["other"]["value"] == pytest.approx(np.exp(nats[1]))
        assert point["difference"]["value"] == pytest.approx(nats[0] - nats[1])
        assert point["instances"] == len(some)
    for turn in (numbers_of.ALL, numbers_of.FROM_LATE):  # sentences are made of both
        assert points[turn]["p_holm"] >= points[turn]["p"]


def test_what_is_not_asked_any_more_is_in_no_report(tmp_path):
    run_dir = make_run(tmp_path)
    path = run_dir / "experiment.json"
    experiment = json.loads(path.read_text(encoding="utf-8"))
    for dialogues, shown in ((200, True), (0, False)):
        experiment["config"] = {"evaluate": {"swapped_dialogues": dialogues}}
        path.write_text(json.dumps(experiment), encoding="utf-8")
        assert any(results.compute(run_dir, False)["swapped"].values()) is shown
    assert (run_dir / "evaluate/swapped/responses/ours.jsonl").exists()


def test_rows_with_the_same_numbers_stand_in_one_line(tmp_path):
    run_dir = make_run(tmp_path)
    folder = run_dir / "evaluate/swapped/responses"
    shutil.copy(folder / "ours.jsonl", folder / "ours_supervised.jsonl")
    found = results.compute(run_dir, False)
    row = found["swapped"]["responses"]
    assert [r["rows"] for r in row.values()] == [["ours_supervised", "ours"]]
    table = inferred.swapped(found)
    assert table.count("Ours without RL; Ours with RL") == 3
    # One test alone, so nothing to correct.
    test = row["ours_supervised"]["by_turn"]["all"]
    assert test["p_holm"] == test["p"]


@pytest.mark.parametrize(
    ("loss", "infers", "uses"),
    [
        (5.0, "** infers: ", "** uses the partner persona: "),
        (0.0, "** is not shown to infer: ", "** is not shown to use the partner"),
        (-5.0, "** does not infer: ", "** does not profit from the partner"),
    ],
)
def test_whether_it_infers_and_uses_follows_from_the_intervals(
    loss, infers, uses, tmp_path
):
    run_dir, rng = make_run(tmp_path), np.random.default_rng(1)
    known = read(run_dir, "instances.jsonl")
    for row in ("personas/supervised", "responses/ours"):
        write_swapped(run_dir / "evaluate", row, known, rng, loss)
    told = inferred.sentences(results.compute(run_dir, False))
    assert told[0].startswith(f"**Generator without RL{infers}")
    assert "with 4 exchanges or more" in told[0]
    assert told[1].startswith(f"**Ours with RL{uses}")


def test_trait_f1_is_told_against_the_best_control(tmp_path, monkeypatch):
    # Enough for the smallest p to survive the correction over the table's tests.
    monkeypatch.setattr(scores, "PERMUTATIONS", 4999)
    run_dir = make_run(tmp_path)
    more = "**Generator without RL** infers more right traits than the best control"
    assert more in " ".join(inferred.sentences(results.compute(run_dir, False)))
    folder = run_dir / "evaluate/traits"
    shutil.copy(folder / "constant.jsonl", folder / "kept.jsonl")
    shutil.copy(folder / "supervised.jsonl", folder / "constant.jsonl")
    told = " ".join(inferred.sentences(results.compute(run_dir, False)))
    assert "**Generator without RL** is not shown to infer more right traits" in told
    shutil.copy(folder / "kept.jsonl", folder / "supervised.jsonl")
    told = " ".join(inferred.sentences(results.compute(run_dir, False)))
    assert "**Generator without RL** infers fewer right traits than the best" in told
    assert "(one persona for all)" in told


def test_a_run_that_measured_no_traits_says_nothing_of_them(tmp_path):
    run_dir = make_run(tmp_path)
    shutil.rmtree(run_dir / "evaluate/traits")
    shutil.rmtree(run_dir / "evaluate/swapped")
    text = report.write_report(run_dir, "Old", False).read_text(encoding="utf-8")
    assert "What is inferred" not in text and "trait" not in text
    assert not list((run_dir / "figures").glob("*traits*"))
    assert not list((run_dir / "figures").glob("*swapped*"))


def test_traits_of_other_instances_are_refused(tmp_path):
    run_dir = make_run(tmp_path)
    records = read(run_dir, "traits/supervised.jsonl")
    for wrong in (records[:-1], [*records[1:], records[0]]):
        write_jsonl(run_dir / "evaluate/traits/supervised.jsonl", wrong)
        with pytest.raises(
            UserError, match=r"supervised\.jsonl: is of other instances"
        ):
            predictions.read(run_dir)


def drawn(axes) -> dict[str, np.ndarray]:
    """Values by label, as points in the order of turns."""
    return {c.get_label(): c[0].get_ydata() for c in axes.containers}


def test_the_figures_show_the_numbers(numbers):
    found = numbers["traits"]["by_turn"]
    turns = [t for t in numbers_of.HEARD if t in found["trait_f1"]["supervised"]]
    for axes, key in zip(traits_by_turn(numbers).axes, found, strict=True):
        seen = drawn(axes)["Generator without RL"]
        expected = [found[key]["supervised"][turn]["value"] for turn in turns]
        np.testing.assert_allclose(seen, expected)
        assert "control: one persona for all" in drawn(axes)
    personas, _ = swapped_by_turn(numbers).axes
    points = numbers["swapped"]["personas"]["supervised"]["by_turn"]
    gained = [-points[turn]["difference"]["value"] for turn in turns]
    np.testing.assert_allclose(drawn(personas)["Generator without RL"], gained)


def test_nothing_is_drawn_of_nothing(numbers):
    bare = numbers | {"traits": {}, "swapped": {"personas": {}, "responses": {}}}
    assert traits_by_turn(bare) is None and swapped_by_turn(bare) is None


def test_the_sentence_and_the_table_of_traits_are_of_one_test(numbers):
    tests = numbers["persona_tests"]
    (test,) = (t for t in tests if t["best_control"] and t["metric"] == "trait_f1")
    assert (test["a"], test["b"]) == ("supervised", "constant")
    for better, said in [
        ("supervised", "infers more"),
        ("constant", "infers fewer"),
        (None, "is not shown to infer more"),
    ]:
        changed = [t | {"better": better} if t is test else t for t in tests]
        *_, told = inferred.sentences(numbers | {"persona_tests": changed})
        assert told.startswith(f"**Generator without RL** {said} right traits than")


def test_what_holms_correction_takes_is_not_said():
    test = {"difference": {"value": -1.0, "low": -2.0, "high": -0.1}}
    assert inferred._sign(test) == inferred._sign(test | {"p_holm": 0.049}) == -1
    assert inferred._sign(test | {"p_holm": 0.05}) == 0
