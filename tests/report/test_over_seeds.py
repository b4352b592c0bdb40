"""Numbers over several runs: of one, its own; of more, their mean and spread."""

import json

import numpy as np
import pytest

from ppg_jax.errors import UserError
from ppg_jax.metrics import significance
from ppg_jax.report import over_seeds, results, scores
from ppg_jax.report.scores import TypeCount
from tests.report.test_report import make_run, read, write_jsonl


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "RESAMPLES", 200)
        patch.setattr(scores, "PERMUTATIONS", 1999)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("seeds")
    return [make_run(root / f"seed_{seed}", seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def numbers(folders):
    return over_seeds.compute(folders, with_paper=True)


def plain(table):
    """Without what one run does not have."""
    for row in table.values():
        for measured in row["metrics"].values():
            assert measured.pop("spread", None) is None
    return json.loads(json.dumps(table))


def test_of_one_run_they_are_its_own(folders):
    found = over_seeds.compute(folders[:1], with_paper=True)
    own = json.loads(json.dumps(results.compute(folders[0], with_paper=True)))
    assert found["runs"] == 1
    for kind in ("responses", "personas"):
        theirs = plain(found[kind])
        assert theirs.keys() == own[kind].keys()
        for name, row in own[kind].items():
            for key, measured in row["metrics"].items():
                ours = theirs[name]["metrics"][key]
                assert ours == pytest.approx(measured), (name, key)
        pairs = (numbers[f"{kind[:-1]}_tests"] for numbers in (found, own))
        for a, b in zip(*pairs, strict=True):
            assert a["p_holm"] == pytest.approx(b["p_holm"])
            assert (a["a"], a["b"], a["better"]) == (b["a"], b["b"], b["better"])
    assert found["perplexity_by_turn"]["ours"]["1"] == pytest.approx(
        own["perplexity_by_turn"]["ours"]["1"]
    )


@pytest.mark.parametrize("key", ["ppl_token", "bleu", "distinct_1"])
def test_a_value_is_the_mean_of_runs_and_the_spread_stands_beside(
    key, folders, numbers
):
    single = [results.compute(f, True)["responses"]["ours"]["metrics"] for f in folders]
    values = [each[key]["value"] for each in single]
    found = numbers["responses"]["ours"]["metrics"][key]
    assert numbers["runs"] == 3
    assert found["value"] == pytest.approx(np.mean(values))
    assert found["spread"] == pytest.approx(np.std(values, ddof=1))
    assert found["low"] <= found["value"] <= found["high"]
    widest = max(each[key]["high"] - each[key]["low"] for each in single)
    # Three runs with noise of their own: narrower than one, but for how they differ.
    assert found["high"] - found["low"] < widest + 4 * found["spread"] + 1e-9


def test_no_interval_goes_beyond_what_a_metric_can_be(folders, monkeypatch):
    """However far two runs are apart."""

    def with_runs(interval, single, level):
        return interval._replace(low=-1e6, high=1e6)

    monkeypatch.setattr(significance, "with_runs", with_runs)
    found = over_seeds.compute(folders[:2], with_paper=False)
    metrics = [
        (key, measured)
        for kind in ("responses", "personas")
        for row in found[kind].values()
        for key, measured in row["metrics"].items()
    ]
    assert {measured["low"] for _, measured in metrics} == {0}
    most = {key: {m["high"] for k, m in metrics if k == key} for key, _ in metrics}
    assert most["trait_f1"] == most["ended"] == most["distinct_1"] == {1}
    assert most["bleu"] == most["rouge_parlai"] == {100}
    assert most["ppl_token"] == most["length"] == {1e6}
    likely = found["perplexity_by_turn"]["ours"].values()
    assert {(turn["low"], turn["high"]) for turn in likely} == {(0, 1e6)}
    turns = found["traits"]["by_turn"]["trait_f1"]["supervised"]
    assert {(turn["low"], turn["high"]) for turn in turns.values()} == {(0, 1)}


def test_what_is_planted_in_every_run_is_found_over_all(numbers):
    tests = {(t["a"], t["b"], t["metric"]): t for t in numbers["response_tests"]}
    assert tests["ours", "ours_supervised", "ppl_token"]["better"] == "ours"
    assert tests["ours_supervised", "without", "ppl_token"]["better"] is None
    assert numbers["responses"]["ours"]["paper"]["ppl_token"] == 13.05


def test_runs_that_were_asked_something_else_are_refused(folders, tmp_path):
    other = make_run(tmp_path / "other")
    known = read(other, "instances.jsonl")
    write_jsonl(other / "evaluate/instances.jsonl", known[::-1])
    for path in other.glob("evaluate/*/*.jsonl"):
        records = read(other, path.relative_to(other / "evaluate"))
        if len(records) == len(known):
            write_jsonl(path, records[::-1])
    with pytest.raises(UserError, match="other instances than"):
        over_seeds.compute([folders[0], other], with_paper=False)


def test_a_row_that_a_run_lacks_is_in_no_table(folders, tmp_path):
    fewer = make_run(tmp_path / "fewer", seed=5)
    rows = json.loads((fewer / "evaluate/rows.json").read_text())
    rows["responses"] = [r for r in rows["responses"] if r["name"] != "ours"]
    (fewer / "evaluate/rows.json").write_text(json.dumps(rows))
    (fewer / "evaluate/responses/ours.jsonl").unlink()
    found = over_seeds.compute([folders[0], fewer], with_paper=False)
    assert "ours" not in found["responses"] and "without" in found["responses"]


def test_types_are_counted_in_each_run_and_runs_widen_the_interval():
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(20), 3)

    def said(words: int) -> TypeCount:
        rows = rng.integers(words, size=(60, 6))
        return TypeCount([" ".join(f"w{i}" for i in row) for row in rows], 1)

    single = [said(40), said(60), said(90)]
    one = over_seeds.TypesOverSeeds(single[:1])
    assert one.interval(groups) == pytest.approx(single[0].interval(groups))
    assert one.spread is None
    found = over_seeds.TypesOverSeeds(single)
    counted = [count.value for count in single]
    assert found.value == pytest.approx(np.mean(counted))
    assert found.spread == pytest.approx(np.std(counted, ddof=1))
    low, high = found.interval(groups)[1:]
    assert high - low > 2 * 1.9 * found.spread / 3**0.5
    # What all runs add alike is no difference of theirs.
    same = over_seeds.TypesOverSeeds(single).minus(found, groups)
    assert same[0].value == 0 and same[0].high == 0 and same[1] == 1


def test_without_the_paper_none_of_its_numbers_stands_beside(folders):
    found = over_seeds.compute(folders[:1], with_paper=False)
    assert not any(row["paper"] for row in found["responses"].values())
    assert found["split"] == "test"  # as older runs had it, which do not say


def test_a_metric_that_a_run_lacks_is_in_no_row_over_seeds(folders, tmp_path):
    fewer = make_run(tmp_path / "fewer", seed=5)
    judged = read(fewer, "responses/ours.jsonl")
    bare = [record | {"critic_score": None} for record in judged]
    write_jsonl(fewer / "evaluate/responses/ours.jsonl", bare)
    found = over_seeds.compute([folders[0], fewer], with_paper=False)["responses"]
    assert "critic" not in found["ours"]["metrics"]
    assert "critic" in found["without"]["metrics"]
