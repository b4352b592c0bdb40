"""A tiny PAML, trained once for all tests."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue, write_jsonl
from ppg_jax.models.paml import PAMLConfig
from ppg_jax.stages import paml
from ppg_jax.training.train_state import OptimizerConfig
from tests.run_for_tests import THINGS

SIZES = PAMLConfig(width=12, layers=2, heads=2, depth=8, filter=6)
SPEAKERS = 4


def dialogues(split: str, each: int) -> tuple[Dialogue, ...]:
    """So many of each speaker, of two responses each, which nobody else gives."""
    return tuple(
        Dialogue(
            id=f"{split}:{SPEAKERS * n + speaker}",
            self_persona=(THINGS[speaker],),
            partner_persona=(THINGS[4], "i am nice."),
            utterances=(f"hi {n}", f"hello {speaker}", "are you ?", THINGS[speaker]),
        )
        for n in range(each)
        for speaker in range(SPEAKERS)
    )


def write_data(workdir: Path) -> DataConfig:
    for split, each in {"train": 3, "valid": 2, "test": 3}.items():
        write_jsonl(dialogues(split, each), workdir / "data" / f"{split}.jsonl")
    return DataConfig(source=str(workdir / "data"))


def config(workdir: Path) -> paml.Config:
    """Of a stage that learns what is said, and adapts to who says it."""
    return paml.Config(
        name="poem",
        data=write_data(workdir),
        model=SIZES,
        tasks=3,
        turns=2,
        inner_rate=0.3,
        epochs=30.0,
        optimizer=OptimizerConfig(learning_rate=1e-2, clip_norm=2.0),
        evaluate_every=10,
        checkpoint_every=15,
        log_every=10,
    )


@functools.cache
def finished() -> tuple[paml.Config, Path, dict]:
    """(config, run directory, result); nobody writes into it."""
    workdir = Path(tempfile.mkdtemp(prefix="ppg_jax_paml_"))
    atexit.register(shutil.rmtree, workdir, ignore_errors=True)
    made = config(workdir)
    return made, workdir, paml.run(made, workdir)
