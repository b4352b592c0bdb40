"""Programs within a time, the most telling first, no fault fatal: one after the other,
or side by side where none is measured.

What came of each is in a JSON file before the next begins.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ppg_jax.files import understood, write_json

LOOK_EVERY = 0.05  # seconds


class Entry(NamedTuple):
    """A program of the plan."""

    name: str
    command: Sequence[str]
    environment: dict[str, str] = {}  # besides ours
    least: float = 30  # seconds; not begun with less left
    most: float = 150  # seconds; then it is stopped
    together: bool = False  # with those beside it that are, too


def run_plan(
    entries: Sequence[Entry],
    budget: float,
    path: Path,
    facts: dict,
    clock: Callable[[], float] = time.monotonic,
) -> dict:
    """Runs what fits into `budget` seconds; returns what is in the file at `path`.

    facts: of the machine, written beside. An entry that a plan in the same file has
    done, by the same command, is not run again, so a second call goes on where the
    first one stopped.
    """
    began, before = clock(), _done(path)
    plan = facts | {"budget_seconds": budget, "entries": []}
    names = [entry.name for entry in entries]

    def begin(entry: Entry) -> "_Program | dict":
        left = budget - (clock() - began)
        if before.get(entry.name, {}).get("command") == list(entry.command):
            return before[entry.name]
        if left < entry.least:
            reason = f"needs {entry.least:.0f} s, {max(left, 0):.0f} s were left"
            return {"name": entry.name, "status": "skipped", "reason": reason}
        print(f"{entry.name} ({left:.0f} s left)", file=sys.stderr)
        return _Program(entry, min(left, entry.most))

    for group in _groups(entries):
        begun = []
        before_signals = _ending_on_signals()
        try:
            for entry in group:
                begun.append(begin(entry))
            programs = [each for each in begun if isinstance(each, _Program)]
            while not all([program.ended() for program in programs]):
                time.sleep(LOOK_EVERY)
            for each in begun:
                told = each.outcome() if isinstance(each, _Program) else each
                print(_line(told), file=sys.stderr)
                plan["entries"].append(told)
                # With what is still to come, if it was done before.
                rest = names[len(plan["entries"]) :]
                later = [before[name] for name in rest if name in before]
                write_json(path, plan | {"entries": plan["entries"] + later})
        except BaseException:  # a signal reaches us alone
            for each in begun:
                if isinstance(each, _Program):
                    each.end()
            raise
        finally:
            for number, handler in before_signals.items():
                signal.signal(number, handler)
    return plan


def _ending_on_signals() -> dict:
    """SIGTERM and SIGHUP raise here, as Ctrl-C does; what they did before."""

    def stop(number, frame):
        raise SystemExit(128 + number)

    told = (signal.SIGTERM, signal.SIGHUP)
    heeded = [n for n in told if signal.getsignal(n) is not signal.SIG_IGN]
    return {number: signal.signal(number, stop) for number in heeded}


def _groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """One by one, but those together that are to run so."""
    for together, group in itertools.groupby(entries, lambda entry: entry.together):
        if together:
            yield list(group)
        else:
            yield from ([entry] for entry in group)


def _done(path: Path) -> dict[str, dict]:
    """The entries that an earlier plan finished, by name."""
    if not path.exists():
        return {}
    with understood(path, "move it away."):
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        return {e["name"]: e for e in entries if e["status"] == "done"}


class _Program:
    """A program at work; it and its children end after `seconds`."""

    def __init__(self, entry: Entry, seconds: float):
        self._entry, self._seconds, self._began = entry, seconds, time.monotonic()
        self._took, self._stopped = None, False
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, closed at its end
        self._process = subprocess.Popen(
            entry.command,
            env=os.environ | entry.environment,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,
        )

    def ended(self) -> bool:
        """Whether it has ended; it is stopped when its time is over."""
        if self._took is None:
            took = time.monotonic() - self._began
            if self._process.poll() is None:
                if took < self._seconds:
                    return False
                self._stopped = True
                self.end()
            self._took = took
        return True

    def outcome(self) -> dict:
        """What came of it, as plain values, once it has ended."""
        code = self._process.returncode
        status = "stopped" if self._stopped else "failed" if code else "done"
        told = {"name": self._entry.name, "status": status}
        told["command"] = list(self._entry.command)
        if status == "stopped":
            told["reason"] = f"not done after {self._seconds:.0f} s"
        elif status == "failed":
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").strip().splitlines()
            lines = lines or [f"exit code {code}"]
            told |= {"reason": lines[-1], "stderr": "\n".join(lines[-30:])}
        self._said.close()
        return told | {"seconds": round(self._took, 1)}

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._said.close()


def _line(told: dict) -> str:
    reason = f": {told['reason']}" if "reason" in told else ""
    took = f" in {told['seconds']} s" if "seconds" in told else ""
    return f"  {told['name']}: {told['status']}{took}{reason}"
