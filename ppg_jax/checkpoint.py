"""Training state on disk (orbax), and the fingerprint that guards it.

The only file that imports orbax. Saving is asynchronous and atomic: a checkpoint that
a kill cut short is never restored.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from ppg_jax.config import flatten
from ppg_jax.errors import UserError
from ppg_jax.train_state import params_sha256

# Fields that change how a run is watched or where its data lies, not what it computes.
# (What the data is, the inputs say.)
NOT_COMPARED = ("log_every", "checkpoint_every", "source")


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
            (self._path / str(step)).replace(aside)
            told = f"checkpoint {step} is damaged ({why}): moved to {aside}"
            print(told, file=sys.stderr, flush=True)
        if damaged:
            self._manager.reload()

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def claim(folder: Path, config, inputs: dict[str, str]) -> None:
    """Makes `folder` belong to this config and these inputs, or refuses by name.

    inputs: what the run reads, each with its SHA-256, as {"training data": ...}.
    Raises UserError if the folder holds a run of other ones.
    """
    fields = flatten(config).items()
    ours = {k: v for k, v in fields if k.split(".")[-1] not in NOT_COMPARED}
    ours |= {f"sha256 of the {name}": value for name, value in inputs.items()}
    path = folder / "fingerprint.json"
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        changed = [k for k in ours | theirs if ours.get(k) != theirs.get(k)]
        if changed:
            told = "; ".join(
                f"{k} was {theirs.get(k)!r}, is {ours.get(k)!r}" for k in changed[:3]
            )
            raise UserError(
                f"{folder} holds a run with another setting ({told}). Give another "
                "--workdir, or delete that folder to start again."
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, ours)


def write_json(path: Path, value: Any) -> None:
    """Atomic: the file is there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
