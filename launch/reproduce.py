"""The paper's tables and figures: python -m launch.reproduce --target=table1

Trains what is missing for the targets, each seed in WORKDIR/seed_N, evaluates it, and
writes WORKDIR/paper/. Stopped and started again, it goes on where it was. A stage whose
pretrained weights cannot be brought is told and left out, and the rows that need it are
named below the tables.
"""

import sys

from absl import flags

from ppg_jax import experiment, presets
from ppg_jax.launching import fail, main, meant
from ppg_jax.report import paper, report, reproduced
from ppg_jax.stages import evaluate

_TARGET = flags.DEFINE_list(
    "target", ["all"], f"Of {', '.join(reproduced.TARGETS)}; or all."
)
_SEEDS = flags.DEFINE_list("seeds", ["0"], "A run for each.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Only tell what is missing.")


def program() -> None:
    config, workdir = experiment.from_flags()
    targets = [t for t in _targets() if _is_known(t, config)]
    if not targets:
        fail("--target: nothing that this config has rows for; give another --config.")
    wanted = dict.fromkeys(row for target in targets for row in paper.SHOWN[target])
    stages = experiment.stages_for(config, wanted)
    folders = {seed: workdir / f"seed_{seed}" for seed in _seeds()}
    for stage in config.stages:
        if stage.seed:
            told = f"{stage.name}.seed={stage.seed} is not used"
            print(f"{told}: --seeds are those of all stages.", file=sys.stderr)
    if _DRY_RUN.value:
        asked = {
            seed: [experiment.seeded(config, seed).stage(name) for name in stages]
            for seed in folders
        }
        known = {name: row.kind for name, row in config.systems.items()}
        rows = [(known[name], name) for name in wanted if name in known]
        print(reproduced.plan(folders, asked, config.evaluate, rows))
        return
    for seed, folder in folders.items():
        seeded = experiment.seeded(config, seed)
        for stage in stages:
            print(f"{stage}: in {folder / stage}", flush=True)
            experiment.train(seeded, stage, folder, may_lack_weights=True)
        with experiment.written(seeded, folder):
            evaluate.run(seeded.evaluate, folder, seeded.systems)
        asked = seeded.evaluate
        print(report.write_report(folder, f"{asked.title}, seed {seed}", asked.paper))
    made = reproduced.write(targets, folders, workdir / "paper")
    for target, files in made.items():
        print(f"{target}: {', '.join(files) or 'nothing to show'}")
    print(workdir / "paper")


def _is_known(target: str, config: experiment.Experiment) -> bool:
    """Whether the config has a row of a target; if not, that is told."""
    rows = paper.SHOWN[target]
    known = not rows or not {*rows}.isdisjoint(config.systems)
    if not known:
        print(f"{target}: none of its rows is in this config: {', '.join(rows)}")
    return known


def _targets() -> list[str]:
    known = reproduced.TARGETS
    if not _TARGET.value:
        fail(f"--target is empty; give all, or some of {', '.join(known)}.")
    for target in _TARGET.value:
        if target not in (*known, "all"):
            near = meant(target, known)
            fail(f"--target: no target {target!r}{near}; there are {', '.join(known)}.")
    return [t for t in known if {t, "all"} & {*_TARGET.value}]


def _seeds() -> list[int]:
    if not _SEEDS.value:
        fail("--seeds is empty; give for example --seeds=0,1.")
    for seed in _SEEDS.value:
        if not (seed.isascii() and seed.isdigit() and len(seed) <= 9):
            fail(f"--seeds: {seed!r} is no whole number; give for example --seeds=0,1.")
    return list(dict.fromkeys(map(int, _SEEDS.value)))


if __name__ == "__main__":
    presets.define_flags()
    main(program)
