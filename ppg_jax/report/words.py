"""Sentences that follow from the numbers by rule, and conversations as they were.

The same rules word a success and a failure.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppg_jax.errors import printable
from ppg_jax.report import inferred, scores
from ppg_jax.report.columns import METRICS
from ppg_jax.report.made import judged_by
from ppg_jax.report.predictions import BEST_CONTROL, Predictions, read
from ppg_jax.report.tables import bullets, p_value


def at_a_glance(numbers: Mapping) -> list[str]:
    """Sentences that follow from the numbers by rule."""
    told = [_resampled(numbers), *_too_few(numbers)]
    for kind in ("response", "persona"):
        told += _compared(numbers[f"{kind}s"], numbers[f"{kind}_tests"])
    for kind in ("response", "persona"):
        told += _controls_ahead(kind, numbers[f"{kind}s"])
    return (
        told
        + inferred.sentences(numbers)
        + _papers_differences(numbers)
        + _learned(numbers)
        + _novelty(numbers["personas"])
    )


def _resampled(numbers: Mapping) -> str:
    own, partner = (
        f"{numbers['units'][side]['count']} {numbers['units'][side]['name']}s"
        for side in ("self", "partner")
    )
    return (
        f"Every row, control or model, answers the same {numbers['instances']:,} "
        f"instances of {numbers['dialogues']:,} dialogues{_split(numbers)}. Intervals "
        f"are {numbers['level']:.0%}: of personas over {partner} of the partner, of "
        f"responses the wider of that and of the one over {own} of the speaker. "
        f"Differences count where p < {scores.ALPHA} after Holm's "
        "correction and the interval leaves out 0. It is one seed: what is said holds "
        "of these models, not of the methods."
    )


def _too_few(numbers: Mapping) -> list[str]:
    """Kinds of which no permutation can come out significant, whatever was found."""
    told = []
    for kind, sides in (("response", ("self", "partner")), ("persona", ("partner",))):
        units = [numbers["units"][side] for side in sides]
        few = min(units, key=lambda unit: unit["count"])
        tests = [t for t in numbers[f"{kind}_tests"] if t["metric"] in _PERMUTED]
        # Of all ways to swap the groups two give what was seen, or its opposite.
        if tests and 2.0 ** (1 - few["count"]) * len(tests) >= scores.ALPHA:
            told.append(
                f"**{few['count']} {few['name']}s are too few** for the {len(tests)} "
                f"planned comparisons of {kind}s by permutation: after Holm's "
                "correction none of them can count, whatever it is."
            )
    return told


_PERMUTED = [key for key in METRICS if not key.startswith("distinct")]
_THERE = "split_dialogues"  # older evaluations do not say


def _split(numbers: Mapping) -> str:
    settings = numbers["made_of"].get("settings", {})
    if "split" not in settings:
        return ""
    most, there = settings.get("max_dialogues"), numbers["made_of"].get(_THERE)
    some = most and (there is None or most < there)
    return f", {'a seeded choice' if some else 'all'} of the {settings['split']} split"


def _compared(systems: Mapping[str, dict], tests: Sequence[dict]) -> list[str]:
    """One sentence per pair of systems: where they differ, and where they do not."""
    pairs = dict.fromkeys((t["a"], _planned(t)) for t in tests)
    told = []
    for a, b in pairs:
        groups: dict[str, list[str]] = {}
        for test in tests:
            if (test["a"], _planned(test)) == (a, b):
                groups.setdefault(verdict_of(test), []).append(_evidence(systems, test))
        findings = "; ".join(
            f"{verdict} {', '.join(groups[verdict])}"
            for verdict in _VERDICTS
            if verdict in groups
        )
        other = systems[b]["label"] if b in systems else f"the {b}"
        told.append(f"**{systems[a]['label']}** against {other}: {findings}.")
    return told


_VERDICTS = ("better in", "worse in", "higher in", "lower in")
_VERDICTS += ("no difference shown in", "equal in")


def _planned(test: Mapping) -> str:
    """The best controls go together: which one it is depends on the metric."""
    return BEST_CONTROL if test["best_control"] else test["b"]


def verdict_of(test: Mapping) -> str:
    if test["equal"]:
        return "equal in"
    if not test["significant"]:
        return "no difference shown in"
    if test["better"] is None:
        higher = test["difference"]["value"] > 0
        return "higher in" if higher else "lower in"
    return "better in" if test["better"] == test["a"] else "worse in"


def _evidence(systems: Mapping[str, dict], test: Mapping) -> str:
    metric = METRICS[test["metric"]]
    if not test["significant"]:
        return metric.heading
    a, b = (
        f"{systems[test[side]]['metrics'][test['metric']]['value']:.{metric.digits}f}"
        for side in "ab"
    )
    p = p_value(test["p_holm"], test["holm_at_floor"])
    return f"{metric.heading} ({a} against {b}, p {p})"


def _controls_ahead(kind: str, systems: Mapping[str, dict]) -> list[str]:
    """Warns of metrics in which a control, which understands nothing, leads."""
    told = []
    likelier = _leading_control(systems, "ppl_word")  # rows may have other tokens
    if likelier:
        told.append(
            "A control, which counts words and understands nothing, finds the gold "
            f"{kind}s likelier than every model does: {likelier} per word. Here no "
            "model has learned even which word follows which."
        )
    led = [
        f"{METRICS[key].heading} ({control})"
        for key in ("bleu", "rouge_parlai", "f1")
        if (control := _leading_control(systems, key))
    ]
    if led:
        told.append(
            "A control, which understands nothing, is ahead of every model in "
            f"{', '.join(led)} of the {kind}s; that metric alone proves little here."
        )
    return told


def _leading_control(systems: Mapping[str, dict], key: str) -> str:
    """ "LABEL: VALUE" of the control that is ahead of all models, if one is."""
    metric = METRICS[key]
    values = {
        name: metric.better * s["metrics"][key]["value"]
        for name, s in systems.items()
        if key in s["metrics"]
    }
    best = max(values, key=values.__getitem__, default=None)
    models = [name for name in values if not systems[name]["control"]]
    if not models or not systems[best]["control"]:
        return ""
    label = systems[best]["label"].removeprefix("control: ")
    return f"{label}: {metric.better * values[best]:.{metric.digits}f}"


def _papers_differences(numbers: Mapping) -> list[str]:
    """How many of the paper's differences are found here, too, and significant."""
    systems = numbers["responses"]
    verdicts = []
    for test in numbers["response_tests"]:
        theirs = papers_difference(systems, test)
        if theirs:
            same = theirs * test["difference"]["value"] > 0
            verdicts.append(same if test["significant"] else None)
    if not verdicts:
        return []
    return [
        f"Of the {len(verdicts)} differences between these systems in the paper's "
        f"tables, {verdicts.count(True)} are found here with significance, "
        f"{verdicts.count(False)} with significance the other way round, "
        f"{verdicts.count(None)} are not shown either way."
    ]


