"""The report says what the metrics say, finds what is there and nothing else."""

import ast
import csv
import dataclasses
import io
import json
import re
import resource
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ppg_jax import presets
from ppg_jax.errors import UserError
from ppg_jax.experiment import from_config_dict
from ppg_jax.metrics import bleu_rouge, distinct, significance
from ppg_jax.report import (
    columns,
    drawing,
    figures,
    paper,
    predictions,
    report,
    results,
    scores,
    traits,
    words,
)
from ppg_jax.report.scores import Score
from ppg_jax.report.tables import comma_separated, p_value, table
from tests.metrics.test_ppl import perplexities as perplexities_of
from tests.run_for_tests import FINISHED

DIALOGUES, TURNS = 30, 4
WORDS = ["i", "like", "to", "play", "music", "with", "my", "two", "dogs", "and", "you"]


def write_jsonl(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def sentence(rng, length=8):
    return " ".join(rng.choice(WORDS, length)) + " ."


def instances(rng):
    records = []
    for dialogue in range(DIALOGUES):
        partner = [sentence(rng, 5) for _ in range(3)]
        said = [sentence(rng) for _ in range(2 * TURNS)]
        for turn in range(TURNS):
            records.append(
                {
                    "id": f"test:{dialogue}:{turn}",
                    "dialogue": f"test:{dialogue}",
                    "turn": turn,
                    "self_persona": ["i am tall ."],
                    "partner_persona": partner,
                    "context": said[: 2 * turn + 1],
                    "response": said[2 * turn + 1],
                }
            )
    return records


def write_responses(folder, name, known, rng, right=0.0, nll=None):
    """A system that gives the gold response with probability `right`."""
    write_jsonl(
        folder / f"responses/{name}.jsonl",
        [
            {
                "id": i["id"],
                "response": i["response"] if rng.random() < right else sentence(rng),
                "nll": None if nll is None else float(nll[row]),
                "tokens": None if nll is None else 10,
                "partner_persona": None,
                "critic_score": float(rng.random()),
                "held_out_score": float(rng.random()),
            }
            for row, i in enumerate(known)
        ],
    )


def write_personas(folder, name, known, rng, nll=None):
    write_jsonl(
        folder / f"personas/{name}.jsonl",
        [
            {
                "id": i["id"],
                "persona": " ".join(i["partner_persona"])
                if name == "gold"
                else sentence(rng, 12),
                "nll": None if nll is None else float(nll[row]),
                "tokens": None if nll is None else 20,
                "ended": None if nll is None else bool(rng.random() < 0.9),
            }
            for row, i in enumerate(known)
        ],
    )


def write_beside(folder, known, rng):
    """Traits of each row of personas, and what is swapped, as `evaluate` leaves them.

    `supervised` has more right traits than the control, and both models heed what is
    theirs."""
    for name in ("gold", "constant", "supervised", "reinforced"):
        right = rng.integers(1, 3, len(known)) * (name != "constant")
        records = [
            {
                "id": i["id"],
                "inferred": 4,
                "said": 1,
                "unsaid": 2,
                "right": int(right[row]),
                "right_said": int(right[row] > 0),
                "right_unsaid": int(right[row] > 1),
                "exact": int(rng.random() < 0.1),
                "repeated": int(rng.random() < 0.2),
                "copied": int(rng.random() < 0.3),
                "of_self": int(rng.random() < 0.4),
            }
            for row, i in enumerate(known)
        ]
        write_jsonl(folder / f"traits/{name}.jsonl", records)
    for row in ("personas/supervised", "responses/ours"):
        write_swapped(folder, row, known[: 20 * TURNS], rng, 5.0)


def write_swapped(folder, row, known, rng, loss):
    """loss: in nats, of what is a stranger's."""
    own, gap = rng.normal(25, 1, len(known)), rng.normal(0, 1, len(known))
    other = own + loss + gap - gap.mean()
    records = [
        {
            "id": i["id"],
            "other": "test:0:0",
            "nll": own[n],
            "nll_other": other[n],
            "tokens": 10,
        }
        for n, i in enumerate(known)
    ]
    write_jsonl(folder / f"swapped/{row}.jsonl", records)


def write_logs(run_dir, rng):
    steps = range(1, 41)
    for stage in ("persona", "response", "critic"):
        losses = [{"step": s, "loss": 5 / s + float(rng.random())} for s in steps]
        valid = [
            {"step": s, "valid_nll": 5 / (s + 1), "valid_accuracy": 0.6}
            for s in (0, 40)
        ]
        write_jsonl(run_dir / stage / "metrics.jsonl", valid[:1] + losses + valid[1:])
        write_json(run_dir / stage / "result.json", FINISHED | {"parameters": 1234})
    keys = ["reward", "critic_score", "persona_kl", "response_kl", "persona_length"]
    logged = [{"step": s, **{k: float(rng.random()) for k in keys}} for s in steps]
    valid = [
        {"step": s, "valid_response_ppl": 20.0 - s / 10, "valid_persona_ppl": 50.0}
        for s in (0, 20, 40)
    ]
    write_jsonl(run_dir / "reinforce/metrics.jsonl", logged + valid)
    share = {"accuracy": 0.7, "low": 0.6, "high": 0.8, "right": 70, "pairs": 100}
    accuracy = {"test": {"self": {"critic": share, "random": share}}}
    write_json(run_dir / "critic/result.json", FINISHED | {"accuracy": accuracy})
    write_json(
        run_dir / "reinforce/fingerprint.json", {"name": "reinforce", "reward": "sign"}
    )
    result = {
        "updates": 40,
        "best_update": 0,
        "stopped_because": "no better for 2 validations",
        "valid_response_ppl": 20.0,
        "valid_response_ppl_before": 20.0,
    }
    write_json(run_dir / "reinforce/result.json", FINISHED | result)


BEST = predictions.BEST_CONTROL
ROWS = {
    "responses": {
        "without": ("E2E without partner personas", ()),
        "ours_supervised": ("Ours without RL", ("without", BEST)),
        "ours": ("Ours with RL", ("ours_supervised",)),
        "constant_bleu": ("control: one reply, for BLEU", None),
        "random": ("control: a random reply", None),
    },
    "personas": {
        "gold": ("Gold personas", ()),
        "supervised": ("Generator without RL", (BEST,)),
        "reinforced": ("Generator with RL", ("supervised",)),
        "constant": ("control: one persona for all", None),
    },
}
TASKS = {"persona": "persona", "response": "response", "critic": "critic"}
TASKS |= {"reinforce": "reinforce"}


def write_evaluation(run_dir, known, rows=ROWS, version="original"):
    """What an evaluation leaves beside its records."""
    folder = run_dir / "evaluate"
    write_jsonl(folder / "instances.jsonl", known)
    sentences = [known[0]["partner_persona"][0]]
    write_json(folder / "training_sentences.json", {"sentences": sentences})
    write_json(
        folder / "fingerprint.json", {"name": "evaluate", "data.version": version}
    )
    told = {
        kind: [
            {
                "name": name,
                "kind": kind,
                "label": label,
                "control": against is None,
                "against": against or (),
            }
            for name, (label, against) in named.items()
        ]
        for kind, named in rows.items()
    }
    write_json(folder / "rows.json", told)
    made = {"version": "1", "commit": "abc", "packages": {"jax": "2"}, "seed": 0}
    write_json(folder / "provenance.json", made | {"sums": {"sha256 of the": "d" * 64}})
    stages = [{"name": n, "task": t, "needs": []} for n, t in TASKS.items()]
    write_json(run_dir / "experiment.json", {"stages": stages, "systems": []})


def make_run(run_dir, paper_version="original", seed=0):
    """`ours` is planted better than `ours_supervised`, which is `without` in all but
    chance. The seed decides what is said, not what is asked."""
    rng = np.random.default_rng(0)
    folder = run_dir / "evaluate"
    known = instances(rng)
    rng = np.random.default_rng(seed) if seed else rng
    write_evaluation(run_dir, known, version=paper_version)
    base = rng.normal(25, 3, len(known))
    for name, gain, right in [
        ("without", 0, 0.3),
        ("ours_supervised", 0, 0.3),
        ("ours", 2, 0.7),
    ]:
        nll = base - gain + rng.normal(0, 1, len(known))
        write_responses(folder, name, known, rng, right, nll)
    for name in ("constant_bleu", "random"):
        write_responses(folder, name, known, rng)
    for name in ("gold", "constant", "supervised", "reinforced"):
        nll = base * 2 if name in ("supervised", "reinforced") else None
        write_personas(folder, name, known, rng, nll)
    write_beside(folder, known, rng)
    write_logs(run_dir, rng)
    return run_dir


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("run"))
    report.write_report(folder, "A title", paper=True)
    return folder


