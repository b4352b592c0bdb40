"""Whether the contestants compute the same, without a race: all in this process."""

from collections.abc import Sequence

from ppg_jax.benchmark import suites
from ppg_jax.benchmark.race import Lap, Result, largest_difference
from ppg_jax.benchmark.workload import Job


def compare(row: suites.Row, job: Job, peers: Sequence[str]) -> dict[str, dict]:
    """Contestant -> "differences" from ours by name, as in a race, and whether they are
    small enough for one in float32: "equal"; None where results may differ.

    job: with the row's changes.
    """
    exact = suites.is_exact(job)
    made = suites.contestants(row, job, peers, 0)
    found = {name: _result(name, make) for name, make in made.items()}
    ours = found.pop(suites.OURS)
    return {
        name: {
            "differences": largest_difference(ours, result),
            "equal": not suites.too_far_apart(ours, result) if exact else None,
        }
        for name, result in found.items()
    }


def _result(name: str, make) -> Result:
    nothing = Lap(0.0, 0.0)
    return Result(name, 0.0, nothing, (nothing,), 0, make().check())
