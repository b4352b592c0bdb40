"""The races: which work, at which sizes, against whom.

A row is one race. Forms of the PyTorch peer where there are two: "like for like" is our
tensor program in PyTorch; "user's work" does the same to the same instances as a user
of transformers does it.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ppg_jax.benchmark import flops
from ppg_jax.benchmark.race import Result, Work, largest_difference, race
from ppg_jax.benchmark.workload import Job
from ppg_jax.errors import UserError

PEERS = (
    "torch_eager",
    "torch_compile",
    "ctranslate2_float32",
    "ctranslate2_int8",
    "llama_cpp_float32",
    "llama_cpp_float16",
    "llama_cpp_q8_0",
    "openvino_float32",
    "openvino_int8",
)
# Contestants that may answer otherwise than we do, whatever ours computes in.
ROUNDED = ("int8", "float16", "q8_0")
# Where PyTorch's classes are, if not in `pytorch`.
TORCH = {
    "Reinforce": "pytorch_reinforce",
    "CriticScore": "pytorch_critic",
    "CriticTrain": "pytorch_critic",
}
OURS = "ppg_jax"
LIKE_FOR_LIKE, USERS_WORK = "like for like", "user's work"
FORMS = {LIKE_FOR_LIKE: "dialogue", USERS_WORK: "instance"}

# Greedy tokens may part where two logits are equal but for rounding.
ROWS_THAT_MAY_DIFFER = 0.02


class Row(NamedTuple):
    """One race of a suite."""

    name: str
    suite: str
    work: str  # the class in `ours`, and in the module of a peer
    changes: Mapping = {}  # to the job
    forms: Sequence[str] = (USERS_WORK,)


BOTH = (LIKE_FOR_LIKE, USERS_WORK)
ROWS = (
    Row("train response", "train", "Train", {"task": "response"}, BOTH),
    Row("train persona", "train", "Train", {"task": "persona"}, BOTH),
    Row("score response", "score", "Score", {"task": "response"}, BOTH),
    Row("score persona", "score", "Score", {"task": "persona"}, BOTH),
    Row("generate, greedy", "generate", "Generate"),
    Row("generate, nucleus", "generate", "Generate", {"top_p": 0.9}),
    Row("reinforce", "reinforce", "Reinforce"),
    Row("train critic", "critic", "CriticTrain", forms=BOTH),
    Row("score with the critic", "critic", "CriticScore", forms=BOTH),
)
SUITES = tuple(dict.fromkeys(row.suite for row in ROWS))


def run_row(
    row: Row, job: Job, peers: Sequence[str], rounds: int, threads: int
) -> dict[str, Result]:
    """One race, whose results are checked to be equal; contestant -> result.

    job: with the row's changes. Raises UserError if a contestant's results are not
    those of the others, or if its package is not installed.
    """
    results = race(contestants(row, job, peers, threads), rounds, threads)
    for name, result in results.items():
        if name != OURS and is_exact(job, name):
            _check_equal(row, results[OURS], result, job.tolerance)
    return results


def contestants(
    row: Row, job: Job, peers: Sequence[str], threads: int
) -> dict[str, Callable[[], Work]]:
    """Name -> what builds the work, in a process of its own.

    Raises UserError if none of the peers can do it.
    """
    made = {OURS: functools.partial(_ours, row.work, job)}
    for peer in peers:
        kind, _, setting = peer.partition("_")
        if kind == "llama":
            setting = setting.removeprefix("cpp_")
        if kind == "torch":
            if job.weights == "int8":
                raise UserError(f"{peer} has no --weights=int8; ctranslate2_int8 has.")
            for form in row.forms:
                made[f"{peer}, {form}"] = functools.partial(
                    _torch, row.work, job, FORMS[form], setting == "compile", threads
                )
        elif row.work == "Generate" and not (kind == "llama" and job.top_p):
            made[f"{peer}, {USERS_WORK}"] = functools.partial(
                ENGINES[kind], job, setting, threads
            )
    if peers and len(made) == 1:
        does = "answer greedily" if peers[0].startswith("llama") else "generate"
        raise UserError(f"--peer={peers[0]} has no {row.name}; it can {does}.")
    return made


def is_exact(job: Job, contestant: str) -> bool:
    """Whether results should be equal: not where products round, TF32's among them, or
    weights are smaller. Then records have by how much they differ.
    """
    exact = flops.products(job.dtype, job.weights) == "float32"
    return exact and not any(kind in contestant for kind in ROUNDED)


def too_far_apart(ours: Result, theirs: Result, tolerance: float) -> dict[str, float]:
    """The results that differ by more than float32 explains, and by how much."""
    found = {}
    for name, difference in largest_difference(ours, theirs).items():
        tokens = name in ours.checks and ours.checks[name].dtype.kind == "i"
        if not difference <= (ROWS_THAT_MAY_DIFFER if tokens else tolerance):
            found[name] = difference
    return found


def _check_equal(row: Row, ours: Result, theirs: Result, tolerance: float) -> None:
    for name, difference in too_far_apart(ours, theirs, tolerance).items():
        raise UserError(
            f"{row.name}: {name} of {theirs.name} is {difference:.2g} away from "
            "ours; a race between different results says nothing."
        )


def _ours(work: str, job: Job) -> Work:
    from ppg_jax.benchmark import ours

    return getattr(ours, work)(job)


def _torch(work: str, job: Job, form: str, compiled: bool, threads: int) -> Work:
    setting = _peer("pytorch", "torch").Setting(form, compiled, threads)
    return getattr(_peer(TORCH.get(work, "pytorch"), "torch"), work)(job, setting)


def _ctranslate2(job: Job, compute_type: str, threads: int) -> Work:
    return _peer("ctranslate2", "ctranslate2").Generate(job, compute_type, threads)


def _llama_cpp(job: Job, weights: str, threads: int) -> Work:
    return _peer("llama_cpp", "llama_cpp").Generate(job, weights, threads)


def _openvino(job: Job, weights: str, threads: int) -> Work:
    return _peer("openvino", "openvino_genai").Generate(job, weights, threads)


# By the first word of a peer's name, PyTorch aside.
ENGINES = {"ctranslate2": _ctranslate2, "llama": _llama_cpp, "openvino": _openvino}


def _peer(module: str, package: str):
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{package} is not installed; pip install -e .[peers]")
    return importlib.import_module(f"ppg_jax.benchmark.{module}")
