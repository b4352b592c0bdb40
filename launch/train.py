"""Trains stages of a config: python -m launch.train --config=... --workdir=...

All of them in the config's order, or some: --stage=persona, --stage=persona,response. A
stage that has finished says so; a stopped one goes on where it was.
"""

from absl import flags

from ppg_jax import experiment, presets
from ppg_jax.launching import main

STAGE = flags.DEFINE_list("stage", [], "Of the config, by name; all if empty.")


def program() -> None:
    config, workdir = experiment.from_flags()
    names = STAGE.value or [stage.name for stage in config.stages]
    for stage in [config.stage(name) for name in names]:  # all are known, or none runs
        print(f"{stage.name}: in {workdir / stage.name}", flush=True)
        experiment.train(config, stage.name, workdir)


if __name__ == "__main__":
    presets.define_flags()
    main(program)
