"""What a run directory holds: which stage belongs to what, which have finished.

RUN/STAGE/fingerprint.json   the settings and inputs that the stage belongs to
RUN/STAGE/result.json        that it has finished, and its numbers
RUN/STAGE/metrics.jsonl      its curves;  model/ what it made;  checkpoints/
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ppg_jax.config import flatten, from_config_dict
from ppg_jax.data.corpus import fingerprint
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.errors import UserError
from ppg_jax.files import hold, read_json, write_json

RESULT, FINGERPRINT = "result.json", "fingerprint.json"
EXPORTED = "pipeline.json"  # of a folder that was exported
# Fields that change how a run is watched or where its data lies, not what it computes.
# (What the data is, the inputs say.)
NOT_COMPARED = ("log_every", "checkpoint_every", "source")
_LOCKS: dict[Path, int] = {}  # held until the process ends, in whatever way

# What trains the stages that others start from, by the names that they have unless a
# config gives them another.
PROGRAMS = {
    "dialogue": "launch.train_dialogue",
    "persona": "launch.train_persona",
    "response": "launch.train_response",
    "response_without": "launch.train_response --stage=response_without",
    "critic": "launch.train_critic",
    "critic_scratch": "launch.train_critic --stage=critic_scratch",
}


# --- Whose a folder is ---


def claim(
    folder: Path, config, inputs: dict[str, str], later: Collection[str] = ()
) -> None:
    """Makes `folder` belong to this process, config and inputs, or refuses by name.

    inputs: what the run reads, each with its SHA-256, as {"training data": ...}.
    later: the inputs that may have been missing before. A field that the config did
    not have when the run was made is a difference too: its default may not be what
    the run did.
    Raises UserError if the folder holds a run of other ones, or is in use.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    ours = _fingerprint(config, inputs)
    path = folder / FINGERPRINT
    theirs = settings_of(folder) if path.exists() else ours
    new = {_sum_of(name) for name in later} - theirs.keys()
    changed = [k for k in ours | theirs if ours.get(k) != theirs.get(k)]
    told = _differences(theirs, ours, [k for k in changed if k not in new])
    if told:
        raise UserError(
            f"{folder} holds a run with another setting ({told}). Give another "
            "--workdir, or delete that folder to start again."
        )
    if changed or not path.exists():
        write_json(path, ours)


def sums_of(splits: Mapping[str, Sequence[Dialogue]], *names: str) -> dict[str, str]:
    """The splits of these names as inputs of a stage (see `claim`)."""
    long = {"train": "training", "valid": "validation", "test": "test"}
    return {f"{long[name]} data": fingerprint(splits[name]) for name in names}


def agree(folder: Path, config, inputs: dict[str, str], section: str = "") -> None:
    """Raises UserError if the stage in `folder` was made with other data or settings.

    Compared are the inputs and the fields of `section` of the config, where both
    stages have them.
    """
    ours = _fingerprint(config, inputs)
    sums = {_sum_of(name) for name in inputs}
    theirs = settings_of(folder)
    shared = [
        k
        for k in ours.keys() & theirs.keys()
        if k in sums or (section and k.startswith(f"{section}."))
    ]
    told = _differences(theirs, ours, sorted(shared))
    if told:
        raise UserError(
            f"{folder} was made with another setting ({told}). Give the --config and "
            "the data that it was made with, or another --workdir."
        )


def _fingerprint(config, inputs: dict[str, str]) -> dict:
    fields = flatten(config).items()
    compared = {k: v for k, v in fields if k.split(".")[-1] not in NOT_COMPARED}
    # As it will be read again: JSON knows no tuples.
    compared = json.loads(json.dumps(compared))
    import jax  # here: who reads a run directory need not start it

    precision = jax.config.jax_default_matmul_precision
    if precision:  # of the environment, and what a run computes depends on it
        compared["JAX_DEFAULT_MATMUL_PRECISION"] = precision
    return compared | {_sum_of(name): value for name, value in inputs.items()}


def settings_of(folder: Path) -> dict:
    """The settings and inputs of a stage, as {"optimizer.learning_rate": ..., ...}."""
    path = folder / FINGERPRINT
    return read_json(
        path,
        f"so what {path.parent} was made from is not known. Delete that folder to "
        "start the stage again, or give another --workdir.",
    )


def _sum_of(name: str) -> str:
    return f"sha256 of the {name}"


def _differences(theirs: dict, ours: dict, keys: Sequence[str]) -> str:
    changed = [k for k in keys if theirs.get(k) != ours.get(k)]
    return "; ".join(
        f"{k} was {theirs.get(k)!r}, is {ours.get(k)!r}" for k in changed[:3]
    )


