"""Programs that do the same work, each in a process of its own, timed in turn.

A, B, C, B, C, A, C, ...: what disturbs a shared machine disturbs all of them, so a
ratio within a round says more than two times of different hours, and nobody is always
the first. Contestants have their own processes so that each has its own memory, threads
and libraries. They are set up side by side; then, while one works, the others wait for
a message.
"""

import contextlib
import dataclasses
import math
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ppg_jax.errors import UserError

# The first compiles; PyTorch is still slow in the second, and fast from the third on.
WARM_UP = 2
CONFIDENCE = 0.95


class Work(Protocol):
    """What a contestant has ready before it is timed.

    Where it has a method `forget`, that is called before each lap, and not timed: for
    what would otherwise answer from the memory of the lap before.
    """

    def check(self) -> Mapping[str, np.ndarray]:
        """Named results that must be equal among contestants; nothing is learned."""

    def run(self) -> np.ndarray | None:
        """The work, once; returns when the results are there.

        Where the updates of all contestants are the same ones, their losses [updates].
        """


class Lap(NamedTuple):
    """One turn of one contestant."""

    seconds: float  # of the clock on the wall
    cpu_seconds: float  # of all threads of the process


@dataclasses.dataclass(frozen=True)
class Result:
    """What one contestant did."""

    name: str
    setup_seconds: float  # imports, weights, prompts; beside the others
    first_lap: Lap  # what is compiled after the check, and warm-up, included
    laps: tuple[Lap, ...]
    peak_bytes: int  # resident, of the whole process, setup included
    checks: Mapping[str, np.ndarray]
    device_peak_bytes: int = 0  # of a GPU's memory
    check_seconds: float = 0.0  # of its check, which compiles what it uses
    # Of the laps before those that are timed, [laps * updates]: from the second on they
    # show what the updates before have changed.
    losses: np.ndarray | None = None

    @property
    def median(self) -> float:
        return float(np.median([lap.seconds for lap in self.laps]))


class Ratio(NamedTuple):
    """How many times longer another takes: the median over rounds, and its interval."""

    value: float
    low: float
    high: float
    confidence: float  # that the interval holds the median


def race(
    contestants: Mapping[str, Callable[[], Work]], rounds: int, threads: int
) -> dict[str, Result]:
    """Sets all up side by side, then lets them work in turn: laps that are not timed,
    and then `rounds` that are.

    contestants: name -> a picklable callable that builds the work in its own process.
    threads: cores each may use, the same ones for all; 0 leaves them all.
    Raises UserError if one of them fails, with its last line.
    """
    runners = {name: _Runner(name, make, threads) for name, make in contestants.items()}
    try:
        for runner in runners.values():
            runner.send("setup")
        setup = {name: runner.answer("setup") for name, runner in runners.items()}
        checked = {name: runner.ask("check") for name, runner in runners.items()}
        laps: dict[str, list[Lap]] = {name: [] for name in runners}
        losses: dict[str, list] = {name: [] for name in runners}
        names = list(runners)
        for number in range(WARM_UP + rounds):
            for name in names:
                lap, lost = runners[name].ask("run")
                laps[name].append(lap)
                losses[name].append(lost)
            names.append(names.pop(0))
            told = ", ".join(f"{n} {lap[-1].seconds:.2f} s" for n, lap in laps.items())
            count = number + 1 - WARM_UP
            which = f"round {count}/{rounds}" if count > 0 else "warm-up"
            print(f"{which}: {told}", file=sys.stderr)
        peaks = {name: runner.ask("peak") for name, runner in runners.items()}
    finally:
        for runner in runners.values():
            runner.close()
    return {
        name: Result(
            name,
            setup[name],
            laps[name][0],
            tuple(laps[name][WARM_UP:]),
            peak_bytes=peaks[name][0],
            checks=checked[name][0],
            check_seconds=checked[name][1],
            device_peak_bytes=peaks[name][1],
            losses=joined(losses[name][:WARM_UP]),
        )
        for name in contestants
    }


