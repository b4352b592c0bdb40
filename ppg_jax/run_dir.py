"""What a run directory holds: which stage belongs to what, which have finished.

RUN/experiment.json          the stages and rows of its config
RUN/STAGE/fingerprint.json   the settings and inputs that the stage belongs to
RUN/STAGE/result.json        that it has finished, and its numbers
RUN/STAGE/metrics.jsonl      its curves;  model/ what it made;  checkpoints/
"""

import contextlib
import json
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from ppg_jax.config import OF_ANSWERS, YOUNGER, changes, flatten
from ppg_jax.errors import UserError
from ppg_jax.files import (
    SHA256,
    append_jsonl,
    hold_folder,
    read_json,
    require_form,
    understood,
    write_json,
)

RESULT, FINGERPRINT = "result.json", "fingerprint.json"
# What only a run that has its fingerprint leaves in a folder.
BEGUN = ("checkpoints/*", "metrics.jsonl", "instances.jsonl", "made_by.json", RESULT)
EXPERIMENT = "experiment.json"
# Fields of a stage's config that name another stage, and what is read of that one.
READ = {
    "init_stage": "initial weights",
    "exposure.persona": "persona generator",
    "persona": "persona generator",
    "response": "response generator",
    "critic": "critic",
}
EXPORTED = "pipeline.json"  # of a folder that was exported
EXPORTED_BEFORE = f"{EXPORTED}.before"  # the same, while it is exported anew
EXPORT_AGAIN = "export the run again."
MODEL = "model"  # the folder of a stage's only one
# Fields that change how a run is watched, where its data lies or how people's text
# reaches its models, not what it computes. (What the data is, the inputs say.) What is
# asked beside the answers is added to them.
NOT_COMPARED = ("log_every", "checkpoint_every", "source", "text", "swapped_dialogues")
CHANGES = "changes.jsonl"  # of a stage: what was changed in it (`config.changes`)


def claim(
    folder: Path, config, inputs: dict[str, str], later: Collection[str] = ()
) -> None:
    """Makes `folder` belong to this process, config and inputs, or refuses by name.

    inputs: what the run reads, each with its SHA-256, as {"training data": ...}.
    later: the inputs that may have been missing before. A field that the config did
    not have when the run was made is a difference too: its default may not be what
    the run did, but for those of `YOUNGER`.
    Raises UserError if the folder holds a run of other ones, or is in use.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hold_folder(folder)
    ours = _fingerprint(config, inputs)
    path = folder / FINGERPRINT
    changed = changes(settings_of(folder), ours) if path.exists() else {}
    before = {field: was for field, (was, _) in changed.items()}
    if _is_new(folder, ours | before, later) or changed:
        write_json(path, ours)
    if changed:
        print(f"{folder.name}: changed: {_differences(before, ours, list(before))}")
        append_jsonl(folder / CHANGES, changed)


def _keep_claim(folder: Path, ours: dict) -> None:
    """What `claim` wrote stays, or is written again; UserError if it is another's."""
    if not (folder / FINGERPRINT).exists():
        write_json(folder / FINGERPRINT, ours)
        print(f"{folder}: was removed meanwhile, what it held before is gone")
    elif told := _differences(theirs := settings_of(folder), ours, [*ours | theirs]):
        raise UserError(f"{folder} is another run's now ({told}); give --workdir.")


def _is_new(folder: Path, ours: dict, later: Collection[str] = ()) -> bool:
    """Whether the fingerprint is not there as it should be; UserError as `claim`."""
    if not ((folder / FINGERPRINT).exists() or _begun(folder)):
        return True
    younger = {field: did for field, did in YOUNGER.items() if field in ours}
    theirs = younger | settings_of(folder)
    new = {_sum_of(name) for name in later} - theirs.keys()
    told = _differences(theirs, ours, [k for k in ours | theirs if k not in new])
    if told:
        raise UserError(
            f"{folder} holds a run with another setting ({told}). Give another "
            "--workdir, or delete that folder to start again."
        )
    return theirs != ours


def _begun(folder: Path) -> bool:
    return any(any(folder.glob(name)) for name in BEGUN)


