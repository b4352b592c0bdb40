"""The contestants do the same work: what is raced is equal before it is timed."""

import dataclasses
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ppg_jax.benchmark import (
    converted,
    measure,
    models,
    ours,
    pytorch,
    race,
    results,
    suites,
    workload,
)
from ppg_jax.benchmark.race import Lap, Result, largest_difference
from ppg_jax.data import tokenization
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.errors import UserError
from ppg_jax.models import product
from tests import forked
from tests import models_for_tests as small

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def job(folder) -> workload.Job:
    tokenizer = small.tokenizer()
    tokenizer.unk_token = tokenizer.eos_token  # as GPT-2's; CTranslate2 wants one
    tokenizer.save_pretrained(folder / "gpt2")
    texts = [u for d in small.DIALOGUES for u in d.utterances]
    tokenization.train_wordpiece(texts, 100).save_pretrained(folder / "bert")
    return workload.Job(
        suite="train",
        generator=models.write_generator("tiny", folder / "gpt2", folder / "g"),
        critic=models.write_critic("tiny", folder / "bert", folder / "c"),
        source="persona_world",
        split="valid",
        instances=8,
        batch_size=4,
        micro_batch=4,
        prompts=PromptConfig(max_persona_tokens=6, max_response_tokens=4),
    )


def of_row(job: workload.Job, name: str):
    row = next(row for row in suites.ROWS if row.name == name)
    job = dataclasses.replace(job, suite=row.suite, **row.changes)
    if row.suite in ("generate", "reinforce"):  # slower, and each lap is alike
        job = dataclasses.replace(job, instances=4)
    return row, job


def of_torch(work: str):
    """PyTorch's class of that name."""
    module = suites.TORCH.get(work, "pytorch")
    return getattr(importlib.import_module(f"ppg_jax.benchmark.{module}"), work)


def as_result(work, name="x"):
    lap = Lap(1.0, 1.0)
    return Result(name, 0.0, lap, (lap,), 1, work.check())


@pytest.mark.parametrize("name", [row.name for row in suites.ROWS])
def test_pytorch_does_the_same_work(job, name):
    row, job = of_row(job, name)
    mine = getattr(ours, row.work)(job)
    found = as_result(mine)
    assert found.checks
    for form in row.forms:
        setting = pytorch.Setting(suites.FORMS[form])
        theirs = of_torch(row.work)(job, setting)
        differences = largest_difference(found, as_result(theirs))
        assert differences.keys() == found.checks.keys()
        assert max(differences.values()) < 1e-6
        theirs.run()
    mine.run()


@pytest.mark.parametrize("name", ["train response", "train persona", "train critic"])
def test_losses_show_that_all_take_the_same_updates(job, name):
    row, job = of_row(job, name)
    losses = {}
    for form in row.forms:
        work = of_torch(row.work)(job, pytorch.Setting(suites.FORMS[form]))
        losses[form] = race.joined([work.run(), work.run()])
    work = getattr(ours, row.work)(job)
    mine = race.joined([work.run(), work.run()])
    first, second = np.split(mine, 2)
    assert np.abs(second / first - 1).min() > 5e-6  # an update shows
    np.testing.assert_allclose(losses[suites.LIKE_FOR_LIKE], mine, rtol=1e-6)
    if name == "train critic":  # its pairs come in other batches
        assert losses[suites.USERS_WORK] is None
    else:
        np.testing.assert_allclose(losses[suites.USERS_WORK], mine, rtol=1e-6)


def test_with_dropout_there_are_no_losses_to_compare(job):
    row, job = of_row(dataclasses.replace(job, dropout=True), "train response")
    assert getattr(ours, row.work)(job).run() is None
    assert pytorch.Train(job, pytorch.Setting()).run() is None


def test_ctranslate2_does_the_same_work(job):
    pytest.importorskip("ctranslate2")
    from ppg_jax.benchmark import ctranslate2

    _, job = of_row(job, "generate, greedy")
    theirs = ctranslate2.Generate(job, "float32", 1)
    differences = largest_difference(as_result(ours.Generate(job)), as_result(theirs))
    assert differences == {"persona": 0, "response": 0}
    theirs.run()


def test_an_update_of_both_forms_has_the_same_targets(job):
    work = workload.Workload(job)
    counts = [
        [sum(int(p.batch.target_mask.sum()) for p in parts) for parts in updates]
        for updates in (work.updates("dialogue"), work.updates("instance"))
    ]
    assert counts[0] == counts[1]
    assert all(
        len(parts[0].ids) == job.batch_size for parts in work.updates("dialogue")
    )
    assert workload.count(job) >= job.instances


