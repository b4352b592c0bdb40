"""The row of PerCVAE (Song et al., 2019), which reads the speaker's own persona.

Of the context it reads the last utterance alone, as published. What it says, and how
likely it finds the gold response: `inference.latent`.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from ppg_jax import run_dir
from ppg_jax.data.dialogue import Instance
from ppg_jax.data.persona_lines import UTTERANCE
from ppg_jax.inference.latent import Asked
from ppg_jax.inference.sampling import Decoding
from ppg_jax.inference.scoring import Score
from ppg_jax.models import percvae
from ppg_jax.systems.system import Answer, Asking, described


@dataclasses.dataclass(frozen=True)
class PerCVAE:
    """A row of responses.  against: rows that it is compared with."""

    label: str
    stage: str  # of the run
    against: tuple[str, ...] = ()
    kind: ClassVar[str] = "responses"
    control: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.stage,)

    @property
    def description(self) -> dict:
        models = {"response": run_dir.model_folder(self.stage), "persona": None}
        return described(self) | {"models": models}

    @property
    def given_gold(self) -> "PerCVAE":
        return self

    def load(self, asking: Asking) -> "_Answers":
        """Raises UserError for a stage that has not finished."""
        folder = run_dir.finished_stage(asking.workdir, self.stage) / run_dir.MODEL
        decoding = Decoding(UTTERANCE, asking.temperature, 0, asking.top_p)
        loaded = percvae.load(folder)
        return _Answers(Asked(loaded, decoding, asking.batch_size, asking.seed))


@dataclasses.dataclass(frozen=True)
class _Answers:
    """A PerCVAE, loaded (`Answers`)."""

    model: Asked

    def score(self, asked: Sequence[Instance]) -> list[Score]:
        return self.model.score(asked)

    def respond(self, asked: Sequence[Instance]) -> list[Answer]:
        return [Answer(text) for text in self.model.respond(asked)]
