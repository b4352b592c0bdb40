"""Programs within a time, the most telling first, no fault fatal: one after the other,
or side by side where none is measured.

What came of each is in a JSON file before the next begins.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ppg_jax.checkpoint import write_json


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
    done is not run again, so a second call goes on where the first one stopped.
    """
    began, before = clock(), _done(path)
    plan = facts | {"budget_seconds": budget, "entries": []}

    def outcome(entry: Entry) -> dict:
        left = budget - (clock() - began)
        if entry.name in before:
            return before[entry.name]
        if left < entry.least:
            reason = f"needs {entry.least:.0f} s, {max(left, 0):.0f} s were left"
            return {"name": entry.name, "status": "skipped", "reason": reason}
        print(f"{entry.name} ({left:.0f} s left)", file=sys.stderr)
        return _run(entry, min(left, entry.most))

    for together, group in itertools.groupby(entries, lambda entry: entry.together):
        group = list(group)
        with ThreadPoolExecutor(len(group) if together else 1) as pool:
            for told in pool.map(outcome, group):
                print(_line(told), file=sys.stderr)
                plan["entries"].append(told)
                write_json(path, plan)
    return plan


def _done(path: Path) -> dict[str, dict]:
    """The entries that an earlier plan finished, by name."""
    if not path.exists():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
    return {e["name"]: e for e in entries if e["status"] == "done"}


def _run(entry: Entry, seconds: float) -> dict:
    """Its outcome as plain values; it and its children end after `seconds`."""
    began = time.monotonic()
    process = subprocess.Popen(
        entry.command,
        env=os.environ | entry.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=seconds)
        status = "failed" if process.returncode else "done"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
        status = "stopped"
    except BaseException:  # Ctrl-C reaches us alone
        os.killpg(process.pid, signal.SIGKILL)
        raise
    told = {"name": entry.name, "status": status}
    if status == "stopped":
        told["reason"] = f"not done after {seconds:.0f} s"
    elif status == "failed":
        lines = said.strip().splitlines() or [f"exit code {process.returncode}"]
        told |= {"reason": lines[-1], "stderr": "\n".join(lines[-30:])}
    return told | {"seconds": round(time.monotonic() - began, 1)}


def _line(told: dict) -> str:
    reason = f": {told['reason']}" if "reason" in told else ""
    took = f" in {told['seconds']} s" if "seconds" in told else ""
    return f"  {told['name']}: {told['status']}{took}{reason}"
