"""Sentences that follow from the numbers by rule, and conversations as they were.

The same rules word a success and a failure.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ppg_jax.report.columns import METRICS
from ppg_jax.report.predictions import BEST_CONTROL, Predictions, read
from ppg_jax.report.tables import bullets, p_value


def at_a_glance(numbers: Mapping) -> list[str]:
    """Sentences that follow from the numbers by rule."""
    told = [_resampled(numbers)]
    for kind in ("response", "persona"):
        told += _compared(numbers[f"{kind}s"], numbers[f"{kind}_tests"])
    for kind in ("response", "persona"):
        told += _controls_ahead(kind, numbers[f"{kind}s"])
    return (
        told
        + _papers_differences(numbers)
        + _learned(numbers)
        + _novelty(numbers["personas"])
    )


def _resampled(numbers: Mapping) -> str:
    units = " and ".join(
        f"{unit['count']} {unit['name']}s of the {side}"
        for side, unit in numbers["units"].items()
    )
    return (
        f"{numbers['instances']:,} instances of {numbers['dialogues']:,} dialogues, "
        f"{units}; intervals are {numbers['level']:.0%} over these (of responses the "
        "wider of both), and differences count where p < "
        f"{1 - numbers['level']:.2g} after Holm's correction. It is one seed: what is "
        "said holds of these models, not of the methods."
    )


def _compared(systems: Mapping[str, dict], tests: Sequence[dict]) -> list[str]:
    """One sentence per pair of systems: where they differ, and where they do not."""
    pairs = dict.fromkeys((t["a"], _planned(systems, t["b"])) for t in tests)
    told = []
    for a, b in pairs:
        groups: dict[str, list[str]] = {}
        for test in tests:
            if (test["a"], _planned(systems, test["b"])) == (a, b):
                groups.setdefault(verdict_of(test), []).append(_evidence(systems, test))
        findings = "; ".join(
            f"{verdict} {', '.join(groups[verdict])}"
            for verdict in _VERDICTS
            if verdict in groups
        )
        other = systems[b]["label"] if b in systems else f"the {b}"
        told.append(f"**{systems[a]['label']}** against {other}: {findings}.")
    return told


_VERDICTS = ("better in", "worse in", "higher in", "lower in", "no difference shown in")


def _planned(systems: Mapping[str, dict], name: str) -> str:
    """Controls go together: which one is the best depends on the metric."""
    return BEST_CONTROL if systems[name]["control"] else name


def verdict_of(test: Mapping) -> str:
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
    p = p_value(test["p_holm"], test["at_floor"])
    return f"{metric.heading} ({a} against {b}, p {p})"


def _controls_ahead(kind: str, systems: Mapping[str, dict]) -> list[str]:
    """Warns of metrics in which a control, which understands nothing, leads."""
    led = []
    for key in ("bleu", "rouge_parlai", "f1"):
        values = {
            name: s["metrics"][key]["value"]
            for name, s in systems.items()
            if key in s["metrics"]
        }
        best = max(values, key=values.__getitem__, default=None)
        if best and systems[best]["control"] and not _only_controls(systems, values):
            metric, label = METRICS[key], systems[best]["label"]
            label = label.removeprefix("control: ")
            led.append(f"{metric.heading} ({label}: {values[best]:.{metric.digits}f})")
    if not led:
        return []
    return [
        "A control, which understands nothing, is ahead of every model in "
        f"{', '.join(led)} of the {kind}s; that metric alone proves little here."
    ]


def _only_controls(systems: Mapping[str, dict], names: Iterable[str]) -> bool:
    return all(systems[name]["control"] for name in names)


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
        f"{stage}: {_became(numbers['stages'][stage])}"
        for stage in numbers["reinforced"]
        if "best_update" in numbers["stages"][stage]
    ]


def _became(result: Mapping) -> str:
    judged = result.get("criterion", "response_nll").removesuffix("_nll")
    if result["best_update"] == 0:
        kept = (
            "no validation was better than the supervised models', so its models are "
            "the supervised ones, and what it learned shows after the last update alone"
        )
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
        for name, system in personas.items()
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
    return "\n\n".join(
        _conversation(predictions, number, row) for number, row in enumerate(drawn, 1)
    )


def _conversation(predictions: Predictions, number: int, row: int) -> str:
    instance = predictions.instances[row]
    personas = {
        "self persona": " ".join(instance["self_persona"]),
        "partner persona, gold": " ".join(instance["partner_persona"]),
    }
    for name, records in predictions.records["personas"].items():
        inferred = predictions.rows["personas"][name]
        if inferred.against and not inferred.control:
            personas[f"partner persona, {inferred.label}"] = records[row]["persona"]
    answers = {"gold": instance["response"]}
    for name, records in predictions.records["responses"].items():
        known = predictions.rows["responses"][name]
        if not known.control and records[row].get("response") is not None:
            answers[known.label] = records[row]["response"]
    context = instance["context"]
    speakers = ("partner", "self")  # counted from the end: the partner spoke last
    said = [
        f"> {speakers[(len(context) - 1 - i) % 2]}: {text}"
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
