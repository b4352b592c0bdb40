"""report.md, report.json and figures/ of a run directory, from its predictions.

Nothing here is claimed but what a rule derives from the numbers. `report.results`
computes, `report.figures` draws, `report.words` says.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppg_jax.errors import printable
from ppg_jax.files import dumped, write_text
from ppg_jax.metrics import significance
from ppg_jax.report import columns, figures, inferred, results, scores
from ppg_jax.report.columns import METRICS, PER
from ppg_jax.report.metric import MAIN, MORE, TRAITS
from ppg_jax.report.tables import (
    bullets,
    interval,
    p_value,
    signed_interval,
    systems_table,
    table,
)
from ppg_jax.report.words import (
    at_a_glance,
    conversations,
    papers_difference,
    verdict_of,
)

SHOWN_CONVERSATIONS = 3
_CAPTIONS = {
    "systems_bar": "Every system, controls in grey.",
    "perplexity_by_turn": "Cold start (the paper's Figure 3).",
    "traits_by_turn": "Traits by exchanges heard, controls in grey.",
    "swapped_by_turn": "What a model gains by what is its own, and not a stranger's.",
    "training_curves": "Training; the dotted line is the update that was kept.",
    "reinforce_curves": "Reinforcement learning (the paper's Figure 4, unscaled). "
    "Thin lines are single batches, the dotted one is the update that was kept.",
}


def write_report(workdir: Path, title: str, paper: bool) -> Path:
    """Writes figures/*.png, report.md and, at last, report.json; returns report.md.

    Without report.json the others are not whole.
    paper: whether the paper's numbers stand beside ours. What a run directory lacks
    (a stage, a system, texts, likelihoods) the report leaves out. Raises UserError if
    it holds no evaluation.
    """
    workdir = Path(workdir)
    numbers = {"title": title, **results.compute(workdir, paper)}
    numbers["at_a_glance"] = at_a_glance(numbers)
    path, done = workdir / "report.md", workdir / "report.json"
    whole = dumped(numbers, done, indent=2) + "\n"
    done.unlink(missing_ok=True)
    pictures = figures.draw(workdir, numbers)
    talks = conversations(workdir, SHOWN_CONVERSATIONS, scores.SEED)
    told = markdown(numbers, [p.stem for p in pictures], talks)
    write_text(path, printable(told))  # labels are people's, too
    write_text(done, whole)
    return path


def markdown(numbers: Mapping, pictures: Sequence[str], talks: str) -> str:
    """The report as one text; `pictures` are stems of files in figures/."""
    reinforced = [p for p in pictures if p.startswith("reinforce_curves")]
    sections = [
        f"# {numbers['title']}",
        _heading("At a glance", bullets(numbers["at_a_glance"])),
        _heading(
            "Responses",
            _two_tables(numbers, "responses"),
            _picture(pictures, "systems_bar"),
        ),
        _heading("Partner personas", _two_tables(numbers, "personas")),
        _heading(
            "What is inferred, and is it used",
            inferred.traits(numbers),
            _picture(pictures, "traits_by_turn"),
            inferred.swapped(numbers),
            _picture(pictures, "swapped_by_turn"),
        ),
        _heading("What is significant", _tests(numbers)),
        _heading("Critic", _critic(numbers)),
        _heading(
            "Cold start", _turns(numbers), _picture(pictures, "perplexity_by_turn")
        ),
        _heading(
            "Reinforcement learning",
            _reinforced(numbers),
            *(_picture(pictures, name) for name in reinforced),
        ),
        _heading("Training", _stages(numbers), _picture(pictures, "training_curves")),
        _heading("Conversations", talks),
        _heading("How each number is defined", _definitions(numbers)),
        _heading("What made this", _made_of(numbers["made_of"])),
        "All numbers are in `report.json`, all predictions under `evaluate/`.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _heading(title: str, *parts: str) -> str:
    """The section, or nothing if it has no content."""
    parts = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *parts]) if parts else ""


def _picture(pictures: Sequence[str], name: str) -> str:
    caption = next(c for start, c in _CAPTIONS.items() if name.startswith(start))
    return f"![{caption}](figures/{name}.png)" if name in pictures else ""


def _two_tables(numbers: Mapping, kind: str) -> str:
    rows, main = numbers[kind], columns.shown(kind, MAIN)
    theirs = [key for key in main if any(key in row["paper"] for row in rows.values())]
    parts = [systems_table(rows, main, theirs)]
    if theirs:
        parts.append(
            f"The paper's numbers are of the {numbers['paper']} personas, with other "
            "models and another tokenizer than ours may have: perplexity per token is "
            "not comparable across vocabularies, and decoding is unstated there."
        )
    parts += [systems_table(rows, columns.shown(kind, of)) for of in (TRAITS, MORE)]
    return "\n\n".join(part for part in parts if part)


def _tests(numbers: Mapping) -> str:
    parts = []
    for kind in ("response", "persona"):
        systems, tests = numbers[f"{kind}s"], numbers[f"{kind}_tests"]
        if not tests:
            continue
        paper = any(papers_difference(systems, t) is not None for t in tests)
        rows = [_test_row(systems, test, paper) for test in tests]
        head = [f"{kind}s: A", "B", "metric", "A - B", "p", "p (Holm)", "A is"]
        head += ["paper: A - B"] if paper else []
        parts.append(table(head, rows, texts=3))
    if not parts:
        return ""
    least = significance.smallest_p(numbers["permutations"])
    told = (
        f"Paired permutation tests that swap whole {_unit(numbers)} "
        f"({numbers['permutations']:,} times; a p that is at the floor of {least:.1g}, "
        "and what Holm's correction makes of it, is told as a bound), paired "
        "bootstrap intervals of the difference (Distinct: jackknife for both), Holm's "
        "correction within a table. Of responses the larger p and the wider interval "
        "of both sides are told. The best control is chosen per metric by its score "
        "here, which favours it."
    )
    return "\n\n".join([told, *parts])


def _unit(numbers: Mapping) -> str:
    names = (unit["name"] for unit in numbers["units"].values())
    return " or ".join(dict.fromkeys(f"{name}s" for name in names))


def _sides(numbers: Mapping) -> str:
    """Whose base personas the intervals are over, counted."""
    rows = numbers["responses"].values()
    sides = [m["unit"] for row in rows for m in row["metrics"].values()]
    return (
        "Those of personas are by the partner's. Those of responses are the wider of "
        f"both, which is by the speaker's own in {sides.count('self')} of {len(sides)} "
        "numbers and by the partner's in the others (report.json says where)."
    )


def _test_row(systems: Mapping, test: Mapping, paper: bool) -> list[str]:
    a, b, key = test["a"], test["b"], test["metric"]
    metric = METRICS[key]
    difference = signed_interval(test["difference"], metric.digits)
    verdict = verdict_of(test).removesuffix(" in")
    row = [systems[a]["label"], systems[b]["label"], metric.heading, difference]
    row.append(p_value(test["p"], test["at_floor"]).removeprefix("= "))
    row.append(p_value(test["p_holm"], test["holm_at_floor"]).removeprefix("= "))
    row.append(f"**{verdict}**" if test["significant"] else verdict)
    if paper:
        theirs = papers_difference(systems, test)
        row.append("" if theirs is None else f"{theirs:+.{metric.digits}f}")
    return row


def _turns(numbers: Mapping) -> str:
    by_turn = numbers["perplexity_by_turn"]
    if not by_turn:
        return ""
    turns = [t for t in results.TURNS if any(t in row for row in by_turn.values())]
    digits = METRICS["ppl_token"].digits
    rows = [
        [
            numbers["responses"][name]["label"],
            *(interval(points.get(turn), digits) for turn in turns),
        ]
        for name, points in by_turn.items()
    ]
    told = (
        f"{PER[numbers['turns_in']].capitalize()} of the response where the partner "
        "has said N things so far; the whole dialogue up to there is given."
    )
    head = [f"N = {t}" if t != "all" else "all" for t in turns]
    return "\n\n".join([told, table(["", *head], rows)])


def _critic(numbers: Mapping) -> str:
    """Every stage that judges, beside the controls."""
    rows = [
        [
            f"{stage}: {judge}, {kind} persona, {split}",
            interval({**share, "value": share["accuracy"]}, 3),
            f"{share['groups']}" if "groups" in share else "",
            _p_or_none(share.get("critic_p")),
        ]
        for stage, result in numbers["stages"].items()
        for split, kinds in result.get("accuracy", {}).items()
        for kind, judges in kinds.items()
        for judge, share in judges.items()
    ]
    if not rows:
        return ""
    told = (
        "Share of pairs of a profile and a response that are judged rightly, half of "
        "them related, beside judges that only compare words. Intervals are over base "
        "personas, of which there are so many; p is that of the critic being no "
        "different from the control, not corrected."
    )
    if numbers["paper"]:
        told += " The paper's: about 0.75 (self persona) and 0.60 (partner's)."
    return "\n\n".join([told, table(["judge", "accuracy", "groups", "p"], rows)])


def _reinforced(numbers: Mapping) -> str:
    """The validations of each stage of RL, ten or so of them."""
    found = {s: r["validations"] for s, r in numbers["reinforced"].items()}
    rows = [
        [f"{stage}, {records[i]['step']:,}", *_validation(records[i])]
        for stage, records in found.items()
        for i in sorted({round(i) for i in np.linspace(0, len(records) - 1, 10)})
        if records
    ]
    if not rows:
        return ""
    told = (
        "On a fixed part of the validation split, the response given the generated "
        "persona; update 0 is before reinforcement learning."
    )
    head = ["stage, update", *(heading for heading, _ in _VALIDATED.values())]
    return "\n\n".join([told, table(head, rows)])


def _p_or_none(p: float | None) -> str:
    return "" if p is None else p_value(p).removeprefix("= ")


_VALIDATED = {
    "valid_response_ppl": ("response PPL", 3),
    "valid_persona_ppl": ("persona PPL", 2),
    "valid_persona_distinct_2": ("personas' Distinct-2", 4),
}


def _validation(record: Mapping) -> list[str]:
    return [
        f"{record[key]:.{digits}f}" if key in record else ""
        for key, (_, digits) in _VALIDATED.items()
    ]


def _stages(numbers: Mapping) -> str:
    rows = [
        [
            stage,
            _number(result.get("steps", result.get("updates"))),
            _number(result.get("kept_step", result.get("best_update"))),
            _number(result.get("parameters")),
            _headline(result),
            f"`{result['params_sha256'][:12]}`" if "params_sha256" in result else "",
        ]
        for stage, result in numbers["stages"].items()
    ]
    head = ["stage", "updates", "kept", "parameters", "validation", "params_sha256"]
    return table(head, rows) if rows else ""


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _headline(result: Mapping) -> str:
    for key, name in [
        ("valid_ppl", "PPL"),
        ("valid_response_ppl", "response PPL"),
        ("valid_persona_ppl", "persona PPL"),
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
    lines += [
        "Perplexity is that of the gold response, given the partner persona that the "
        "system is told at inference (none, the gold or the generated one), and that "
        "of the gold persona: its sentences in the order in which a generator learned "
        "them, as given or said first; of n-grams and rows of one's own as given.",
        f"Intervals: percentile bootstrap, {numbers['resamples']:,} resamples of whole "
        f"{_unit(numbers)}; Distinct: jackknife over them, for drawing a text twice "
        "adds words and no different ones. A base persona is all dialogues whose "
        "profiles share two sentences or more, for gold personas recur in many "
        f"dialogues. {_sides(numbers)}",
        "How far to trust these: at 100 to 120 groups an interval of BLEU covers 0.91 "
        "where 0.95 is meant, one of ROUGE-L 0.93 to 0.95. For the BLEU of personas "
        "that are the same for everyone no test on a hundred base personas keeps its "
        "level where new ones are drawn: at 0.05 it finds a difference that is not "
        "there in 0.18 of the cases (`python -m tests.type_one_error DATA`).",
    ]
    return bullets(lines)


def _made_of(made: Mapping) -> str:
    packages = ", ".join(f"{n} {v}" for n, v in made["packages"].items() if v)
    sums = (f"{name}: `{value[:12]}`" for name, value in made["sums"].items())
    earlier: dict[str, list[str]] = {}
    for row, commit in made.get("rows", {}).items():
        if commit != made["commit"]:
            earlier.setdefault(commit or "not known", []).append(row)
    return bullets(
        [
            f"ppg_jax {made['version']}, commit {made['commit'] or 'not known'}",
            *(f"commit {c}: rows {', '.join(rows)}" for c, rows in earlier.items()),
            packages,
            f"evaluation's seed {made['seed']}; every setting is in `report.json`",
            *sums,
        ]
    )
