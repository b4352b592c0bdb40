"""One row of the tables: what answers, and how likely it finds the gold answer.

A row of another kind is a module beside this one with a class of this protocol, and an
entry in a config.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from ppg_jax.data.dialogue import Dialogue, Instance
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.inference.scoring import Score
from ppg_jax.models.quantize import quantize

BEST_CONTROL = "best control"  # in `against`: the control with the best score
KINDS = ("responses", "personas")  # the tables


class Answer(NamedTuple):
    """What a row says to one instance: a response, or a persona of the partner."""

    text: str
    told: str | None = None  # the partner persona that it was told; None: nothing
    ended: bool | None = None  # False: cut at the limit; None: does not apply


class Answers(Protocol):
    """A row that is loaded.  Answers are in the order asked, and alone as among others.

    The same seed gives the same answers.
    """

    def score(self, asked: Sequence[Instance]) -> list[Score] | None:
        """NLL of the gold answer, in nats, and its tokens; None: has no likelihood."""

    def respond(self, asked: Sequence[Instance]) -> list[Answer]:
        """Its own answer, by the seed that all are asked with."""


class PersonaAnswers(Answers, Protocol):
    """Those of a row of personas that is no control."""

    def in_order(
        self, asked: Sequence[Instance]
    ) -> tuple["PersonaAnswers", list[Instance]]:
        """The same row and instances, whose gold sentences are in the order that it
        scores them in, and which it scores as they are, whatever is swapped in them.
        """


@dataclasses.dataclass(frozen=True)
class Asking:
    """How one evaluation asks all its rows, what they may know, and what they share.

    temperature 0 is greedy. dtype: what networks compute in. evaluated: the whole split
    that is asked, gold responses too, for a system that is published to learn from
    other dialogues of whoever speaks (`systems.paml`); it must leave out the dialogue
    that it is asked, and say so. Any other row has no use for it.
    """

    workdir: Path
    train: Sequence[Dialogue]
    prompts: PromptConfig
    temperature: float = 0.0
    top_p: float = 1.0
    batch_size: int = 64
    seed: int = 0
    dtype: str = "float32"
    evaluated: Sequence[Dialogue] = ()
    _made: dict = dataclasses.field(default_factory=dict)

    def once(self, key: tuple, make: Callable[[], Any]) -> Any:
        """`make()`, or what it gave when a row first asked for this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @property
    def shared(self) -> dict:
        """What `pretrained.load` is told, so that a base is in memory once."""
        prepare = lambda base: quantize(base, "float32", jnp.dtype(self.dtype))  # noqa: E731
        return {"bases": self.once(("bases",), dict), "prepare": prepare}


class System(Protocol):
    """One row, as a config has it."""

    label: str
    kind: str  # of KINDS
    control: bool  # understands nothing
    against: tuple[str, ...]  # rows that it is compared with
    needs: tuple[str, ...]  # stages of the run directory
    description: dict  # these, ready for JSON, and whatever else a reader may ask
    given_gold: "System"  # of no control: itself, told gold personas where it infers

    def load(self, asking: Asking) -> Answers:
        """Raises UserError that names the command for a stage that has not finished."""


def described(row: System) -> dict:
    """Of its `description`, what every row has."""
    return {
        "kind": row.kind,
        "label": row.label,
        "control": row.control,
        "against": list(row.against),
        "needs": list(row.needs),
    }
