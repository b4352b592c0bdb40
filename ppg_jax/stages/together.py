"""Which stages of a config go together, beyond their names."""

from collections.abc import Sequence


def require(stages: Sequence, judged) -> None:
    """Raises ValueError for stages that name others of a wrong kind, or critics that
    cannot tell what they are asked for.  judged: the config of the evaluation."""
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
