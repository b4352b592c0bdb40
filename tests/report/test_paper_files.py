"""The paper's tables and figures as files: one set of numbers in every form."""

import csv
import dataclasses
import shutil

import pytest

from ppg_jax.errors import UserError
from ppg_jax.files import read_json, read_metrics, write_json
from ppg_jax.report import (
    cases,
    over_seeds,
    paper_figures,
    paper_tables,
    report,
    reproduced,
    scores,
    tables,
)
from ppg_jax.report.predictions import read
from ppg_jax.report.readings import readings
from ppg_jax.stages import evaluate, paml
from tests.report.test_report import make_run, write_jsonl
from tests.report.test_report import read as records


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "RESAMPLES", 50)
        patch.setattr(scores, "PERMUTATIONS", 50)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("seeds")
    return [make_run(root / f"seed_{seed}", seed=seed) for seed in range(2)]


@pytest.fixture(scope="module")
def numbers(folders):
    return over_seeds.compute(folders, with_paper=True)


def table_of(path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["table1", "table4"])
def test_every_form_of_a_table_has_the_same_numbers(name, numbers, tmp_path):
    markdown, latex, numbers_ = paper_tables.write(tmp_path, name, numbers)
    kind = paper_tables.TABLES[name].kind
    lines = [r for r in table_of(numbers_) if r["metric"] == "ppl_token"]
    assert {r["row"] for r in lines} >= {"supervised"} or len(lines) == 3
    for line in lines:
        measured = numbers[kind][line["row"]]["metrics"]["ppl_token"]
        assert float(line["value"]) == measured["value"]
        assert float(line["spread"]) == measured["spread"]
        told = f"{measured['value']:.2f} ± {measured['spread']:.2f} ("
        label = numbers[kind][line["row"]]["label"]
        (row,) = [
            text
            for text in markdown.read_text(encoding="utf-8").splitlines()
            if text.startswith(f"| {label} | {measured['value']:.2f}")
        ]
        assert told in row
        assert told.replace("±", "$\\pm$") in latex.read_text(encoding="utf-8")


def test_the_papers_rows_come_first_and_what_is_missing_is_told(numbers, tmp_path):
    path = paper_tables.write(tmp_path, "table1", numbers)[0]
    text = path.read_text(encoding="utf-8")
    first = text.index("E2E without"), text.index("Ours with RL"), text.index("control")
    assert list(first) == sorted(first)
    assert "Not in this run: training_only, full, gpt2," in text
    assert "Mean ± standard deviation of 2 seeds, 120 instances" in text
    assert "| 13.05 |" in text and "| 14.70 |" in text  # the paper's, as it prints them


def test_the_manifest_tells_what_was_made_of_other_runs(folders, tmp_path):
    def made(targets, runs):
        reproduced.write(targets, dict(enumerate(runs)), tmp_path)
        return read_json(tmp_path / "MANIFEST.json")

    assert made(["table4"], folders)["files"].keys() == {"table4"}
    both = made(["table1"], folders)
    assert (both["files"].keys(), both["of_other_runs"]) == ({"table1", "table4"}, {})
    assert both["seeds"] == {"table1": ["0", "1"], "table4": ["0", "1"]}
    # With fewer seeds: what was made of more is still of these runs.
    fewer = made(["table1", "figure1"], folders[:1])
    assert fewer["files"].keys() == {"table1", "table4", "figure1"}
    assert fewer["seeds"] == {"table1": ["0"], "table4": ["0", "1"], "figure1": ["0"]}
    assert fewer["of_other_runs"] == {} and fewer["runs"].keys() == {"0", "1"}
    # A run that is another one now.
    other = make_run(tmp_path / "other", seed=1)
    path = other / "evaluate" / "provenance.json"
    write_json(path, read_json(path) | {"commit": "def"})
    told = made(["table1"], [folders[0], other])
    assert told["files"].keys() == {"table1", "figure1"}
    assert told["seeds"] == {"table1": ["0", "1"], "figure1": ["0"]}
    three = ["table4.md", "table4.tex", "table4.csv"]
    assert told["of_other_runs"] == {"table4": three}
    assert made(["table4"], folders[:1])["of_other_runs"] == {}


def test_a_manifest_that_tells_no_seeds_is_of_all_its_runs(folders, tmp_path):
    reproduced.write(["table4"], dict(enumerate(folders)), tmp_path)
    path = tmp_path / "MANIFEST.json"
    known = read_json(path)
    del known["seeds"]
    write_json(path, known)
    reproduced.write(["figure1"], {1: folders[1]}, tmp_path)
    assert read_json(path)["seeds"] == {"figure1": ["1"], "table4": ["0", "1"]}