@pytest.fixture(scope="module")
def numbers(run_dir):
    return json.loads((run_dir / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text(run_dir):
    return (run_dir / "report.md").read_text(encoding="utf-8")


@pytest.fixture
def few_resamples(monkeypatch):
    """For tests of what stands in a report, not of its intervals."""
    monkeypatch.setattr(scores, "RESAMPLES", 20)
    monkeypatch.setattr(scores, "PERMUTATIONS", 20)


def read(run_dir, name):
    lines = (run_dir / "evaluate" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def values(system):
    return {key: m["value"] for key, m in system["metrics"].items()}


def test_responses_have_the_values_of_the_metrics(run_dir, numbers):
    known, records = (
        read(run_dir, "instances.jsonl"),
        read(run_dir, "responses/ours.jsonl"),
    )
    gold, texts = [i["response"] for i in known], [r["response"] for r in records]
    perplexities = perplexities_of(
        [r["nll"] for r in records],
        [r["tokens"] for r in records],
        [len(t.split()) for t in gold],
    )
    expected = {f"ppl_{k}": v for k, v in perplexities.items()} | {
        "bleu": bleu_rouge.parlai_bleu(texts, gold).mean(),
        "sacrebleu": bleu_rouge.sacre_bleu(texts, gold).score,
        "rouge_parlai": bleu_rouge.rouge_l(texts, gold, "parlai-f").mean(),
        "rouge_google": bleu_rouge.rouge_l(texts, gold, "google").mean(),
        "f1": bleu_rouge.token_f1(texts, gold).mean(),
        "distinct_1": distinct.distinct(texts, 1),
        "distinct_2": distinct.distinct(texts, 2),
        "length": distinct.lengths(texts).mean(),
        "critic": np.mean([r["critic_score"] for r in records]),
        "held_out_critic": np.mean([r["held_out_score"] for r in records]),
    }
    assert values(numbers["responses"]["ours"]) == pytest.approx(expected)


def test_personas_have_the_values_of_the_metrics(run_dir, numbers):
    known = read(run_dir, "instances.jsonl")
    records = read(run_dir, "personas/supervised.jsonl")
    gold = [" ".join(i["partner_persona"]) for i in known]
    texts = [r["persona"] for r in records]
    seen = values(numbers["personas"]["supervised"])
    training = predictions.read(run_dir).training_sentences
    new, said = distinct.novelty_columns(texts, training).sum(axis=0)
    assert seen["bleu"] == pytest.approx(bleu_rouge.parlai_bleu(texts, gold).mean())
    assert seen["novelty"] == pytest.approx(new / said)
    assert seen["ended"] == pytest.approx(np.mean([r["ended"] for r in records]))
    assert seen["intra_distinct_2"] == pytest.approx(
        distinct.intra_distinct(texts, 2).mean()
    )


def test_gold_personas_are_described_but_not_compared_with_themselves(numbers):
    gold = numbers["personas"]["gold"]["metrics"]
    assert "distinct_1" in gold and "bleu" not in gold and "ppl_token" not in gold
    assert gold["novelty"]["value"] < 1  # one sentence of theirs is in training


def test_intervals_resample_whole_dialogues(run_dir, numbers):
    known, records = (
        read(run_dir, "instances.jsonl"),
        read(run_dir, "responses/ours.jsonl"),
    )
    gold, texts = [i["response"] for i in known], [r["response"] for r in records]
    expected = significance.bootstrap(
        [bleu_rouge.token_f1(texts, gold)],
        groups=[n // TURNS for n in range(len(known))],
    )
    seen = numbers["responses"]["ours"]["metrics"]["f1"]
    assert {k: seen[k] for k in expected._fields} == pytest.approx(expected._asdict())


def test_every_interval_holds_its_value(numbers):
    for kind in ("responses", "personas"):
        for system in numbers[kind].values():
            for m in system["metrics"].values():
                assert m["low"] <= m["value"] <= m["high"]


def between(numbers, a, b):
    return {
        t["metric"]: t for t in numbers["response_tests"] if (t["a"], t["b"]) == (a, b)
    }


def test_a_planted_difference_is_found(numbers, text):
    found = between(numbers, "ours", "ours_supervised")
    assert {t["better"] for t in found.values()} == {"ours"}
    assert found["ppl_token"]["difference"]["high"] < 0
    glance = text.partition("## Responses")[0]
    assert re.search(r"Ours with RL\*\* against Ours without RL: better in PPL", glance)


def test_no_difference_is_found_where_there_is_none(numbers, text):
    found = between(numbers, "ours_supervised", "without")
    assert {t["better"] for t in found.values()} == {None}
    line = next(
        line for line in text.splitlines() if "against E2E without partner" in line
    )
    assert "no difference shown in" in line and "better" not in line


def test_the_papers_differences_are_counted_by_what_is_found(numbers):
    """3 for ours against without RL (all planted); 3 against `without` (chance)."""
    told = [t for t in numbers["at_a_glance"] if "in the paper's tables" in t]
    assert told == [
        "Of the 6 differences between these systems in the paper's tables, 3 are found "
        "here with significance, 0 with significance the other way round, 3 are not "
        "shown either way."
    ]


def test_the_p_values_are_corrected_together(numbers):
    tests = numbers["response_tests"]
    assert [t["p_holm"] for t in tests] == pytest.approx(
        significance.holm([t["p"] for t in tests])
    )


def test_the_best_control_is_the_best_per_metric(numbers):
    controls = {n: s for n, s in numbers["responses"].items() if s["control"]}
    against = [t for t in numbers["response_tests"] if t["b"] in controls]
    assert {t["metric"] for t in against} == {"bleu", "rouge_parlai", "f1"}
    for test in against:
        best = max(s["metrics"][test["metric"]]["value"] for s in controls.values())
        assert values(controls[test["b"]])[test["metric"]] == best


def test_perplexities_of_other_vocabularies_are_compared_per_word(
    tmp_path, run_dir, few_resamples
):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    records = read(run_dir, "responses/without.jsonl")
    for record in records[5:]:
        record["tokens"] += 3
    write_jsonl(copy / "evaluate/responses/without.jsonl", records)
    tests = results.compute(copy, False)["response_tests"]
    metrics = {
        other: {t["metric"] for t in tests if ("without" in (t["a"], t["b"])) is other}
        for other in (True, False)
    }
    assert "ppl_word" in metrics[True] and "ppl_token" not in metrics[True]
    assert "ppl_token" in metrics[False] and "ppl_word" not in metrics[False]
    compared = results.compute(copy, False)
    assert compared["turns_in"] == "ppl_word"
    point = compared["perplexity_by_turn"]["without"]["all"]["value"]
    assert point == values(compared["responses"]["without"])["ppl_word"]
    title = figures.systems_bar(compared["responses"]).axes[0].get_title()
    assert title == "Perplexity per word\n(lower is better)"
    plain = results.compute(run_dir, False)
    assert plain["turns_in"] == "ppl_token"
    title = figures.systems_bar(plain["responses"]).axes[0].get_title()
    assert title == "Perplexity per token\n(lower is better)"


def test_a_label_is_drawn_as_it_is_written():
    assert drawing.lettered("_mine") == " _mine"
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1], [1], label=drawing.lettered("_a $x_$ b$"))
    legend = axes.legend()
    figure.savefig(io.BytesIO(), format="png")  # a formula that is none would raise
    assert len(legend.get_texts()) == 1


def test_a_label_is_drawn_without_what_no_font_has():
    assert drawing.lettered("a\x1b[2J$ \x07b") == "a [2J\\$  b"


def test_perplexity_per_word_is_of_the_words_that_were_scored(run_dir):
    """A text without words counts as one, a part of a text as a part of its words."""
    found = predictions.read(run_dir)
    records = [dict(record) for record in found.records["responses"]["ours"]]
    instances = [dict(instance) for instance in found.instances]
    instances[0]["response"] = " "  # of 10 tokens
    instances[1]["response"] = "one two three four five six"
    records[1]["cut"] = 20
    changed = dataclasses.replace(
        found,
        instances=instances,
        records={**found.records, "responses": {"ours": records}},
    )
    score = results.row_scores(changed, "responses", "ours")["ppl_word"]
    words = [len(instance["response"].split()) for instance in instances]
    assert score.columns[:, 1].tolist() == [1, 2, *words[2:]]
    nll = sum(record["nll"] for record in records)
    assert score.value == pytest.approx(np.exp(nll / (3 + sum(words[2:]))))
    token = results.row_scores(changed, "responses", "ours")["ppl_token"]
    assert token.value == pytest.approx(np.exp(nll / (10 * len(records))))


def test_what_a_row_had_no_room_for_makes_no_other_vocabulary():
    records = {"a": [{"tokens": 10}] * 4, "b": [{"tokens": 7, "cut": 3}] * 4}
    assert not results._differ(records, "a", "b")
    records["b"] = [{"tokens": 7}] * 4
    assert results._differ(records, "a", "b")


def test_a_gold_persona_is_compared_as_models_are_told_it(run_dir):
    """Its sentences have their full stops, whether the data had them or not."""
    found = predictions.read(run_dir)
    instances = [
        {
            **i,
            "partner_persona": ["i sing", "i swim"],
            "gold_persona": "i sing. i swim.",
        }
        for i in found.instances
    ]
    told = [{"id": i["id"], "persona": "i sing. i swim."} for i in instances]
    personas = {**found.records["personas"], "gold": told, "constant": told}
    changed = dataclasses.replace(
        found,
        instances=instances,
        records={**found.records, "personas": personas},
    )
    scores = results.row_scores(changed, "personas", "gold")
    assert "bleu" not in scores  # gold is not compared with gold
    assert scores["novelty"].columns[0, 1] == 2
    assert predictions.read(run_dir).gold_personas == [
        " ".join(i["partner_persona"]) for i in found.instances
    ]


def test_too_few_groups_for_any_test_are_told(numbers):
    """Two of 2 ** G ways to swap G groups give what was seen; Holm's take the rest."""
    told = lambda numbers: [t for t in words.at_a_glance(numbers) if "too few" in t]  # noqa: E731
    assert told(numbers) == []
    tests = [t for t in numbers["persona_tests"] if "distinct" not in t["metric"]]
    few = 1 + int(np.ceil(np.log2(len(tests) / scores.ALPHA)))
    for count, kinds in ((few, []), (few - 1, ["personas"])):
        partner = {"name": "base persona", "count": count}
        units = {**numbers["units"], "self": numbers["units"]["partner"]}
        fewer = {**numbers, "units": units | {"partner": partner}, "response_tests": []}
        found = told(fewer)
        assert len(found) == len(kinds)
        for kind, sentence in zip(kinds, found, strict=True):
            assert f"for the {len(tests)} planned comparisons of {kind} by" in sentence


def test_a_control_that_leads_is_told(numbers):
    systems = json.loads(json.dumps(numbers["responses"]))
    systems["random"]["metrics"]["bleu"]["value"] = 99.0
    told = words.at_a_glance({**numbers, "responses": systems})
    warning = "ahead of every model in BLEU-4 (a random reply: 99.000) of the responses"
    assert any(warning in t for t in told)
    before = [t for t in numbers["at_a_glance"] if "of the responses" in t]
    assert before == []


def test_perplexity_by_turn_is_that_of_the_instances_of_the_turn(run_dir, numbers):
    known, records = (
        read(run_dir, "instances.jsonl"),
        read(run_dir, "responses/ours.jsonl"),
    )
    nll = [r["nll"] for r, i in zip(records, known, strict=True) if i["turn"] == 1]
    seen = numbers["perplexity_by_turn"]["ours"]
    assert seen["2"]["value"] == pytest.approx(np.exp(np.mean(nll) / 10))
    assert seen["2"]["instances"] == seen["4 or more"]["instances"] == DIALOGUES
    assert seen["all"]["value"] == values(numbers["responses"]["ours"])["ppl_token"]


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, pixels = 8, b""
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"IDAT":
            pixels += data[position + 8 : position + 8 + length]
        position += 12 + length
    assert len(set(zlib.decompress(pixels))) > 10  # something is drawn
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_every_figure_is_a_picture_that_the_report_shows(run_dir, text):
    shown = re.findall(r"!\[[^\]]*\]\((figures/\w+\.png)\)", text)
    assert {f"figures/{p.name}" for p in (run_dir / "figures").iterdir()} == set(shown)
    assert len(shown) == 6
    for name in shown:
        assert png_size(run_dir / name)[0] >= 1200


def test_a_report_that_is_broken_off_has_no_report_json(
    tmp_path, few_resamples, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    run_dir = make_run(tmp_path)
    for before in (False, True):
        assert (run_dir / "report.json").exists() == before
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(figures, "_written", killed)
            report.write_report(run_dir, "A title", paper=False)
        assert not (run_dir / "report.json").exists()
        report.write_report(run_dir, "A title", paper=False)


def test_a_figure_for_which_there_is_no_room_is_named(run_dir, numbers, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OSError) as error:
            figures.draw(copy, numbers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    named = Path(error.value.filename)
    assert (named.parent, named.suffix) == (copy / "figures", ".png")
    assert not any((copy / "figures").iterdir())  # nor half of it


def tables(text):
    """The blocks of lines that begin with a bar."""
    blocks = re.split(r"\n\n+", text)
    return [b.splitlines() for b in blocks if b.startswith("|")]


def test_every_markdown_table_is_well_formed(text):
    found = tables(text)
    assert len(found) >= 8
    for lines in found:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) == 1 and len(lines) > 2
        assert re.fullmatch(r"\|( -{3}:? \|)+", lines[1])
    assert "nan" not in text and "None" not in text


def test_a_text_with_a_bar_does_not_break_a_table():
    assert table(["", "x"], [["a|b\nc", "1"]]).splitlines()[2] == "| a\\|b c | 1 |"


def test_the_papers_numbers_are_of_the_version_and_shown_on_request_only(
    tmp_path, numbers, text, few_resamples
):
    assert numbers["responses"]["ours"]["paper"]["ppl_token"] == 13.05
    assert "13.05" in text and "not comparable across vocabularies" in text
    run_dir = make_run(tmp_path, "revised")
    assert results.compute(run_dir, True)["responses"]["ours"]["paper"]["bleu"] == 0.738
    without = results.compute(run_dir, False)
    without |= {"title": "t", "at_a_glance": words.at_a_glance(without)}
    assert "paper:" not in report.markdown(without, [], "")


def test_what_a_run_lacks_is_left_out(tmp_path, few_resamples):
    rng = np.random.default_rng(0)
    known = instances(rng)
    rows = {"responses": {"random": ROWS["responses"]["random"]}}
    write_evaluation(tmp_path, known, rows)
    write_responses(tmp_path / "evaluate", "random", known, rng)
    report.write_report(tmp_path, "Little", paper=True)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "control: a random reply" in text
    for absent in ("## Critic", "## Reinforcement", "## Training", "## Partner", "NaN"):
        assert absent not in text
    assert [p.name for p in (tmp_path / "figures").iterdir()] == ["systems_bar.png"]


def write_own(run_dir, kind="responses", told=None, **columns):
    """A row of the user's that gives the gold answers."""
    known = read(run_dir, "instances.jsonl")
    text = {"responses": "response", "personas": "persona"}[kind]
    mine = []
    for n, instance in enumerate(known):
        right = instance["response"]
        if kind == "personas":
            right = " ".join(instance["partner_persona"]) + " x"
        own = {name: values[n] for name, values in columns.items()}
        mine.append({"id": instance["id"], text: right} | own)
    write_jsonl(run_dir / f"evaluate/{kind}/mine.jsonl", mine)
    if told is not None:
        write_json(run_dir / f"evaluate/{kind}/mine.json", told)
    return run_dir / f"evaluate/{kind}/mine.jsonl", mine


def test_a_row_of_ones_own_is_compared_with_models_and_not_with_gold(tmp_path):
    models = {
        "gold": predictions.Row("Gold personas"),
        "plain": predictions.Row("Plain", models=("persona/model",)),
        "rl": predictions.Row("RL", against=("plain",), models=("reinforce/model",)),
    }
    against = predictions._own_row(tmp_path, "mine", models).against
    assert against == ("rl", "plain", "best control")


def test_where_no_model_was_evaluated_a_row_of_ones_own_is_compared_with_controls(
    tmp_path,
):
    run_dir = make_run(tmp_path)
    path = run_dir / "evaluate/rows.json"
    rows = json.loads(path.read_text())
    controls = [row for row in rows["responses"] if row["control"]]
    write_json(path, rows | {"responses": controls})
    folder = run_dir / "evaluate/responses"
    for file in {*folder.glob("*")} - {folder / f"{r['name']}.jsonl" for r in controls}:
        file.unlink()
    shutil.copy(folder / f"{controls[0]['name']}.jsonl", folder / "mine.jsonl")
    mine = predictions.read(run_dir).rows["responses"]["mine"]
    assert mine.against == (predictions.BEST_CONTROL,)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("rows.json", {"responses": [{}]}),
        ("rows.json", {"responses": 1}),
        ("training_sentences.json", {}),
        ("instances.jsonl", {"a": 1}),
    ],
)
def test_an_evaluation_that_is_not_as_it_was_written_is_told(name, wrong, tmp_path):
    run_dir = make_run(tmp_path)
    (run_dir / "evaluate" / name).write_text(json.dumps(wrong))
    with pytest.raises(UserError, match=f"{name} is not as it was written"):
        predictions.read(run_dir)


SHARES = {"accuracy": 0.5, "low": 0.4}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("evaluate/instances.jsonl", {"context": 3}),
        ("evaluate/instances.jsonl", {"dialogue": None}),
        ("evaluate/rows.json", {"responses": [{"name": "ours", "label": 3}]}),
        ("evaluate/training_sentences.json", {"sentences": [1, 2]}),
        ("evaluate/traits/supervised.jsonl", {"right": "1"}),
        ("evaluate/traits/supervised.jsonl", {"unsaid": None}),
        ("evaluate/traits/supervised.jsonl", {"right": -1}),
        ("evaluate/swapped/responses/ours.jsonl", {"tokens": 0}),
        ("evaluate/swapped/responses/ours.jsonl", {"tokens": 2.5}),
        ("evaluate/swapped/responses/ours.jsonl", {"nll_other": None}),
        ("evaluate/provenance.json", {"packages": None}),
        ("evaluate/provenance.json", {"sums": {"test data": 3}}),
        ("evaluate/provenance.json", {"rows": ["ours"]}),
        ("evaluate/provenance.json", {"settings": {"max_dialogues": "6"}}),
        ("evaluate/provenance.json", {"version": 3}),
        ("reinforce/fingerprint.json", {"reward": 1}),
        ("reinforce/result.json", {"updates": None}),
        ("reinforce/result.json", {"criterion": "x"}),
        ("reinforce/result.json", {"best_update": 1, "valid_response_ppl": "2"}),
        ("persona/result.json", {"parameters": "many"}),
        ("persona/result.json", {"steps": 2.5}),
        ("critic/result.json", {"valid_accuracy": [0.5]}),
        ("critic/result.json", {"accuracy": 0.5}),
        ("critic/result.json", {"accuracy": {"test": {"self": {"critic": SHARES}}}}),
    ],
    ids=str,
)
def test_what_a_report_reads_is_of_its_form_or_told(name, wrong, run_dir, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    first, *others = (copy / name).read_text().split("\n")
    if name.endswith(".json"):
        first, others = (copy / name).read_text(), []
    changed = json.dumps(json.loads(first) | wrong)
    (copy / name).write_text("\n".join([changed, *others]))
    with pytest.raises(UserError, match=f"{name} is not as it was written"):
        results.compute(copy, with_paper=False)


def test_a_row_of_ones_own_is_in_every_table_and_test(tmp_path, few_resamples):
    run_dir = make_run(tmp_path)
    write_own(run_dir)
    write_own(run_dir, "personas", {"label": "My guess", "against": ["supervised"]})
    numbers = results.compute(run_dir, False)
    systems = numbers["responses"]
    assert values(systems["mine"])["f1"] == 100 and not systems["mine"]["control"]
    assert list(systems)[-3:] == ["mine", "constant_bleu", "random"]
    pairs = {(t["a"], t["b"]) for t in numbers["response_tests"] if t["a"] == "mine"}
    assert {("mine", "ours"), ("mine", "without")} < pairs
    assert pairs & {("mine", "random"), ("mine", "constant_bleu")}
    told = " ".join(words.at_a_glance(numbers))
    assert "**mine** against Ours with RL: " in told
    assert "**My guess** against Generator without RL: " in told
    assert numbers["personas"]["mine"]["label"] == "My guess"


def test_records_of_other_instances_are_refused_by_file_and_line(tmp_path):
    run_dir = make_run(tmp_path)
    path = run_dir / "evaluate/responses/ours.jsonl"
    records = read(run_dir, "responses/ours.jsonl")
    last = len(records)
    for changed, told in [
        (records[::-1], r":1: id is 'test:29:3', expected 'test:0:0'"),
        (records[:2] + records[3:], r":3: id is 'test:0:3', expected 'test:0:2'"),
        (records[:-1], rf": {last - 1} lines, expected {last}; id 'test:29:3' is the"),
        (records + records[:1], rf":{last + 1}: one line too many; {last} are asked"),
    ]:
        write_jsonl(path, changed)
        with pytest.raises(UserError, match=rf"ours\.jsonl{told}"):
            predictions.read(run_dir)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"nll": float("nan"), "tokens": 3}, "nll is nan, expected 0 or more"),
        ({"nll": -2.0, "tokens": 3}, "nll is -2.0, expected 0 or more"),
        ({"nll": "3", "tokens": 3}, "nll is '3', expected 0 or more"),
        ({"nll": 10**400, "tokens": 3}, "nll is 1000000000"),
        ({"nll": 1e6, "tokens": 1}, "nll is 1000000.0, more than 700 nats for each"),
        ({"Response": "a"}, "unknown field 'Response', expected 'response'"),
        ({"nll": 3.5, "tokens": 0}, "nll without tokens"),
        ({"nll": None, "tokens": None}, "nll is missing, and other lines have it"),
        ({"response": ["a"], "nll": 1.0, "tokens": 3}, "'response' is of type list"),
        ({"response": None, "nll": 1.0, "tokens": 3}, "response is missing, and other"),
        ({"nll": 1.0, "tokens": 2.5}, "tokens is 2.5, expected a whole number"),
        ({"nll": 1.0, "tokens": 3, "cut": 10**12}, "cut is 10{12}, expected a whole"),
        ({"critic_score": "a"}, "critic_score is 'a', expected 0 to 1"),
        ({"ended": "yes"}, "ended is 'yes', expected true or false"),
    ],
)
def test_a_row_of_ones_own_that_cannot_be_read_is_told_by_line(wrong, told, tmp_path):
    run_dir = make_run(tmp_path)
    number = DIALOGUES * TURNS
    path, mine = write_own(run_dir, nll=[1.0] * number, tokens=[3] * number)
    mine[1] |= wrong
    write_jsonl(path, mine)
    with pytest.raises(UserError, match=rf"mine\.jsonl:2: {told}") as error:
        predictions.read(run_dir)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["responses", "personas"])
