"""The best weights so far by a validation, and when to stop for want of better ones."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.training import loop
from ppg_jax.training.train_state import TrainState

KEPT = ("best", "last")


@flax.struct.dataclass
class Best:
    """The parameters with the lowest validation loss so far."""

    params: Any  # a pytree; {} where none are kept
    nll: jax.Array  # float32 scalar; inf before the first validation
    step: jax.Array  # int32 scalar; the update that they come from
    failed: jax.Array  # int32 scalar; validations in a row that were no better

    @classmethod
    def create(cls, params) -> "Best":
        """Before the first validation.  No update may donate `params`."""
        zero = jnp.zeros((), jnp.int32)
        return cls(params, jnp.full((), jnp.inf), zero, zero)

    def seen(self, nll, step: jax.Array, params) -> "Best":
        """After a validation.  params: None if they are those kept already."""
        if not nll < self.nll:
            return self.replace(failed=self.failed + 1)
        kept = self.params if params is None else copied(params)
        now = jnp.asarray(nll, jnp.float32), jnp.array(step)
        return Best(kept, *now, jnp.zeros_like(self.failed))

    def given_up(self, patience: int) -> str:
        """Why training should stop now, "" if it should not; patience 0 never ends."""
        if patience and int(self.failed) >= patience:
            return f"no better for {patience} validations"
        return ""


def copied(tree):
    """For one of two owners: an update donates its arrays."""
    return jax.tree.map(jnp.array, tree)


@flax.struct.dataclass
class BestState:
    """What training changes, and what its validations have found."""

    training: TrainState
    best: Best

    @classmethod
    def create(cls, params, tx, keep: str) -> "BestState":
        """keep: of `KEPT`; with "last" no second set of parameters is held."""
        best = Best.create(copied(params) if keep == "best" else {})
        return cls(TrainState.create(params, tx), best)

    @property
    def step(self) -> jax.Array:
        return self.training.step

    def seen(self, nll: float) -> "BestState":
        """After a validation of the parameters as they are now."""
        known = not self.best.params or not int(self.step)
        params = None if known else self.training.params
        return self.replace(best=self.best.seen(nll, self.step, params))

    @property
    def kept(self) -> tuple[int, Any]:
        """(update, parameters) that become the model."""
        if self.best.params:
            return int(self.best.step), self.best.params
        return int(self.step), self.training.params


def train_best(
    config,
    folder: Path,
    first: list[BestState],
    take_step: Callable[[BestState, int], tuple[BestState, Mapping]],
    steps: int,
    epoch: float,
    evaluate: Callable[[BestState], tuple[BestState, Mapping]],
) -> tuple[BestState, dict]:
    """`loop.train` until all updates are done or the config's patience is at its end:
    the state, and what a result tells of it.

    first: what it begins with, popped, so that nobody keeps it. epoch: as `Schedule`
    has it.
    """

    def given_up(state: BestState) -> str:
        return state.best.given_up(config.patience)

    schedule = loop.Schedule.of(config, steps, epoch)
    state = loop.train(
        config.name, folder, first.pop(), take_step, schedule, evaluate, given_up
    )
    kept, _ = state.kept
    why = given_up(state) or "all updates done"
    told = {"steps": int(state.step), "kept_step": kept, "stopped_because": why}
    return state, told


def validating(name: str, measure: Callable[[Any], float]):
    """state -> (state, metrics), for the loop: the perplexity of `measure`, in nats
    per token, and the best one kept."""

    def evaluate(state: BestState):
        nll = measure(state.training.params)
        print(f"{name}: valid perplexity {np.exp(nll):.3f}", file=sys.stderr)
        return state.seen(nll), {"valid_nll": nll, "valid_ppl": np.exp(nll)}

    return evaluate