def test_votes_that_do_not_count_keep_nothing_else_from_being_written(
    folders, tmp_path
):
    targets, file = ["table4", "table6", "table7"], tmp_path / "table6_votes.csv"
    file.write_text("item,criterion,rater,choice\n1,coherence,x,C\n")
    with pytest.raises(UserError, match=f"{file}:2"):
        reproduced.write(targets, {0: folders[0]}, tmp_path)
    made = read_json(tmp_path / "MANIFEST.json")["files"]
    assert {*made} == {"table4", "table7"} and (tmp_path / "table7.md").exists()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("evaluate/provenance.json", {"packages": 3}),
        ("evaluate/result.json", {"seconds_of_last_process": "1"}),
        ("persona/result.json", {"seconds_of_last_process": [1]}),
        ("reinforce/fingerprint.json", {"persona": 3}),
        ("reinforce/fingerprint.json", {"batch_size": None}),
    ],
)
def test_what_a_run_does_not_tell_as_it_should_is_named(name, wrong, folders, tmp_path):
    copy = shutil.copytree(folders[0], tmp_path / "run")
    known = read_json(copy / name) if (copy / name).exists() else {}
    write_json(copy / name, known | wrong)
    with pytest.raises(UserError, match=f"{name} is not as it was written"):
        targets = ["figure2" if "fingerprint" in name else "figure1"]
        reproduced.write(targets, {0: copy}, tmp_path / "paper")


def test_a_manifest_or_key_that_is_none_is_told_in_one_line(folders, tmp_path):
    for name, wrong in [
        ("table6_key.json", {}),
        ("MANIFEST.json", {"runs": {"0": {}}}),
        ("MANIFEST.json", {"files": []}),
    ]:
        reproduced.write(["table6"], {0: folders[0]}, tmp_path)
        write_json(tmp_path / name, wrong)
        with pytest.raises(UserError, match=f"{name} is not as it was written"):
            reproduced.write(["table6"], {0: folders[0]}, tmp_path)
        (tmp_path / name).unlink()


def test_a_plan_tells_of_rows_that_are_missing_and_of_other_settings(tmp_path):
    stage = paml.Config(name="paml")
    write_json(tmp_path / "paml/result.json", {"seconds_of_last_process": 7200.0})
    write_json(
        tmp_path / "paml/fingerprint.json",
        {"name": "paml", "epochs": 100.0, "tasks": 8},
    )
    write_json(tmp_path / "evaluate/result.json", {"seconds_of_last_process": 3600.0})
    write_jsonl(tmp_path / "evaluate/responses/paml.jsonl", [])

    def plan(tasks, *rows):
        asked = [dataclasses.replace(stage, tasks=tasks)]
        rows = [("responses", row) for row in rows]
        return reproduced.plan({0: tmp_path}, {0: asked}, asked_of_rows, rows)

    asked_of_rows = evaluate.Config(title="another")
    made = {"name": "evaluate", "max_dialogues": 0, "title": "one", "batch_size": 2}
    write_json(tmp_path / "evaluate/fingerprint.json", made)
    done = plan(8, "paml")
    assert "| 0 | paml | done | 2.00 |" in done and "left: 0.00 hours" in done
    assert "| 0 | evaluate | done | 1.00 |" in done
    assert "| 0 | paml | has another tasks |" in plan(16, "paml")
    assert "| 0 | evaluate | missing |" in plan(8, "paml", "ours")
    asked_of_rows = evaluate.Config(max_dialogues=50)
    assert "| 0 | evaluate | has another max_dialogues |" in plan(8, "paml")
    (tmp_path / "paml/result.json").unlink()
    (tmp_path / "evaluate/result.json").unlink()
    assert plan(8, "paml").endswith("left: 2 that nobody has timed")


def test_what_is_asked_with_other_settings_than_the_configs_is_told(tmp_path, capsys):
    stage = paml.Config(name="paml")
    reproduced.tell_as_made([stage], tmp_path)  # not there yet
    write_json(tmp_path / "paml/result.json", {})
    made = {"name": "paml", "epochs": stage.epochs, "tasks": stage.tasks + 1}
    write_json(tmp_path / "paml/fingerprint.json", made)
    reproduced.tell_as_made([dataclasses.replace(stage, tasks=made["tasks"])], tmp_path)
    assert capsys.readouterr().err == ""
    reproduced.tell_as_made([stage], tmp_path)
    told = "paml was made with another tasks than the config has; it is asked as it is."
    assert capsys.readouterr().err == told + "\n"


def test_latex_takes_no_character_of_a_label_for_its_own(numbers, tmp_path):
    rows = numbers["responses"]
    odd = {**rows, "ours": {**rows["ours"], "label": "50 % & more_#1 R^2~{\\a} $"}}
    paths = paper_tables.write(tmp_path, "table1", {**numbers, "responses": odd})
    told = r"50 \% \& more\_\#1 R\textasciicircum{}2\textasciitilde{}"
    told += r"\{\textbackslash{}a\} \$ &"
    assert told in paths[1].read_text(encoding="utf-8")


