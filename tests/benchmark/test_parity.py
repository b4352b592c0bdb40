"""Equality without a race: told by number, and an error where there is none."""

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ppg_jax.benchmark import models, parity, results, suites, workload
from tests import forked
from tests import models_for_tests as small

ROW = next(row for row in suites.ROWS if row.name == "score response")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    small.tokenizer().save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def job(folder) -> workload.Job:
    generator = models.write_generator("tiny", folder / "tokenizer", folder / "g")
    return workload.Job("score", generator, "", "persona_world", "valid", 4, 2, 4)


def test_pytorch_is_equal_in_both_forms(job):
    found = parity.compare(ROW, job, ["torch_eager"])
    assert len(found) == 2
    assert all(told["equal"] for told in found.values())
    assert all(0 < told["differences"]["nll"] < 1e-5 for told in found.values())


class Wrong:
    def __init__(self, *_):
        pass

    def check(self):
        return {"nll": np.ones(3)}


def test_what_differs_is_told_and_not_raised(job, monkeypatch, tmp_path):
    monkeypatch.setattr(suites, "_torch", Wrong)
    found = parity.compare(ROW, dataclasses.replace(job), ["torch_eager"])
    assert [told["equal"] for told in found.values()] == [False, False]
    made = results.parity_record("a", found, {})
    (record,) = results.add(tmp_path / "parity.json", made)  # of another shape: null
    assert record["contestants"][next(iter(found))]["differences"]["nll"] is None


@pytest.mark.parametrize(
    "rounded", [{"dtype": "bfloat16"}, {"weights": "bfloat16"}], ids=str
)
def test_what_rounds_is_told_and_not_judged(job, monkeypatch, rounded):
    monkeypatch.setattr(suites, "_ours", Wrong)
    monkeypatch.setattr(suites, "_torch", Wrong)
    job = dataclasses.replace(job, **rounded)
    found = parity.compare(ROW, job, ["torch_eager"])
    assert [told["equal"] for told in found.values()] == [None, None]
    assert all("nll" in told["differences"] for told in found.values())


def launch(folder: Path, *flags) -> subprocess.CompletedProcess:
    asked = [f"--{kind}_tokenizer={folder / 'tokenizer'}" for kind in ("gpt2", "bert")]
    asked += ["--suite=score", "--model=tiny", "--row=score response"]
    asked += ["--instances=4", "--batch_size=2"]
    return forked.run("launch.benchmark", *asked, *flags)


def test_no_round_is_parity_alone(folder, tmp_path):
    done = launch(folder, "--rounds=0", f"--output={tmp_path}", "--label=tiny")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads((tmp_path / "parity.json").read_text())
    assert told["name"] == "score response, tiny"
    assert told["contestants"]["torch_eager, user's work"]["equal"]
    assert not (tmp_path / "benchmark.json").exists()


def test_ours_can_run_alone_with_its_models_elsewhere(folder, tmp_path):
    done = launch(
        folder,
        "--peer=none",
        "--rounds=1",
        f"--output={tmp_path / 'out'}",
        f"--models={tmp_path / 'models'}",
    )
    assert done.returncode == 0, done.stderr
    (told,) = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert list(told["contestants"]) == ["ppg_jax"]
    assert told["contestants"]["ppg_jax"]["flops"] > 0
    assert told["contestants"]["ppg_jax"]["mfu"] is None
    assert (tmp_path / "models" / "generator_tiny").is_dir()
