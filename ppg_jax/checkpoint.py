"""Training state on disk (orbax), and the fingerprint that guards it.

The only file that imports orbax. Saving is asynchronous and atomic: a checkpoint that
a kill cut short is never restored.
"""

import json
import os
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from ppg_jax.config import flatten
from ppg_jax.errors import UserError

# Fields that change how a run is watched or where its data lies, not what it computes.
# (What the data is, the inputs say.)
NOT_COMPARED = ("log_every", "checkpoint_every", "source")


class Checkpoints:
    """The last two states of one stage."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        path = (folder / "checkpoints").resolve()
        self._manager = ocp.CheckpointManager(path, options=options)

    def save(self, step: int, state) -> None:
        """Begins to write `state`; a step that is there already is left alone."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, state):
        """The newest state that is whole, in the form of `state`; `state` if none."""
        step = self._manager.latest_step()
        if step is None:
            return state
        return self._manager.restore(step, args=ocp.args.StandardRestore(state))

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
