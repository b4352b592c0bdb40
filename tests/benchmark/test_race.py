"""Laps in turn, ratios by round, and what happens when a contestant falls."""

import dataclasses
import functools
import multiprocessing
import os
import sys
import time

import numpy as np
import pytest

from ppg_jax.benchmark import race as race_module
from ppg_jax.benchmark.race import (
    Lap,
    Result,
    largest_difference,
    median,
    race,
    ratio,
)
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


class Forgets(Diary):
    def forget(self):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("-")
        time.sleep(self.seconds)

    def run(self):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(self.name)


class Stumbles(Diary):
    def run(self):
        raise ValueError("out of breath")


class Refuses(Diary):
    def run(self):
        raise UserError("no shoes; bring some")


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
    # The first four laps are the warm-up; nobody always begins.
    assert diary.read_text() == "ab" + "ba" + "ab" + "ba"
    assert [len(found[n].laps) for n in "ab"] == [2, 2]
    assert [found[n].checks["threads"].tolist() for n in "ab"] == [[1], [1]]
    assert found["a"].peak_bytes > 1 << 20


def test_what_is_forgotten_before_a_lap_is_not_timed(tmp_path):
    diary = tmp_path / "diary"
    found = race({"a": functools.partial(Forgets, "a", diary, 1.0)}, 1, 1)
    assert diary.read_text() == "-a" * 3
    assert found["a"].laps[0].seconds < 1


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
    [
        (Stumbles, "^b failed during 'run': ValueError: out of breath$"),
        (Refuses, "^no shoes; bring some$"),
        (Dies, "^the process of b ended .* memory"),
    ],
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
    assert ratio(ours, theirs) == pytest.approx((2, 2, 2, 0.75))


@pytest.mark.parametrize(
    "number, left_out, confidence", [(1, 0, 0), (6, 0, 0.969), (9, 1, 0.961)]
)
def test_the_interval_is_that_of_order_statistics(number, left_out, confidence):
    found = median([float(i) for i in range(number)])
    assert found.value == (number - 1) / 2
    assert (found.low, found.high) == (left_out, number - 1 - left_out)
    assert found.confidence == pytest.approx(confidence, abs=1e-3)


def test_the_interval_holds_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.lognormal(size=(4000, 9))  # the true median is 1
    found = [median(sample) for sample in samples]
    share = np.mean([f.low <= 1 <= f.high for f in found])
    assert share == pytest.approx(found[0].confidence, abs=0.01)


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


@pytest.mark.parametrize("other", [{}, {"nll": np.zeros(3)}], ids=str)
def test_what_is_missing_or_of_another_shape_is_infinitely_far_apart(other):
    ours, theirs = result(checks={"nll": np.zeros(2)}), result(checks=other)
    assert largest_difference(ours, theirs) == {"nll": float("inf")}
    assert largest_difference(theirs, ours) == {"nll": float("inf")}


def test_losses_of_the_same_updates_are_compared():
    ours, theirs, others = (
        dataclasses.replace(result(), losses=losses)
        for losses in (np.array([4.0, 2.0]), np.array([4.0, 2.2]), None)
    )
    assert largest_difference(ours, theirs) == pytest.approx({"loss": 0.05})
    assert largest_difference(ours, others) == {}


class Learns(Diary):
    """Its loss is the number of the lap."""

    lap = 0

    def run(self):
        self.lap += 1
        return np.array([float(self.lap)])


def test_the_losses_are_those_of_the_laps_before_the_timed_ones(tmp_path):
    made = {"a": functools.partial(Learns, "a", tmp_path / "diary")}
    found = race(made, rounds=1, threads=0)
    assert found["a"].losses.tolist() == [1, 2]


def test_the_peak_is_not_that_of_the_parent():
    ballast = np.ones(400 << 20, np.uint8)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        peak = pool.apply(race_module._peak)
    assert 10 << 20 < peak < len(ballast)
