"""Questions hide whose answer is whose; votes become the table, or are told as none."""

import csv
import json

import numpy as np
import pytest

from ppg_jax.errors import UserError
from ppg_jax.metrics import votes
from ppg_jax.metrics.significance import binomial_p, holm, wilson
from ppg_jax.report import human, paper
from ppg_jax.report.predictions import read
from tests.report.test_report import make_run, write_jsonl
from tests.report.test_report import read as records


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    return read(make_run(tmp_path_factory.mktemp("run")))


@pytest.fixture
def asked(predictions, tmp_path):
    """The folder, the questions and the key of the questionnaire on personas."""
    questions, key = human.write(tmp_path, "table6", predictions, seed=0)
    with questions.open(encoding="utf-8-sig", newline="") as file:
        return tmp_path, list(csv.DictReader(file)), json.loads(key.read_text())


def vote(folder, lines, head="item,criterion,rater,choice"):
    text = "\n".join([head, *(",".join(map(str, line)) for line in lines)]) + "\n"
    (folder / "table6_votes.csv").write_text(text, encoding="utf-8")


def test_a_question_shows_both_answers_and_not_whose_they_are(asked, predictions):
    _, questions, key = asked
    gold, ours = (predictions.records["personas"][n] for n in paper.SHOWN["table6"])
    texts = {
        r["id"]: (r["persona"], g["persona"]) for r, g in zip(ours, gold, strict=True)
    }
    assert {q["criterion"] for q in questions} == {*paper.VOTES["table6"]}
    assert len(questions) == 4 * len(key["instances"])
    firsts = []
    for question in questions:
        mine, other = texts[key["instances"][int(question["item"]) - 1]]
        first = key["wins"][f"{question['item']} {question['criterion']}"] == "A"
        assert (question["A"], question["B"]) == (
            (mine, other) if first else (other, mine)
        )
        firsts.append(first)
    assert 0.4 < np.mean(firsts) < 0.6
    assert not {"ours", "gold", "supervised"} & {*questions[0]}


def test_the_same_answer_twice_is_no_question(predictions, tmp_path):
    run = make_run(tmp_path / "run")
    lines = records(run, "personas/supervised.jsonl")
    gold = records(run, "personas/gold.jsonl")
    for line, other in zip(lines[:100], gold, strict=False):
        line["persona"] = other["persona"]
    write_jsonl(run / "evaluate/personas/supervised.jsonl", lines)
    _, key = human.write(tmp_path, "table6", read(run), seed=0)
    asked = json.loads(key.read_text())["instances"]
    assert sorted(asked) == sorted(line["id"] for line in lines[100:])


def test_votes_become_a_table_with_the_papers_beside(asked, predictions):
    folder, _, key = asked
    lines = []
    for item in range(1, 31):
        ours = key["wins"][f"{item} coherence"]
        theirs = "B" if ours == "A" else "A"
        lines += [(item, "coherence", r, ours if item <= 24 else theirs) for r in "xyz"]
    vote(folder, lines)
    markdown, numbers = human.write(folder, "table6", predictions, seed=0)[2:]
    with numbers.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["criterion"], row["votes"], row["raters"]) == ("coherence", "90", "3")
    assert float(row["won"]) == pytest.approx(80)
    assert (row["items won"], row["lost"], row["tied"]) == ("24", "6", "0")
    assert float(row["p (Holm)"]) == pytest.approx(binomial_p(24, 30))
    assert float(row["kappa"]) == 1
    assert row["paper: won"] == "59"
    assert float(row["paper: p of its votes"]) == pytest.approx(binomial_p(354, 600))
    text, rows = markdown.read_text("utf-8"), predictions.rows["personas"]
    assert "| coherence | 90 | 3 | 80.0 |" in text
    other, own = (rows[row].label for row in paper.SHOWN["table6"])
    assert f"Share of votes for {own} against {other}, " in text


@pytest.mark.parametrize(
    "lines, told",
    [
        ([(999, "coherence", "x", "A")], r":2: item '999' of 'coherence' is no quest"),
        ([(1, "beauty", "x", "A")], r":2: item '1' of 'beauty' is no question"),
        ([(1, "coherence", "x", "ours")], r":2: choice is 'ours', expected A or B"),
        ([(1, "coherence", "x", "A")] * 2, r":3: rater 'x' voted here before"),
    ],
)
def test_a_line_that_is_no_vote_is_named(lines, told, asked, predictions):
    vote(asked[0], lines)
    with pytest.raises(UserError, match=told) as error:
        human.write(asked[0], "table6", predictions, seed=0)
    assert "\n" not in str(error.value)


def test_votes_without_a_column_are_told(asked, predictions):
    vote(asked[0], [(1, "coherence", "x", "A")], head="item,criterion,who,choice")
    with pytest.raises(UserError, match="expected the columns item, criterion, rater"):
        human.write(asked[0], "table6", predictions, seed=0)


