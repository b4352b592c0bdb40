"""The peer: OpenVINO by openvino-genai, in float32 or with int8 weights.

A `ppg_jax.benchmark.race.Work`. Batches are continuous, over pages of keys and values
that prompts share as far as they begin alike; those of a dialogue begin one step after
the other, so that each finds what the one before has read. With float32 weights,
products and pages are float32, too; with int8 weights they are what OpenVINO chooses:
products in bfloat16 where the CPU has them, keys and values in 8 bits.
The model folders are converted once, into folders beside them; that is not timed.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppg_jax.benchmark import continuous, converted
from ppg_jax.benchmark.workload import Job
from ppg_jax.errors import UserError

# On its import openvino would tell its maker, over the net, that it is used.
sys.modules.setdefault("openvino_telemetry", None)
import openvino  # noqa: E402
import openvino_genai as genai  # noqa: E402

AT_ONCE = 2048  # tokens of a step
PAGE = 32  # tokens
NOISE = 256  # words of it; every vocabulary has more
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}


class Generate(continuous.Generate):
    """Context -> partner persona -> response."""

    def __init__(self, job: Job, weights: str, threads: int):
        if "malloc" in (preloaded := os.environ.get("LD_PRELOAD", "")):
            raise UserError(  # it frees what another one gave, and the process ends
                f"OpenVINO does not run with LD_PRELOAD={preloaded}; unset it, and "
                "have glibc keep freed memory instead: GLIBC_TUNABLES="
                "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776"
            )
        self._room = job.prompts.max_length
        self._properties = dict(EXACT if weights == "float32" else {})
        cores = threads or len(os.sched_getaffinity(0))
        self._properties |= {"INFERENCE_NUM_THREADS": cores}
        self._folders = [convert(Path(folder), weights) for folder in job.answering]
        super().__init__(job, self._opened)

    def run(self):
        self._replies(top_p=self.work.job.top_p)

    def forget(self):
        """So that no lap finds what the one before it has read."""
        for engine in dict.fromkeys(self._engines):
            engine.forget()

    def _opened(self, places: int) -> list["Engine"]:
        made = {
            folder: Engine(folder, places, self._room, self._properties)
            for folder in dict.fromkeys(self._folders)
        }
        return [made[folder] for folder in self._folders]


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
        waiting = sorted(continuous.chains(prompts), key=len, reverse=True)
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
            noise = rng.integers(0, NOISE, (1, self._room))
            self._pipeline.generate([openvino.Tensor(noise)], [settings])


def convert(folder: Path, weights: str) -> Path:
    """The folder of the graph, beside the model's; written if it is not there."""
    target = folder.with_name(f"{folder.name}_openvino_{weights}")
    return converted.once(target, "ppg_jax.benchmark.openvino_ir", folder, weights)
