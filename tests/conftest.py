"""Strict by default: no silent broadcasting, no network, two CPU devices.

Compiling is what takes the time: it is done with little effort, since programs are
small and run once or twice, and for equal programs once in all tests and in the
processes that they start.
"""

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
if version("jaxlib").startswith("0.10."):
    # Loops that MLIR makes compile for three times as long; jaxlib 0.11 has no others.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = tempfile.mkdtemp(prefix="ppg_jax_xla_")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache

import socket
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = Path(__file__).resolve().parents[2] / "shared"
LOOPBACK = ("127.", "localhost", "::1")


@pytest.fixture
def shared() -> Path:
    """The folder with the real data and vocabularies, beside the project's own."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED} (real PersonaChat and tokenizers), absent here")
    return SHARED


@pytest.fixture(params=["gpt2", "llama"])
def decoder(request):
    """A tiny decoder of each family: (vocabulary, seed, sizes) -> (model, params)."""
    from tests import models_for_tests  # what is set above comes before it

    return models_for_tests.DECODERS[request.param]


@pytest.fixture(scope="module", autouse=True)
def effort(request):
    """What is held against PyTorch's results, closely, is compiled with all effort, if
    not by MLIR's loops."""
    least, closely = "jax_disable_most_optimizations", {"benchmark", "parity"}
    before = jax.config.values[least]
    jax.config.update(least, before and not closely & set(request.path.parts))
    yield
    jax.config.update(least, before)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any connection that leaves this machine fails the test."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
