"""Strict by default: no silent broadcasting, no network, two CPU devices."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

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


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any connection that leaves this machine fails the test."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
