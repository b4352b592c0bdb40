"""The peer: OpenVINO by openvino-genai, in float32 or with int8 weights.

A `ppg_jax.benchmark.race.Work`. Batches are continuous, over pages of keys and values
that prompts share as far as they begin alike; those of a dialogue begin one step after
the other, so that each finds what the one before has read. In float32 products and
pages are float32, too; with int8 weights they are what OpenVINO chooses: products in
bfloat16 where the CPU has them, keys and values in 8 bits.
The model folders are converted once, into folders beside them; that is not timed.
"""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppg_jax.benchmark.workload import Job, Workload, as_checks, chains, replies

# On its import openvino would tell its maker, over the net, that it is used.
sys.modules.setdefault("openvino_telemetry", None)
import openvino  # noqa: E402
import openvino_genai as genai  # noqa: E402

PLACES = (8, 16, 32)  # sequences at once; the best is kept
TRIED_ON = 64  # contexts
AT_ONCE = 2048  # tokens of a step
PAGE = 32  # tokens
NOISE = 256  # words of it; every vocabulary has more
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}


class Generate:
    """Context -> partner persona -> response."""

    def __init__(self, job: Job, weights: str, threads: int):
        self.work = Workload(job)
        self._properties = EXACT if weights == "float32" else {}
        self._properties |= {
            "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0))
        }
        self._folders = [convert(Path(folder), weights) for folder in job.answering]
        self._engines = self._of(PLACES[0])

    def check(self):
        self._choose()
        return as_checks(self.work, *self._replies())

    def run(self):
        self._replies(top_p=self.work.job.top_p)

    def forget(self):
        """So that no lap finds what the one before it has read."""
        for engine in dict.fromkeys(self._engines):
            engine.forget()

    def _choose(self) -> None:
        """Keeps the number of places that answers a part of the contexts soonest."""
        job, seconds = self.work.job, {}
        number = min(job.instances or TRIED_ON, TRIED_ON)
        part = Workload(dataclasses.replace(job, instances=number))
        for places in PLACES:
            self._engines = self._of(places)
            self._replies(part)  # its kernels are made for the lengths that come
            self.forget()
            began = time.perf_counter()
            self._replies(part)
            seconds[places] = time.perf_counter() - began
        self._engines = self._of(min(seconds, key=seconds.get))

    def _of(self, places: int) -> list["Engine"]:
        room = self.work.job.prompts.max_length
        made = {
            folder: Engine(folder, places, room, self._properties)
            for folder in self._folders
        }
        return [made[folder] for folder in self._folders]

    def _replies(self, work: Workload | None = None, top_p: float = 0.0):
        end_id = self.work.prompts.end_id

        def complete(which, rows, new_tokens):
            return self._engines[which].complete(rows, new_tokens, end_id, top_p)

        return replies(work or self.work, complete)


class Engine:
    """A model, and pages for as many sequences as are answered at once."""

    def __init__(self, folder: Path, places: int, room: int, properties: dict):
        """room: tokens of a prompt and its completion together."""
        settings = genai.SchedulerConfig()
        settings.max_num_seqs = places
        settings.max_num_batched_tokens = AT_ONCE
        settings.num_kv_blocks = places * -(-room // PAGE)
        settings.enable_prefix_caching = True
        self._pipeline = genai.ContinuousBatchingPipeline(
            folder, settings, "CPU", properties
        )
        self._places, self._room = places, room

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        new_tokens: int,
        end_id: int,
        top_p: float = 0.0,
    ) -> list[list[int]]:
        """Completions without end tokens, in the order of the prompts.

        top_p: of nucleus sampling; 0 is greedy.
        """
        settings = genai.GenerationConfig()
        settings.max_new_tokens = new_tokens
        settings.eos_token_id, settings.stop_token_ids = end_id, {end_id}
        if top_p:
            settings.do_sample, settings.top_p = True, top_p
        # The longest first: what is alone at work at the end is short.
        waiting = sorted(chains(prompts), key=len, reverse=True)
        busy: dict[int, object] = {}
        completions: list[list[int]] = [[] for _ in prompts]
        while waiting or busy:
            # One of each dialogue: the next one finds its pages after the step.
            for chain in waiting[: self._places - len(busy)]:
                number = chain.pop(0)
                tokens = openvino.Tensor(np.array([prompts[number]], np.int64))
                busy[number] = self._pipeline.add_request(number, tokens, settings)
            waiting = [chain for chain in waiting if chain]
            self._pipeline.step()
            for number, handle in list(busy.items()):
                status = handle.get_status()
                if status == genai.GenerationStatus.RUNNING:
                    continue
                if status != genai.GenerationStatus.FINISHED:
                    raise RuntimeError(f"OpenVINO ended a sequence as {status.name}")
                (made,) = handle.read_all()
                completions[number] = [t for t in made.generated_ids if t != end_id]
                del busy[number]
        return completions

    def forget(self) -> None:
        """Reads noise into all pages; nothing of openvino-genai empties them."""
        settings = genai.GenerationConfig()
        settings.max_new_tokens = 1
        rng = np.random.default_rng(0)
        for _ in range(self._places):
            noise = rng.integers(0, NOISE, (1, self._room - 1))
            self._pipeline.generate([openvino.Tensor(noise)], [settings])


def convert(folder: Path, weights: str) -> Path:
    """The folder of the graph, beside the model's; written if it is not there."""
    target = folder.with_name(f"{folder.name}_openvino_{weights}")
    if not target.exists():
        begun = target.with_name(f".{target.name}.begun")
        module = "ppg_jax.benchmark.openvino_ir"
        command = [sys.executable, "-m", module, str(folder), str(begun), weights]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        begun.rename(target)
    return target