def papers_difference(systems: Mapping[str, dict], test: Mapping) -> float | None:
    """A - B in the paper; None where it has no such number."""
    a, b = (systems[test[side]]["paper"].get(test["metric"]) for side in "ab")
    return None if a is None or b is None else a - b


def _learned(numbers: Mapping) -> list[str]:
    """What became of reinforcement learning."""
    return [
        f"{stage}: {_became(numbers['stages'][stage], _rows_of(numbers, stage))}"
        for stage in numbers["reinforced"]
        if "best_update" in numbers["stages"][stage]
    ]


def _rows_of(numbers: Mapping, stage: str) -> dict[str, list[str]]:
    """Labels of the rows with the best models of a stage, and with its last ones."""
    labels: dict[str, list[str]] = {"model": [], "last": []}
    for row in numbers["responses"].values():
        for made, found in labels.items():
            if any(model.startswith(f"{stage}/{made}_") for model in row["models"]):
                found.append(row["label"])
    return labels


def _became(result: Mapping, rows: Mapping[str, Sequence[str]]) -> str:
    judged = judged_by(result)
    if result["best_update"] == 0:
        best = ", ".join(rows["model"]) or "what it kept"
        kept = (
            "no validation was better than the supervised models', so "
            f"**{best}** is the supervised models, unchanged"
        )
        if rows["last"]:
            kept += f"; what it learned shows in **{', '.join(rows['last'])}**"
    else:
        kept = (
            f"kept is update {result['best_update']}, where the {judged}'s validation "
            f"perplexity was {result[f'valid_{judged}_ppl']:.2f} against "
            f"{result[f'valid_{judged}_ppl_before']:.2f} before"
        )
    return (
        f"reinforcement learning ran for {result['updates']:,} updates "
        f"({result['stopped_because']}); {kept}."
    )


def _novelty(personas: Mapping) -> list[str]:
    shares = [
        f"{system['metrics']['novelty']['value']:.0%} ({system['label']})"
        for system in personas.values()
        if "novelty" in system["metrics"] and not system["control"]
    ]
    if not shares:
        return []
    return [
        f"Persona sentences that training never said verbatim: {', '.join(shares)}."
    ]


def conversations(workdir: Path, count: int, seed: int) -> str:
    """`count` test instances, each of another dialogue, drawn by `seed` and not chosen.

    Markdown that reads well in a terminal, too: personas gold and inferred, the
    context, the gold response and that of every model.
    """
    predictions = read(workdir)
    rng = np.random.default_rng(seed)
    rows_of: dict[str, list[int]] = {}
    for row, instance in enumerate(predictions.instances):
        rows_of.setdefault(instance["dialogue"], []).append(row)
    names = list(rows_of)
    picked = [names[i] for i in rng.permutation(len(names))[:count]]
    drawn = [rng.choice(rows_of[name]) for name in picked]
    talks = (_conversation(predictions, n, row) for n, row in enumerate(drawn, 1))
    return printable("\n\n".join(talks))


def _conversation(predictions: Predictions, number: int, row: int) -> str:
    instance = predictions.instances[row]
    personas = {
        "self persona": " ".join(instance["self_persona"]),
        "partner persona, gold": predictions.gold_personas[row],
    }
    for name, records in predictions.records["personas"].items():
        inferred = predictions.rows["personas"][name]
        text = records[row].get("persona")
        if inferred.against and not inferred.control and text is not None:
            personas[f"partner persona, {inferred.label}"] = text
    answers = {"gold": instance["response"]}
    for name, records in predictions.records["responses"].items():
        known = predictions.rows["responses"][name]
        if not known.control and records[row].get("response") is not None:
            answers[known.label] = records[row]["response"]
    context = instance["context"]
    speakers = ("partner", "self")  # counted from the end: the partner spoke last
    said = [
        f"> {speakers[(len(context) - 1 - i) % 2]}: {_shown(text)}"
        for i, text in enumerate(context)
    ]
    return "\n\n".join(
        [
            f"### {number}. {instance['id']}",
            bullets(f"{name}: {_shown(text)}" for name, text in personas.items()),
            "\n>\n".join(said) or "> (nothing was said yet)",
            bullets(f"**{name}**: {_shown(text)}" for name, text in answers.items()),
        ]
    )


def _shown(text: str | None) -> str:
    return " ".join(text.split()) if text and text.strip() else "(nothing)"
