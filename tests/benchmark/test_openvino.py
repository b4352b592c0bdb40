"""OpenVINO answers as transformers does, however prompts share what has been read."""

import dataclasses
import importlib
import importlib.util
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ppg_jax import benchmark
from ppg_jax.benchmark import ours, pytorch, workload
from ppg_jax.benchmark.race import Lap, Result, largest_difference
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.errors import UserError
from ppg_jax.models import pretrained
from tests import models_for_tests as small
from tests.benchmark import fake_llama_cpp, fake_openvino
from tests.benchmark.test_llama_cpp import expected

END, ROOM = fake_llama_cpp.END, 256


def dialogues(count: int) -> list[list[int]]:
    """Prompts like those of dialogues: each begins as the one before, and goes on."""
    rng, prompts = np.random.default_rng(0), []
    for _ in range(count):
        turns = rng.integers(1, fake_llama_cpp.WORDS, 240).tolist()
        prompts += [[*turns[:end], 1, 2] for end in range(70, 240, 40)]
    return prompts


@pytest.fixture
def peer(monkeypatch):
    """`ppg_jax.benchmark.openvino` upon the pipeline of `fake_openvino`."""
    for name in ("openvino", "openvino_genai"):
        monkeypatch.setitem(sys.modules, name, fake_openvino)
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
    monkeypatch.delitem(sys.modules, "ppg_jax.benchmark.openvino", raising=False)
    made = importlib.import_module("ppg_jax.benchmark.openvino")
    fake_openvino.read.clear()
    yield made
    del sys.modules["ppg_jax.benchmark.openvino"]
    del benchmark.openvino  # or the next `import` would find this one


@pytest.mark.parametrize("places", [1, 3, 64])
def test_completions_are_those_of_each_prompt_alone(peer, places):
    prompts = dialogues(5)
    engine = peer.Engine(Path("model"), places, ROOM, {})
    made = engine.complete(prompts, 12, END)
    assert made == [expected(prompt, 12) for prompt in prompts]
    assert {len(said) for said in made} > {12}  # some ended by themselves
    assert engine.complete(prompts[::-1], 12, END) == made[::-1]


def test_what_a_dialogue_has_said_is_read_once(peer):
    prompts = dialogues(4)
    engine = peer.Engine(Path("model"), 8, ROOM, {})
    engine.complete(prompts, 1, END)
    assert sum(fake_openvino.read) < 0.5 * sum(map(len, prompts))


def test_a_lap_finds_nothing_of_the_one_before_once_it_has_been_forgotten(peer):
    prompts = dialogues(3)
    engine = peer.Engine(Path("model"), 4, ROOM, {})

    def tokens() -> int:
        fake_openvino.read.clear()
        engine.complete(prompts, 2, END)
        return sum(fake_openvino.read)

    first, again = tokens(), tokens()
    assert again < first
    engine.forget()
    assert tokens() == first


def test_another_allocator_is_told_before_it_ends_the_process(peer, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libtcmalloc_minimal.so.4")
    with pytest.raises(UserError, match="does not run with LD_PRELOAD=/usr/lib/libtcm"):
        peer.Generate(None, "int8", 1)


def test_a_sequence_for_which_there_is_no_room_is_told(peer, monkeypatch):
    refused = fake_openvino.GenerationStatus.IGNORED
    monkeypatch.setattr(fake_openvino.Request, "get_status", lambda self: refused)
    engine = peer.Engine(Path("model"), 1, ROOM, {})
    with pytest.raises(RuntimeError, match="ended a sequence as IGNORED"):
        engine.complete([[1, 2, 3]], 1, END)


@pytest.fixture(scope="module")
def alone():
    """A process for the real one: OpenVINO leaves its thread with a stack for signals
    that is no more, and the next signal would end these tests."""
    if not all(map(importlib.util.find_spec, ("openvino_genai", "nncf"))):
        pytest.skip('needs pip install "ppg_jax[peers]"')
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        yield lambda *asked: pool.submit(*asked).result()


@pytest.fixture(scope="module", params=small.DECODERS)
def job(request, tmp_path_factory) -> workload.Job:
    tokenizer = small.tokenizer()
    model, params = small.DECODERS[request.param](len(tokenizer))
    folder = tmp_path_factory.mktemp("openvino") / request.param
    pretrained.export(model, params, tokenizer, folder)
    prompts = PromptConfig(max_length=256, max_persona_tokens=6, max_response_tokens=4)
    return workload.Job(
        "generate", str(folder), "", "persona_world", "valid", 9, 4, 4, prompts=prompts
    )


def differences(a, b) -> dict[str, float]:
    lap = Lap(1.0, 1.0)
    pair = (Result("x", 0.0, lap, (lap,), 1, checks) for checks in (a, b))
    return largest_difference(*pair)


def checked(job, weights: str) -> list[dict]:
    """What it answers: at first, with all that it has read, and once that is gone."""
    theirs = opened(job, weights)
    found = [theirs.check(), theirs.check()]
    theirs.forget()
    return [*found, theirs.check()]


def opened(job, weights: str):
    openvino = importlib.import_module("ppg_jax.benchmark.openvino")
    theirs = openvino.Generate(job, weights, 1)
    theirs._choose = lambda: None
    return theirs


def sizes(job) -> list[int]:
    openvino = importlib.import_module("ppg_jax.benchmark.openvino")
    folders = [openvino.convert(Path(job.generator), w) for w in ("float32", "int8")]
    return [(folder / "openvino_model.bin").stat().st_size for folder in folders]


def replied(job) -> tuple:
    """Greedy, and by a nucleus."""
    theirs = opened(job, "float32")
    found = theirs._replies(), theirs._replies(top_p=job.top_p)
    theirs.run()
    return found


def test_openvino_answers_as_transformers_and_we_do(alone, job):
    found, *others = alone(checked, job, "float32")
    for other in (pytorch.Generate(job, pytorch.Setting()), ours.Generate(job)):
        assert differences(other.check(), found) == {"persona": 0, "response": 0}
    for each in others:
        assert differences(found, each) == {"persona": 0, "response": 0}


def test_int8_weights_answer_too(alone, job):
    found, *_ = alone(checked, job, "int8")
    assert {name: rows.shape for name, rows in found.items()} == {
        "persona": (9, 6),
        "response": (9, 4),
    }
    assert (found["response"] >= 0).any()
    whole, small_ones = alone(sizes, job)
    assert small_ones < 0.5 * whole


def test_a_nucleus_of_one_token_is_the_likeliest(alone, job):
    greedy, sampled = alone(replied, dataclasses.replace(job, top_p=1e-6))
    assert sampled == greedy
