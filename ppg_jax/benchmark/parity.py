"""Whether the contestants compute the same, without a race: all in this process."""

from collections.abc import Sequence

from ppg_jax.benchmark import suites
from ppg_jax.benchmark.race import WARM_UP, Lap, Result, joined, largest_difference
from ppg_jax.benchmark.workload import Job
from ppg_jax.errors import UserError


def compare(row: suites.Row, job: Job, peers: Sequence[str]) -> dict[str, dict]:
    """Contestant -> "differences" from ours by name, as in a race, and whether they are
    small enough for one in float32: "equal"; None where results may differ.

    job: with the row's changes.
    """
    made = suites.contestants(row, job, peers, 0)
    trains = row.work.endswith("Train")
    found = {name: _result(name, make, trains) for name, make in made.items()}
    ours = found.pop(suites.OURS)
    return {
        name: {
            "differences": largest_difference(ours, result),
            "equal": not suites.too_far_apart(ours, result, job.tolerance)
            if suites.is_exact(job, name)
            else None,
        }
        for name, result in found.items()
    }


def _result(name: str, make, trains: bool) -> Result:
    nothing = Lap(0.0, 0.0)
    try:
        work = make()
        checks = work.check()
        losses = joined([work.run() for _ in range(WARM_UP)]) if trains else None
    except Exception as error:  # a library's, of any kind: the other rows go on
        told = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"{name} failed: {told}") from error
    return Result(name, 0.0, nothing, (nothing,), 0, checks, losses=losses)
