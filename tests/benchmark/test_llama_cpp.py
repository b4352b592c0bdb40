"""llama.cpp answers as asked, whoever sits where, and its files hold our weights."""

import importlib
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from ppg_jax import benchmark
from ppg_jax.benchmark import continuous, llama_cpp_gguf, workload
from ppg_jax.benchmark.race import Lap, Result, largest_difference
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.models import gguf as ours_gguf
from ppg_jax.models import pretrained
from ppg_jax.models.tensor_files import read_folder
from tests import models_for_tests as small
from tests.benchmark import fake_llama_cpp as fake


@pytest.fixture
def peer(monkeypatch):
    """`ppg_jax.benchmark.llama_cpp` upon the model of `fake_llama_cpp`."""
    monkeypatch.setitem(sys.modules, "llama_cpp", fake)
    monkeypatch.delitem(sys.modules, "ppg_jax.benchmark.llama_cpp", raising=False)
    made = importlib.import_module("ppg_jax.benchmark.llama_cpp")
    fake.read.clear()
    yield made
    del sys.modules["ppg_jax.benchmark.llama_cpp"]
    del benchmark.llama_cpp  # or the next `import` would find this one


def dialogues(count: int, seed: int = 0) -> list[list[int]]:
    """Prompts like those of dialogues: each begins as the one before, and goes on."""
    rng, prompts = np.random.default_rng(seed), []
    for _ in range(count):
        turns = rng.integers(1, fake.WORDS, 60).tolist()
        prompts += [[*turns[:end], 1, 2] for end in range(20, 60, 9)]
    return prompts


def expected(prompt, new_tokens: int) -> list[int]:
    said: list[int] = []
    while len(said) < new_tokens:
        token = fake.next_token([*prompt, *said])
        if token == fake.END:
            break
        said.append(token)
    return said


@pytest.mark.parametrize("places", [1, 3, 64])
def test_completions_are_those_of_each_prompt_alone(peer, places):
    prompts = dialogues(5)
    engine = peer.Engine("model", places, 128, 1, "q8_0")
    made = engine.complete(prompts, 12, fake.END)
    assert made == [expected(prompt, 12) for prompt in prompts]
    assert {len(said) for said in made} > {12}  # some ended by themselves
    assert engine.complete(prompts[::-1], 12, fake.END) == made[::-1]


def test_a_call_that_is_full_goes_on_in_the_next(peer, monkeypatch):
    monkeypatch.setattr(peer, "AT_ONCE", 7)
    prompts = dialogues(2)
    engine = peer.Engine("model", 4, 128, 1, "q8_0")
    assert engine.complete(prompts, 5, fake.END) == [expected(p, 5) for p in prompts]
    assert max(fake.read) == 7


def test_what_a_dialogue_has_said_is_read_once(peer):
    prompts = dialogues(4)
    engine = peer.Engine("model", 2, 128, 1, "q8_0")
    engine.complete(prompts, 1, fake.END)
    assert sum(fake.read) < 0.5 * sum(map(len, prompts))


def test_nothing_is_kept_from_the_lap_before(peer):
    prompts = dialogues(1)
    engine = peer.Engine("model", 2, 128, 1, "q8_0")
    engine.complete(prompts, 1, fake.END)
    first = sum(fake.read)
    engine.complete(prompts, 1, fake.END)
    assert sum(fake.read) == 2 * first


def test_a_place_without_a_dialogue_takes_of_another(peer):
    queue = peer.Queue(dialogues(1), 2)
    given = [queue.next(place) for place in (0, 1, 0, 1, 0, 1)]
    assert given == [0, 4, 1, 3, 2, None]


@pytest.fixture(scope="module", params=small.DECODERS)
def folder(request, tmp_path_factory) -> Path:
    """A tiny generator of each family, of widths that blocks of 32 divide."""
    sizes = {
        "gpt2": {"n_embd": 64, "n_head": 2},
        "llama": {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_attention_heads": 4,
        },
    }[request.param]
    tokenizer = small.tokenizer()
    model, params = small.DECODERS[request.param](len(tokenizer), **sizes)
    folder = tmp_path_factory.mktemp("llama_cpp") / request.param
    return pretrained.export(model, params, tokenizer, folder)


def weights_of(file: Path) -> dict[str, np.ndarray]:
    reader = gguf.GGUFReader(file)
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}


@pytest.mark.parametrize(
    "kind, error", [("float32", 0), ("float16", 1e-3), ("q8_0", 1e-2)]
)
def test_the_file_holds_the_weights_of_the_folder(folder, kind, error):
    file = llama_cpp_gguf.convert(folder, kind)
    found = weights_of(file)
    _, tensors = read_folder(folder, "", "")
    assert len(found) == len(tensors)
    assert llama_cpp_gguf.convert(folder, kind) == file
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[folder.name.upper()], 2)
    for name, tensor in tensors.items():
        layer, _, leaf = name.rpartition(".")
        theirs = found[f"{names.get_name(layer)}.{leaf}"]
        array = tensor.array
        if layer.rpartition(".")[2] in ("c_attn", "c_proj", "c_fc") and array.ndim == 2:
            array = array.T
        if layer.endswith(("q_proj", "k_proj")):
            heads = 4 if layer.endswith("q_proj") else 2
            theirs = theirs[ours_gguf._halves(len(theirs), heads)]
        largest = np.abs(array).max()
        assert np.abs(array - theirs).max() <= error * largest, name


def test_llama_cpp_answers_as_we_do(folder):
    pytest.importorskip("llama_cpp", reason='needs pip install "ppg_jax[peers]"')
    from ppg_jax.benchmark import llama_cpp, ours

    prompts = PromptConfig(max_length=256, max_persona_tokens=6, max_response_tokens=4)
    job = workload.Job(
        "generate", str(folder), "", "persona_world", "valid", 9, 4, 4, prompts=prompts
    )
    mine = ours.Generate(job).check()
    for kind, apart in [("float32", 0), ("q8_0", 1)]:
        theirs = llama_cpp.Generate(job, kind, 1)
        theirs._choose = lambda: None
        lap = Lap(1.0, 1.0)
        a, b = (
            Result("x", 0.0, lap, (lap,), 1, checks)
            for checks in (mine, theirs.check())
        )
        assert max(largest_difference(a, b).values()) <= apart
        theirs.run()


def test_the_number_of_places_that_is_fastest_is_kept(peer, folder, monkeypatch):
    job = workload.Job("generate", str(folder), "", "persona_world", "valid", 3, 4, 4)
    work = peer.Generate(job, "q8_0", 1)
    clock = iter([0, 9, 0, 2, 0, 5])
    monkeypatch.setattr(continuous.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(work, "_replies", lambda part=None: ([], []))
    assert work._quickest() == continuous.PLACES[1]
    assert work._engines == []  # those that were tried are gone
    one, other = work._of(continuous.PLACES[1])
    assert one is other and one._places == continuous.PLACES[1]
