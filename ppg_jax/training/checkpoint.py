"""Training state on disk (orbax).

The only file that imports orbax. Saving is asynchronous and atomic: a checkpoint that
a kill cut short is never restored.
"""

import shutil
import sys
from pathlib import Path

import orbax.checkpoint as ocp

from ppg_jax.errors import UserError
from ppg_jax.training.train_state import params_sha256


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
