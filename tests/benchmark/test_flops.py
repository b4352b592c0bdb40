"""What a job needs is what XLA counts, less the padding."""

import dataclasses

import jax
import numpy as np
import pytest

from ppg_jax.benchmark import flops, models, workload
from ppg_jax.benchmark.race import Lap, Result
from ppg_jax.benchmark.results import record, table
from ppg_jax.benchmark.suites import OURS
from ppg_jax.data.batching import Batch
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.inference.scoring import target_log_probs
from ppg_jax.losses import cross_entropy
from ppg_jax.models.gpt2 import GPT2, GPT2Config
from tests import models_for_tests as small

# Wide, so that norms and activations, which are not counted, weigh little.
CONFIG = GPT2Config(vocab_size=300, n_embd=256, n_layer=2, n_head=4)
LENGTH = 16


def full_batch(rows=4) -> Batch:
    """No padding; every token but the last has a target behind it."""
    tokens = np.random.default_rng(0).integers(300, size=(rows, LENGTH), dtype=np.int32)
    zeros = np.zeros_like(tokens)
    places = zeros + np.arange(LENGTH, dtype=np.int32)
    index, targets = places[:, :-1], tokens[:, 1:]
    return Batch(
        tokens=tokens,
        position_ids=places,
        branch_ids=zeros,
        branch_starts=zeros,
        target_index=index,
        targets=targets,
        target_mask=np.ones(targets.shape, bool),
        target_of=zeros[:, :-1],
    )


def counted_by_xla(function, *arguments) -> float:
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.fixture(scope="module")
def model():
    made = GPT2(CONFIG)
    tokens = np.zeros((1, 8), np.int32)
    return made, jax.eval_shape(made.init, jax.random.key(0), tokens)["params"]


def test_a_forward_pass_has_the_products_that_xla_counts(model):
    made, params = model
    batch = full_batch()
    xla = counted_by_xla(lambda p: target_log_probs(made, p, batch), params)
    assert flops.forward_flops(CONFIG, batch) == pytest.approx(xla, rel=0.04)


def test_a_training_pass_has_three_times_as_many(model):
    made, params = model
    batch = full_batch()

    def loss(p):
        log_probs = target_log_probs(made, p, batch)
        return cross_entropy(log_probs, batch.target_mask)

    xla = counted_by_xla(jax.grad(loss), params)
    assert 3 * flops.forward_flops(CONFIG, batch) == pytest.approx(xla, rel=0.06)


def test_padding_is_not_counted():
    batch, columns = full_batch(), {}
    for field in dataclasses.fields(Batch):
        array = getattr(batch, field.name)
        pad = {"branch_ids": -1, "target_mask": False}.get(field.name, 0)
        columns[field.name] = np.pad(array, ((0, 2), (0, 9)), constant_values=pad)
    padded = Batch(**columns)
    assert flops.forward_flops(CONFIG, padded) == flops.forward_flops(CONFIG, batch)


def test_attention_is_counted_by_the_pairs_that_see_each_other():
    # One more layer of two tokens with a target each: 24 D^2 a token, 1 + 2 pairs.
    batch = jax.tree.map(lambda a: a[:1, :2], full_batch())
    counts = [
        flops.forward_flops(GPT2Config(8, n_embd=4, n_layer=n, n_head=1), batch)
        for n in (1, 2)
    ]
    assert counts[1] - counts[0] == 2 * 24 * 4**2 + 3 * 4 * 4


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> workload.Job:
    folder = tmp_path_factory.mktemp("flops")
    small.tokenizer().save_pretrained(folder / "gpt2")
    return workload.Job(
        suite="score",
        generator=models.write_generator("tiny", folder / "gpt2", folder / "g"),
        critic="",
        source="persona_world",
        split="valid",
        instances=8,
        batch_size=4,
        micro_batch=4,
        # This tokenizer's words are short: dialogues are longer than they would be.
        prompts=PromptConfig(max_length=1000),
    )


@pytest.mark.parametrize("task", ["response", "persona"])
def test_a_dialogue_needs_less_than_its_instances_and_training_three_times(job, task):
    job = dataclasses.replace(job, task=task)
    score = flops.need(job)
    assert 0 < score.flops["dialogue"] < score.flops["instance"]
    parts = [p.batch for u in workload.Workload(job).updates("instance") for p in u]
    assert score.tokens == sum(int((b.branch_ids >= 0).sum()) for b in parts)
    train = flops.need(dataclasses.replace(job, suite="train"))
    assert train.tokens == score.tokens
    assert train.flops == {form: 3 * n for form, n in score.flops.items()}


def test_what_depends_on_samples_has_no_count(job):
    assert flops.need(dataclasses.replace(job, suite="generate")) is None


@pytest.mark.parametrize(
    "kind, peak",
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40", None),
        ("cpu", None),
    ],
)
def test_the_peak_is_that_of_the_device_or_none(kind, peak):
    assert flops.peak(kind, "bfloat16") == peak


def test_float32_is_float32_on_the_cpu():
    assert flops.products("float32") == "float32"
    assert flops.products("bfloat16") == "bfloat16"


def test_a_gpu_rounds_float32_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert flops.products("float32") == "tf32"
    with jax.default_matmul_precision("highest"):
        assert flops.products("float32") == "float32"


def raced(need, peak, monkeypatch) -> dict:
    monkeypatch.setattr(flops, "peak", lambda device, kind: peak)
    lap = Lap(2.0, 2.0)
    names = (OURS, "torch_eager, like for like", "torch_eager, user's work")
    made = {name: Result(name, 0.0, lap, (lap,), 1, {}) for name in names}
    return record("row", made, 10, {"dtype": "bfloat16"}, need)


def test_use_is_of_each_ones_own_form_and_tokens_of_the_instances(monkeypatch):
    need = flops.Need(tokens=600, flops={"dialogue": 100, "instance": 400})
    entry = raced(need, 1000.0, monkeypatch)
    found = entry["contestants"].values()
    assert [c["tokens_per_second"] for c in found] == [300, 300, 300]
    assert [c["mfu"] for c in found] == [0.05, 0.05, 0.2]
    assert "| 300 | 5.0 % |" in table([entry])


def test_what_is_not_known_is_null(monkeypatch):
    need = flops.Need(tokens=600, flops={"dialogue": 100, "instance": 400})
    found = raced(need, None, monkeypatch)["contestants"][OURS]
    assert (found["mfu"], found["flops_per_second"]) == (None, 50)
    found = raced(None, 1000.0, monkeypatch)["contestants"][OURS]
    assert found["mfu"] is found["tokens_per_second"] is None


def test_a_record_from_before_the_count_still_makes_a_table(monkeypatch):
    entry = raced(None, None, monkeypatch)
    for found in entry["contestants"].values():
        del found["mfu"], found["tokens_per_second"]
    assert table([entry]).count("\n") == 5
