"""What the peers with continuous batches share: how many sequences are answered at
once is tried out, and prompts of one dialogue are known by how they begin.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

from ppg_jax.benchmark.race import uncounted
from ppg_jax.benchmark.workload import Job, Workload, as_checks, replies

PLACES = (8, 16, 32)  # sequences at once; the best is kept
TRIED_ON = 64  # contexts
ALIKE = 16  # tokens in common that prompts of a dialogue have at least


class Generate:
    """Context -> partner persona -> response, greedily.

    An engine has `complete(prompts, new_tokens, end_id)` -> completions without end
    tokens, in the order of the prompts.
    """

    def __init__(self, job: Job, engines: Callable[[int], list]):
        """engines: number of sequences at once -> those of the persona and of the
        response generator, one and the same where these are one."""
        self.work = Workload(job)
        self._of = engines
        self._engines = engines(PLACES[0])

    def check(self):
        with uncounted():
            places = self._quickest()
        self._engines = self._of(places)
        return as_checks(self.work, *self._replies())

    def run(self):
        self._replies()

    def forget(self) -> None:
        """Before a lap; nothing for engines that begin each time anew."""

    def _quickest(self) -> int:
        """The number of places that answers a part of the contexts soonest."""
        job, seconds = self.work.job, {}
        number = min(job.instances or TRIED_ON, TRIED_ON)
        part = Workload(dataclasses.replace(job, instances=number))
        for places in PLACES:
            self._engines = []  # never two sets of them in memory
            self._engines = self._of(places)
            self._replies(part)  # memory and kernels are new
            self.forget()
            began = time.perf_counter()
            self._replies(part)
            seconds[places] = time.perf_counter() - began
        self._engines = []
        return min(seconds, key=seconds.get)

    def _replies(self, work: Workload | None = None, **sampling):
        end_id = self.work.prompts.end_id

        def complete(which, rows, new_tokens):
            return self._engines[which].complete(rows, new_tokens, end_id, **sampling)

        return replies(work or self.work, complete)


def chains(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of prompts that follow each other and begin alike."""
    made: list[list[int]] = []
    for i, prompt in enumerate(prompts):
        if i and in_common(prompts[i - 1], prompt) >= ALIKE:
            made[-1].append(i)
        else:
            made.append([i])
    return made


def in_common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    size = min(len(a), len(b))
    same = np.asarray(a[:size]) == np.asarray(b[:size])
    return size if same.all() else int(same.argmin())
