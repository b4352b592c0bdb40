"""The whole method, tiny, through the programs that users launch."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).resolve().parents[2]
TINY = f"--config={ROOT}/tests/end_to_end/tiny.py"
# One device, as users have: the flag for two makes every program slower.
BERT = "distilbert-base-uncased"
ALONE = {"XLA_FLAGS": os.environ["XLA_FLAGS"].partition(" ")[2]}
STAGES = ["dialogue", "persona", "response", "response_without", "critic", "reinforce"]


def launch(program, *flags, code=0):
    """What a program under launch/ prints, and what it tells."""
    done = forked.run(f"launch.{program}", *flags, env=ALONE)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout, done.stderr


def stage(name, workdir, *flags, **options):
    """A program with the tiny config."""
    return launch(name, TINY, f"--workdir={workdir}", *flags, **options)


def train(name, workdir, *flags, **options):
    return stage("train", workdir, f"--stage={name}", *flags, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run directory, and what each stage printed."""
    workdir = tmp_path_factory.mktemp("run")
    printed = {}
    for name in STAGES:
        printed[name], _ = train(name, workdir)
    return workdir, printed


def sha256(printed):
    return re.search(r"params_sha256=(\w{64})", printed).group(1)


def test_every_stage_names_its_weights_and_is_not_done_twice(run):
    workdir, printed = run
    assert len({sha256(out) for out in printed.values()}) == len(STAGES)
    out, err = train("reinforce", workdir)
    assert sha256(out) == sha256(printed["reinforce"])
    assert "steps/s" not in err


def test_evaluation_has_all_systems_and_their_intervals(run):
    workdir, _ = run
    out, _ = stage("evaluate", workdir, "--conversations=1")
    written = {p.stem for p in (workdir / "evaluate" / "responses").iterdir()}
    assert {"without", "training_only", "full", "ours_supervised", "ours"} <= written
    assert {"copy_last", "random", "retrieval"} <= written
    report = json.loads((workdir / "report.json").read_text())
    assert "Ours with RL" in (workdir / "report.md").read_text()
    assert report["instances"] > 10
    for picture in ("reinforce_curves", "systems_bar", "training_curves"):
        assert (workdir / "figures" / f"{picture}.png").stat().st_size > 5000
    assert out.strip()


def test_a_table_over_seeds_trains_what_is_missing_once(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "seed_0")
    asked = ("reproduce", tmp_path, "--target=table4", "--seeds=0,1")
    plan, _ = stage(*asked, "--dry_run")
    assert re.search(r"\| 0 \| persona \| done \| \d", plan)
    assert re.search(r"\| 1 \| persona \| missing \| \d", plan)
    assert "reinforce" not in plan and not (tmp_path / "seed_1").exists()
    out, err = stage(*asked)
    assert "persona " in err and "table4: table4.md, table4.tex, table4.csv" in out
    assert not (tmp_path / "seed_1" / "reinforce").exists()
    text = (tmp_path / "paper/table4.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    of = {r["row"]: r for r in rows if r["metric"] == "ppl_token"}
    assert of["supervised"]["runs"] == "2" and float(of["supervised"]["spread"]) > 0
    assert of["supervised"]["paper"] == "56.2"
    made = json.loads((tmp_path / "paper/MANIFEST.json").read_text())
    assert made["runs"].keys() == {"0", "1"} and made["files"].keys() == {"table4"}
    sums = [made["runs"][seed]["made_of"]["sums"] for seed in "01"]
    name = "sha256 of the persona model"
    assert sums[0][name] != sums[1][name]
    plan, _ = stage(*asked, "--dry_run")
    assert "missing" not in plan and "left: 0.00 hours" in plan
    _, err = stage(*asked)
    assert "steps/s" not in err


def test_a_stage_whose_weights_are_not_there_is_left_out_and_told(run, tmp_path):
    folder = tmp_path / "seed_0"
    shutil.copytree(run[0], folder)
    for made_of_it in ("critic", "evaluate"):
        shutil.rmtree(folder / made_of_it, ignore_errors=True)
    asked = "--config.critic.tokenizer=", f"--config.critic.init={BERT}"
    out, _ = stage("reproduce", tmp_path, *asked, "--target=table4,figure4")
    assert "reinforce: left out: it needs critic" in out
    assert out.count("critic: left out: cannot download distilbert-base-uncased") == 1
    text = (tmp_path / "paper/table4.md").read_text(encoding="utf-8")
    assert "Generator without RL" in text
    _, err = stage("train", folder, *asked, "--stage=critic", code=2)
    assert "give that folder instead" in err and len(err.strip().splitlines()) == 1
    # What has finished is done, though what it began with is not here any more.
    shutil.copytree(run[0] / "critic", folder / "critic")
    made = folder / "critic" / "fingerprint.json"
    settings = json.loads(made.read_text()) | {"tokenizer": "", "init": BERT}
    made.write_text(json.dumps(settings))
    out, _ = stage("train", folder, *asked, "--stage=critic")
    assert "critic: done" in out


@pytest.mark.parametrize(
    "flag, told",
    [
        ("--target=tabel4", r"no target 'tabel4' \(did you mean table4\?\); there are"),
        ("--seeds=one", "'one' is no whole number; give for example --seeds=0,1"),
        ("--seeds=²", "'²' is no whole number"),
        ("--seeds=", "--seeds is empty; give for example --seeds=0,1"),
        ("--target=", "--target is empty; give all, or some of"),
        ("--target=exposure", "--target: nothing that this config has rows for"),
    ],
)
def test_what_cannot_be_reproduced_is_one_line(flag, told, tmp_path):
    _, err = stage("reproduce", tmp_path / "run", flag, code=2)
    assert re.search(told, err) and len(err.strip().splitlines()) == 1


def test_another_setting_is_refused_by_name(run):
    workdir, _ = run
    flag = "--config.persona.optimizer.learning_rate=0.5"
    _, err = train("persona", workdir, flag, code=2)
    assert "optimizer.learning_rate was 0.01, is 0.5" in err
    assert len(err.strip().splitlines()) == 1


def test_a_stage_without_its_predecessor_says_what_to_run(tmp_path):
    _, err = train("reinforce", tmp_path, code=2)
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
    asked = "--stage=persona", f"--workdir={tmp_path}", *flags
    _, err = launch("train", *asked, code=2)
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.slow
def test_kill_9_at_any_moment_changes_no_bit(run, tmp_path):
    _, printed = run
    dice = random.Random(0)
    for name in STAGES:
        flags = f"--workdir={tmp_path}", f"--stage={name}"
        for _ in range(3):
            began = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "launch.train", TINY, *flags],
                cwd=ROOT,
                env=os.environ | ALONE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            metrics = tmp_path / name / "metrics.jsonl"
            while process.poll() is None and not metrics.exists():
                time.sleep(0.05)
            time.sleep(dice.uniform(0, 4))
            process.send_signal(signal.SIGKILL)
            process.wait()
            print(f"{name} killed after {time.monotonic() - began:.1f} s")
        out, _ = train(name, tmp_path)
        assert sha256(out) == sha256(printed[name])
