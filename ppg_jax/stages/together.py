"""Which stages and rows of a config go together, beyond their names."""

from collections.abc import Mapping, Sequence


def require(stages: Sequence, judged, rows: Mapping) -> None:
    """Raises ValueError for stages and rows that name others of a wrong kind, or
    critics that cannot tell what they are asked for.  judged: the config of the
    evaluation."""
    # Alone what is supervised, and no other system's stage, can learn from another's
    # personas, and writes what REINFORCE goes on from.
    generators = {s.name: s.task for s in stages if hasattr(s, "exposure")}
    critics = {s.name: s for s in stages if s.task == "critic"}
    reinforced = [s for s in stages if s.task == "reinforce"]
    for stage in reinforced:
        for kind in ("persona", "response"):
            _require_kind(stage, kind, getattr(stage, kind), generators)
        if stage.critic not in critics:
            told = f"{stage.name}.critic={stage.critic!r}"
            raise ValueError(f"{told} is no critic; name one of {tuple(critics)}.")
    for stage in stages:
        if stage.name in generators and stage.exposure.persona:
            _require_kind(stage, "persona", stage.exposure.persona, generators)
    _require_critics(critics, judged, {stage.critic for stage in reinforced})
    tasks = generators | dict.fromkeys(critics, "")
    for name, row in rows.items():
        _require_row(name, row, tasks)
        if [r for r in rows.values() if (r.kind, r.label) == (row.kind, row.label)][1:]:
            raise ValueError(f"two rows have the label {row.label!r}; rename one.")


def _require_row(name: str, row, tasks: dict[str, str]) -> None:
    """tasks: of generators, and "" of critics; what else there is may write both."""
    if "/" in name or name in row.against:
        told = "compared with itself" if name in row.against else "no name of a file"
        raise ValueError(f"row {name!r} is {told}; give another.")
    for kind in ("persona", "response"):
        stage = getattr(row, kind, "")
        if stage in tasks and tasks[stage] != kind:
            raise ValueError(
                f"row {name!r} takes {stage!r} for a {kind} generator, which is none."
            )


def _require_kind(stage, kind: str, name: str, generators: dict[str, str]) -> None:
    if generators.get(name) != kind:
        known = tuple(n for n, task in generators.items() if task == kind)
        raise ValueError(
            f"{stage.name} takes {name!r} for a {kind} generator, which is none; name "
            f"one of {known}."
        )


def _require_critics(critics: dict, judged, paid: set[str]) -> None:
    """Of evaluation: there, and the held-out one of another half than all others."""
    for field in ("critic", "held_out"):
        name = getattr(judged, field)
        if name and critics and name not in critics:
            raise ValueError(
                f"evaluate.{field}={name!r} is no critic; name one of {tuple(critics)}."
            )
    others = {critics[name].half for name in {*paid, judged.critic} & critics.keys()}
    held_out = critics.get(judged.held_out)
    if held_out and (not held_out.half or others & {"", held_out.half}):
        raise ValueError(
            f"evaluate.held_out={held_out.name!r} has to be of another half of the "
            "dialogues than the critics that judge and pay, as half=odd beside "
            "half=even; or leave it empty."
        )
