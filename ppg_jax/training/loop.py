"""The loop that every training stage shares: step, log, validate, save, stop."""

import dataclasses
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from ppg_jax import files
from ppg_jax.errors import UserError
from ppg_jax.training.checkpoint import Checkpoints
from ppg_jax.training.run_log import RunLog
from ppg_jax.training.train_state import learning_rate_schedule


class State(Protocol):
    """A pytree with the number of updates done."""

    step: jax.Array


Metrics = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a stage runs and what happens when.  Counted in updates; 0 is never,
    but for a checkpoint at the end.

    epoch: updates that read all of the data, a part of one too; 0 if nobody knows.
    learning_rate: of an update, by its number from 0.
    """

    steps: int
    log_every: int
    checkpoint_every: int
    evaluate_every: int = 0
    epoch: float = 0
    learning_rate: Callable[[int], Any] | None = None

    @classmethod
    def of(cls, config, steps: int, epoch: float) -> "Schedule":
        """As the config of a stage has it, with an `OptimizerConfig`."""
        every = config.log_every, config.checkpoint_every, config.evaluate_every
        rate = learning_rate_schedule(config.optimizer, steps)
        return cls(steps, *every, epoch, rate)

    def at(self, done: int) -> dict[str, float]:
        """Where a run stands after `done` updates: epochs, the last learning rate."""
        told = {"epoch": done / self.epoch} if self.epoch else {}
        if self.learning_rate:
            told["learning_rate"] = float(self.learning_rate(done - 1))
        return told


def train(
    name: str,
    folder: Path,
    state: State,
    take_step: Callable[[State, int], tuple[State, Metrics]],
    schedule: Schedule,
    evaluate: Callable[[State], tuple[State, Metrics]] | None = None,
    finished: Callable[[State], str] = lambda state: "",
) -> State:
    """Trains from the newest checkpoint in `folder`, or from `state`, to the end.

    state: let nothing else refer to it, so that a checkpoint's takes its place in
    memory. take_step(state, step) must be a function of its arguments alone: then a
    resumed run repeats the original. finished(state), asked after each validation,
    gives the reason to stop early. Ctrl-C, SIGTERM and a terminal that closes save a
    checkpoint and exit with 130, 143 and 129.
    """
    checkpoints = Checkpoints(folder)
    state = checkpoints.restore(state)
    start = int(state.step)
    begun = f"going on from step {start}" if start else "begins; compiling"
    told = f"{name}: {begun}, {schedule.steps} updates in all"
    print(told, file=sys.stderr, flush=True)
    log = RunLog(folder, name, start, schedule.steps)
    # Whatever happens, a checkpoint that is being written is finished.
    with _signals() as received, closing(checkpoints), closing(log):
        if evaluate and start == 0 and schedule.evaluate_every:
            state, metrics = evaluate(state)
            log.write(0, metrics)
        for step in range(start, schedule.steps):
            if evaluate and finished(state):
                _check_finite(folder, step, state)
                checkpoints.save(step, state)
                break
            state, metrics = take_step(state, step)
            done = step + 1
            log.stepped(done)
            if done % schedule.log_every == 0 or done == schedule.steps:
                metrics = jax.device_get(metrics)
                _check_loss(folder, done, metrics)
                stands = schedule.at(done)
                log.write(done, {**metrics, **stands})
                log.progress(done, {**stands, **metrics})
            if evaluate and _due(done, schedule.evaluate_every, schedule.steps):
                state, metrics = evaluate(state)
                log.write(done, metrics)
            # The last one is always kept: more epochs go on from it.
            every = schedule.checkpoint_every or schedule.steps
            if _due(done, every, schedule.steps) or received:
                _check_finite(folder, done, state)  # or no sound one would be left
                checkpoints.save(done, state)
            if received:
                break
    if received:
        _leave(name, received[0], int(state.step))
    _check_finite(folder, int(state.step), state)
    if evaluate and finished(state):
        print(f"{name}: stopped early: {finished(state)}", file=sys.stderr)
    return state


def _check_loss(folder: Path, step: int, metrics: Metrics) -> None:
    for key, value in metrics.items():
        if "loss" in key and not np.isfinite(value):
            raise _broken(folder, f"{key} is {float(value)}", step)


def _check_finite(folder: Path, step: int, state: State) -> None:
    """Raises UserError for a state that no training can go on from.

    Scalars are left alone: a best loss is infinite until there is one.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if leaf.ndim and not files.all_finite(np.asarray(leaf)):
            where = jax.tree_util.keystr(path)
            raise _broken(folder, f"a number in {where} is not finite", step)


def _broken(folder: Path, what: str, step: int) -> UserError:
    return UserError(
        f"{folder.name}: {what} at step {step}; delete {folder} and start the stage "
        "again with a lower learning rate or with clip_norm=1.0."
    )


def _due(done: int, every: int, last: int) -> bool:
    return bool(every) and (done % every == 0 or done == last)


@contextmanager
def _signals():
    """A list that receives the number of the first SIGINT, SIGTERM or SIGHUP."""
    received: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    before = [signal.signal(n, lambda n, _: received.append(n)) for n in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _leave(name: str, number: int, step: int) -> None:
    told = f"{name}: stopped at step {step} and saved; the same command goes on there."
    print(told, file=sys.stderr)
    sys.exit(128 + number)