def test_a_race_between_different_results_is_refused():
    lap = Lap(1.0, 1.0)
    a, b = (
        Result(name, 0.0, lap, (lap,), 1, {"nll": np.array([value])})
        for name, value in [("a", 1.0), ("b", 1.01)]
    )
    with pytest.raises(UserError, match=r"nll of b is 0\.0099 away"):
        suites._check_equal(suites.ROWS[0], a, b, 1e-6)


@pytest.mark.skipif(not product.has_bfloat16(), reason="this CPU has no avx512_bf16")
def test_smaller_weights_are_raced_though_results_differ(job, monkeypatch):
    row, job = of_row(job, "generate, greedy")
    job = dataclasses.replace(job, weights="bfloat16")
    found = {}

    def raced(made, rounds, threads):
        works = {name: make() for name, make in made.items()}
        assert works[suites.OURS]._pipeline.config.weights == "bfloat16"
        assert works["torch_eager, user's work"].models[0].dtype == torch.bfloat16
        found.update({n: as_result(work, n) for n, work in works.items()})
        # As far apart as rounding may make them.
        found[suites.OURS].checks["persona"][:] = -1
        return found

    monkeypatch.setattr(suites, "race", raced)
    assert suites.run_row(row, job, ["torch_eager"], 1, 0) is found


def test_a_peer_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e \.\[peers\]"):
        suites._peer("pytorch", "torch")


def test_a_peer_that_cannot_do_the_work_is_told(job):
    row, job = of_row(job, "train response")
    with pytest.raises(UserError, match="--peer=ctranslate2_int8 has no train resp"):
        suites.contestants(row, job, ["ctranslate2_int8"], 0)
    made = suites.contestants(row, job, ["ctranslate2_int8", "torch_eager"], 0)
    assert len(made) == 3
    row, job = of_row(job, "generate, nucleus")
    with pytest.raises(UserError, match="q8_0 has no generate, nucleus; it can answer"):
        suites.contestants(row, job, ["llama_cpp_q8_0"], 0)


@pytest.mark.parametrize("peer", suites.PEERS)
def test_every_peer_has_a_contestant_that_answers_greedily(job, peer):
    row, job = of_row(job, "generate, greedy")
    name = f"{peer}, {suites.USERS_WORK}"
    made = suites.contestants(row, job, [peer], 1)
    assert list(made) == [suites.OURS, name]
    rounded = ("int8", "float16", "q8_0")
    assert suites.is_exact(job, name) == (not peer.endswith(rounded))


def record(name: str, seconds: float) -> dict:
    made = {}
    for contestant, factor in [(suites.OURS, 1), ("torch_eager, user's work", 2)]:
        lap = Lap(seconds * factor, seconds * factor)
        made[contestant] = Result(contestant, 1.0, lap, (lap, lap), 1 << 30, {})
    return results.record(name, made, 10, {"instances": 10})


def test_a_row_that_is_run_again_replaces_its_record(tmp_path):
    results.save(tmp_path, record("a", 1.0))
    results.save(tmp_path, record("b", 1.0))
    results.save(tmp_path, record("a", 5.0))
    records = json.loads((tmp_path / "benchmark.json").read_text())
    assert [r["name"] for r in records] == ["a", "b"]
    table = (tmp_path / "benchmark.md").read_text()
    versus = "2.00 (2.00 to 2.00, 50%)"
    assert f"| a | torch_eager, user's work | 1 | {versus} | 2.00 |" in table
    assert (tmp_path / "benchmark.png").stat().st_size > 5_000


def test_other_contestants_have_a_record_of_their_own(tmp_path):
    results.save(tmp_path, record("a", 1.0))
    alone = record("a", 2.0)
    alone["contestants"] = {suites.OURS: alone["contestants"][suites.OURS]}
    records = results.save(tmp_path, alone)
    assert [len(r["contestants"]) for r in records] == [2, 1]


@pytest.mark.parametrize("text", ["{", "{}", '{"a": 1}', "[3]", '[{"a": 1}]'])
def test_a_file_that_holds_no_records_is_told_and_stays(text, tmp_path):
    (tmp_path / "benchmark.json").write_text(text)
    with pytest.raises(UserError, match="move it away"):
        results.save(tmp_path, record("a", 1.0))
    assert (tmp_path / "benchmark.json").read_text() == text


