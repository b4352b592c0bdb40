"""Laps in turn, ratios by round, and what happens when a contestant falls."""

import functools
import os
import sys
import time

import numpy as np
import pytest

from ppg_jax.benchmark import race as race_module
from ppg_jax.benchmark.race import Lap, Result, largest_difference, race, ratio
from ppg_jax.errors import UserError


class Diary:
    """Writes down when it works."""

    def __init__(self, name, path, seconds=0.0):
        self.name, self.path, self.seconds = name, path, seconds

    def check(self):
        return {"threads": np.array([len(os.sched_getaffinity(0))])}

    def run(self):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(self.name)
        time.sleep(self.seconds)


class Stumbles(Diary):
    def run(self):
        raise ValueError("out of breath")


class Dies(Diary):
    def run(self):
        os._exit(9)


def result(name="x", seconds=(1.0,), checks=None, cpu=None):
    cpu = cpu or seconds
    laps = tuple(Lap(s, c) for s, c in zip(seconds, cpu, strict=True))
    return Result(name, 0.0, Lap(1.0, 1.0), laps, 1, checks or {})


def test_contestants_work_in_turn_on_the_same_cores(tmp_path):
    diary = tmp_path / "diary"
    made = {n: functools.partial(Diary, n, diary) for n in "ab"}
    found = race(made, rounds=2, threads=1)
    assert diary.read_text() == "ab" + 2 * "ab"  # the first laps are the warm-up
    assert [len(found[n].laps) for n in "ab"] == [2, 2]
    assert [found[n].checks["threads"].tolist() for n in "ab"] == [[1], [1]]
    assert found["a"].peak_bytes > 1 << 20


class FakeTorch:
    def __init__(self, in_use: bool):
        self.cuda = self
        self.is_initialized = lambda: in_use
        self.max_memory_allocated = lambda: 7


class FakeJax:
    def __init__(self, stats):
        self.memory_stats = lambda: stats
        self.local_devices = lambda: [self]


@pytest.mark.parametrize(
    "torch, jax, told",
    [
        (None, FakeJax({"peak_bytes_in_use": 5}), 5),
        (None, FakeJax(None), 0),
        (FakeTorch(True), FakeJax(None), 7),
        (FakeTorch(False), FakeJax({"peak_bytes_in_use": 5}), 5),
        (None, None, 0),
    ],
)
def test_the_peak_of_a_device_is_that_of_who_uses_it(torch, jax, told, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "jax", jax)
    assert race_module._device_peak() == told


def test_a_lap_is_as_long_as_the_work(tmp_path):
    made = {"a": functools.partial(Diary, "a", tmp_path / "diary", 0.2)}
    lap = race(made, rounds=1, threads=0)["a"].laps[0]
    assert lap.seconds >= 0.2
    assert lap.cpu_seconds < 0.1


@pytest.mark.parametrize(
    "kind, message",
    [(Stumbles, "b failed during 'run': ValueError: out of breath"), (Dies, "memory")],
)
def test_a_contestant_that_falls_is_told_by_name(tmp_path, kind, message):
    diary = tmp_path / "diary"
    made = {
        "a": functools.partial(Diary, "a", diary),
        "b": functools.partial(kind, "b", diary),
    }
    with pytest.raises(UserError, match=message):
        race(made, rounds=1, threads=0)


def test_the_ratio_is_taken_within_rounds():
    # The machine is three times slower in the second round, for both.
    ours, theirs = result(seconds=(1, 3, 1)), result(seconds=(2, 6, 2))
    assert ratio(ours, theirs) == pytest.approx((2, 2, 2))


def test_the_interval_holds_the_ratio_and_grows_with_the_noise():
    calm = ratio(result(seconds=(1,) * 5), result(seconds=(2, 2.1, 2, 1.9, 2)))
    wild = ratio(result(seconds=(1,) * 5), result(seconds=(1, 3, 2, 1.5, 2.5)))
    assert calm.low <= calm.value <= calm.high
    assert wild.low < calm.low < calm.high < wild.high


def test_cpu_time_has_its_own_ratio():
    ours = result(seconds=(1,), cpu=(2,))
    theirs = result(seconds=(2,), cpu=(2,))
    assert ratio(ours, theirs, cpu=True).value == 1


def test_differences_of_numbers_are_relative_and_of_tokens_by_row():
    tokens = np.array([[1, 2], [3, 4]], np.int32)
    ours = result(checks={"nll": np.array([100.0, 1]), "tokens": tokens})
    other = tokens.copy()
    other[1, 1] = 5
    theirs = result(checks={"nll": np.array([101.0, 1]), "tokens": other})
    found = largest_difference(ours, theirs)
    assert found == pytest.approx({"nll": 1 / 101, "tokens": 0.5})


def test_results_of_other_shapes_are_infinitely_far_apart():
    ours, theirs = (result(checks={"nll": np.zeros(n)}) for n in (2, 3))
    assert largest_difference(ours, theirs) == {"nll": float("inf")}
