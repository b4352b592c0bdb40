"""What fits is run, what does not is told, and nothing that was done is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ppg_jax.benchmark import plan, suites
from tests import forked

ROOT = Path(__file__).resolve().parents[2]


def entry(name: str, code: str = "", **options) -> plan.Entry:
    return plan.Entry(name, [sys.executable, "-c", code], **options)


def statuses(path: Path) -> dict[str, str]:
    return {e["name"]: e["status"] for e in json.loads(path.read_text())["entries"]}


def clock(*times):
    return iter(times).__next__


def test_an_entry_that_no_longer_fits_is_skipped_and_told(tmp_path):
    path = tmp_path / "plan.json"
    entries = [entry("a", least=60), entry("b", least=60), entry("c", least=5)]
    plan.run_plan(entries, 100, path, {"gpu": False}, clock(0, 0, 50, 51))
    assert statuses(path) == {"a": "done", "b": "skipped", "c": "done"}
    told = json.loads(path.read_text())
    assert told["entries"][1]["reason"] == "needs 60 s, 50 s were left"
    assert (told["gpu"], told["budget_seconds"]) == (False, 100)


def test_each_outcome_is_written_before_the_next_begins(tmp_path):
    path, seen = tmp_path / "plan.json", tmp_path / "seen.json"
    copies = f"import shutil; shutil.copy({str(path)!r}, {str(seen)!r})"
    plan.run_plan([entry("a"), entry("b", copies)], 1000, path, {})
    assert statuses(seen) == {"a": "done"}


def test_what_was_done_is_not_lost_while_an_earlier_one_is_run_again(tmp_path):
    path, seen = tmp_path / "plan.json", tmp_path / "seen.json"
    copies = f"import shutil; shutil.copy({str(path)!r}, {str(seen)!r})"
    first = [entry("a"), entry("b", "raise ValueError"), entry("c"), entry("d")]
    plan.run_plan(first, 1000, path, {})
    again = [entry("a"), entry("b"), entry("c"), entry("d", copies)]
    plan.run_plan(again, 1000, path, {})
    # d has another command, so it is run again, and is told until then.
    assert statuses(seen) == dict.fromkeys("abcd", "done")
    assert statuses(path) == dict.fromkeys("abcd", "done")


def test_a_fault_is_told_and_not_fatal(tmp_path):
    path = tmp_path / "plan.json"
    entries = [entry("a", "raise ValueError('no such kernel')"), entry("b")]
    plan.run_plan(entries, 1000, path, {})
    assert statuses(path) == {"a": "failed", "b": "done"}
    told = json.loads(path.read_text())["entries"][0]
    assert told["reason"] == "ValueError: no such kernel"
    assert "Traceback" in told["stderr"]


def test_an_entry_that_hangs_is_stopped_with_its_children(tmp_path):
    child = tmp_path / "child"
    code = (
        "import subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"open({str(child)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    )
    path, began = tmp_path / "plan.json", time.monotonic()
    plan.run_plan([entry("a", code, most=2), entry("b")], 1000, path, {})
    assert time.monotonic() - began < 30
    assert statuses(path) == {"a": "stopped", "b": "done"}
    time.sleep(0.2)
    assert not running(int(child.read_text()))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_an_earlier_call_has_done_is_not_done_again(tmp_path):
    path, diary = tmp_path / "plan.json", tmp_path / "diary"
    write = f"open({str(diary)!r}, 'a').write('x')"
    fails = entry("b", f"{write}; raise SystemExit(1)")
    for _ in range(2):
        plan.run_plan([entry("a", write), fails], 1000, path, {})
    assert diary.read_text() == "xxx"
    assert statuses(path) == {"a": "done", "b": "failed"}


def test_entries_beside_each_other_run_together_and_end_before_the_next(tmp_path):
    path, here = tmp_path / "plan.json", tmp_path / "here"
    here.mkdir()
    meets = (
        "import os, sys, time; "
        f"here = {str(here)!r}; open(os.path.join(here, sys.argv[1]), 'w').close(); "
        "ends = time.monotonic() + 20; "
        "exec('while len(os.listdir(here)) < 2 and time.monotonic() < ends: "
        "time.sleep(0.01)'); assert len(os.listdir(here)) == 2"
    )
    entries = [
        plan.Entry(name, [sys.executable, "-c", meets, name], together=True)
        for name in "ab"
    ]
    alone = f"import os; assert len(os.listdir({str(here)!r})) == 2"
    plan.run_plan([*entries, entry("c", alone)], 1000, path, {})
    assert statuses(path) == {"a": "done", "b": "done", "c": "done"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_that_run_together(number, tmp_path):
    code = (
        "import signal, sys; from pathlib import Path; "
        "from ppg_jax import launching; from ppg_jax.benchmark import plan; "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); launching.end_at_once(); "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        "work = 'import os, sys, time; '"
        "'open(sys.argv[1], \"w\").write(str(os.getpid())); time.sleep(60)'; "
        f"folder = Path({str(tmp_path)!r}); "
        "entries = [plan.Entry(n, [sys.executable, '-c', work, str(folder / n)], "
        "together=True) for n in 'ab']; "
        "plan.run_plan(entries, 1000, folder / 'plan.json', {})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    children = [tmp_path / name for name in "ab"]
    ends = time.monotonic() + 30
    while time.monotonic() < ends and not all(
        c.exists() and c.read_text() for c in children
    ):
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=20) != 0
    time.sleep(0.2)
    assert not any(running(int(child.read_text())) for child in children)


def test_an_entry_has_its_own_environment(tmp_path):
    path = tmp_path / "plan.json"
    code = "import os; assert os.environ['COLOUR'] == 'red' and os.environ['PATH']"
    plan.run_plan([entry("a", code, environment={"COLOUR": "red"})], 1000, path, {})
    assert statuses(path) == {"a": "done"}
    assert "COLOUR" not in os.environ


def test_without_a_gpu_the_plan_ends_in_one_line_and_a_trial_has_every_race(tmp_path):
    command = ["launch.gpu_benchmark", "--budget=1", f"--output={tmp_path}"]
    refused = forked.run(*command)
    assert refused.returncode == 2 and not list(tmp_path.iterdir())
    assert refused.stderr.count("\n") == 1
    assert "no GPU is in use; give --trial to try it on this CPU." in refused.stderr
    done = forked.run(*command, "--trial")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["gpu"] is False
    names = [e["name"] for e in told["entries"]]
    assert len(set(names)) == len(names)
    assert {f"{suite}, parity" for suite in suites.SUITES} <= set(names)
    alone = [name for name in names if name.endswith("alone")]
    assert names[: len(alone)] == alone  # first, as they compile for the others
    raced = names[len(alone) : 2 * len(alone)]
    assert [name.replace(", alone", "") for name in alone] == raced
    for dtype in ("bfloat16", "float32"):
        races = {f"{row.name}, tiny, {dtype}" for row in suites.ROWS}
        assert races | {f"attention, {dtype}"} <= set(names)
    assert {e["status"] for e in told["entries"]} == {"skipped"}


def script(*arguments, **environment) -> subprocess.CompletedProcess:
    command = ["bash", str(ROOT / "launch/gpu_benchmark.sh"), *map(str, arguments)]
    variables = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(command, capture_output=True, text=True, env=variables)


@pytest.mark.parametrize("arguments", [(), ("fly",), ("wheels",), ("run", "folder")])
def test_a_wrong_call_of_the_script_shows_how(arguments):
    done = script(*arguments)
    assert done.returncode == 2
    assert "bash launch/gpu_benchmark.sh wheels FOLDER" in done.stderr
    assert "bash launch/gpu_benchmark.sh run FOLDER DATA" in done.stderr


def test_a_folder_without_wheels_is_one_line():
    done = script("run", "/nowhere", "data", "gpt2", "bert")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "/nowhere is no folder; make it with:" in done.stderr


def asked_of_pip(tmp_path: Path, *there) -> list[str]:
    """The arguments that `wheels` gives to pip, files replaced by their lines."""
    fake = tmp_path / "python"
    fake.write_text(
        '#!/usr/bin/env bash\nfor a; do case "$a" in /dev/fd/*) cat "$a" ;; '
        '*) echo "$a" ;; esac; done > "$ASKED"\n'
    )
    fake.chmod(0o755)
    asked, folder = tmp_path / "asked", tmp_path / "wheels"
    folder.mkdir()
    for name in ("jax-0.11.2", "jaxtyping-1.0", "numpy-2.5.2", "flax-0.12.12"):
        (folder / f"{name}-py3-none-any.whl").touch()
    done = script("wheels", folder, *there, PYTHON=str(fake), ASKED=str(asked))
    assert done.returncode == 0, done.stderr
    return asked.read_text().splitlines()


def test_the_wheels_are_all_that_setup_cfg_requires_of_python_3_12(tmp_path):
    import configparser

    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = parser["options"]["install_requires"].strip().splitlines()
    wanted = [x.partition(";")[0].strip() for x in lines if '< "3.12"' not in x]
    asked = asked_of_pip(tmp_path)
    assert len(wanted) > 10
    assert [x.strip() for x in asked[-len(wanted) :]] == wanted
    assert asked[-len(wanted) - 1] == "--requirement"
    assert asked[asked.index("--python-version") + 1] == "3.12"


def test_what_the_machine_has_decides_versions_and_stays_out(tmp_path):
    asked = asked_of_pip(tmp_path, "numpy==2.5.2", "pandas")
    assert asked[asked.index("--constraint") + 1] == "numpy==2.5.2"
    assert "pandas" not in asked
    left = sorted(p.name.split("-")[0] for p in (tmp_path / "wheels").iterdir())
    assert left == ["flax", "jaxtyping"]
