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
def pipeline(**options) -> Pipeline:
    """Of `finished_run`; what it compiles serves all tests."""
    return Pipeline.load(finished_run(), batch_size=2, **options)


def launch(program: str, *flags, **pipes) -> subprocess.Popen:
    """python -m launch.PROGRAM on `finished_run`; what it compiles is kept there."""
    cache = str(finished_run() / "xla")
    kept = {"JAX_COMPILATION_CACHE_DIR": cache}
    kept |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    flags = (f"--workdir={finished_run()}", *flags)
    command = [sys.executable, "-m", f"launch.{program}", *flags]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | kept, **pipes)
