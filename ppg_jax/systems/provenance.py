"""What the numbers of an evaluation were made with."""

import importlib.metadata
import shutil
import subprocess
from pathlib import Path

import jax

import ppg_jax
from ppg_jax import run_dir

PACKAGES = ("jax", "jaxlib", "flax", "optax", "transformers", "tokenizers", "numpy")


def provenance(config, workdir: Path) -> dict:
    """What the numbers were made with: code, packages, data, weights, settings."""
    made = run_dir.settings_of(workdir / config.name)
    sums = {k: v for k, v in made.items() if k.startswith("sha256")}
    read = {k: v for k, v in sums.items() if not k.startswith("sha256 of the row ")}
    return {
        "version": ppg_jax.__version__,
        "commit": commit(),
        "packages": {name: _version(name) for name in PACKAGES},
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "seed": config.seed,
        "sums": read,
        "settings": {k: v for k, v in made.items() if k not in sums},
        "config": run_dir.read_experiment(workdir)["config"],
    }


def commit() -> str | None:
    """Of the checkout that this code is of; None where it was installed."""
    root = Path(ppg_jax.__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    if not (root / ".git").exists() or not shutil.which("git"):
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