def test_figure_3_has_its_points_beside_it(numbers, tmp_path):
    png, svg, points = paper_figures.figure3(tmp_path, numbers)
    assert png.stat().st_size > 5000 and svg.read_text("utf-8").startswith("<?xml")
    found = {(r["row"], r["N"]): float(r["value"]) for r in table_of(points)}
    by_turn = numbers["perplexity_by_turn"]
    assert found["ours", "2"] == by_turn["ours"]["2"]["value"]
    assert {turn for _, turn in found} == {"1", "2", "3", "4", "all"}
    assert {row for row, _ in found} == {"without", "ours_supervised", "ours"}


def test_figure_4_scales_each_run_by_its_own_beginning(folders, tmp_path):
    logs = [read_metrics(f / "reinforce/metrics.jsonl") for f in folders]
    png, _, points = paper_figures.figure4(tmp_path, logs)
    assert png.stat().st_size > 5000
    rows = [r for r in table_of(points) if r["metric"] == "valid_response_ppl"]
    assert [int(r["update"]) for r in rows] == [0, 20, 40] * 2
    shares = [float(r["scaled"]) for r in rows]
    assert shares == pytest.approx([1, 18 / 20, 16 / 20] * 2)
    assert paper_figures.figure4(tmp_path, []) == []


def test_cases_are_drawn_each_of_another_dialogue(folders, tmp_path):
    predictions = read(folders[0])
    drawn = cases._drawn(predictions, 17, seed=0)
    assert drawn == cases._drawn(predictions, 17, seed=0)
    assert drawn != cases._drawn(predictions, 17, seed=1)
    assert len({predictions.dialogues[row] for row in drawn}) == 17
    markdown, lines = cases.write(tmp_path, "table8", predictions, seed=0)
    assert len(table_of(lines)) == 17
    assert "17 of 120 instances, drawn by seed 0" in markdown.read_text("utf-8")
    assert cases.write(tmp_path, "table2", predictions, seed=0) == []  # no such rows
    for instance in predictions.instances:
        instance["response"] = "\x1b[2J"
    markdown, _ = cases.write(tmp_path, "table8", predictions, seed=0)
    assert "\x1b" not in markdown.read_text("utf-8")


def test_a_sentence_that_training_said_and_one_of_the_speaker_are_marked(
    tmp_path,
):
    run = make_run(tmp_path / "run")
    known = records(run, "instances.jsonl")[0]["partner_persona"][0]
    lines = records(run, "personas/supervised.jsonl")
    for line in lines:
        line["persona"] = f"{known} i am tall . nobody said so ."
    write_jsonl(run / "evaluate/personas/supervised.jsonl", lines)
    cases.write(tmp_path, "table3", read(run), seed=0)
    (text,) = {
        r["generated partner persona"] for r in table_of(tmp_path / "table3.csv")
    }
    assert text == f"{known}° i am tall .^ nobody said so ."


def test_personas_of_nothing_and_rows_without_texts_have_a_report(tmp_path):
    run = make_run(tmp_path / "run")
    lines = records(run, "personas/supervised.jsonl")
    empty = [line | {"persona": ""} for line in lines]
    write_jsonl(run / "evaluate/personas/supervised.jsonl", empty)
    bare = [{key: line[key] for key in ("id", "nll", "tokens")} for line in lines]
    write_jsonl(run / "evaluate/personas/mine.jsonl", bare)
    write_json(run / "evaluate/personas/mine.json", {"against": ["supervised"]})
    report.write_report(run, "Nothing", paper=False)
    numbers = read_json(run / "report.json")
    assert numbers["personas"]["supervised"]["metrics"]["novelty"]["value"] == 0
    assert numbers["personas"]["mine"]["metrics"].keys() >= {"ppl_token"}


def test_a_table_of_rl_without_what_it_began_with_is_written(numbers, tmp_path):
    rows = {k: v for k, v in numbers["responses"].items() if k != "ours_supervised"}
    path = paper_tables.write(tmp_path, "table1", {**numbers, "responses": rows})[0]
    assert "Ours with RL" in path.read_text(encoding="utf-8")


def test_what_tells_most_of_the_context_is_shown():
    said = "i walk my two dogs in the park"
    sentences = ["i like music .", "my two dogs are old .", "dogs ."]
    assert cases._nearest(sentences, said) == sentences[1]
    assert cases._nearest([], said) == ""
    assert cases._nearest(["a .", "b ."], said) == "a ."


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "+0.00"), (0.004, "+0.004"), (-0.0312, "-0.03")]
)
def test_a_small_difference_is_not_shown_as_none(value, shown):
    measured = {"value": value, "low": value, "high": value}
    assert tables.signed_interval(measured, 2) == f"{shown} ({shown} to {shown})"