def test_a_row_of_ones_own_whose_words_cost_more_than_exp_can_tell(kind, tmp_path):
    run_dir = make_run(tmp_path)
    number = DIALOGUES * TURNS
    path, mine = write_own(run_dir, kind, nll=[20000.0] * number, tokens=[30] * number)
    mine[4]["nll"] = 20500.0
    write_jsonl(path, mine)
    told = r"mine\.jsonl:5: nll is 20500\.0 for the \d+ words .*expected that of the"
    with pytest.raises(UserError, match=told) as error:
        predictions.read(run_dir)
    assert "\n" not in str(error.value)
    for record in mine[:4] + mine[5:]:  # one long word among many others is none
        record["nll"] = 200.0
    write_jsonl(path, mine)
    predictions.read(run_dir)


def test_a_row_of_ones_own_without_anything_to_show_is_told(tmp_path):
    run_dir = make_run(tmp_path)
    path, mine = write_own(run_dir)
    write_jsonl(path, [{"id": record["id"]} for record in mine])
    with pytest.raises(UserError, match=r"mine\.jsonl: has neither 'response' nor nll"):
        predictions.read(run_dir)


def test_a_row_of_ones_own_that_is_no_text_is_told_in_one_line(tmp_path):
    run_dir = make_run(tmp_path)
    path, _ = write_own(run_dir)
    path.write_bytes(b'{"id": "\xff"}')
    with pytest.raises(UserError, match=r"mine\.jsonl: not UTF-8 at byte 8"):
        predictions.read(run_dir)


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"n": 1' + "0" * 5000 + "}", '{"response": "\\ud83d"}']
)
def test_a_line_that_no_json_reader_takes_is_told_by_its_place(line, tmp_path):
    run_dir = make_run(tmp_path)
    path, _ = write_own(run_dir)
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.jsonl:1: not JSON \("):
        predictions.read(run_dir)


@pytest.mark.parametrize("name", ["mine.json", "mine.jsonl.gz", "mine.JSONL", "mine"])
def test_a_file_that_is_no_row_is_told_and_not_passed_over(name, tmp_path):
    run_dir = make_run(tmp_path)
    (run_dir / "evaluate" / "responses" / name).write_text("{}")
    with pytest.raises(UserError, match=rf"{name}: no row's; a row is NAME\.jsonl"):
        predictions.read(run_dir)


def test_what_one_says_of_ones_own_row_is_checked(tmp_path):
    run_dir = make_run(tmp_path)
    for said, told in [
        ({"against": ["theirs"]}, r"there is no row 'theirs' to compare with"),
        ({"against": ["mine"]}, r"there is no row 'mine' to compare with"),
        ({"against": "ours"}, r"against is 'ours', expected a list of rows"),
        ({"against": [[3]]}, r"against is \[\[3\]\], expected a list of rows"),
        ({"label": 3}, r"label is 3, expected a text"),
        ({"label": "\ud800"}, "not JSON .*surrogates"),
        ({"label": "Ours with RL"}, r"'Ours with RL' is another row's label"),
        ({"lable": "Mine"}, r"has lable, and may have label and against alone"),
    ]:
        write_own(run_dir, told=said)
        with pytest.raises(UserError, match=rf"mine\.json: {told}"):
            predictions.read(run_dir)


def test_what_is_defined_is_shown(numbers, text):
    """Each metric stands in a table of each kind of rows that it is measured for."""
    head = {
        kind: text.partition(f"## {title}")[2].partition("\n## ")[0]
        for kind, title in [("responses", "Responses"), ("personas", "Partner")]
    }
    defined = text.partition("## How each number")[2]
    for key, metric in columns.METRICS.items():
        assert metric.responses or metric.personas
        assert f"**{metric.heading}**: " in defined
        for kind in columns.KINDS:
            measured = any(key in row["metrics"] for row in numbers[kind].values())
            assert measured == bool(metric.shown(kind))
            assert (f"| {metric.heading} |" in head[kind]) == measured


def test_intervals_are_over_base_personas_and_their_number_is_told(
    tmp_path, few_resamples
):
    """Ten dialogues of one partner are one persona, and the wider interval counts."""
    run_dir = make_run(tmp_path)
    known = read(run_dir, "instances.jsonl")
    for n, instance in enumerate(known):
        persona = n // TURNS % 6
        instance["partner_persona"] = [f"persona {persona} says {i}" for i in range(3)]
    write_jsonl(run_dir / "evaluate/instances.jsonl", known)
    numbers = results.compute(run_dir, False)
    assert numbers["units"]["partner"] == {"name": "base persona", "count": 6}
    assert numbers["units"]["self"] == {"name": "dialogue", "count": DIALOGUES}
    told = words.at_a_glance(numbers)[0]
    assert "6 base personas of the partner" in told and "It is one seed" in told
    seen = numbers["personas"]["supervised"]["metrics"]["rouge_parlai"]
    records = read(run_dir, "personas/supervised.jsonl")
    texts = [r["persona"] for r in records]
    gold = [" ".join(i["partner_persona"]) for i in known]
    groups = [n // TURNS % 6 for n in range(len(known))]
    each = bleu_rouge.rouge_l(texts, gold, "parlai-f")
    expected = significance.bootstrap([each], groups=groups, resamples=20)
    assert (seen["low"], seen["high"]) == pytest.approx((expected.low, expected.high))
    assert seen["unit"] == "partner"
    widths = {m["unit"]: m for m in numbers["responses"]["ours"]["metrics"].values()}
    assert widths.keys() <= {"self", "partner"}


def test_a_p_that_could_only_be_smaller_is_told_as_a_bound(numbers, text):
    found = between(numbers, "ours", "ours_supervised")["ppl_token"]
    assert found["at_floor"] and p_value(found["p_holm"], True).startswith("<= 0.00")
    assert re.search(r"against [\d.]+, p <= 0\.00\d", text)
    assert p_value(0.0123) == "= 0.012" and p_value(0.0002) == "< 0.001"


def test_a_bound_is_rounded_up():
    assert p_value(23 / 5000, True) == "<= 0.005" == p_value(0.0042, True)
    assert p_value(1 / 5000, True) == "<= 0.0002" and p_value(0.012, True) == "<= 0.012"


def test_what_holm_makes_of_a_bound_is_a_bound_and_no_other_p_is():
    sure = {"value": 1.0, "low": 0.5, "high": 1.5}
    same = {"a": "x", "b": "y", "metric": "bleu", "difference": sure}
    tests = [
        {**same, "p": p, "at_floor": bound, "equal": False}
        for p, bound in [(0.0002, True), (0.0002, False), (0.0005, False), (0.3, False)]
    ]
    told = results.corrected(tests)
    assert [t["p_holm"] for t in told] == pytest.approx([0.0008, 0.0008, 0.001, 0.3])
    # The second is no bound itself, and cannot be below the first, which is one.
    assert [t["holm_at_floor"] for t in told] == [True, True, False, False]


def test_a_difference_whose_interval_holds_none_does_not_count():
    pair = {"a": "x", "b": "y", "metric": "bleu", "p": 0.0002, "at_floor": True}
    pair["equal"] = False
    ends = [(0.1, 2.0), (-0.6, 2.0), (-2.0, -0.1), (0.0, 0.0)]
    tests = [
        {**pair, "difference": {"value": (low + high) / 2, "low": low, "high": high}}
        for low, high in ends
    ]
    told = results.corrected(tests)
    assert [t["significant"] for t in told] == [True, False, True, False]
    assert [t["better"] for t in told] == ["x", None, "y", None]


def test_an_interval_that_ends_at_what_smoothing_adds_leaves_nothing_out():
    difference = {"value": -3.601, "low": -10.802, "high": -9.7e-7}
    test = {"a": "a", "b": "b", "metric": "bleu", "p": 1e-3, "at_floor": False}
    (told,) = results.corrected([test | {"difference": difference, "equal": False}])
    assert not told["significant"]


def test_a_carriage_return_tears_no_csv():
    text = comma_separated([["a\rb", "c"], ["d", None]])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a b", "c"], ["d", ""]]


def test_what_was_cut_on_one_side_is_not_compared(run_dir):
    found = predictions.read(run_dir)
    kind, rows = next((k, rows) for k, rows in found.swapped.items() if rows)
    units = results.units_of(found, kind)
    whole = traits.swapped(found, kind, units)
    for records in rows.values():
        records[0]["tokens_other"] = records[0]["tokens"] + 1
    cut = traits.swapped(found, kind, units)
    for name, row in whole.items():
        (turns, fewer) = (each["by_turn"]["all"] for each in (row, cut[name]))
        assert fewer["instances"] == turns["instances"] - 1
    for record in (record for records in rows.values() for record in records):
        record["tokens_other"] = record["tokens"] + 1
    assert traits.swapped(found, kind, units) == {}


def test_a_p_of_the_level_itself_does_not_count():
    sure = {"value": 1.0, "low": 0.5, "high": 1.5}
    pair = {"a": "x", "b": "y", "metric": "bleu", "difference": sure, "equal": False}
    for p, counts in [(0.01, False), (0.0099, True)]:
        tests = [
            pair | {"p": p if n == 0 else 1.0, "at_floor": False} for n in range(5)
        ]
        assert results.corrected(tests)[0]["significant"] is counts


def test_a_difference_that_is_rounding_is_none(tmp_path, few_resamples):
    """The same part of every instance's likelihood: as sure as can be, and nothing."""
    run_dir = make_run(tmp_path)
    for share, equal in [(1e-7, True), (0.05, False)]:
        moved = read(run_dir, "responses/ours_supervised.jsonl")
        for record in moved:
            record["nll"] *= 1 + share
        write_jsonl(run_dir / "evaluate/responses/ours.jsonl", moved)
        told = words.at_a_glance(results.compute(run_dir, False))
        line = next(t for t in told if t.startswith("**Ours with RL** against Ours w"))
        assert ("equal in PPL" in line) is equal


def test_a_control_by_name_is_no_best_one_and_what_is_planned_twice_is_tested_once(
    tmp_path, few_resamples
):
    run_dir = make_run(tmp_path)
    write_own(run_dir, told={"against": ["random", "best control", "constant_bleu"]})
    numbers = results.compute(run_dir, False)
    mine = [t for t in numbers["response_tests"] if t["a"] == "mine"]
    pairs = [(t["b"], t["metric"]) for t in mine]
    assert len(pairs) == len(set(pairs)) and ("random", "bleu") in pairs
    told = " ".join(words.at_a_glance(numbers))
    label = numbers["responses"]["random"]["label"]
    line = told[told.index(f"**mine** against {label}: ") :].partition("**My")[0]
    assert words.verdict_of(mine[0]) in line.partition(". ")[0]


def test_the_p_of_a_jackknife_is_never_called_a_bound(numbers):
    counted = [t for t in numbers["persona_tests"] if t["metric"] == "distinct_2"]
    assert counted and not any(t["at_floor"] for t in counted)


def test_what_made_the_numbers_is_told(numbers, text):
    assert numbers["made_of"]["commit"] == "abc"
    assert "commit abc" in text and "jax 2" in text and "seed 0" in text


def test_the_papers_rows_have_the_metrics_of_ours():
    for version in ("original", "revised"):
        for kind in columns.KINDS:
            for name in ROWS[kind]:
                known = paper.numbers(kind, version, name)
                assert known.keys() <= columns.METRICS.keys()
    assert paper.numbers("responses", "original", "ours")["ppl_token"] == 13.05
    assert paper.numbers("responses", "original", "nobody") == {}
    assert paper.numbers("responses", "revised", "paml") == {}
    table_7 = paper.numbers("responses", "original", "ours_response")
    assert table_7 == {"ppl_token": 13.17, "bleu": 0.8391, "rouge_parlai": 17.36}


def test_a_folder_without_an_evaluation_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"launch\.evaluate --config=CONFIG --workdir="):
        report.write_report(tmp_path, "Nothing", paper=False)


def test_reinforcement_learning_that_helped_nothing_is_told(numbers):
    told = " ".join(numbers["at_a_glance"])
    assert "no validation was better than the supervised models'" in told


def test_rows_of_models_that_rl_left_as_they_were_are_named(numbers):
    """And the row after the last update, which is where to look."""
    changed = json.loads(json.dumps(numbers))
    rows = changed["responses"]
    rows["ours"]["models"] = ["reinforce/model_response", "reinforce/model_persona"]
    rows["without"]["models"] = ["reinforce/last_response"]
    told = next(t for t in words.at_a_glance(changed) if "learning ran" in t)
    assert "**Ours with RL** is the supervised models, unchanged" in told
    assert "shows in **E2E without partner personas**" in told
    changed["stages"]["reinforce"] |= {"best_update": 20, "valid_response_ppl": 19.0}
    told = next(t for t in words.at_a_glance(changed) if "learning ran" in t)
    assert "unchanged" not in told and "19.00 against 20.00 before" in told


def test_rows_with_the_same_answers_are_called_equal(tmp_path, few_resamples):
    run_dir = make_run(tmp_path)
    same = read(run_dir, "responses/ours_supervised.jsonl")
    write_jsonl(run_dir / "evaluate/responses/ours.jsonl", same)
    told = words.at_a_glance(results.compute(run_dir, False))
    line = next(t for t in told if t.startswith("**Ours with RL** against"))
    assert line.endswith("equal in PPL, BLEU-4, ROUGE-L, F1.")


def test_a_control_that_finds_gold_likelier_than_every_model_is_told(numbers):
    changed = json.loads(json.dumps(numbers))
    counts = changed["responses"]["random"]["metrics"]
    for perplexity, leads in [(1.25, True), (99.0, False)]:
        for key in ("ppl_token", "ppl_word"):  # by the second one, whatever tokens are
            wide = {"low": 1, "high": 100, "unit": "self"}
            counts[key] = {"value": perplexity if key == "ppl_word" else 1.1, **wide}
        told = " ".join(words.at_a_glance(changed))
        assert ("does: a random reply: 1.2 per word." in told) == leads


def test_the_split_that_all_rows_answer_is_told(numbers):
    for settings, told in [
        ({"split": "test", "max_dialogues": 0}, ", all of the test split."),
        ({"split": "valid", "max_dialogues": 9}, ", a seeded choice of the valid spli"),
        ({"split": "valid", "max_dialogues": 10}, ", all of the valid split."),
    ]:
        made = numbers["made_of"] | {"settings": settings, "split_dialogues": 10}
        assert told in words.at_a_glance({**numbers, "made_of": made})[0]


def test_the_papers_column_stands_where_the_paper_has_a_row(tmp_path, few_resamples):
    run_dir = make_run(tmp_path)
    rows = json.loads((run_dir / "evaluate/rows.json").read_text())
    for row in rows["responses"] + rows["personas"]:
        path = run_dir / "evaluate" / row["kind"] / f"{row['name']}.jsonl"
        row["name"] = f"my_{row['name']}"
        path.rename(path.with_name(f"{row['name']}.jsonl"))
        row["against"] = [a if a == BEST else f"my_{a}" for a in row["against"]]
    write_json(run_dir / "evaluate/rows.json", rows)
    numbers = results.compute(run_dir, True) | {"title": "t", "at_a_glance": []}
    assert "paper:" not in report.markdown(numbers, [], "")


def test_no_row_and_no_stage_of_a_config_is_known_by_name():
    """A report reads them from files; the paper's numbers alone have rows' names."""
    config = from_config_dict(presets.load(presets.config_file("quickstart")))
    # Also tasks, fields of records and of report.json.
    fields = {"dialogue", "persona", "response", "critic", "reinforce", "reinforced"}
    names = {stage.name for stage in config.stages} | set(config.systems)
    for path in sorted(Path(report.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        assert path.stem == "paper" or not used & (names - fields), path


def test_conversations_are_drawn_by_seed_from_different_dialogues(run_dir):
    drawn = words.conversations(run_dir, 20, seed=0)
    assert drawn == words.conversations(run_dir, 20, seed=0)
    assert drawn != words.conversations(run_dir, 20, seed=1)
    dialogues = re.findall(r"^### \d+\. test:(\d+):\d$", drawn, re.MULTILINE)
    assert len(dialogues) == len(set(dialogues)) == 20
    assert drawn.count("**Ours with RL**") == drawn.count("**gold**") == 20
    assert drawn.count("partner persona, Generator with RL:") == 20
    assert "control" not in drawn


def test_the_last_thing_said_is_the_partners(run_dir):
    for talk in words.conversations(run_dir, 5, seed=0).split("### ")[1:]:
        said = re.findall(r"^> (partner|self): ", talk, re.MULTILINE)
        assert said[-1] == "partner" and len(said) % 2 == 1
        assert said == ["partner", "self"] * (len(said) // 2) + ["partner"]


def test_no_control_character_of_a_text_reaches_terminal_or_report(
    run_dir, monkeypatch
):
    known = words.read(run_dir)
    odd = [
        i | {"response": "a\x1b[2J\x07b\x9b", "context": ["\x1b]c"]}
        for i in known.instances
    ]
    monkeypatch.setattr(
        words, "read", lambda _: dataclasses.replace(known, instances=odd)
    )
    told = words.conversations(run_dir, 3, seed=0)
    assert told.count("a [2J  b ") == 0 and told.count("a [2J b") == 3
    assert told.count("> partner:  ]c") == 3
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", told)


def test_the_best_control_has_the_least_where_less_is_better():
    scored = {n: Score(np.array([[v, 1.0]] * 2)) for n, v in (("a", 3.0), ("b", 2.0))}
    metrics = ("ppl_token", "bleu", "distinct_2")
    controls = {name: dict.fromkeys(metrics, score) for name, score in scored.items()}
    found = [results.best_control(controls, metric) for metric in metrics]
    assert found == ["b", "a", None]


def test_one_shorter_text_of_many_makes_no_other_vocabulary():
    known = {"a": [{"tokens": 10}] * 40}
    known["b"] = [*known["a"][1:], {"tokens": 9}]
    assert not results._differ(known, "a", "b")


def test_a_row_that_is_sure_of_every_token_says_nothing_of_how_words_are_cut():
    def row(word, token):
        measured = {"ppl_word": {"value": word}, "ppl_token": {"value": token}}
        return {"metrics": measured}

    rows = {"a": row(9.0, 3.0), "sure": row(1.0, 1.0)}
    assert columns.comparable_perplexity(rows) == "ppl_token"


def test_of_two_units_the_wider_interval_and_the_larger_p_are_told():
    rng, groups = np.random.default_rng(0), np.arange(40).repeat(10)
    units = {"group": groups, "alone": np.arange(400)}
    a, b = (Score(rng.normal(size=40)[groups] + gain) for gain in (0.2, 0.0))
    assert scores.widest(a, units)["unit"] == "group"
    found, (difference, p) = scores.compared(a, b, units), a.minus(b, groups)
    assert found["difference"] == {**difference._asdict(), "unit": "group"}
    assert found["p"] == p > a.minus(b, units["alone"])[1]


def test_the_critics_mean_is_of_those_that_were_told_a_persona(run_dir):
    found = predictions.read(run_dir)
    records = [dict(record) for record in found.records["responses"]["ours"]]
    for record in records[::2]:
        record["critic_score"] = None
    rows = {"responses": {"ours": records}}
    some = dataclasses.replace(found, records={**found.records, **rows})
    score = results.row_scores(some, "responses", "ours")["critic"]
    assert score.value == pytest.approx(
        np.mean([record["critic_score"] for record in records[1::2]])
    )
    for record in records:
        record["critic_score"] = None
    assert "critic" not in results.row_scores(some, "responses", "ours")
