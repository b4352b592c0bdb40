"""How a run was made, as a report reads it: results of stages, and provenance."""

from collections.abc import Mapping
from pathlib import Path

from ppg_jax import run_dir
from ppg_jax.files import read_json, require_form

SECONDS = "seconds_of_last_process"
# Of those who judge: split -> persona -> judge -> this.
_SHARE = dict.fromkeys(("accuracy", "low", "high"), float)
_SHARE |= {"groups": int | None, "critic_p": float | None}
_COUNTS = ("steps", "updates", "kept_step", "best_update", "parameters")
_MEASURED = ("valid_ppl", "valid_response_ppl", "valid_persona_ppl", "valid_accuracy")
# What there is differs from stage to stage.
_NUMBERS = dict.fromkeys(_COUNTS, int | None)
_NUMBERS |= dict.fromkeys((*_MEASURED, SECONDS), float | None)
_NUMBERS |= {"accuracy": dict[str, dict[str, dict[str, _SHARE]]] | None}

AGAIN = "evaluate the run again."
_PROVENANCE = {
    "version": str,
    "commit": str | None,
    "packages": dict[str, str | None],
    "seed": int,
    "sums": dict[str, str],
    "rows": dict[str, str | None] | None,
    "split_dialogues": int | None,  # older ones do not say
}
_SETTINGS = {"split": str | None, "max_dialogues": int | None}


def provenance_of(workdir: Path) -> dict:
    """What an evaluation was made with."""
    path = Path(workdir) / "evaluate" / "provenance.json"
    values = read_json(path, AGAIN)
    require_form(path, values, _PROVENANCE, AGAIN)
    require_form(path, values.get("settings", {}), _SETTINGS, AGAIN)
    return values


def result_of(workdir: Path, name: str, form: Mapping = {}) -> dict:
    """The result.json of a finished stage; form: of what it has to have."""
    folder = Path(workdir) / name
    result, path = run_dir.result_of(folder), folder / run_dir.RESULT
    require_form(path, result, _NUMBERS | {**form}, run_dir.again_of(folder))
    return {key: value for key, value in result.items() if value is not None}


def reinforced(workdir: Path, name: str) -> dict:
    """That of a stage of REINFORCE, as the report words it."""
    result = result_of(workdir, name, {"criterion": str | None})
    if "best_update" in result:
        judged = judged_by(result)
        form = {"updates": int, "stopped_because": str, f"valid_{judged}_ppl": float}
        form[f"valid_{judged}_ppl_before"] = float
        return result_of(workdir, name, form)
    return result


def judged_by(result: Mapping) -> str:
    """Whose perplexity chose the update that a stage of REINFORCE kept."""
    return result.get("criterion", "response_nll").removesuffix("_nll")


def hours(workdir: Path, name: str) -> float | None:
    """What a finished stage, or the evaluation, took, in its last process at least;
    None: not finished."""
    path = Path(workdir) / name / run_dir.RESULT
    if not path.exists():
        return None
    again = f"remove {path} and run the same command."
    result = read_json(path, again)
    require_form(path, result, {SECONDS: float | None}, again)
    return (result.get(SECONDS) or 0.0) / 3600