def agree(folder: Path, config, inputs: dict[str, str], section: str = "") -> None:
    """Raises UserError if the stage in `folder` was made with other data or settings.

    Compared are the inputs and the fields of `section` of the config, where both
    stages have them.
    """
    ours = _fingerprint(config, inputs)
    sums = {_sum_of(name) for name in inputs}
    theirs = settings_of(folder)
    fields = {k for k in ours if section and k.startswith(f"{section}.")}
    told = _differences(theirs, ours, sorted(theirs.keys() & (sums | fields)))
    if told:
        raise UserError(
            f"{folder} was made with another setting ({told}). Give the --config and "
            "the data that it was made with, or another --workdir."
        )


def _fingerprint(config, inputs: dict[str, str]) -> dict:
    fields = flatten(config).items()
    compared = {k: v for k, v in fields if k.split(".")[-1] not in NOT_COMPARED}
    import jax  # here: who reads a run directory need not start it

    precision = jax.config.jax_default_matmul_precision
    if precision:  # of the environment, and what a run computes depends on it
        compared["JAX_DEFAULT_MATMUL_PRECISION"] = precision
    return compared | {_sum_of(name): value for name, value in inputs.items()}


def settings_of(folder: Path) -> dict:
    """The settings and inputs of a stage, as {"optimizer.learning_rate": ..., ...}."""
    hint = (
        f"so what {folder} was made from is not known. Delete that folder to start the "
        "stage again, or give another --workdir."
    )
    return read_json(folder / FINGERPRINT, hint, "name")


def _sum_of(name: str) -> str:
    return f"sha256 of the {name}"


def _differences(theirs: dict, ours: dict, keys: Sequence[str]) -> str:
    changed = [k for k in keys if theirs.get(k) != ours.get(k)]
    return "; ".join(
        f"{k} was {theirs.get(k)!r}, is {ours.get(k)!r}" for k in changed[:3]
    )


def once(
    folder: Path,
    config,
    inputs: dict[str, str],
    make: Callable[[], dict],
    load: Callable[[Path], object],
) -> dict:
    """The result.json of a stage: what `make` returns, unless it has finished before.

    The folder is claimed for the config and the inputs (`claim`); what was made is told
    in one line. load: opens a model folder, or raises UserError: what has finished has
    its models. Returns the content of result.json.
    """
    if (folder / RESULT).exists():  # nothing is written: it may be read-only
        ours = _fingerprint(config, inputs)
        if asked := ", ".join(changes(settings_of(folder), ours)):
            told = f"{folder} has finished; to change {asked}, remove {folder / RESULT}"
            raise UserError(f"{told}: it goes on from its last checkpoint.")
        _is_new(folder, ours)
        result = result_of(folder)
        for name in weights_of(result) or [MODEL]:
            _require_model(folder, name)
            load(folder / name)
    else:
        claim(folder, config, inputs)
        began = time.monotonic()
        try:
            result = make()
        except Exception:
            if not _begun(folder):  # refused at once: another setting may be given
                (folder / FINGERPRINT).unlink(missing_ok=True)
            raise
        _keep_claim(folder, _fingerprint(config, inputs))
        result |= {"seconds_of_last_process": time.monotonic() - began}
        write_json(folder / RESULT, result)
    made = [str(folder / name) for name in weights_of(result) or [MODEL]]
    return report_done(config.name, result, made)


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
        result = result_of(workdir / source)
        # Of TransferTransfo's weights the decoder alone is read.
        now = weights_of(result).get(MODEL, result["params_sha256"])
        if now != recorded:
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
    for model in weights_of(result_of(workdir / name)):
        _require_model(workdir / name, model)
    return workdir / name


def _require_model(folder: Path, name: str) -> None:
    if not (folder / name).is_dir():
        raise UserError(
            f"{folder} has finished, but {name} is gone; {again_of(folder)}"
        )


def again_of(folder: Path) -> str:
    """How a finished stage comes by its model a second time."""
    kept = any(path.name.isdecimal() for path in (folder / "checkpoints").glob("*"))
    then = "goes on from its last checkpoint" if kept else "starts again"
    return (
        f"remove {folder / RESULT} and run python -m launch.train --stage={folder.name}"
        f" with the same --config and --workdir: it {then}."
    )


