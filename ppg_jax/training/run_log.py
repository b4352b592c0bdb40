"""What a long run tells while it runs: metrics.jsonl, TensorBoard, a progress line."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from ppg_jax.files import naming, read_metrics, write_jsonl

_WIDTH = 79  # a terminal has 80, and some break the line after the last
_NAMES = {"learning_rate": "lr"}


class RunLog:
    """Writes the metrics of one stage, step by step.

    A resumed run goes on from `start`: what an earlier process logged beyond that step
    is dropped, so every step stands in metrics.jsonl once.
    """

    def __init__(self, folder: Path, name: str, start: int, total: int):
        self._name, self._start, self._total = name, start, total
        self._first = (start, time.monotonic())  # what rates are counted from
        self._shown = 0.0
        self._path = folder / "metrics.jsonl"
        _drop_after(self._path, start)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _Board(folder / "tensorboard", start + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends one line {"step": ..., metrics...}; values are Python floats.

        One that is not finite is left out: JSON has no word for it.
        """
        values = {k: float(v) for k, v in metrics.items() if np.isfinite(v)}
        with naming(self._path):
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        self._board.write(step, values)

    def stepped(self, step: int) -> None:
        """After each step: the first one, which is compiled, counts in no rate."""
        if step == self._start + 1:
            self._first = (step, time.monotonic())

    def progress(self, step: int, metrics: Mapping[str, float], every=2.0) -> None:
        """One line of 79 characters at most, at most every `every` s: rate, time left
        and, as far as there is room, `metrics`.
        """
        now = time.monotonic()
        last = step == self._total
        pause = every if sys.stderr.isatty() else 5 * every
        if now - self._shown < pause and not last:
            return
        self._shown = now
        first, began = self._first
        rate = (step - first) / max(now - began, 1e-9)
        line = f"{self._name} {step}/{self._total}"
        for word in _words(self._total - step, rate, metrics):
            if len(line) + 2 + len(word) <= _WIDTH:
                line += f"  {word}"
        overwritten = sys.stderr.isatty() and not last
        line = line.ljust(_WIDTH) if sys.stderr.isatty() else line
        end = "\r" if overwritten else "\n"
        print(line, end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._file.close()
        self._board.close()


class _Board:
    """TensorBoard's events, written by the thread that has them: tensorboardX's own
    thread ends where a disk is full, and who has more events waits for it for ever.

    A run that goes on hides what an earlier process wrote from `first` on.
    """

    def __init__(self, folder: Path, first: int):
        self._path = folder
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._events = EventsWriter(str(folder / "events"))
            begins = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(step=first, file_version="brain.Event:2"))
            self._events.write_event(Event(step=first, session_log=begins))
            self._events.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        told = [Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        event = Event(step=step, wall_time=time.time(), summary=Summary(value=told))
        with naming(self._path):
            self._events.write_event(event)
            self._events.flush()

    def close(self) -> None:
        with naming(self._path):
            self._events.close()


def _words(left: int, rate: float, metrics: Mapping[str, float]) -> Iterator[str]:
    """What a line tells, what matters most first."""
    if rate:
        yield f"ETA {duration(left / rate)}"
    told = {_NAMES.get(k, k): f"{float(v):.4g}" for k, v in metrics.items()}
    first = [k for k in ("loss", "reward", "epoch") if k in told]
    for name in first:
        yield f"{name} {told.pop(name)}"
    if rate and "targets" in metrics:  # of this batch, as of any
        yield f"{float(metrics['targets']) * rate:.0f} targets/s"
    if "lr" in told:
        yield f"lr {told.pop('lr')}"
    if rate:
        yield f"{rate:.3g} steps/s"
    told.pop("targets", None)
    for name, value in told.items():
        yield f"{name} {value}"


def duration(seconds: float) -> str:
    """3725 -> "1:02:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _drop_after(path: Path, step: int) -> None:
    # A run that begins again at 0 validates there again.
    kept = [r for r in read_metrics(path) if r["step"] <= step] if step else []
    write_jsonl(path, kept)