def _lock(folder: Path) -> None:
    """Two processes in one folder would overwrite each other's work."""
    path = (folder / ".lock").resolve()
    if path in _LOCKS:
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        hold(handle, f"{folder} is in use by another process; wait for it, or stop it.")
    except UserError:
        os.close(handle)
        raise
    _LOCKS[path] = handle


# --- Stages ---


def once(folder: Path, config, inputs: dict[str, str], make: Callable[[], dict]):
    """The result.json of a stage: what `make` returns, unless it has finished before.

    The folder is claimed for the config and the inputs (`claim`); what was made is told
    in one line. Returns the content of result.json.
    """
    claim(folder, config, inputs)
    if not (folder / RESULT).exists():
        began = time.monotonic()
        result = make()
        seconds = {"seconds_of_last_process": time.monotonic() - began}
        write_json(folder / RESULT, result | seconds)
    return report_done(config.name, folder)


def finished_stage(workdir: Path, name: str) -> Path:
    """The folder of a stage that has its model; UserError if it has none yet."""
    if not finished(workdir, name):
        program = PROGRAMS.get(name, f"the program of the stage with name={name!r}")
        raise UserError(
            f"{workdir / name} is not finished; first run {program} with the same "
            "--workdir."
        )
    return workdir / name


def finished(workdir: Path, name: str) -> bool:
    """Whether the stage has its model."""
    return (workdir / name / RESULT).exists()


def result_of(folder: Path) -> dict:
    """The result.json of a finished stage."""
    return read_json(folder / RESULT)


def report_done(name: str, folder: Path) -> dict:
    """Prints one line about a finished stage; returns its result.json."""
    result = result_of(folder)
    told = "  ".join(
        f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in result.items()
        if isinstance(v, int | float | str)
    )
    print(f"{name}: done  {told}", flush=True)
    return result


# --- Models ---


class Found(NamedTuple):
    """The model folders of a run, and the form of their prompts."""

    stage: str  # "supervised" or "reinforced"
    prompts: PromptConfig
    persona: Path
    response: Path
    critic: Path | None


def find_models(run_dir, stage: str = "auto") -> Found:
    """Where a run directory or an exported folder has what `Pipeline` needs.

    Raises UserError that names the command to run first.
    """
    run_dir = Path(run_dir)
    if (run_dir / EXPORTED).exists():
        return _find_exported(run_dir, stage)
    reinforced = run_dir / "reinforce"
    if stage == "auto" and finished(run_dir, "reinforce"):
        kind = "reinforced"
        folders = reinforced / "model_persona", reinforced / "model_response"
    else:
        kind = "supervised"
        folders = _trained(run_dir, "persona"), _trained(run_dir, "response")
    prompts = _trained_prompts(run_dir)
    critic = run_dir / "critic" / "model"
    return Found(kind, prompts, *folders, critic if critic.is_dir() else None)


def _find_exported(folder: Path, stage: str) -> Found:
    values = read_json(folder / EXPORTED, "export the run again.")
    kind = values.get("stage")
    if stage == "supervised" and kind != stage:
        raise UserError(
            f"{folder} holds the {kind} models only; export again with --stage={stage}."
        )
    prompts = from_config_dict(PromptConfig, values.get("prompts", {}))
    critic = folder / "critic"
    models = folder / "persona", folder / "response"
    return Found(kind, prompts, *models, critic if critic.is_dir() else None)


def _trained(run_dir: Path, name: str) -> Path:
    folder = run_dir / name / "model"
    if not (folder / "config.json").exists():
        raise UserError(
            f"{run_dir} has no finished {name} generator; make it with: "
            f"python -m launch.train_{name} --config=CONFIG --workdir={run_dir}"
        )
    return folder


def _trained_prompts(run_dir: Path) -> PromptConfig:
    """The form that both generators were trained on, from their fingerprints."""
    forms = []
    for name in ("persona", "response"):
        fields = read_json(run_dir / name / FINGERPRINT, "the run is incomplete.")
        form = {
            k.removeprefix("prompts."): v
            for k, v in fields.items()
            if k.startswith("prompts.")
        }
        forms.append(from_config_dict(PromptConfig, form))
    for field in dataclasses.fields(PromptConfig):
        first, second = (getattr(form, field.name) for form in forms)
        if first != second:
            raise UserError(
                f"{run_dir}: prompts.{field.name} was {first!r} for the persona "
                f"generator and {second!r} for the response generator; train both "
                "with one setting."
            )
    return forms[0]
