"""What a run directory holds: which stage belongs to what, which have finished.

RUN/experiment.json          the stages and rows of its config
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
EXPERIMENT = "experiment.json"
# Fields of a stage's config that name another stage, and what is read of that one.
READ = {
    "init_stage": "initial weights",
    "persona": "persona generator",
    "response": "response generator",
    "critic": "critic",
}
EXPORTED = "pipeline.json"  # of a folder that was exported
# One that comes with the package.
RELEASED = Path(__file__).with_name("released") / "personachat_smollm2"
# Fields that change how a run is watched, where its data lies or how people's text
# reaches its models, not what it computes. (What the data is, the inputs say.) What is
# asked beside the answers is added to them.
NOT_COMPARED = ("log_every", "checkpoint_every", "source", "text", "swapped_dialogues")
_LOCKS: dict[Path, int] = {}  # held until the process ends, in whatever way


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


def require_fresh(workdir: Path, name: str) -> None:
    """Raises UserError if a stage that this one started from was trained anew since.

    Its fingerprint has the SHA-256 of the weights that it read.
    """
    settings = settings_of(workdir / name)
    for field, read in READ.items():
        source = settings.get(field)
        recorded = settings.get(_sum_of(read))
        if not source or recorded is None or not finished(workdir, source):
            continue
        now = result_of(workdir / source).get("params_sha256")
        if now not in (None, recorded):
            raise UserError(
                f"{workdir / name} was made from another {source} than the one beside "
                f"it ({recorded[:12]}, now {now[:12]}); delete {workdir / name} and "
                f"run python -m launch.train --stage={name} again."
            )


def finished_stage(workdir: Path, name: str) -> Path:
    """The folder of a stage that has its model; UserError if it has none yet."""
    if not finished(workdir, name):
        raise UserError(
            f"{workdir / name} is not finished; first run python -m launch.train "
            f"--stage={name} with the same --config and --workdir."
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


def model_folder(source: str) -> str:
    """Where in a run directory a model is: of a stage, or "STAGE/FOLDER" of one with
    several.
    """
    return source if "/" in source else f"{source}/model"


def write_experiment(workdir: Path, values: dict) -> None:
    """Keeps what the config says of stages and rows (`read_experiment`)."""
    path = workdir / EXPERIMENT
    if not path.exists() or read_json(path) != json.loads(json.dumps(values)):
        write_json(path, values)


def read_experiment(workdir: Path) -> dict:
    """{"stages": [..], "systems": [..], "config": ..} of the config that made the run.

    Raises UserError where nothing was trained.
    """
    return read_json(
        workdir / EXPERIMENT,
        f"train with python -m launch.train --config=CONFIG --workdir={workdir} first.",
    )


class Found(NamedTuple):
    """The model folders of a system, and the form of their prompts."""

    system: str  # the row of the config
    prompts: PromptConfig
    persona: Path
    response: Path
    critic: Path | None
    contrast: float  # of inferred personas, see `PipelineConfig`


def find_models(workdir="", system: str = "") -> Found:
    """Where a run directory or an exported folder has what `Pipeline` needs.

    workdir: "" is the folder that comes with the package. system: a row of its config
    that infers the partner; "" is the last one of which all stages have finished.
    Raises UserError that names the command to run first.
    """
    workdir = Path(workdir or RELEASED)
    if (workdir / EXPORTED).exists():
        return _find_exported(workdir, system)
    experiment = read_experiment(workdir)
    row = _chosen(workdir, experiment["systems"], system)
    for need in row["needs"]:
        finished_stage(workdir, need)
        require_fresh(workdir, need)
    models = [workdir / row["models"][name] for name in ("persona", "response")]
    critics = [s["name"] for s in experiment["stages"] if s["task"] == "critic"]
    made = [workdir / model_folder(c) for c in critics if finished(workdir, c)]
    config = experiment.get("config", {})
    prompts = _trained_prompts(workdir, config, *row["models"].values())
    critic, contrast = made[0] if made else None, row.get("contrast", 0.0)
    return Found(row["name"], prompts, *models, critic, contrast)


def _chosen(workdir: Path, systems: Sequence[dict], name: str) -> dict:
    rows = [row for row in systems if row.get("models", {}).get("persona")]
    rows = [row for row in rows if row["kind"] == "responses"]
    named = [row for row in rows if row["name"] == name]
    if not rows or (name and not named):
        known = ", ".join(row["name"] for row in rows) or "none"
        raise UserError(
            f"{workdir} has no system {name!r} that infers the partner; give --system="
            f"one of: {known}."
        )
    done = [r for r in rows if all(finished(workdir, need) for need in r["needs"])]
    return (named or done[-1:] or rows)[0]


def _find_exported(folder: Path, system: str) -> Found:
    values = read_json(folder / EXPORTED, "export the run again.")
    name = values.get("system")
    if system not in ("", name):
        raise UserError(
            f"{folder} holds the system {name!r} only; export again with "
            f"--system={system}."
        )
    prompts = from_config_dict(PromptConfig, values.get("prompts", {}))
    critic = folder / "critic"
    models = folder / "persona", folder / "response"
    contrast = values.get("contrast", 0.0)
    return Found(name, prompts, *models, critic if critic.is_dir() else None, contrast)


def _trained_prompts(workdir: Path, config: Mapping, *models: str) -> PromptConfig:
    """The form that the models' stages were trained on, from their fingerprints.

    config: of the experiment, stage by stage, for what it says of people's text.
    """
    forms = {}
    for stage in dict.fromkeys(model.partition("/")[0] for model in models):
        fields = settings_of(workdir / stage).items()
        start = "prompts."
        form = {k.removeprefix(start): v for k, v in fields if k.startswith(start)}
        text = config.get(stage, {}).get("prompts.text")
        form |= {"text": text} if text else {}
        forms[stage] = from_config_dict(PromptConfig, form)
    (one, first), *others = forms.items()
    other, last = others[0] if others else (one, first)
    for field in dataclasses.fields(PromptConfig):
        a, b = (getattr(form, field.name) for form in (first, last))
        if a != b:
            raise UserError(
                f"{workdir}: prompts.{field.name} was {a!r} for {one} and {b!r} for "
                f"{other}; train both with one setting."
            )
    return first
