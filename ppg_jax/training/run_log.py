"""What a long run tells while it runs: metrics.jsonl, TensorBoard, a progress line."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from ppg_jax.files import read_metrics, write_jsonl


class RunLog:
    """Writes the metrics of one stage, step by step.

    A resumed run goes on from `start`: what an earlier process logged beyond that step
    is dropped, so every step stands in metrics.jsonl once.
    """

    def __init__(self, folder: Path, name: str, start: int, total: int):
        self._name, self._start, self._total = name, start, total
        self._began = time.monotonic()
        self._shown = 0.0
        path = folder / "metrics.jsonl"
        _drop_after(path, start)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends one line {"step": ..., metrics...}; values are Python floats.

        One that is not finite is left out: JSON has no word for it.
        """
        values = {k: float(v) for k, v in metrics.items() if np.isfinite(v)}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def progress(self, step: int, headline: Mapping[str, float], every=2.0) -> None:
        """One line with rate, time left and `headline`; at most every `every` s."""
        now = time.monotonic()
        last = step == self._total
        pause = every if sys.stderr.isatty() else 5 * every
        if now - self._shown < pause and not last:
            return
        self._shown = now
        rate = (step - self._start) / max(now - self._began, 1e-9)
        left = (self._total - step) / max(rate, 1e-9)
        numbers = "  ".join(f"{k} {float(v):.4g}" for k, v in headline.items())
        line = (
            f"{self._name}  {step}/{self._total}  {rate:.2f} steps/s  "
            f"ETA {duration(left)}  {numbers}"
        )
        end = "\n" if last or not sys.stderr.isatty() else "\r"
        print(line.ljust(88), end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def duration(seconds: float) -> str:
    """3725 -> "1:02:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _drop_after(path: Path, step: int) -> None:
    # A run that begins again at 0 validates there again.
    kept = [r for r in read_metrics(path) if r["step"] <= step] if step else []
    write_jsonl(path, kept)