def test_a_table_without_any_of_its_rows_is_not_written(numbers, tmp_path):
    none = {**numbers, "responses": {}}
    assert paper_tables.write(tmp_path, "exposure", none) == []
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_decoded_in_a_way_of_our_own_say_so():
    plain = {"label": "Plain", "chosen": False, "metrics": {}}
    ours = {"label": "Ours", "chosen": True, "metrics": {}}
    assert readings({"ours_plain": plain}) == []
    (told,) = readings({"ours_supervised": ours})
    assert "which the paper does not have. In all" in told
    (told,) = readings({"ours_supervised": ours, "ours_plain": plain})
    assert "without that: Plain" in told


def test_a_reward_of_no_critic_cannot_please_the_critic_that_pays():
    def row(critic):
        held = {"value": 0.5, "low": 0.49, "high": 0.51}
        paid = {"value": critic, "low": critic - 0.01, "high": critic + 0.01}
        metrics = {"critic": paid, "held_out_critic": held}
        return {"label": f"row {critic}", "metrics": metrics}

    before, after = row(0.5), row(0.6)
    (told,) = readings({"ours_supervised": before, "ours_last": after})
    assert told.startswith("row 0.6: the critic that pays")
    assert readings({"ours_supervised": before, "ours_traits": after}) == []


def scored(label, **values):
    measured = {
        name: {"value": value, "low": value - 0.01, "high": value + 0.01}
        for name, value in values.items()
    }
    return {"label": label, "metrics": measured}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (20.001, "Under Adam the scale of a reward does nothing"),
        (21.0, "Perplexity moves with the scale in scaled, by 5.0%"),
    ],
)
def test_a_scale_does_nothing_where_perplexity_stays(value, told):
    plain, scaled = scored("plain", ppl_token=20.0), scored("scaled", ppl_token=value)
    (said,) = readings({"ours_last": plain, "ours_persona_x10": scaled})
    assert said.startswith(told)


def test_a_reward_that_a_held_out_critic_pays_too_is_not_called_hacked():
    names = (("a", 0.5), ("b", 0.6))
    before, after = (scored(n, critic=v, held_out_critic=v) for n, v in names)
    assert readings({"ours_supervised": before, "ours_last": after}) == []


def test_a_table_corrects_the_tests_that_it_shows(numbers, tmp_path):
    """Whatever else was tested, and however that was corrected."""
    tests = numbers["response_tests"]
    before = paper_tables.write(tmp_path, "table1", numbers)[0].read_text("utf-8")
    stale = [{**t, "p_holm": 1.0, "significant": False} for t in tests]
    other = [{**t, "a": "elsewhere", "p": 0.0} for t in tests]
    more = {**numbers, "response_tests": stale + other}
    assert paper_tables.write(tmp_path, "table1", more)[0].read_text("utf-8") == before


def test_table_7_has_no_controls(numbers, tmp_path):
    text = paper_tables.write(tmp_path, "table7", numbers)[0].read_text("utf-8")
    assert "Ours with RL" in text and "control" not in text


def test_a_table_of_one_seed_says_so(folders, tmp_path):
    one = over_seeds.compute(folders[:1], with_paper=False)
    text = paper_tables.write(tmp_path, "table1", one)[0].read_text("utf-8")
    assert "One seed, 120 instances" in text and "and seeds;" not in text


def test_cases_are_of_partners_with_personas(folders):
    found = read(folders[0])
    told = [
        {**i, "partner_persona": i["partner_persona"] if n % 2 else []}
        for n, i in enumerate(found.instances)
    ]
    drawn = cases._drawn(dataclasses.replace(found, instances=told), 17, seed=0)
    assert len(drawn) == 17 and all(told[row]["partner_persona"] for row in drawn)


def test_table_2_has_each_text_in_its_column(folders, tmp_path):
    found = read(folders[0])
    texts, rows = found.records["responses"], found.rows["responses"]
    texts, rows = ({**known, "full": known["without"]} for known in (texts, rows))
    texts["ours"] = [{**r, "partner_persona": "i fly."} for r in texts["ours"]]
    changed = dataclasses.replace(
        found,
        records={**found.records, "responses": texts},
        rows={**found.rows, "responses": rows},
    )
    lines = table_of(cases.write(tmp_path, "table2", changed, seed=0)[1])
    drawn = cases._drawn(changed, len(lines), seed=0)
    assert len(lines) == 4
    for row, line in zip(drawn, lines, strict=True):
        assert line["context"] == found.instances[row]["context"][-1]
        assert line["generated partner"] == "i fly."
        assert line["human"] == found.instances[row]["response"]
        assert line["Ours with RL"] == texts["ours"][row]["response"]
        assert line[rows["full"].label] == texts["full"][row]["response"]
