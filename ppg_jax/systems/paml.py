"""The row of PAML (Madotto et al., 2019), which is told no persona.

It is adapted to the speaker first, as published: by some passes of gradient descent
over the speaker's other dialogues of the split that is evaluated. So it sees gold
responses of the test split, those of other dialogues, which no other row does; never
the dialogue that is asked, nor a copy of it (`data.speaker_tasks.Others`). With
`steps=0` it sees none, and who has no other dialogue is answered unadapted.

It answers by beam search, whatever temperature is asked for.

Differs: a response has five words or more, none of them unknown, where their search has
no such bound; words said twice in a row are said once, which theirs does to printed
samples alone; and instances are learned in their order, where theirs are shuffled.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

from ppg_jax import run_dir
from ppg_jax.data.dialogue import Instance, instances
from ppg_jax.data.speaker_tasks import Others
from ppg_jax.inference.adapting import Speaker
from ppg_jax.inference.beam import Beam
from ppg_jax.inference.scoring import Score
from ppg_jax.models import paml
from ppg_jax.systems.system import Answer, Asking, described

KEPT = 96  # adapted weights in memory: those of the dialogues that are asked at a time


@dataclasses.dataclass(frozen=True)
class PAML:
    """A row of responses.

    stage: of the run. steps: passes over the other dialogues. k_shot: how many of those
    there are at most. against: rows that it is compared with. Raises ValueError for
    numbers below 0.
    """

    label: str
    stage: str
    steps: int = 10
    k_shot: int = 20
    against: tuple[str, ...] = ()
    kind: ClassVar[str] = "responses"
    control: ClassVar[bool] = False

    def __post_init__(self):
        for name in ("steps", "k_shot"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more.")

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.stage,)

    @property
    def description(self) -> dict:
        models = {"response": run_dir.model_folder(self.stage), "persona": None}
        adapts = {"steps": self.steps, "k_shot": self.k_shot}
        return described(self) | {"models": models} | adapts

    @property
    def given_gold(self) -> "PAML":
        return self

    def load(self, asking: Asking) -> "_Answers":
        """Raises UserError for a stage that has not finished."""
        folder = run_dir.finished_stage(asking.workdir, self.stage)
        rate = run_dir.settings_of(folder)["inner_rate"]

        def load() -> Speaker:
            return Speaker(paml.load(folder / run_dir.MODEL), rate, Beam())

        speaker = asking.once(("speaker", self.stage), load)
        most = self.k_shot if self.steps else 0
        return _Answers(speaker, asking.evaluated, Others(asking.evaluated, most), self)


class _Answers:
    """A PAML, loaded (`Answers`)."""

    def __init__(self, speaker: Speaker, evaluated, others: Others, row: PAML):
        self._speaker = speaker
        self._others = others

        def adapted(places: tuple[int, ...]) -> dict:
            known = instances(evaluated[place] for place in places)
            return speaker.adapted(known, row.steps)

        # What is scored is answered next.
        self._adapted = functools.lru_cache(KEPT)(adapted)

    def score(self, asked: Sequence[Instance]) -> list[Score]:
        return self._each(asked, self._speaker.score)

    def respond(self, asked: Sequence[Instance]) -> list[Answer]:
        return [Answer(text) for text in self._each(asked, self._speaker.respond)]

    def _each(self, asked: Sequence[Instance], ask: Callable) -> list:
        """What `ask` gives for each, with the weights that are adapted for it."""
        known: dict[tuple[int, ...], list[int]] = {}
        for i, instance in enumerate(asked):
            known.setdefault(self._others(instance), []).append(i)
        given: dict[int, object] = {}
        for places, of in known.items():
            answers = ask(self._adapted(places), [asked[i] for i in of])
            given |= zip(of, answers, strict=True)
        return [given[i] for i in range(len(asked))]