def joined(losses: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Those of several laps; None if they cannot be compared."""
    known = [each for each in losses if each is not None]
    return np.concatenate(known) if known else None


def ratio(ours: Result, theirs: Result, cpu: bool = False) -> Ratio:
    """Their time over ours, round by round; above 1, ours is the faster one.

    cpu: of the processor's time, which a busy machine disturbs less.
    """
    field = int(cpu)
    pairs = zip(ours.laps, theirs.laps, strict=True)
    return median([b[field] / a[field] for a, b in pairs])


def median(values: Sequence[float]) -> Ratio:
    """The median, and the narrowest interval between two of the values, as many from
    below as from above, that holds the true one with `CONFIDENCE`; their range if none
    does.

    Free of assumptions about their distribution (Conover, 1999, Practical Nonparametric
    Statistics, section 3.2): six values or more reach 95 %, three 75 %.
    """
    ordered, number = sorted(values), len(values)

    def confidence(left_out: int) -> float:
        tail = sum(math.comb(number, k) for k in range(left_out + 1))
        return 1 - 2 * tail / 2**number

    left_out = 0
    while confidence(left_out + 1) >= CONFIDENCE:
        left_out += 1
    return Ratio(
        float(np.median(ordered)),
        ordered[left_out],
        ordered[-1 - left_out],
        max(confidence(left_out), 0.0),
    )


def largest_difference(ours: Result, theirs: Result) -> dict[str, float]:
    """Name of a result -> how far the two are apart, relative to its size.

    For whole numbers (tokens): the share of rows that are not identical. What only one
    of them has is infinitely far; but losses are those of the same updates, or absent.
    """
    names = ours.checks.keys() | theirs.checks.keys()
    found = {n: _difference(ours.checks.get(n), theirs.checks.get(n)) for n in names}
    if ours.losses is not None and theirs.losses is not None:
        found["loss"] = _difference(ours.losses, theirs.losses)
    return dict(sorted(found.items()))


def _difference(a: np.ndarray | None, b: np.ndarray | None) -> float:
    if a is None or b is None or np.shape(a) != np.shape(b):
        return float("inf")
    if np.issubdtype(np.asarray(a).dtype, np.integer):
        return float(np.mean(np.any(a != b, axis=-1)))
    scale = max(float(np.abs(b).max()), 1e-30)
    return float(np.abs(a - b).max()) / scale


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
        if kind == "refused":
            raise UserError(value)
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
                began = time.perf_counter()
                value = dict(work.check()), time.perf_counter() - began
            elif order == "run":
                value = _lap(work)
            else:
                value = _peak(), _device_peak()
            pipe.send(("done", value))
        except UserError as error:
            pipe.send(("refused", str(error)))
        except BaseException:
            pipe.send(("failed", traceback.format_exc()))


def _peak() -> int:
    """Bytes that this process had resident at most."""
    status = Path("/proc/self/status")
    if status.exists():
        # `ru_maxrss` would begin with what the parent had when it started this one.
        lines = dict(x.split(":", 1) for x in status.read_text().splitlines())
        return max(_counted, int(lines["VmHWM"].split()[0]) * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


_counted = 0  # bytes, before what is not counted


@contextlib.contextmanager
def uncounted():
    """Around what is only tried out: it is nobody's peak."""
    global _counted
    _counted = _peak()
    yield
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now


def _device_peak() -> int:
    """Bytes of a GPU's memory that this process used at most; 0 without one."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    stats = jax.local_devices()[0].memory_stats() if jax else None
    return (stats or {}).get("peak_bytes_in_use", 0)


def _lap(work: Work) -> tuple[Lap, np.ndarray | None]:
    if hasattr(work, "forget"):
        work.forget()
    wall, cpu = time.perf_counter(), time.process_time()
    losses = work.run()
    return Lap(time.perf_counter() - wall, time.process_time() - cpu), losses