@pytest.mark.parametrize(
    ("row", "changes", "told"),
    [
        ("train response", {"parts": 3, "batch_size": 4}, "--parts=3 does not divide"),
        ("train critic", {"instances": 3}, "of the critic's rows: 4 or more"),
    ],
)
def test_settings_that_no_row_can_be_measured_at_are_told(
    row, changes, told, job, folder, tmp_path
):
    given = {field.name: None for field in dataclasses.fields(measure.Settings)}
    given |= {"model": "tiny", "dtype": "float32", "weights": "float32"}
    given |= {"instances": 8, "batch_size": 4, "parts": 1, "adapter_rank": 0}
    given |= {"max_length": 64, "source": "persona_world", "rounds": 1} | changes
    asked = measure.Benchmark(
        rows=[r for r in suites.ROWS if r.name == row],
        peers=[],
        settings=measure.Settings(**given),
        gpt2_tokenizer=str(folder / "gpt2"),
        bert_tokenizer=str(folder / "bert"),
        output=tmp_path,
        models=tmp_path,
        label="",
    )
    with pytest.raises(UserError, match=told):
        asked.run("")


def test_what_a_peer_opens_is_made_once_and_what_a_kill_left_is_no_hindrance(tmp_path):
    target, module = tmp_path / "made", "tests.benchmark.writes_its_name"
    (tmp_path / ".made.begun").mkdir()
    (tmp_path / ".made.begun" / "half").write_text("")
    assert converted.once(target, module, "a") == target
    assert target.read_text() == "a"
    converted.once(target, module, "b")
    assert target.read_text() == "a"


def test_what_was_only_tried_is_nobodys_peak():
    code = (  # in a process that has not had more before
        "import numpy as np; from ppg_jax.benchmark import race\n"
        "before = race._peak()\n"
        "with race.uncounted():\n"
        "    held = np.ones(1 << 27, np.uint8)\n"
        "    assert race._peak() >= before + (1 << 26)\n"
        "    del held\n"
        "assert before <= race._peak() < before + (1 << 26)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_record_without_contestants_is_replaced_by_name(tmp_path):
    file = tmp_path / "attention.json"
    for milliseconds in (3, 2):
        records = results.add(file, {"name": "a", "milliseconds": milliseconds})
    assert records == [{"name": "a", "milliseconds": 2}]
    assert len(results.add(file, {"name": "b"})) == 2


def test_models_of_another_tokenizer_are_told(job, folder, tmp_path):
    tokenizer = small.tokenizer()
    tokenizer.add_tokens(["<another>"])
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="another tokenizer; give --models=ANOTHER"):
        models.write_generator("tiny", tmp_path / "other", folder / "g")


def launch(*flags) -> subprocess.CompletedProcess:
    return forked.run("launch.benchmark", *flags)


def test_a_benchmark_from_the_shell(job, folder, tmp_path):
    done = launch(
        "--suite=score",
        "--row=score persona",
        "--model=tiny",
        "--rounds=1",
        f"--gpt2_tokenizer={folder / 'gpt2'}",
        f"--bert_tokenizer={folder / 'bert'}",
        "--sweep=instances=2,4",
        f"--output={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    records = json.loads((tmp_path / "benchmark.json").read_text())
    names = ["score persona [instances=2]", "score persona [instances=4]"]
    assert [r["name"] for r in records] == names
    assert set(records[0]["contestants"]) == {
        "ppg_jax",
        "torch_eager, like for like",
        "torch_eager, user's work",
    }
    assert names[1] in done.stdout
    assert (tmp_path / "score_persona_by_instances.png").exists()


def test_a_row_that_fails_keeps_no_other_from_its_race(job, folder, tmp_path):
    """A prompt of three tokens cannot be; an answer of the critic can."""
    done = launch(
        "--suite=all",
        "--row=score persona",
        "--row=score with the critic",
        "--max_length=3",
        "--model=tiny",
        "--peer=none",
        "--rounds=1",
        "--instances=4",
        f"--gpt2_tokenizer={folder / 'gpt2'}",
        f"--bert_tokenizer={folder / 'bert'}",
        f"--output={tmp_path}",
    )
    assert done.returncode == 2
    assert "max_length is 3" in done.stderr.splitlines()[-1]
    records = json.loads((tmp_path / "benchmark.json").read_text())
    assert [r["name"] for r in records] == ["score with the critic"]


@pytest.mark.parametrize(
    "flag, told",
    [
        ("--row=nothing", "is not in that suite; the rows: train response,"),
        ("--sweep=colour=1", "write for example instances=64,256"),
        ("--sweep=instances=many", "'many' is no value of instances"),
        ("--gpt2_tokenizer=/nowhere", "/nowhere"),
        ("--weights=int8", "--weights belongs to --suite=generate; leave it out."),
        ("--weights=int4", "<float32|bfloat16|int8>"),
    ],
)
def test_a_wrong_flag_is_one_line(flag, told, tmp_path):
    done = launch(flag, f"--output={tmp_path}")
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
