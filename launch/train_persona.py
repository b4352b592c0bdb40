"""Trains the persona generator.

python -m launch.train_persona --config=... --workdir=...
"""

from ppg_jax import experiment
from ppg_jax.launching import main
from ppg_jax.stages import supervised


def program():
    config, workdir = experiment.from_flags()
    supervised.run(config.persona, workdir)


if __name__ == "__main__":
    experiment.define_flags()
    main(program)
