"""A tiny finished run directory, and its pipeline, for whatever needs one."""

import atexit
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

from ppg_jax.config import flatten
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.models import pretrained
from ppg_jax.pipeline import Pipeline
from tests import models_for_tests as small

ROOT = Path(__file__).resolve().parents[1]
# So short that all prompts have one padded width: compiling is what takes the time.
PROMPTS = PromptConfig(max_length=64, max_persona_tokens=10, max_response_tokens=8)


def export_generator(folder: Path, seed: int, **sizes) -> None:
    """A random model, as training leaves it behind."""
    tokenizer = small.tokenizer()
    sizes = {"n_positions": 64, "n_layer": 1} | sizes
    model, params = small.gpt2(len(tokenizer), seed, **sizes)
    pretrained.export(model, params, tokenizer, folder)


def write_run(folder: Path, **prompts) -> Path:
    """The persona and the response stage, finished."""
    config = dataclasses.replace(PROMPTS, **prompts)
    for seed, name in enumerate(("persona", "response")):
        export_generator(folder / name / "model", seed)
        fields = json.dumps(flatten(config, "prompts."))
        (folder / name / "fingerprint.json").write_text(fields)
    return folder


@functools.cache
def finished_run() -> Path:
    """One for all tests of a session; nobody writes into it."""
    folder = Path(tempfile.mkdtemp(prefix="ppg_jax_run_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_run(folder)


@functools.cache
def pipeline() -> Pipeline:
    """Of `finished_run`, for all tests: what it compiles serves them all.

    It samples, so that what two requests get alike they do not get by chance.
    """
    # Shared with the processes that `launch` starts.
    jax.config.update("jax_compilation_cache_dir", str(finished_run() / "xla"))
    return Pipeline.load(finished_run(), temperature=1.0, batch_size=2)


def launch(program: str, *flags, **pipes) -> subprocess.Popen:
    """python -m launch.PROGRAM, as `pipeline` is; what it compiles is kept."""
    kept = {"JAX_COMPILATION_CACHE_DIR": str(finished_run() / "xla")}
    same = [f"--workdir={finished_run()}", "--temperature=1", "--batch_size=2"]
    command = [sys.executable, "-m", f"launch.{program}", *same, *flags]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | kept, **pipes)
