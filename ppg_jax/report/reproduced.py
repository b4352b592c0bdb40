"""The paper's tables and figures from finished runs with different seeds, as files, and
a manifest of what made them.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ppg_jax import run_dir
from ppg_jax.files import read_json, read_metrics, write_json
from ppg_jax.report import (
    cases,
    diagrams,
    human,
    over_seeds,
    paper_figures,
    paper_tables,
)
from ppg_jax.report.predictions import Predictions, read
from ppg_jax.report.tables import table

FIGURES = ("figure1", "figure2", "figure3", "figure4")
TARGETS = tuple(sorted([*paper_tables.TABLES, *cases.CASES, *human.NAMES, *FIGURES]))


def write(
    targets: Iterable[str], folders: Mapping[int, Path], output: Path
) -> dict[str, list[str]]:
    """Files of each target in `output`, by its name; none where rows are missing.

    folders: run directory of each seed. MANIFEST.json has commit, packages, settings,
    hashes, hours and files.
    Raises UserError for runs that were not evaluated, or on other instances.
    """
    output.mkdir(parents=True, exist_ok=True)
    runs, targets = list(folders.values()), list(targets)
    first = read(runs[0])
    numbers = {}
    if {*targets} & {*paper_tables.TABLES, "figure3"}:
        numbers = over_seeds.compute(runs, with_paper=True)
        write_json(output / "numbers.json", numbers)
    made = {}
    for target in targets:
        if target in paper_tables.TABLES:
            files = paper_tables.write(output, target, numbers)
            if target == "traits":
                files += paper_figures.traits(output, numbers)
        elif target in cases.CASES:
            files = cases.write(output, target, first, seed=0)
        elif target in human.NAMES:
            files = human.write(output, target, first, seed=0)
        else:
            files = _figure(output, target, first, runs, numbers)
        made[target] = [file.name for file in files]
    write_json(output / "MANIFEST.json", _manifest(folders) | {"files": made})
    return made


def _figure(output: Path, name: str, first: Predictions, runs, numbers) -> list[Path]:
    if name == "figure1":
        return diagrams.figure1(output, first, seed=0)
    if name == "figure3":
        return paper_figures.figure3(output, numbers)
    # The other two are of the first stage of REINFORCE, if there is one.
    stages = [stage["name"] for stage in first.stages if stage["task"] == "reinforce"]
    if name == "figure4":
        found = [r / s / "metrics.jsonl" for s in stages[:1] for r in runs]
        return paper_figures.figure4(output, [read_metrics(path) for path in found])
    if not stages:
        return []
    settings = run_dir.settings_of(runs[0] / stages[0])
    parameters = {
        part: run_dir.result_of(runs[0] / settings[part])["parameters"]
        for part in ("persona", "response", "critic")
    }
    return diagrams.figure2(output, settings, parameters)


def _manifest(folders: Mapping[int, Path]) -> dict:
    runs = {}
    for seed, folder in folders.items():
        finished = [path.parent.name for path in folder.glob(f"*/{run_dir.RESULT}")]
        took = {stage: hours(folder, stage) for stage in sorted(finished)}
        made = read_json(folder / "evaluate" / "provenance.json")
        runs[str(seed)] = {"made_of": made, "hours": took}
    return {"runs": runs}


def hours(folder: Path, stage: str) -> float | None:
    """What a finished stage took, in its last process at least; None: not finished."""
    path = folder / stage / run_dir.RESULT
    if not path.exists():
        return None
    result = read_json(path, f"remove {path} and run the same command.")
    return result.get("seconds_of_last_process", 0.0) / 3600


def plan(folders: Mapping[int, Path], stages: Sequence[str]) -> str:
    """What is done and what is missing, with the hours that it took or that it took
    with another seed."""
    lines, left, unknown = [], 0.0, 0
    for stage in [*stages, "evaluate"]:
        took = {seed: hours(folder, stage) for seed, folder in folders.items()}
        known = [each for each in took.values() if each is not None]
        usual = sum(known) / len(known) if known else None
        for seed, each in took.items():
            if each is None:
                left, unknown = left + (usual or 0.0), unknown + (usual is None)
            state = "missing" if each is None else "done"
            told = each if each is not None else usual
            lines.append([str(seed), stage, state, _number(told)])
    head = ["seed", "stage", "", "hours"]
    more = f", and {unknown} that nobody has timed" if unknown else ""
    return f"{table(head, lines, texts=3)}\n\nleft: {_number(left)} hours{more}"


def _number(hours_: float | None) -> str:
    return "" if hours_ is None else f"{hours_:.2f}"
