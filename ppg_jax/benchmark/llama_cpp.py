"""The peer: llama.cpp by llama-cpp-python, with weights in Q8_0, float16 or float32.

A `ppg_jax.benchmark.race.Work`. Batches are continuous, as its server has them: a call
reads the next token of each sequence that answers, and the prompts of those that have
just got one; a place that is done takes the next prompt at once, and keeps what it has
read of the last one as far as the two begin alike. Each dialogue stays in its place.
The model folders are converted once, into files beside them; that is not timed.
"""

import ctypes
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np

from ppg_jax.benchmark import continuous
from ppg_jax.benchmark.continuous import chains, in_common
from ppg_jax.benchmark.llama_cpp_gguf import TYPES, convert
from ppg_jax.benchmark.workload import Job

AT_ONCE = 2048  # tokens of a call, llama.cpp's own default


class Generate(continuous.Generate):
    """Context -> partner persona -> response, greedily."""

    def __init__(self, job: Job, weights: str, threads: int):
        self._room = job.prompts.max_length
        self._weights = weights
        self._threads = threads or len(os.sched_getaffinity(0))
        files = [convert(Path(folder), weights) for folder in job.answering]
        opened = {file: _open(file) for file in dict.fromkeys(files)}
        self._models = [opened[file] for file in files]
        super().__init__(job, self._opened)

    def _opened(self, places: int) -> list["Engine"]:
        made = {}
        for model in self._models:
            if id(model) not in made:
                made[id(model)] = Engine(
                    model, places, self._room, self._threads, self._weights
                )
        return [made[id(model)] for model in self._models]


class Engine:
    """A model, and the memory of as many sequences as are answered at once."""

    def __init__(self, model, places: int, room: int, threads: int, weights: str):
        """room: tokens of a prompt and its completion together."""
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = places * -(-room // 256) * 256, places
        params.n_batch = AT_ONCE
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = False  # a sequence looks at its own tokens alone
        if weights == "float32":
            params.type_k = params.type_v = TYPES["float32"]
            params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama_cpp.llama_init_from_model(model, params)
        if not self._context:
            raise MemoryError(f"llama.cpp has no room for {places} sequences")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(AT_ONCE, 0, 1)
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        self._words = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._places = places

    def __del__(self):
        if getattr(self, "_batch", None):
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._context)

    def complete(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, end_id: int
    ) -> list[list[int]]:
        """Greedy completions without end tokens, in the order of the prompts."""
        llama_cpp.llama_memory_clear(self._memory, False)
        queue = Queue(prompts, self._places)
        places = [Place(number) for number in range(self._places)]
        completions: list[list[int]] = [[] for _ in prompts]
        while True:
            for place in places:
                if place.prompt is None:
                    self._give(place, queue, prompts)
            busy = [place for place in places if place.prompt is not None]
            if not busy:
                return completions
            for place, row in self._read(busy):
                token = self._likeliest(row)
                said = completions[place.prompt]
                if token != end_id:
                    said.append(token)
                    place.unread = [token]
                if token == end_id or len(said) == new_tokens:
                    place.prompt, place.unread = None, []

    def _give(self, place: "Place", queue: "Queue", prompts) -> None:
        """The next prompt to a place; it forgets what that does not begin with."""
        place.prompt = queue.next(place.number)
        if place.prompt is None:
            return
        prompt = list(prompts[place.prompt])
        # The last token is read again: what follows it is asked.
        kept = min(in_common(place.read, prompt), len(prompt) - 1)
        llama_cpp.llama_memory_seq_rm(self._memory, place.number, kept, -1)
        place.read, place.unread = prompt[:kept], prompt[kept:]

    def _read(self, places: Sequence["Place"]) -> list[tuple["Place", int]]:
        """One call; the places whose next token can be told, and the row of each."""
        batch, count, asked = self._batch, 0, []
        for place in places:
            tokens = place.unread[: AT_ONCE - count]
            for at, token in enumerate(tokens, len(place.read)):
                batch.token[count], batch.pos[count] = token, at
                batch.n_seq_id[count], batch.seq_id[count][0] = 1, place.number
                batch.logits[count] = 0
                count += 1
            place.read += tokens
            place.unread = place.unread[len(tokens) :]
            if tokens and not place.unread:
                batch.logits[count - 1] = 1
                asked.append((place, count - 1))
        batch.n_tokens = count
        fault = llama_cpp.llama_decode(self._context, batch)
        if fault:
            raise RuntimeError(f"llama_decode gave {fault}")
        return asked

    def _likeliest(self, row: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, (self._words,)).argmax())


class Place:
    """A sequence of the memory, and what is asked of it."""

    def __init__(self, number: int):
        self.number = number
        self.prompt: int | None = None  # which one it answers
        self.read: list[int] = []  # tokens that the memory holds
        self.unread: list[int] = []  # that the next calls read


class Queue:
    """Who answers which prompt: prompts that begin alike stay in one place, one after
    the other, until a place has nothing else to do."""

    def __init__(self, prompts: Sequence[Sequence[int]], places: int):
        # The longest first: what is alone at work at the end is short.
        self._waiting = deque(sorted(chains(prompts), key=len, reverse=True))
        self._own: list[deque[int]] = [deque() for _ in range(places)]

    def next(self, place: int) -> int | None:
        """The index of a prompt; None if all are given away."""
        own = self._own[place]
        if not own and self._waiting:
            own.extend(self._waiting.popleft())
        if not own:
            most = max(self._own, key=len)
            return most.pop() if most else None
        return own.popleft()


@llama_cpp.llama_log_callback
def _silent(level, text, data):
    """llama.cpp tells hundreds of lines when it opens a model."""


def _open(file: Path):
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p())
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(file), params)
    if not model:
        raise RuntimeError(f"llama.cpp cannot open {file}")
    return model
