"""With adapters, and with the generators of the package, all do the same work, too."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from ppg_jax.benchmark import flops, models, ours, race, suites, workload
from ppg_jax.benchmark.measure import Benchmark, Settings, rows
from ppg_jax.benchmark.race import Lap, Result, largest_difference
from ppg_jax.data import tokenization
from ppg_jax.errors import UserError
from ppg_jax.models import adapters, peft, pretrained
from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.models.starts import initial_params
from tests import models_for_tests as small

RANK = 2
# Between these two packages: PEFT asks transformers for what that has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)
SETTINGS = Settings(
    model=models.SMOLLM2,
    source="persona_world",
    split="valid",
    instances=4,
    batch_size=4,
    micro_batch=4,
    parts=1,
    dtype="float32",
    dropout=False,
    rounds=1,
    threads=0,
    weights="float32",
    max_length=448,
)


def moved(params: dict, seed: int) -> dict:
    """Adapters as after training: B begins as zeros."""
    learned, base = adapters.split(adapters.add(params, RANK, seed))
    rng = np.random.default_rng(seed)
    learned = jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape), learned)
    learned = jax.tree.map(lambda a: a.astype(np.float32), learned)
    return adapters.join(learned, base)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What stands for SmolLM2, for MiniLM, and for what is released: tiny."""
    folder, tokenizer = tmp_path_factory.mktemp("race"), small.tokenizer()
    model, params = small.llama(len(tokenizer), max_position_embeddings=512)
    params = jax.tree.map(lambda p: 0.5 * p if p.ndim == 2 else p, params)
    base = pretrained.export(model, params, tokenizer, folder / "smollm2")
    for seed, name in enumerate(("persona", "response")):
        made = folder / "released" / name
        pretrained.export(model, moved(params, seed), None, made, str(base))
    texts = [u for d in small.DIALOGUES for u in d.utterances]
    words = tokenization.train_wordpiece(texts, 100)
    words.model_max_length = 128
    config = DistilBertConfig(len(words), dim=16, hidden_dim=16, n_layers=1, n_heads=2)
    judge = DistilBert(config)
    pretrained.export(judge, initial_params(judge, 0), words, folder / "minilm")
    return folder


@pytest.fixture(autouse=True)
def tiny(folder, monkeypatch):
    backbones = {
        "generator": str(folder / "smollm2"),
        "critic": str(folder / "minilm"),
    }
    monkeypatch.setattr(models, "BACKBONES", backbones)
    monkeypatch.setattr(models, "RELEASED", folder / "released")
    monkeypatch.setattr(models, "RELEASED_RANK", RANK)


def job_of(folder: Path, name: str, **settings) -> tuple[suites.Row, workload.Job]:
    """A row and its job, as the program makes it, with short completions."""
    (row,) = rows("all", [name])
    settings = dataclasses.replace(SETTINGS, **settings)
    benchmark = Benchmark([row], [], settings, "", "", folder, folder / "models", "")
    job = benchmark._job(row, settings)
    assert job.prompts.max_persona_tokens == 96
    prompts = dataclasses.replace(
        job.prompts, max_persona_tokens=6, max_response_tokens=4
    )
    return row, dataclasses.replace(job, prompts=prompts)


def apart(mine, theirs) -> dict[str, float]:
    lap = Lap(1.0, 1.0)
    a, b = (Result("x", 0.0, lap, (lap,), 1, work.check()) for work in (mine, theirs))
    assert a.checks
    return largest_difference(a, b)


