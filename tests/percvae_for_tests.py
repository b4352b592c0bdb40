"""A tiny PerCVAE, trained once for all tests."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import write_jsonl
from ppg_jax.models.percvae import PerCVAEConfig
from ppg_jax.stages import percvae
from ppg_jax.training.train_state import OptimizerConfig
from tests import run_for_tests as runs

SIZES = PerCVAEConfig(
    embedding=16,
    sentence=8,
    context=12,
    memory=16,
    hops=2,
    latent=4,
    prior=8,
    bag=8,
    decoder=24,
)


def write_data(workdir: Path) -> DataConfig:
    for split, number in {"train": 6, "valid": 4, "test": 4}.items():
        write_jsonl(runs.dialogues(split, number), workdir / "data" / f"{split}.jsonl")
    return DataConfig(source=str(workdir / "data"))


def config(workdir: Path) -> percvae.Config:
    """Of a stage that learns its dialogues nearly by heart."""
    return percvae.Config(
        name="poem",
        data=write_data(workdir),
        model=SIZES,
        kl_steps=40,
        batch_size=6,
        epochs=40.0,
        optimizer=OptimizerConfig(learning_rate=1e-2, clip_norm=5.0),
        evaluate_every=20,
        checkpoint_every=30,
        log_every=10,
    )


@functools.cache
def finished() -> tuple[percvae.Config, Path, dict]:
    """(config, run directory, result); nobody writes into it."""
    workdir = Path(tempfile.mkdtemp(prefix="ppg_jax_percvae_"))
    atexit.register(shutil.rmtree, workdir, ignore_errors=True)
    made = config(workdir)
    return made, workdir, percvae.run(made, workdir)
