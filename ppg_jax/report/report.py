"""report.md, report.json and figures/ of a run directory, from its predictions.

Nothing here is claimed but what a rule derives from the numbers: the same rules word a
success and a failure. `report.results` computes, `report.figures` draws.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ppg_jax.files import write_json, write_text
from ppg_jax.report import figures, results
from ppg_jax.report.results import METRICS

SHOWN_CONVERSATIONS = 3
_RESPONSE_MAIN = ("ppl_token", "bleu", "rouge_parlai", "f1", "critic")
_RESPONSE_MORE = (
    "ppl_sequence",
    "ppl_word",
    "sacrebleu",
    "rouge_google",
    "distinct_1",
    "distinct_2",
    "length",
)
_PERSONA_MAIN = ("ppl_token", "bleu", "rouge_parlai", "distinct_1", "distinct_2")
_PERSONA_MORE = (
    "ppl_sequence",
    "ppl_word",
    "sacrebleu",
    "rouge_google",
    "intra_distinct_2",
    "novelty",
    "length",
    "ended",
)
_PAPER_COLUMNS = ("ppl_token", "bleu", "rouge_parlai")
_CAPTIONS = {
    "systems_bar": "Every system, controls in grey.",
    "perplexity_by_turn": "Cold start (the paper's Figure 3).",
    "training_curves": "Training.",
    "reinforce_curves": "Reinforcement learning (the paper's Figure 4, unscaled). "
    "Thin lines are single batches, the dotted one is the update that was kept.",
}


def write_report(workdir: Path, title: str, paper: bool) -> Path:
    """Writes report.json, figures/*.png and report.md into `workdir`; returns the last.

    paper: whether the paper's numbers stand beside ours. What a run directory lacks
    (a stage, a system, texts, likelihoods) the report leaves out. Raises UserError if
    it holds no evaluation.
    """
    workdir = Path(workdir)
    numbers = {"title": title, **results.compute(workdir, paper)}
    numbers["at_a_glance"] = at_a_glance(numbers)
    write_json(workdir / "report.json", numbers)
    pictures = figures.draw(workdir, numbers)
    talks = conversations(workdir, SHOWN_CONVERSATIONS, results.SEED)
    text = markdown(numbers, [p.stem for p in pictures], talks)
    path = workdir / "report.md"
    write_text(path, text)
    return path


def markdown(numbers: Mapping, pictures: Sequence[str], talks: str) -> str:
    """The report as one text; `pictures` are stems of files in figures/."""
    sections = [
        f"# {numbers['title']}",
        _heading("At a glance", bullets(numbers["at_a_glance"])),
        _heading("Responses", _responses(numbers), _picture(pictures, "systems_bar")),
        _heading("Partner personas", _personas(numbers)),
        _heading("What is significant", _tests(numbers)),
        _heading("Critic", _critic(numbers)),
        _heading(
            "Cold start", _turns(numbers), _picture(pictures, "perplexity_by_turn")
        ),
        _heading(
            "Reinforcement learning",
            _reinforce(numbers),
            _picture(pictures, "reinforce_curves"),
        ),
        _heading("Training", _stages(numbers), _picture(pictures, "training_curves")),
        _heading("Conversations", talks),
        _heading("How each number is defined", _definitions(numbers)),
        "All numbers are in `report.json`, all predictions under `evaluate/`.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _heading(title: str, *parts: str) -> str:
    """The section, or nothing if it has no content."""
    parts = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *parts]) if parts else ""


def _picture(pictures: Sequence[str], name: str) -> str:
    caption = _CAPTIONS[name]
    return f"![{caption}](figures/{name}.png)" if name in pictures else ""


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A markdown table; the first `texts` columns are words, the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


# --- At a glance --------------------------------------------------------------


def at_a_glance(numbers: Mapping) -> list[str]:
    """Sentences that follow from the numbers by rule."""
    told = [
        f"{numbers['instances']:,} instances of {numbers['dialogues']:,} dialogues; "
        f"intervals are {numbers['level']:.0%} over dialogues; differences count where "
        f"p < {1 - numbers['level']:.2g} after Holm's correction."
    ]
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


def _compared(systems: Mapping[str, dict], tests: Sequence[dict]) -> list[str]:
    """One sentence per pair of systems: where they differ, and where they do not."""
    pairs = dict.fromkeys((t["a"], _planned(systems, t["b"])) for t in tests)
    told = []
    for a, b in pairs:
        groups: dict[str, list[str]] = {}
        for test in tests:
            if (test["a"], _planned(systems, test["b"])) == (a, b):
                groups.setdefault(_verdict(test), []).append(_evidence(systems, test))
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
    return results.BEST_CONTROL if systems[name]["control"] else name


def _verdict(test: Mapping) -> str:
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
    return f"{metric.heading} ({a} against {b}, p {_p(test['p_holm'])})"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


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
        theirs = _papers_difference(systems, test)
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


def _papers_difference(systems: Mapping[str, dict], test: Mapping) -> float | None:
    """A - B in the paper; None where it has no such number."""
    a, b = (systems[test[side]]["paper"].get(test["metric"]) for side in "ab")
    return None if a is None or b is None else a - b


def _learned(numbers: Mapping) -> list[str]:
    """What became of reinforcement learning."""
    result = numbers["stages"].get("reinforce", {})
    if "best_update" not in result:
        return []
    if result["best_update"] == 0:
        kept = (
            "no validation was better than the supervised models', so the models with "
            "RL are the supervised ones"
        )
    else:
        kept = (
            f"kept is update {result['best_update']}, where the response's validation "
            f"perplexity was {result['valid_response_ppl']:.2f} against "
            f"{result['valid_response_ppl_before']:.2f} before"
        )
    return [
        f"Reinforcement learning ran for {result['updates']:,} updates "
        f"({result['stopped_because']}); {kept}."
    ]


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


# --- Tables -------------------------------------------------------------------


def _systems_table(systems: Mapping, keys: Sequence[str], paper=()) -> str:
    """A row per system that has any of the metrics; empty without such a row."""
    keys = [k for k in keys if any(k in s["metrics"] for s in systems.values())]
    theirs = {key: _papers_column(systems, key) for key in paper}
    rows = []
    for name, system in systems.items():
        if any(key in system["metrics"] for key in keys):
            cells = [
                _interval(system["metrics"].get(k), METRICS[k].digits) for k in keys
            ]
            cells += [theirs[key].get(name, "") for key in paper]
            rows.append([system["label"], *cells])
    head = ["", *(METRICS[k].heading for k in keys)]
    head += [f"paper: {METRICS[k].heading}" for k in paper]
    return table(head, rows) if rows else ""


def _papers_column(systems: Mapping[str, dict], key: str) -> dict[str, str]:
    """The paper's numbers by system, all with as many digits as the longest has."""
    values = {n: s["paper"][key] for n, s in systems.items() if key in s["paper"]}
    decimals = (len(f"{value:g}".partition(".")[2]) for value in values.values())
    digits = max(decimals, default=0)
    return {name: f"{value:.{digits}f}" for name, value in values.items()}


def _interval(measured: Mapping | None, digits: int) -> str:
    if measured is None:
        return ""
    value, low, high = (f"{measured[k]:.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} ({low}–{high})"


def _responses(numbers: Mapping) -> str:
    return _two_tables(
        numbers, "responses", _RESPONSE_MAIN, _RESPONSE_MORE, _PAPER_COLUMNS
    )


def _personas(numbers: Mapping) -> str:
    return _two_tables(numbers, "personas", _PERSONA_MAIN, _PERSONA_MORE, _PERSONA_MAIN)


def _two_tables(numbers, kind: str, main, more, paper_columns) -> str:
    systems = numbers[kind]
    paper = paper_columns if any(s["paper"] for s in systems.values()) else ()
    parts = [_systems_table(systems, main, paper)]
    if paper:
        parts.append(
            f"The paper's numbers are of the {numbers['paper']} personas, with other "
            "models and another tokenizer than ours may have: perplexity per token is "
            "not comparable across vocabularies, and decoding is unstated there."
        )
    return "\n\n".join(p for p in [*parts, _systems_table(systems, more)] if p)


def _tests(numbers: Mapping) -> str:
    parts = []
    for kind in ("response", "persona"):
        systems, tests = numbers[f"{kind}s"], numbers[f"{kind}_tests"]
        if not tests:
            continue
        rows = [_test_row(systems, test, bool(numbers["paper"])) for test in tests]
        head = [f"{kind}s: A", "B", "metric", "A - B", "p", "p (Holm)", "A is"]
        head += ["paper: A - B"] if numbers["paper"] else []
        parts.append(table(head, rows, texts=3))
    if not parts:
        return ""
    told = (
        "Paired permutation tests that swap whole dialogues "
        f"({numbers['permutations']:,} times), paired bootstrap intervals of the "
        "difference (Distinct: jackknife for both), Holm's correction within a table. "
        "The best control is chosen per metric by its score here, which favours it."
    )
    return "\n\n".join([told, *parts])


def _test_row(systems: Mapping, test: Mapping, paper: bool) -> list[str]:
    a, b, key = test["a"], test["b"], test["metric"]
    metric = METRICS[key]
    difference = _signed_interval(test["difference"], metric.digits)
    verdict = _verdict(test).removesuffix(" in")
    row = [systems[a]["label"], systems[b]["label"], metric.heading, difference]
    row += [_p(test["p"]).removeprefix("= "), _p(test["p_holm"]).removeprefix("= ")]
    row.append(f"**{verdict}**" if test["significant"] else verdict)
    if paper:
        theirs = _papers_difference(systems, test)
        row.append("" if theirs is None else f"{theirs:+.{metric.digits}f}")
    return row


def _signed_interval(measured: Mapping, digits: int) -> str:
    value, low, high = (f"{measured[k]:+.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _turns(numbers: Mapping) -> str:
    by_turn = numbers["perplexity_by_turn"]
    if not by_turn:
        return ""
    turns = [t for t in results.TURNS if any(t in row for row in by_turn.values())]
    digits = METRICS["ppl_token"].digits
    rows = [
        [
            numbers["responses"][name]["label"],
            *(_interval(points.get(turn), digits) for turn in turns),
        ]
        for name, points in by_turn.items()
    ]
    told = (
        "Perplexity per token of the response where the partner has said N things so "
        "far; the whole dialogue up to there is given."
    )
    head = [f"N = {t}" if t != "all" else "all" for t in turns]
    return "\n\n".join([told, table(["", *head], rows)])


def _critic(numbers: Mapping) -> str:
    accuracy = numbers["stages"].get("critic", {}).get("accuracy", {})
    rows = [
        [
            f"{judge}, {kind} persona, {split}",
            _interval({**share, "value": share["accuracy"]}, 3),
        ]
        for split, kinds in accuracy.items()
        for kind, judges in kinds.items()
        for judge, share in judges.items()
    ]
    if not rows:
        return ""
    told = (
        "Share of pairs of a profile and a response that are judged rightly, half of "
        "them related, beside judges that only compare words. Intervals take the pairs "
        "as independent, which makes them somewhat narrow (Wilson)."
    )
    if numbers["paper"]:
        told += " The paper's: about 0.75 (self persona) and 0.60 (partner's)."
    return "\n\n".join([told, table(["judge", "accuracy"], rows)])


def _reinforce(numbers: Mapping) -> str:
    """The validations of the RL stage, ten or so of them."""
    records = numbers["reinforce_validation"]
    if not records:
        return ""
    shown = sorted({round(i) for i in np.linspace(0, len(records) - 1, 10)})
    columns = {
        "valid_response_ppl": ("response PPL", 3),
        "valid_persona_ppl": ("persona PPL", 2),
        "valid_persona_distinct_2": ("personas' Distinct-2", 4),
    }
    rows = [
        [f"{records[i]['step']:,}"]
        + [
            f"{records[i][k]:.{d}f}" if k in records[i] else ""
            for k, (_, d) in columns.items()
        ]
        for i in shown
    ]
    told = (
        "On a fixed part of the validation split, the response given the generated "
        "persona; update 0 is before reinforcement learning."
    )
    head = ["update", *(heading for heading, _ in columns.values())]
    return "\n\n".join([told, table(head, rows)])


def _stages(numbers: Mapping) -> str:
    rows = [
        [
            stage,
            _number(result.get("steps", result.get("updates"))),
            _number(result.get("parameters")),
            _headline(result),
            f"`{result['params_sha256'][:12]}`" if "params_sha256" in result else "",
        ]
        for stage, result in numbers["stages"].items()
    ]
    head = ["stage", "updates", "parameters", "validation", "params_sha256"]
    return table(head, rows) if rows else ""


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _headline(result: Mapping) -> str:
    for key, name in [
        ("valid_ppl", "PPL"),
        ("valid_response_ppl", "response PPL"),
        ("valid_accuracy", "accuracy"),
    ]:
        if key in result:
            return f"{name} {result[key]:.3f}"
    return ""


def _definitions(numbers: Mapping) -> str:
    used = {
        key
        for kind in ("responses", "personas")
        for system in numbers[kind].values()
        for key in system["metrics"]
    }
    lines = [
        f"**{m.heading}**: {m.definition}." for k, m in METRICS.items() if k in used
    ]
    if "sacrebleu" in used:
        lines.append(f"sacreBLEU's signature: `{numbers['sacrebleu_signature']}`.")
    lines.append(
        "Perplexity is that of the gold response, given the partner persona that the "
        "system is told at inference (none, the gold or the generated one), and that "
        "of the gold persona."
    )
    lines.append(
        f"Intervals: percentile bootstrap, {numbers['resamples']:,} resamples of whole "
        "dialogues; Distinct: jackknife over dialogues, for drawing a text twice adds "
        "words and no different ones."
    )
    return bullets(lines)


# --- Conversations ------------------------------------------------------------


def conversations(workdir: Path, count: int, seed: int) -> str:
    """`count` test instances, each of another dialogue, drawn by `seed` and not chosen.

    Markdown that reads well in a terminal, too: personas gold and inferred, the
    context, the gold response and that of every model.
    """
    predictions = results.read(workdir)
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


def _conversation(predictions: results.Predictions, number: int, row: int) -> str:
    instance = predictions.instances[row]
    personas = {
        "self persona": " ".join(instance["self_persona"]),
        "partner persona, gold": " ".join(instance["partner_persona"]),
    }
    for name, label in results.PERSONA_MODELS.items():
        if name in predictions.personas:
            how = label.removeprefix("Generator ")
            text = predictions.personas[name][row]["persona"]
            personas[f"partner persona, inferred {how}"] = text
    answers = {"gold": instance["response"]}
    for name, records in predictions.responses.items():
        if not results.is_control(name) and records[row].get("response") is not None:
            answers[results.RESPONSE_MODELS.get(name, name)] = records[row]["response"]
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
