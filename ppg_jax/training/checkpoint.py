"""Training state on disk (orbax).

The only file that imports orbax. Saving is asynchronous and atomic: a checkpoint that
a kill cut short is never restored.
"""

import errno
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from ppg_jax.errors import UserError
from ppg_jax.training.train_state import params_sha256


class Checkpoints:
    """The last two states of one stage, each with the SHA-256 of its arrays."""

    def __init__(self, folder: Path):
        # What a kill cut short goes; the folder is this process's (`run_dir.claim`).
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, create=True, cleanup_tmp_directories=True
        )
        self._path = (folder / "checkpoints").resolve()
        self._stage = folder.name
        self._tidy()
        with self._written():
            self._manager = ocp.CheckpointManager(self._path, options=options)

    def _tidy(self) -> None:
        """Takes away what is no folder; orbax would wait for a pipe for ever."""
        if not self._path.is_dir():
            if self._path.exists() or self._path.is_symlink():
                raise UserError(
                    f"{self._path} is no folder, as that of checkpoints is; remove it, "
                    "and the stage starts again."
                )
            return
        for tried in self._path.glob(".try-*"):
            _remove(tried)
        steps = [path for path in self._path.iterdir() if path.name.isdecimal()]
        damaged = {p.name: "it is no folder" for p in steps if not p.is_dir()}
        if len(damaged) == len(steps):
            self._require_none(damaged)
        self._move_aside(damaged)

    def save(self, step: int, state) -> None:
        """Begins to write `state`; a step that is there already is left alone.

        Raises UserError where there is no room, or no writing.
        """
        with self._written():
            if step in self._manager.all_steps():
                return
            self._require_room(state)
            sums = {"sha256": params_sha256(state), "stage": self._stage}
            parts = ocp.args.Composite(
                state=ocp.args.StandardSave(state), sums=ocp.args.JsonSave(sums)
            )
            self._manager.save(step, args=parts)

    def _require_room(self, state) -> None:
        # orbax waits for minutes for a folder that another of its threads cannot make.
        self._path.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(prefix=".try-", dir=self._path)).rmdir()
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self._path).free
        if needed > free:
            raise OSError(
                f"a checkpoint takes {needed:,} bytes, {free:,} bytes are free"
            )

    @contextmanager
    def _written(self):
        """What goes wrong in writing, as UserError: there is an exception for each way
        in which a disk can be full, and most of them are told with a long trace."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"cannot write {self._path}: {_reason(error)}. Make room there, or let "
                "it be written, and run the same command: it goes on from the last "
                "checkpoint."
            ) from None

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
                damaged[step] = _reason(error)
            else:
                self._move_aside(damaged)
                if damaged:
                    self._manager.reload()
                return restored
        self._require_none(damaged)
        return state

    def _require_none(self, damaged: Mapping[int | str, str]) -> None:
        if damaged:
            told = "; ".join(f"{step}: {why}" for step, why in damaged.items())
            raise UserError(
                f"no checkpoint in {self._path} is whole ({told}). Delete "
                f"{self._path.parent} to start the stage again."
            )

    def _read(self, step: int, state):
        for path in (self._path / str(step)).rglob("*"):
            if not (path.is_dir() or path.is_file()):
                raise ValueError(f"{path.name} in it is no file")
        parts = ocp.args.Composite(
            state=ocp.args.StandardRestore(state), sums=ocp.args.JsonRestore()
        )
        read = self._manager.restore(step, args=parts)
        sums = read["sums"]
        if params_sha256(read["state"]) != sums["sha256"]:
            raise ValueError("its arrays are not those that were saved")
        if sums.get("stage", self._stage) != self._stage:  # older ones do not say
            raise ValueError(f"it is of the stage {sums['stage']}")
        leaves, form = jax.tree.flatten(read["state"])
        del read  # one by one, so that the state is never there twice
        for i, leaf in enumerate(leaves):
            leaves[i] = _as_fresh(leaf)
        return jax.tree.unflatten(form, leaves)

    def _move_aside(self, damaged: Mapping[int | str, str]) -> None:
        for step, why in damaged.items():
            aside = self._path.parent / f"damaged_checkpoint_{step}"
            _remove(aside)  # damaged twice
            (self._path / str(step)).replace(aside)
            told = f"checkpoint {step} is damaged ({why}): moved to {aside}"
            print(told, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Waits until everything is written."""
        with self._written():
            self._manager.wait_until_finished()
            self._manager.close()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _as_fresh(leaf: jax.Array) -> jax.Array:
    """An array that no device was chosen for, as those that a run begins with: else the
    programs of a resumed run are others, and all are compiled again."""
    return jnp.array(np.asarray(leaf))


def _reason(error: Exception) -> str:
    """One line of whatever a library says."""
    told = str(getattr(error, "strerror", None) or error).strip()
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
        if os.strerror(number) in told:
            return os.strerror(number)
    return (told.split("\n")[0] or type(error).__name__)[:200].rstrip(".")


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname


# What goes wrong in it is raised, too, and told in one line in place of hundreds.
logging.getLogger("absl").addFilter(_not_of_orbax)
