"""Runs of a stage that share what they compile, or are told to stop."""

import functools
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ppg_jax.data.batching import Batches


@contextmanager
def compiled_once(stage, *names: str) -> Iterator[None]:
    """Within it, these functions of a module give for equal arguments what they gave
    before: runs of one config share the jitted step, and to compile it is most of their
    time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(stage, name, functools.cache(getattr(stage, name)))
        yield


@contextmanager
def stopped_before(batch: int) -> Iterator[None]:
    """What runs within it gets SIGTERM when it asks for its batch of that number,
    counted from 1, and has to end as a program does that was stopped."""
    calls, call = [], Batches.__call__

    def stop(self, step):
        calls.append(step)
        if len(calls) == batch:
            signal.raise_signal(signal.SIGTERM)
        return call(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batches, "__call__", stop)
        with pytest.raises(SystemExit) as stopped:
            yield
    assert stopped.value.code == 128 + signal.SIGTERM
