"""Training state on disk (orbax), and the fingerprint that guards it.

The only file that imports orbax. Saving is asynchronous and atomic: a checkpoint that
a kill cut short is never restored.
"""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from ppg_jax.config import flatten
from ppg_jax.errors import UserError
from ppg_jax.train_state import params_sha256

# Fields that change how a run is watched or where its data lies, not what it computes.
# (What the data is, the inputs say.)
NOT_COMPARED = ("log_every", "checkpoint_every", "source")
_LOCKS: dict[Path, int] = {}  # held until the process ends, in whatever way


class Checkpoints:
    """The last two states of one stage, each with the SHA-256 of its arrays."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._path = (folder / "checkpoints").resolve()
        self._manager = ocp.CheckpointManager(self._path, options=options)

    def save(self, step: int, state) -> None:
        """Begins to write `state`; a step that is there already is left alone."""
        if step not in self._manager.all_steps():
            parts = ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                sums=ocp.args.JsonSave({"sha256": params_sha256(state)}),
            )
            self._manager.save(step, args=parts)

    def restore(self, state):
        """The newest state that is whole, in the form of `state`; `state` if none.

        A damaged checkpoint is told and moved aside, and the one before it is taken.
        Raises UserError if there are checkpoints and none is whole.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._read(step, state)
            # orbax and tensorstore have an exception for every way to be damaged.
            except Exception as error:
                if isinstance(error, MemoryError) or "RESOURCE_EXH" in str(error):
                    raise
                damaged[step] = str(error).strip().split("\n")[0][:200]
            else:
                self._move_aside(damaged)
                return restored
        if damaged:
            told = "; ".join(f"{step}: {why}" for step, why in damaged.items())
            raise UserError(
                f"no checkpoint in {self._path} is whole ({told}). Delete "
                f"{self._path.parent} to start the stage again."
            )
        return state

    def _read(self, step: int, state):
        parts = ocp.args.Composite(
            state=ocp.args.StandardRestore(state), sums=ocp.args.JsonRestore()
        )
        read = self._manager.restore(step, args=parts)
        if params_sha256(read["state"]) != read["sums"]["sha256"]:
            raise ValueError("its arrays are not those that were saved")
        return read["state"]

    def _move_aside(self, damaged: dict[int, str]) -> None:
        for step, why in damaged.items():
            aside = self._path.parent / f"damaged_checkpoint_{step}"
            shutil.rmtree(aside, ignore_errors=True)  # damaged twice
            (self._path / str(step)).replace(aside)
            told = f"checkpoint {step} is damaged ({why}): moved to {aside}"
            print(told, file=sys.stderr, flush=True)
        if damaged:
            self._manager.reload()

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


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
    path = folder / "fingerprint.json"
    theirs = _read_fingerprint(path) if path.exists() else ours
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


def agree(folder: Path, config, inputs: dict[str, str], section: str = "") -> None:
    """Raises UserError if the stage in `folder` was made with other data or settings.

    Compared are the inputs and the fields of `section` of the config, where both
    stages have them.
    """
    ours = _fingerprint(config, inputs)
    sums = {_sum_of(name) for name in inputs}
    theirs = _read_fingerprint(folder / "fingerprint.json")
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
    precision = jax.config.jax_default_matmul_precision
    if precision:  # of the environment, and what a run computes depends on it
        compared["JAX_DEFAULT_MATMUL_PRECISION"] = precision
    return compared | {_sum_of(name): value for name, value in inputs.items()}


def _read_fingerprint(path: Path) -> dict:
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        theirs = None
    if not isinstance(theirs, dict):
        raise UserError(
            f"{path} is missing or damaged, and what {path.parent} was made from is "
            "not known. Delete that folder to start the stage again, or give another "
            "--workdir."
        )
    return theirs


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
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(
            f"{folder} is in use by another process; wait for it, or stop it."
        ) from None
    _LOCKS[path] = handle


def write_json(path: Path, value: Any) -> None:
    """Atomic: the file is there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
