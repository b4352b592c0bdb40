"""From the predictions of an evaluation to its numbers, intervals and tests.

Everything is a function of the files in a run directory; `report.report` words the
result, `report.figures` draws it. What is resampled are base personas: the partner's in
tables of personas, in tables of responses the self's and the partner's, of which the
wider interval and the larger p are told.

Differs from the paper: nothing is averaged over runs; the interval is of the test set.
Axes: N instances.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppg_jax import run_dir
from ppg_jax.files import read_metrics, require_form
from ppg_jax.metrics import bleu_rouge
from ppg_jax.report import columns, made, paper, scores, traits
from ppg_jax.report.columns import METRICS, Answers
from ppg_jax.report.predictions import BEST_CONTROL, TEXTS, Predictions, column, read
from ppg_jax.report.scores import Scores, Units, compared, widest

SIDES = {
    "responses": {"self": "self_persona", "partner": "partner_persona"},
    "personas": {"partner": "partner_persona"},
}
TURNS = ("1", "2", "3", "4 or more", "all")


def units_of(predictions: Predictions, kind: str) -> dict[str, np.ndarray]:
    """What is resampled in tables of this kind: side -> group of each instance."""
    return {
        side: predictions.unit(persona).groups for side, persona in SIDES[kind].items()
    }


def row_scores(predictions: Predictions, kind: str, name: str) -> Scores:
    """Every metric that the records of a row allow; gold is not compared with gold."""
    gold = [i["response"] for i in predictions.instances]
    plain = [" ".join(i["partner_persona"]) for i in predictions.instances]
    if kind == "personas":
        gold = predictions.gold_personas
    records = predictions.records[kind][name]
    texts = column(records, TEXTS[kind])
    answers = Answers(
        gold=gold,
        training_sentences=predictions.training_sentences,
        texts=texts,
        nll=column(records, "nll"),
        tokens=column(records, "tokens"),
        cut=_cut(records),
        critic=[record.get("critic_score") for record in records],
        held_out=[record.get("held_out_score") for record in records],
        ended=column(records, "ended"),
        traits=predictions.traits.get(name) if kind == "personas" else None,
        compared=kind == "responses" or texts not in (gold, plain),
    )
    return columns.measured(kind, answers)


def compare(
    predictions: Predictions, kind: str, rows: Mapping[str, Scores], units: Units
) -> list[dict]:
    """Every planned test that the rows at hand allow, Holm-corrected together."""
    known = predictions.rows[kind]
    tests: dict[Sequence[str], dict] = {}  # what is planned twice is tested once
    for a, row in known.items():
        for planned in row.against:
            for metric in columns.tested(kind):
                b = planned
                if planned == BEST_CONTROL:
                    controls = {n: s for n, s in rows.items() if known[n].control}
                    b = best_control(controls, metric)
                if metric == "ppl_token" and _differ(predictions.records[kind], a, b):
                    metric = "ppl_word"
                pair = {"a": a, "b": b, "metric": metric}
                again = tuple(pair.values()) in tests
                if not again and all(metric in rows.get(row, {}) for row in (a, b)):
                    pair["best_control"] = planned == BEST_CONTROL
                    test = compared(rows[a][metric], rows[b][metric], units)
                    tests[a, b, metric] = pair | test
    return corrected(list(tests.values()))


def _differ(records: Mapping[str, Sequence[dict]], a: str, b: str | None) -> bool:
    """Whether two rows have other tokens for the gold texts, but for a few."""
    both = [records.get(name, ()) for name in (a, b)]
    tokens = [column(known, "tokens") for known in both]
    if not all(tokens):
        return False
    mine, theirs = (np.add(t, _cut(k)) for t, k in zip(tokens, both, strict=True))
    return float(np.mean(mine != theirs)) > 0.05


def _cut(records: Sequence[dict]) -> list[int]:
    """The tokens of each gold text for which a row had no room [N]."""
    return [record.get("cut") or 0 for record in records]


def corrected(tests: list[dict]) -> list[dict]:
    """The same tests, corrected for being made together, with their verdicts."""
    scores.corrected(tests)
    for test in tests:
        # The p over seeds is of these runs alone; the interval draws runs, too.
        value, low, high = (test["difference"][k] for k in ("value", "low", "high"))
        sure = max(low, -high) > scores.NOTHING * abs(value)
        test["significant"] = test["p_holm"] < scores.ALPHA and sure
        test["significant"] &= not test["equal"]
        test["better"] = _better(test)
    return tests


def best_control(controls: Mapping[str, Scores], metric: str) -> str | None:
    """The control that scores highest, which speaks against the row compared."""
    if METRICS[metric].better == 0:
        return None
    values = {name: s[metric].value for name, s in controls.items() if metric in s}
    if METRICS[metric].better < 0:
        return min(values, key=values.__getitem__, default=None)
    return max(values, key=values.__getitem__, default=None)


def _better(test: dict) -> str | None:
    """Which of the two is significantly better; None where that cannot be said."""
    direction = METRICS[test["metric"]].better * test["difference"]["value"]
    if not test["significant"] or direction == 0:
        return None
    return test["a"] if direction > 0 else test["b"]


def perplexity_by_turn(
    predictions: Predictions,
    rows: Mapping[str, Scores],
    units: Units,
    chosen: Mapping[str, np.ndarray] | None = None,
    metric: str = "ppl_token",
) -> dict[str, dict]:
    """PPL when the partner has said N things so far (the paper's Figure 3).

    chosen: which instances each turn has, bool [N]; `TURNS` if not given. metric: of
    the rows, "ppl_token" or "ppl_word".
    {row: {"1": {value, low, high, unit, instances}, ..., "all": ...}}
    """
    said = traits.heard(predictions)
    usual = [said == 1, said == 2, said == 3, said > 3, said >= 0]
    chosen = chosen or dict(zip(TURNS, usual, strict=True))
    return {
        name: {
            turn: METRICS[metric].possible(_some(metrics[metric], units, taken))
            for turn, taken in chosen.items()
            if all(len(np.unique(g[taken])) > 1 for g in units.values())
        }
        for name, metrics in rows.items()
        if metric in metrics
    }


def _some(score, units: Units, taken: np.ndarray) -> dict:
    part = {side: groups[taken] for side, groups in units.items()}
    return {**widest(score.of(taken), part), "instances": int(taken.sum())}


def compute(workdir: Path, with_paper: bool) -> dict:
    """All numbers of a run directory, ready for JSON (report.json).

    with_paper: whether the paper's own figures stand beside them.
    """
    workdir = Path(workdir)
    predictions = read(workdir)
    version = predictions.made_of.get("data.version", "original")
    made_of = {"made_of": made.provenance_of(workdir)}
    numbers = {
        "instances": len(predictions.instances),
        "dialogues": len(set(predictions.dialogues)),
        "units": units_told(predictions),
        "level": scores.LEVEL,
        "resamples": scores.RESAMPLES,
        "permutations": scores.PERMUTATIONS,
        "sacrebleu_signature": bleu_rouge.sacre_bleu(["a"], ["a"]).signature,
        "paper": version if with_paper else None,
    }
    for kind in TEXTS:
        units = units_of(predictions, kind)
        rows = {
            name: row_scores(predictions, kind, name) for name in predictions.rows[kind]
        }
        theirs = version if with_paper else ""
        numbers[kind] = table(predictions, kind, rows, units, theirs)
        numbers[f"{kind[:-1]}_tests"] = compare(predictions, kind, rows, units)
        if kind == "responses":
            per = columns.comparable_perplexity(numbers[kind])
            by_turn = perplexity_by_turn(predictions, rows, units, metric=per)
            numbers |= {"perplexity_by_turn": by_turn, "turns_in": per}
        else:
            numbers["traits"] = traits.compute(predictions, rows, units)
        numbers.setdefault("swapped", {})[kind] = traits.swapped(
            predictions, kind, units
        )
    return numbers | _training(workdir, predictions.stages) | made_of


def units_told(predictions: Predictions) -> dict[str, dict]:
    """{side: {name, count}} of what intervals and tests draw."""
    return {
        side: {"name": unit.name, "count": unit.count}
        for side, persona in SIDES["responses"].items()
        for unit in [predictions.unit(persona)]
    }


def table(predictions: Predictions, kind: str, rows, units, version: str) -> dict:
    """{row: {label, control, metrics: {metric: {value, low, high, unit}}, paper}}."""
    return {
        name: {
            **predictions.rows[kind][name]._asdict(),
            "metrics": {
                key: metric.possible(widest(metrics[key], units))
                for key, metric in METRICS.items()
                if key in metrics
            },
            "paper": paper.numbers(kind, version, name) if version else {},
        }
        for name, metrics in rows.items()
    }


def _training(workdir: Path, stages: Sequence[dict]) -> dict:
    """The results of the stages, and the validations of those of REINFORCE."""
    reinforced = {}
    for stage in stages:
        if stage["task"] == "reinforce":
            log = read_metrics(workdir / stage["name"] / "metrics.jsonl")
            reinforced[stage["name"]] = {
                "reward": _reward(workdir / stage["name"]),
                "validations": [r for r in log if "valid_response_ppl" in r],
            }
    return {
        "stages": {s["name"]: _result(workdir, s) for s in stages},
        "tasks": {s["name"]: s["task"] for s in stages},
        "reinforced": reinforced,
    }


def _result(workdir: Path, stage: dict) -> dict:
    read_result = made.reinforced if stage["task"] == "reinforce" else made.result_of
    return read_result(workdir, stage["name"])


def _reward(folder: Path) -> str:
    settings = run_dir.settings_of(folder)
    again = f"delete {folder} to start the stage again."
    require_form(folder / run_dir.FINGERPRINT, settings, {"reward": str}, again)
    return settings["reward"]
