"""The peer: CTranslate2, a C++ engine for inference, in float32 or with int8 weights.

A `ppg_jax.benchmark.race.Work`. The model folder is converted once, into a folder
beside it; that is not timed.
"""

import functools
import os
from pathlib import Path

import ctranslate2
import numpy as np

from ppg_jax.benchmark import converted
from ppg_jax.benchmark.workload import Job, Workload, as_checks, replies


class Generate:
    """Context -> partner persona -> response; CTranslate2 sorts and batches itself.

    A batch on each core answers sooner than one on all, and small ones sooner than
    large ones, whose longer prompts it reads token by token behind the shortest.
    """

    def __init__(self, job: Job, compute_type: str, threads: int):
        self.job, self.work = job, Workload(job)
        made = {  # one for both, where they are one
            folder: ctranslate2.Generator(
                str(convert(Path(folder), compute_type)),
                device="cpu",
                compute_type=compute_type,
                inter_threads=threads or len(os.sched_getaffinity(0)),
                intra_threads=1,
            )
            for folder in job.answering
        }
        self.generators = [made[folder] for folder in job.answering]
        self.sampling = {"sampling_topk": 1}
        if job.top_p:
            self.sampling = {"sampling_topk": 0, "sampling_topp": job.top_p}

    def check(self):
        return as_checks(self.work, *self._replies({"sampling_topk": 1}))

    def run(self):
        self._replies(self.sampling)

    def _replies(self, sampling):
        return replies(self.work, functools.partial(self._complete, sampling))

    def _complete(self, sampling, which: int, rows, new_tokens: int) -> list[list[int]]:
        words = self.work.prompts.tokenizer.convert_ids_to_tokens
        end = words([self.work.prompts.end_id])[0]
        results = self.generators[which].generate_batch(
            [words(row) for row in rows],
            max_batch_size=self.job.micro_batch,
            max_length=new_tokens,
            include_prompt_in_result=False,
            end_token=end,
            **sampling,
        )
        return [np.asarray(r.sequences_ids[0]).tolist() for r in results]


def convert(folder: Path, compute_type: str) -> Path:
    """The model in CTranslate2's form."""
    return converted.once(
        folder.with_name(f"{folder.name}_ctranslate2_{compute_type}"),
        "ctranslate2.converters.transformers",
        *("--model", folder, "--quantization", compute_type, "--output_dir"),
    )