def finished(workdir: Path, name: str) -> bool:
    """Whether the stage has its model."""
    return (workdir / name / RESULT).exists()


def result_of(folder: Path) -> dict:
    """The result.json of a finished stage, which names its weights."""
    path, again = folder / RESULT, again_of(folder)
    result = read_json(path, again)
    require_form(path, result, {"params_sha256": SHA256}, again)
    require_weights(path, result, again)
    return result


def report_done(name: str, result: dict, models: Sequence[str] = ()) -> dict:
    """Prints what has finished, and where its models are; returns its result."""
    told = "  ".join(
        f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in result.items()
        if isinstance(v, int | float | str)
    )
    told = f"{name}: done  {told}" + (f"  in {', '.join(models)}" if models else "")
    whole = {"break_long_words": False, "break_on_hyphens": False}  # of a path
    print(textwrap.fill(told, 79, subsequent_indent="  ", **whole), flush=True)
    return result


def model_folder(source: str) -> str:
    """The folder of a model: that of a stage, or "STAGE/FOLDER" of one with several."""
    return source if "/" in source else f"{source}/{MODEL}"


def require_weights(path: Path, values: dict, again: str) -> None:
    """Raises UserError unless `weights_of` can read these values of a file."""
    require_form(path, values, {"weights": dict[str, SHA256] | None}, again)
    if values.get("weights", True) in ({}, None):
        raise UserError(f"{path}: 'weights' names no model; {again}")


def weights_of(values: dict) -> dict[str, str]:
    """Model folder -> SHA-256 of the weights that were written into it, from the values
    of a result.json or a pipeline.json; older ones may not say."""
    if "weights" in values:
        return dict(values["weights"])
    # REINFORCE's was of both models.
    known = "params_sha256" in values and "best_update" not in values
    return {MODEL: values["params_sha256"]} if known else {}


def as_made(workdir: Path, name: str, config) -> tuple[dict, list[str]]:
    """The settings of a stage as it was or will be made; and the fields in which what
    has finished is another than the config; not what may be changed of answers."""
    asked = flatten(config)
    known = finished(workdir, name) and (workdir / name / FINGERPRINT).exists()
    made = settings_of(workdir / name) if known else {}
    free = OF_ANSWERS if name == "evaluate" else ()
    others = [k for k, v in asked.items() if made.get(k, v) != v and k not in free]
    return asked | {k: made[k] for k in others}, others


@contextlib.contextmanager
def written_experiment(workdir: Path, values: dict) -> Iterator[None]:
    """Keeps what a config says, unless what is done inside is refused or broken off."""
    path, values = workdir / EXPERIMENT, json.loads(json.dumps(values))
    known: dict = {}
    with contextlib.suppress(UserError):
        known = read_json(path)
    if known != values:
        write_json(path, values)
    try:
        yield
    except (Exception, KeyboardInterrupt):
        if known and known != values:
            write_json(path, known)
        elif not known and not any(workdir.glob(f"*/{FINGERPRINT}")):
            path.unlink(missing_ok=True)  # no stage has begun
        raise
    if not path.exists():  # another process was refused, and none had begun
        write_json(path, values)


def read_experiment(workdir: Path) -> dict:
    """{"stages": [..], "systems": [..], "config": ..} of the config that made the run.

    Raises UserError where nothing was trained.
    """
    values = read_json(
        workdir / EXPERIMENT,
        f"train with python -m launch.train --config=CONFIG --workdir={workdir} first.",
    )
    with reading(workdir):
        for part in (*values["stages"], *values["systems"]):
            str.strip(part["name"])
    return values


def read_exported(folder: Path) -> dict:
    """{"system": .., "prompts": .., "weights": ..} of a folder that was exported."""
    values = read_json(folder / EXPORTED, EXPORT_AGAIN)
    require_weights(folder / EXPORTED, values, EXPORT_AGAIN)
    return values


def reading(workdir: Path):
    """Around what interprets `read_experiment` or `read_exported` of a folder."""
    if (workdir / EXPORTED).exists():
        return understood(workdir / EXPORTED, EXPORT_AGAIN)
    return understood(workdir / EXPERIMENT, "train again, which writes it.")