def test_votes_that_a_spreadsheet_saved_are_read(asked, predictions):
    folder, *_ = asked
    assert (folder / "table6_questions.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    vote(folder, [(1, "coherence", "Jos\u00e9", "A")])
    file = folder / "table6_votes.csv"
    text = file.read_text(encoding="utf-8")
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    paths = human.write(folder, "table6", predictions, seed=0)
    table = next(p for p in paths if p.suffix == ".md").read_text(encoding="utf-8")
    assert "With 1 items voted on" in table
    file.write_bytes(text.encode("cp1252"))
    with pytest.raises(UserError, match="is not UTF-8; save it as CSV in UTF-8"):
        human.write(folder, "table6", predictions, seed=0)


def test_a_wrong_vote_is_told_by_its_line_in_the_file(asked, predictions):
    vote(asked[0], [(1, "coherence", "a\nb", "A"), (1, "beauty", "x", "A")])
    file = asked[0] / "table6_votes.csv"
    text = file.read_text(encoding="utf-8").replace("a\nb", '"a\nb"')
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r":4: item '1' of 'beauty'"):
        human.write(asked[0], "table6", predictions, seed=0)


def test_votes_on_other_questions_are_not_counted(asked, predictions):
    folder, *_ = asked
    before = (folder / "table6_questions.csv").read_bytes()
    vote(folder, [(1, "coherence", "x", "A")])
    with pytest.raises(UserError, match="votes on other questions"):
        human.write(folder, "table6", predictions, seed=1)
    assert (folder / "table6_questions.csv").read_bytes() == before


def test_questions_that_people_may_have_stay_as_they_are(asked, tmp_path, capsys):
    folder, questions, key = asked
    other = read(make_run(tmp_path / "other", seed=1))
    paths = human.write(folder, "table6", other, seed=0)
    with paths[0].open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.DictReader(file)) == questions
    assert json.loads(paths[1].read_text()) == key
    told = capsys.readouterr().out
    assert "asks about other runs, and stays; move" in told and "to ask anew" in told
    paths[1].unlink()
    anew = human.write(folder, "table6", other, seed=0)[1]
    assert json.loads(anew.read_text()) != key


def test_rows_that_are_not_there_are_not_asked_about(predictions, tmp_path):
    assert human.write(tmp_path, "table5", predictions, seed=0) == []
    assert not list(tmp_path.iterdir())


def test_a_file_without_any_vote_is_no_table_yet(asked, predictions, capsys):
    vote(asked[0], [])
    assert len(human.write(asked[0], "table6", predictions, seed=0)) == 2
    assert "table6_votes.csv: holds no vote yet" in capsys.readouterr().out


def test_a_few_votes_are_no_certainty_and_find_nothing(asked, predictions):
    folder, _, key = asked
    won = [(n, "coherence", "x", key["wins"][f"{n} coherence"]) for n in range(1, 6)]
    vote(folder, won)
    markdown, numbers = human.write(folder, "table6", predictions, seed=0)[2:]
    told = markdown.read_text(encoding="utf-8")
    assert "With 5 items voted on, no share is found in four of five studies" in told
    with numbers.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["won"]) == 100
    assert float(row["low"]) == pytest.approx(100 * wilson(5, 5).low)


def test_so_many_items_are_asked_as_in_the_paper(predictions, tmp_path, monkeypatch):
    monkeypatch.setattr(human, "ITEMS", 5)
    _, key = human.write(tmp_path, "table6", predictions, seed=0)
    assert len(json.loads(key.read_text())["instances"]) == 5


def test_several_criteria_are_corrected_together_and_power_is_of_the_fewest_items(
    asked, predictions
):
    folder, _, key = asked
    lines = [(n, "coherence", "x", key["wins"][f"{n} coherence"]) for n in range(1, 13)]
    for n in range(1, 51):
        ours = key["wins"][f"{n} engagingness"]
        lines.append((n, "engagingness", "x", ours if n <= 30 else "AB"[ours == "A"]))
    vote(folder, lines)
    markdown, numbers = human.write(folder, "table6", predictions, seed=0)[2:]
    with numbers.open(encoding="utf-8", newline="") as file:
        found = {r["criterion"]: float(r["p (Holm)"]) for r in csv.DictReader(file)}
    expected = holm([binomial_p(12, 12), binomial_p(30, 50)])
    assert [found["coherence"], found["engagingness"]] == pytest.approx(expected)
    least = votes.detectable(12, level=0.05 / 2)
    assert votes.detectable(12) != least
    told = f"With 12 items voted on, a true share of {least:.0%} is found"
    assert told in markdown.read_text(encoding="utf-8")


def test_spaces_around_a_vote_are_none_of_it(asked, predictions):
    vote(asked[0], [(" 1 ", "coherence ", " x", " A")])
    assert len(human.write(asked[0], "table6", predictions, seed=0)) == 4
