"""What a report says of inferring: tables by turn, and sentences by rule."""

from collections.abc import Mapping, Sequence

from ppg_jax.report.scores import ALPHA
from ppg_jax.report.tables import interval, p_value, signed_interval, table
from ppg_jax.report.trait_columns import TRAIT_METRICS
from ppg_jax.report.traits import ALL, CURVES, FROM_LATE, HEARD, LATE

_GIVEN = {
    "personas": ("own conversation", "another's"),
    "responses": ("right persona", "another's"),
}


def traits(numbers: Mapping) -> str:
    """Traits by turn, each curve of the figure as a table; "" without any."""
    found = numbers.get("traits", {})
    parts = []
    for key in CURVES:
        by_row = found.get("by_turn", {}).get(key, {})
        turns = [t for t in HEARD if any(t in points for points in by_row.values())]
        rows = [
            [numbers["personas"][name]["label"]]
            + [interval(points.get(turn), 3) for turn in turns]
            for name, points in by_row.items()
        ]
        if rows:
            head = [TRAIT_METRICS[key].heading, *turns]
            parts.append(table(head, rows))
    if not parts:
        return ""
    said = "; ".join(
        f"{turn}: {found['said'][turn]['value']:.0%}"
        for turn in HEARD
        if turn in found["said"]
    )
    told = (
        "By exchanges heard, that is how often the partner has spoken. Of the gold "
        f"traits, partners have said in their own words so far: {said}."
    )
    return "\n\n".join([told, *parts])


def swapped(numbers: Mapping) -> str:
    """Perplexity given its own and what is a stranger's, by turn; "" without any."""
    parts = []
    for kind, told in [
        (
            "personas",
            "Perplexity per token of the gold partner persona, given its own "
            "conversation, and given another dialogue's that is as long and of another "
            "pair of personas. Where nothing is inferred the two are equal.",
        ),
        (
            "responses",
            "Perplexity per token of the gold response, given the gold partner persona "
            "and given another dialogue's. Where the persona is not used the two are "
            "equal. Rows that infer the persona are told the gold one here.",
        ),
    ]:
        found = numbers.get("swapped", {}).get(kind, {})
        if found:
            parts += [told, _swapped_table(kind, numbers[kind], found)]
    if not parts:
        return ""
    count = max(
        points["instances"]
        for found in numbers["swapped"].values()
        for row in found.values()
        for points in row["by_turn"].values()
    )
    parts.append(
        f"Of whole dialogues that a seed chose, {count:,} instances; rows with the "
        "same model once. Differences are in nats a token; p is that of the column "
        "all, Holm-corrected over the rows."
    )
    return "\n\n".join(parts)


def _swapped_table(kind: str, systems: Mapping, found: Mapping) -> str:
    turns = [t for t in HEARD if any(t in r["by_turn"] for r in found.values())]
    rows = []
    for row in found.values():
        label, points = _labels(systems, row["rows"]), row["by_turn"]
        for which, given in zip(("own", "other"), _GIVEN[kind], strict=True):
            cells = [interval(points.get(t, {}).get(which), 2) for t in turns]
            rows.append([label, given, *cells, ""])
        cells = [
            signed_interval(points[t]["difference"], 3) if t in points else ""
            for t in turns
        ]
        rows.append([label, "difference, nats", *cells, _p(points)])
    return table(["", "given", *turns, "p (Holm)"], rows, texts=2)


def _p(points: Mapping) -> str:
    test = points.get(ALL)
    if test is None:
        return ""
    return p_value(test["p_holm"], test["holm_at_floor"]).removeprefix("= ")


def _labels(systems: Mapping, names: Sequence[str]) -> str:
    return "; ".join(systems[name]["label"] for name in names)


def sentences(numbers: Mapping) -> list[str]:
    """Does it infer, is it used, is it more than a control has."""
    told = []
    for kind, say in (("personas", _infers), ("responses", _uses)):
        for row in numbers.get("swapped", {}).get(kind, {}).values():
            told.append(say(_labels(numbers[kind], row["rows"]), row["by_turn"]))
    return [sentence for sentence in told if sentence] + [
        _against(numbers["personas"], test) for test in against_best(numbers)
    ]


def against_best(numbers: Mapping) -> list[dict]:
    """Of the planned tests, those of trait F1 against the control that has most."""
    tests = numbers["persona_tests"]
    return [t for t in tests if t["best_control"] and t["metric"] == "trait_f1"]


def _sign(test: Mapping) -> int:
    """-1, 1: the interval of the difference lies below, above 0; 0: it holds 0, or
    Holm's correction leaves open what was tested together."""
    if test.get("p_holm", 0) >= ALPHA:
        return 0
    low, high = test["difference"]["low"], test["difference"]["high"]
    return 1 if low > 0 else -1 if high < 0 else 0


def _evidence(test: Mapping) -> str:
    own, other = (f"{test[key]['value']:.2f}" for key in ("own", "other"))
    nats = signed_interval(test["difference"], 3)
    return f"perplexity {own} against {other}; {nats} nats a token"


def _infers(label: str, points: Mapping) -> str:
    """By late turns, or by all where dialogues are shorter."""
    turn = FROM_LATE if FROM_LATE in points else ALL
    if turn not in points:
        return ""
    found = {
        -1: "infers: the gold persona is likelier given its own conversation than "
        "given another's",
        0: "is not shown to infer: its own conversation makes the gold persona no "
        "likelier than another's",
        1: "does not infer: another's conversation makes the gold persona likelier "
        "than its own",
    }[_sign(points[turn])]
    when = f"with {LATE} exchanges or more, " if turn == FROM_LATE else ""
    return f"**{label}** {found} ({when}{_evidence(points[turn])})."


def _uses(label: str, points: Mapping) -> str:
    if ALL not in points:
        return ""
    found = {
        -1: "uses the partner persona: the gold response is likelier given the right "
        "one than given another's",
        0: "is not shown to use the partner persona: the right one makes the gold "
        "response no likelier than another's",
        1: "does not profit from the partner persona: another's makes the gold "
        "response likelier",
    }[_sign(points[ALL])]
    return f"**{label}** {found} ({_evidence(points[ALL])})."


def _against(systems: Mapping, test: Mapping) -> str:
    mine, control = systems[test["a"]], systems[test["b"]]
    a, b = (s["metrics"]["trait_f1"]["value"] for s in (mine, control))
    verdict = {
        test["a"]: "infers more right traits than",
        test["b"]: "infers fewer right traits than",
        None: "is not shown to infer more right traits than",
    }[test["better"]]
    best = control["label"].removeprefix("control: ")
    return (
        f"**{mine['label']}** {verdict} the best control, which understands nothing "
        f"({best}): trait F1 {a:.3f} against {b:.3f}, difference "
        f"{signed_interval(test['difference'], 3)}."
    )
