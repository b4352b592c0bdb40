"""What a response generator is told in training by a persona generator.

At inference it is told generated personas and in training gold ones, an exposure gap.
The personas of each generator are inferred once, greedily, as evaluation infers them
(`data.told`) but for what is grounded, and stay in the run directory:
RUN/STAGE/inferred/.

Axes: N instances.
"""

import dataclasses
import hashlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp

from ppg_jax import run_dir
from ppg_jax.data.dialogue import Instance
from ppg_jax.data.prompts import Prompts
from ppg_jax.data.told import read_told, told_persona, unheard, write_told
from ppg_jax.errors import UserError
from ppg_jax.inference.generator import Generator
from ppg_jax.inference.sampling import Decoding
from ppg_jax.models import pretrained

PART = 512  # instances; what a kill may cost


@dataclasses.dataclass(frozen=True)
class Exposure:
    """Whose personas are told in place of gold ones, and how often.

    persona: a persona generator of the same run directory; "" for gold ones alone.
    share: of the instances that are told its persona, drawn by the stage's seed; the
    others are told what they are told without one. contrast: as `PipelineConfig` has
    it, that of the rows which the stage is for.
    """

    persona: str = ""
    share: float = 1.0
    contrast: float = 0.0

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} must be more than 0 and at most 1.")
        if not 0 <= self.contrast < math.inf:
            raise ValueError(f"contrast={self.contrast} must be 0 or more.")
        if not self.persona and (self.share, self.contrast) != (1, 0):
            raise ValueError(
                "share and contrast are of a persona generator's personas; name it, "
                "persona=STAGE, or leave them out."
            )

    def sums(self, workdir: Path) -> dict[str, str]:
        """The weights that are asked, as an input of a stage (`run_dir.claim`)."""
        if not self.persona:
            return {}
        folder = run_dir.finished_stage(workdir, self.persona)
        return {"persona generator": run_dir.result_of(folder)["params_sha256"]}


def chosen(exposure: Exposure, asked: Sequence[Instance], seed: int) -> list[Instance]:
    """Those that are told a generated persona; each is drawn by its own id."""

    def drawn(instance: Instance) -> float:
        # A checksum would not do: those of names that are alike differ alike.
        number = hashlib.sha256(f"{seed} {instance.id}".encode()).digest()[:8]
        return int.from_bytes(number) / 2**64

    return [i for i in asked if drawn(i) < exposure.share]


def inferred(
    exposure: Exposure,
    workdir: Path,
    prompts: Prompts,
    asked: Sequence[Instance],
    split: str,
    seed: int,
    dtype: str = "float32",
) -> dict[str, list[int]]:
    """Tokens of the persona, with the end token, of each instance that is told one, by
    its id; {} where all are told gold ones.

    Raises UserError for a stage that has not finished. Processes that ask at once infer
    the same, and a file is always whole.
    """
    if not exposure.persona:
        return {}
    folder = run_dir.finished_stage(workdir, exposure.persona)
    wanted = chosen(exposure, asked, seed)
    weights = run_dir.result_of(folder)["params_sha256"][:16]
    name = f"{split}_{weights}_{dtype}_{exposure.contrast}.jsonl"
    path = folder / "inferred" / name  # ids are a split's own
    known = _known(path)
    missing = [i for i in wanted if i.id not in known]
    if missing:
        infer = _inferring(folder, prompts, dtype, exposure.contrast)
    for start in range(0, len(missing), PART):
        known |= infer(missing[start : start + PART])
        write_told(path, known)
        told = f"{min(start + PART, len(missing))}/{len(missing)} personas inferred"
        print(f"{exposure.persona}: {told}", file=sys.stderr, flush=True)
    return {i.id: known[i.id] for i in wanted}


def _known(path: Path) -> dict[str, list[int]]:
    """What a file holds of what was inferred; UserError where that is none."""
    try:
        known = read_told(path)
        if all(type(token) is int for tokens in known.values() for token in tokens):
            return known
    except (KeyError, TypeError):
        pass
    raise UserError(
        f"{path} is not as it was written; delete it, and they are inferred anew."
    )


def _inferring(folder: Path, prompts: Prompts, dtype: str, contrast: float):
    """instances -> {id: tokens}, by the model of a stage."""
    model, params, _ = pretrained.load(folder / run_dir.MODEL, dtype=jnp.dtype(dtype))
    greedy = Decoding(prompts.config.max_persona_tokens, contrast=contrast)
    generator = Generator(model, greedy, prompts.end_id, batch_size=64, bucket=128)

    def infer(some: Sequence[Instance]) -> dict[str, list[int]]:
        asked = list(map(prompts.persona_prompt, some))
        before = map(unheard, some if contrast else ())
        said = generator(params, asked, without=[*map(prompts.persona_prompt, before)])
        return {
            i.id: told_persona(prompts, p.tokens, i, p.ended)
            for i, p in zip(some, said, strict=True)
        }

    return infer
