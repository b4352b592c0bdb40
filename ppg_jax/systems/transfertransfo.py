"""The row of TransferTransfo (Wolf et al., 2019), which is told the self persona alone.

`stages.transfertransfo` trains it; it answers as all rows do, by the decoding that is
asked for.
"""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from ppg_jax import run_dir
from ppg_jax.data.dialogue import Instance
from ppg_jax.data.prompts import Prompts
from ppg_jax.data.speakers import Spoken
from ppg_jax.inference.generator import Generator
from ppg_jax.inference.sampling import Decoding
from ppg_jax.inference.scoring import Score, Scorer, with_cut
from ppg_jax.models import double_heads
from ppg_jax.systems.system import Answer, Asking, described


@dataclasses.dataclass(frozen=True)
class TransferTransfo:
    """A row of responses.

    stage: of the run. against: rows that it is compared with.
    """

    label: str
    stage: str
    against: tuple[str, ...] = ()
    kind: ClassVar[str] = "responses"
    control: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.stage,)

    @property
    def description(self) -> dict:
        models = {"response": run_dir.model_folder(self.stage)}
        return described(self) | {"models": models}

    @property
    def given_gold(self) -> "TransferTransfo":
        return self

    def load(self, asking: Asking) -> "_Answers":
        """Raises UserError if the stage has not finished."""

        def load() -> _Answers:
            folder = run_dir.finished_stage(asking.workdir, self.stage)
            model, params, tokenizer = double_heads.load(
                folder / run_dir.MODEL, dtype=jnp.dtype(asking.dtype), **asking.shared
            )
            prompts = Prompts(tokenizer, asking.prompts)
            turns = run_dir.settings_of(folder)["max_history"]
            spoken = Spoken(prompts, model.config.vocab_size, turns)
            return _Answers(asking, model, params, spoken)

        return asking.once(("double heads", self.stage), load)


@dataclasses.dataclass(frozen=True)
class _Answers:
    """The model, loaded (`Answers`)."""

    asking: Asking
    model: double_heads.DoubleHeads
    params: dict
    spoken: Spoken

    def score(self, asked: Sequence[Instance]) -> list[Score]:
        make = lambda: Scorer(self.model, self.asking.batch_size)  # noqa: E731
        scorer = self.asking.once(("scorer", self.model), make)
        scores = scorer(self.params, [self.spoken.example(i) for i in asked])
        scores = with_cut(scores, self.spoken.prompts.cut)
        return [scores[instance.id] for instance in asked]

    def respond(self, asked: Sequence[Instance]) -> list[Answer]:
        generator = self.asking.once(("generator", self.model), self._generator)
        # The number of each, whoever is beside, is what its randomness derives from.
        numbers = np.array([zlib.crc32(i.id.encode()) >> 2 for i in asked])
        rows = [self.spoken.prompt(instance) for instance in asked]
        said = generator(self.params, rows, self.asking.seed, numbers)
        return [Answer(self.spoken.prompts.text(c.tokens)) for c in said]

    def _generator(self) -> Generator:
        asking = self.asking
        limit = asking.prompts.max_response_tokens
        return Generator(
            self.model,
            Decoding(limit, asking.temperature, 0, asking.top_p),
            self.spoken.prompts.end_id,
            batch_size=asking.batch_size,
            bucket=128,
        )
