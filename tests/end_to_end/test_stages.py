"""The whole method, tiny, through the programs that users launch."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["dialogue", "persona", "response", "response_without", "critic", "reinforce"]


def launch(program, *flags):
    """Starts a program under launch/ with the tiny config."""
    command = [sys.executable, "-m", f"launch.{program}", *flags]
    # One device, as users have: the flag for two makes every program slower.
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=500)
    assert process.returncode == code, err[-3000:]
    return out, err


def stage(name, workdir, *flags):
    config = f"--config={ROOT}/tests/end_to_end/tiny.py"
    return launch(name, config, f"--workdir={workdir}", *flags)


def train(name, workdir, *flags):
    return stage("train", workdir, f"--stage={name}", *flags)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run directory, and what each stage printed."""
    workdir = tmp_path_factory.mktemp("run")
    printed = {}
    for name in STAGES:
        printed[name], _ = finish(train(name, workdir))
    return workdir, printed


def sha256(printed):
    return re.search(r"params_sha256=(\w{64})", printed).group(1)


def test_every_stage_names_its_weights_and_is_not_done_twice(run):
    workdir, printed = run
    assert len({sha256(out) for out in printed.values()}) == len(STAGES)
    out, err = finish(train("reinforce", workdir))
    assert sha256(out) == sha256(printed["reinforce"])
    assert "steps/s" not in err


def test_evaluation_has_all_systems_and_their_intervals(run):
    workdir, _ = run
    out, _ = finish(stage("evaluate", workdir, "--conversations=1"))
    written = {p.stem for p in (workdir / "evaluate" / "responses").iterdir()}
    assert {"without", "training_only", "full", "ours_supervised", "ours"} <= written
    assert {"copy_last", "random", "retrieval"} <= written
    report = json.loads((workdir / "report.json").read_text())
    assert "Ours with RL" in (workdir / "report.md").read_text()
    assert report["instances"] > 10
    for picture in ("reinforce_curves", "systems_bar", "training_curves"):
        assert (workdir / "figures" / f"{picture}.png").stat().st_size > 5000
    assert out.strip()


def test_another_setting_is_refused_by_name(run):
    workdir, _ = run
    flag = "--config.persona.optimizer.learning_rate=0.5"
    _, err = finish(train("persona", workdir, flag), code=2)
    assert "optimizer.learning_rate was 0.01, is 0.5" in err
    assert len(err.strip().splitlines()) == 1


def test_a_stage_without_its_predecessor_says_what_to_run(tmp_path):
    _, err = finish(train("reinforce", tmp_path), code=2)
    assert "launch.train --stage=persona" in err


@pytest.mark.parametrize(
    "flags",
    [
        ["--config=configs/nowhere.py"],
        ["--config.persona.batch_sise=3"],
        ["--config.persona.batch_size=three"],
        ["--config.persona.task=poem"],
        ["--stage=poem"],
        ["--config.data.source=/nowhere/at/all"],
        ["stray"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, flags):
    process = launch("train", "--stage=persona", f"--workdir={tmp_path}", *flags)
    _, err = finish(process, code=2)
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.slow
def test_kill_9_at_any_moment_changes_no_bit(run, tmp_path):
    _, printed = run
    dice = random.Random(0)
    for name in STAGES:
        for _ in range(3):
            began = time.monotonic()
            process = train(name, tmp_path)
            metrics = tmp_path / name / "metrics.jsonl"
            while process.poll() is None and not metrics.exists():
                time.sleep(0.05)
            time.sleep(dice.uniform(0, 4))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            print(f"{name} killed after {time.monotonic() - began:.1f} s")
        out, _ = finish(train(name, tmp_path))
        assert sha256(out) == sha256(printed[name])