def test_peft_trains_as_we_do_from_the_same_adapters(folder):
    pytest.importorskip("peft", reason='needs pip install "ppg_jax[parity]"')
    pytorch = pytest.importorskip("ppg_jax.benchmark.pytorch")
    row, job = job_of(folder, "train response", adapter_rank=RANK)
    mine, losses = ours.Train(job), {}
    assert adapters.rank(mine._state.params) == RANK
    assert mine._state.params.keys() == {"layers_0", "layers_1"}
    for form in row.forms:
        theirs = pytorch.Train(job, pytorch.Setting(suites.FORMS[form]))
        learned = [n for n, p in theirs.model.named_parameters() if p.requires_grad]
        assert len(learned) == 2 * 7 * 2 and all("lora_" in name for name in learned)
        assert max(apart(mine, theirs).values()) < 1e-6
        losses[form] = race.joined([theirs.run(), theirs.run()])
    found = race.joined([mine.run(), mine.run()])
    first, second = np.split(found, 2)
    assert np.all(second < first)  # an update shows
    for form in row.forms:
        np.testing.assert_allclose(losses[form], found, rtol=1e-6)


def test_the_generators_of_the_package_answer_on_one_base(folder):
    pytorch = pytest.importorskip("ppg_jax.benchmark.pytorch")
    _, job = job_of(folder, "generate, greedy")
    mine = ours.Generate(job)
    (_, persona), (_, response) = (mine._pipeline.persona, mine._pipeline.response)
    table = "embed_tokens", "embedding"
    assert persona[table[0]][table[1]] is response[table[0]][table[1]]
    assert adapters.has(persona) and adapters.has(response)
    assert not any(peft.is_adapter(Path(name)) for name in job.answering)
    theirs = pytorch.Generate(job, pytorch.Setting())
    assert theirs.models[0] is not theirs.models[1]
    assert apart(mine, theirs) == {"persona": 0, "response": 0}


def test_reinforce_improves_adapters_of_one_base(folder):
    pytest.importorskip("peft", reason='needs pip install "ppg_jax[parity]"')
    pytorch = pytest.importorskip("ppg_jax.benchmark.pytorch")
    reinforce = pytest.importorskip("ppg_jax.benchmark.pytorch_reinforce")
    _, job = job_of(folder, "reinforce", adapter_rank=RANK)
    mine = ours.Reinforce(job)
    bases = [policy.base for policy in mine._policies]
    pairs = zip(*map(jax.tree.leaves, bases), strict=True)
    assert bases[0] and all(a is b for a, b in pairs)
    theirs = reinforce.Reinforce(job, pytorch.Setting())
    assert max(apart(mine, theirs).values()) < 1e-5
    mine.run()
    theirs.run()


def test_all_weights_are_those_of_the_adapters_when_all_are_trained(folder):
    _, job = job_of(folder, "reinforce")
    assert not any(peft.is_adapter(Path(name)) for name in job.answering)
    _, adapted = job_of(folder, "reinforce", adapter_rank=RANK)
    for whole, source in zip(job.answering, adapted.answering, strict=True):
        merged = adapters.merge(pretrained.load(source)[1])
        for a, b in zip(
            *map(jax.tree.leaves, (pretrained.load(whole)[1], merged)), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_adapters_of_another_rank_than_the_released_are_refused(folder):
    with pytest.raises(UserError, match="has adapters of rank 2; give that rank"):
        job_of(folder, "reinforce", adapter_rank=RANK + 1)


def test_adapters_belong_to_what_trains(folder):
    settings = dataclasses.replace(SETTINGS, adapter_rank=RANK)
    with pytest.raises(UserError, match="--adapter_rank belongs to --suite=train"):
        Benchmark(rows("score", []), [], settings, "", "", folder, folder, "")


def test_frozen_weights_have_no_gradient_to_compute(folder):
    _, job = job_of(folder, "train response")
    _, adapted = job_of(folder, "train response", adapter_rank=RANK)
    whole, less = flops.need(job), flops.need(adapted)
    assert whole.tokens == less.tokens
    for form, count in less.flops.items():
        assert 2 / 3 * whole.flops[form] < count < whole.flops[form]


def test_one_form_of_two_can_be_raced_alone():
    (row,) = rows("train", ["train persona"], [suites.USERS_WORK])
    assert list(row.forms) == [suites.USERS_WORK]
    with pytest.raises(UserError, match='reinforce has "user\'s work" only'):
        rows("all", ["reinforce"], [suites.LIKE_FOR_LIKE])
