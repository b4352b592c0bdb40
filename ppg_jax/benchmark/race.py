"""Programs that do the same work, each in a process of its own, timed in turn.

A, B, C, A, B, C, ...: what disturbs a shared machine disturbs all of them, so a ratio
within a round says more than two times of different hours. Contestants have their own
processes so that each has its own memory, threads and libraries. They are set up side
by side; then, while one works, the others wait for a message.
"""

import dataclasses
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from ppg_jax.errors import UserError

RESAMPLES = 2000


class Work(Protocol):
    """What a contestant has ready before it is timed."""

    def check(self) -> Mapping[str, np.ndarray]:
        """Named results that must be equal among contestants."""

    def run(self) -> None:
        """The work, once; returns when the results are there."""


class Lap(NamedTuple):
    """One turn of one contestant."""

    seconds: float  # of the clock on the wall
    cpu_seconds: float  # of all threads of the process


@dataclasses.dataclass(frozen=True)
class Result:
    """What one contestant did."""

    name: str
    setup_seconds: float  # imports, weights, prompts; beside the others
    first_lap: Lap  # compilation and warm-up included
    laps: tuple[Lap, ...]
    peak_bytes: int  # resident, of the whole process, setup included
    checks: Mapping[str, np.ndarray]
    device_peak_bytes: int = 0  # of a GPU's memory

    @property
    def median(self) -> float:
        return float(np.median([lap.seconds for lap in self.laps]))


class Ratio(NamedTuple):
    """How many times longer another takes: the median over rounds, and its interval."""

    value: float
    low: float
    high: float


def race(
    contestants: Mapping[str, Callable[[], Work]], rounds: int, threads: int
) -> dict[str, Result]:
    """Sets all up side by side, then lets them work in turn, `rounds` times.

    contestants: name -> a picklable callable that builds the work in its own process.
    threads: cores each may use, the same ones for all; 0 leaves them all.
    Raises UserError if one of them fails, with its last line.
    """
    runners = {name: _Runner(name, make, threads) for name, make in contestants.items()}
    try:
        for runner in runners.values():
            runner.send("setup")
        setup = {name: runner.answer("setup") for name, runner in runners.items()}
        checks = {name: runner.ask("check") for name, runner in runners.items()}
        first = {name: runner.ask("run") for name, runner in runners.items()}
        laps: dict[str, list[Lap]] = {name: [] for name in runners}
        for number in range(rounds):
            for name, runner in runners.items():
                laps[name].append(runner.ask("run"))
            told = ", ".join(f"{n} {lap[-1].seconds:.2f} s" for n, lap in laps.items())
            print(f"round {number + 1}/{rounds}: {told}", file=sys.stderr)
        peaks = {name: runner.ask("peak") for name, runner in runners.items()}
    finally:
        for runner in runners.values():
            runner.close()
    return {
        name: Result(
            name,
            setup[name],
            first[name],
            tuple(laps[name]),
            peak_bytes=peaks[name][0],
            checks=checks[name],
            device_peak_bytes=peaks[name][1],
        )
        for name in contestants
    }


def ratio(ours: Result, theirs: Result, cpu: bool = False) -> Ratio:
    """Their time over ours, round by round; above 1, ours is the faster one.

    The interval has 95 % by bootstrap over rounds (percentiles of the median).
    cpu: of the processor's time, which a busy machine disturbs less.
    """
    field = int(cpu)
    pairs = zip(ours.laps, theirs.laps, strict=True)
    ratios = np.array([b[field] / a[field] for a, b in pairs])
    rng = np.random.default_rng(0)
    drawn = ratios[rng.integers(len(ratios), size=(RESAMPLES, len(ratios)))]
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def largest_difference(ours: Result, theirs: Result) -> dict[str, float]:
    """Name of a result -> how far the two are apart, relative to its size.

    For whole numbers (tokens): the share of rows that are not identical.
    """
    differences = {}
    for name in sorted(ours.checks.keys() & theirs.checks.keys()):
        a, b = np.asarray(ours.checks[name]), np.asarray(theirs.checks[name])
        if a.shape != b.shape:
            differences[name] = float("inf")
        elif np.issubdtype(a.dtype, np.integer):
            differences[name] = float(np.mean(np.any(a != b, axis=-1)))
        else:
            scale = max(float(np.abs(b).max()), 1e-30)
            differences[name] = float(np.abs(a - b).max()) / scale
    return differences


class _Runner:
    """The far end of a contestant's process."""

    def __init__(self, name: str, make: Callable[[], Work], threads: int):
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._pipe, theirs = context.Pipe()
        # The environment must be right before numpy or torch is imported there.
        before = dict(os.environ)
        if threads:
            os.environ["OMP_NUM_THREADS"] = str(threads)
        try:
            self._process = context.Process(
                target=_serve, args=(theirs, make, threads), daemon=True
            )
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()

    def ask(self, order: str):
        self.send(order)
        return self.answer(order)

    def send(self, order: str) -> None:
        try:
            self._pipe.send(order)
        except BrokenPipeError:
            raise self._ended(order) from None

    def answer(self, order: str):
        try:
            kind, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._ended(order) from None
        if kind == "failed":
            print(value, file=sys.stderr)
            last = value.strip().splitlines()[-1]
            raise UserError(f"{self._name} failed during {order!r}: {last}")
        return value

    def _ended(self, order: str) -> UserError:
        return UserError(
            f"the process of {self._name} ended during {order!r}; it may have run "
            "out of memory: lower --instances or --batch_size."
        )

    def close(self) -> None:
        self._pipe.close()  # ends its loop
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe, make: Callable[[], Work], threads: int) -> None:
    """The loop of a contestant's process: an order in, what came of it out."""
    if threads and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    work = None
    while True:
        try:
            order = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if order == "setup":
                began = time.perf_counter()
                work = make()
                value = time.perf_counter() - began
            elif order == "check":
                value = dict(work.check())
            elif order == "run":
                value = _lap(work)
            else:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                unit = 1 if sys.platform == "darwin" else 1024
                value = peak * unit, _device_peak()
            pipe.send(("done", value))
        except BaseException:
            pipe.send(("failed", traceback.format_exc()))


def _device_peak() -> int:
    """Bytes of a GPU's memory that this process used at most; 0 without one."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    stats = jax.local_devices()[0].memory_stats() if jax else None
    return (stats or {}).get("peak_bytes_in_use", 0)


def _lap(work: Work) -> Lap:
    wall, cpu = time.perf_counter(), time.process_time()
    work.run()
    return Lap(time.perf_counter() - wall, time.process_time() - cpu)
