"""The paper's tables and figures from finished runs with different seeds, as files, and
a manifest of what made them.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ppg_jax import run_dir
from ppg_jax.errors import UserError
from ppg_jax.files import read_json, read_metrics, understood, write_json
from ppg_jax.report import (
    cases,
    diagrams,
    human,
    over_seeds,
    paper_figures,
    paper_tables,
)
from ppg_jax.report.made import hours, provenance_of, result_of
from ppg_jax.report.predictions import Predictions, read
from ppg_jax.report.tables import table

MANIFEST = "MANIFEST.json"
FIGURES = ("figure1", "figure2", "figure3", "figure4")
TABLES = tuple(paper_tables.TABLES)
TARGETS = tuple(sorted([*TABLES, *cases.CASES, *human.NAMES, *FIGURES]))


def write(
    targets: Iterable[str], folders: Mapping[int, Path], output: Path
) -> dict[str, list[str]]:
    """Files of each target in `output`, by its name; none where rows are missing.

    folders: run directory of each seed. MANIFEST.json has commit, packages, settings,
    hashes, hours and files, each with its seeds.
    Raises UserError for runs that were not evaluated, or on other instances; and when
    all else is written for votes that do not count.
    """
    output.mkdir(parents=True, exist_ok=True)
    runs, targets = list(folders.values()), list(targets)
    first = read(runs[0])
    numbers = {}
    if {*targets} & {*paper_tables.TABLES, "figure3"}:
        numbers = over_seeds.compute(runs, with_paper=True)
        write_json(output / "numbers.json", numbers)
    made, refused = {}, []
    for target in targets:
        if target in paper_tables.TABLES:
            files = paper_tables.write(output, target, numbers)
            if target == "traits":
                files += paper_figures.traits(output, numbers)
        elif target in cases.CASES:
            files = cases.write(output, target, first, seed=0)
        elif target in human.NAMES:
            try:
                files = human.write(output, target, first, seed=0)
            except UserError as error:
                refused.append(error)
                continue
        else:
            files = _figure(output, target, first, runs, numbers)
        made[target] = [file.name for file in files]
    write_json(output / MANIFEST, _manifest(folders, output / MANIFEST, made))
    if refused:
        raise refused[0]
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
    folder, form = runs[0] / stages[0], {"parameters": int}
    with understood(folder / run_dir.FINGERPRINT, f"delete {folder}: train it again."):
        parameters = {
            part: result_of(runs[0], settings[part], form)["parameters"]
            for part in ("persona", "response", "critic")
        }
        return diagrams.figure2(output, settings, parameters)


def _manifest(folders: Mapping[int, Path], path: Path, made: Mapping) -> dict:
    """What the files were made of, each of its seeds; those of earlier calls stay,
    named apart where a run of theirs has changed since."""
    runs = {str(seed): _run(folder) for seed, folder in folders.items()}
    files, seeds = dict(made), {t: _seeds_of(t, list(runs)) for t in made}
    known = read_json(path, f"remove {path}.") if path.exists() else {}
    with understood(path, f"remove {path}."):
        before, others = known.get("runs", {}), known.get("of_other_runs", {})
        changed = {
            seed
            for seed in runs.keys() & before
            if runs[seed]["made_of"] != before[seed]["made_of"]
        }
        for target, names in known.get("files", {}).items():
            of = known.get("seeds", {}).get(target, list(before))  # older: of all
            if changed.intersection(of):
                others = others | {target: names}
            elif target not in made:
                files[target], seeds[target] = names, of
    others = {t: names for t, names in others.items() if t not in made}
    told = {*runs, *(seed for of in seeds.values() for seed in of)}
    runs = {seed: run for seed, run in (before | runs).items() if seed in told}
    return {"runs": runs, "files": files, "seeds": seeds, "of_other_runs": others}


def _run(folder: Path) -> dict:
    finished = sorted(path.parent.name for path in folder.glob(f"*/{run_dir.RESULT}"))
    return {
        "made_of": provenance_of(folder),
        "hours": {s: hours(folder, s) for s in finished},
    }


def _seeds_of(target: str, seeds: list[str]) -> list[str]:
    """Those that it is made of: cases and diagrams show the first run's."""
    return seeds if target in (*TABLES, "figure3", "figure4") else seeds[:1]


def plan(
    folders: Mapping[int, Path],
    stages: Mapping[int, Sequence],
    evaluation,
    rows: Sequence[tuple[str, str]],
) -> str:
    """What is done and what is missing, with the hours that it took or that it took
    with another seed.

    stages: for each seed their configs, evaluation: that of the evaluation; what has
    finished with other settings is told, for it would be refused. rows: (kind, name) of
    what is to be evaluated.
    """
    names = [stage.name for stage in next(iter(stages.values()))]
    lines, left, unknown = [], 0.0, 0
    for number, name in enumerate([*names, "evaluate"]):
        took = {seed: hours(folder, name) for seed, folder in folders.items()}
        known = [each for each in took.values() if each is not None]
        usual = sum(known) / len(known) if known else None
        for seed, each in took.items():
            folder = folders[seed]
            if number < len(names):
                state = _state(folder, stages[seed][number])
            else:
                files = [folder / name / kind / f"{row}.jsonl" for kind, row in rows]
                state = _state(folder, evaluation)
                if state == "done" and not all(file.exists() for file in files):
                    state = "missing"
            if state == "missing":
                left, unknown = left + (usual or 0.0), unknown + (usual is None)
            told = each if each is not None else usual
            lines.append([str(seed), name, state, _number(told)])
    head = ["seed", "stage", "", "hours"]
    timed = [f"{_number(left)} hours"] if left or not unknown else []
    timed += [f"{unknown} that nobody has timed"] if unknown else []
    return f"{table(head, lines, texts=3)}\n\nleft: {', and '.join(timed)}"


def tell_as_made(stages: Sequence, folder: Path) -> None:
    """Tells of stages that have finished with other settings than their configs'."""
    for config in stages:
        _, others = run_dir.as_made(folder, config.name, config)
        if others:
            told = f"{config.name} was made with another {', '.join(others[:3])}"
            print(f"{told} than the config has; it is asked as it is.", file=sys.stderr)


def _state(folder: Path, config) -> str:
    """Of a stage: done, missing, or what keeps it from being either."""
    if not run_dir.finished(folder, config.name):
        return "missing"
    _, others = run_dir.as_made(folder, config.name, config)
    return f"has another {', '.join(others[:3])}" if others else "done"


def _number(hours_: float | None) -> str:
    return "" if hours_ is None else f"{hours_:.2f}"
