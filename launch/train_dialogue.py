"""Trains a model of whole dialogues, from which the generators can start.

python -m launch.train_dialogue --config=... --workdir=...
"""

from ppg_jax import experiment
from ppg_jax.launching import main
from ppg_jax.stages import supervised


def program():
    config, workdir = experiment.from_flags()
    supervised.run(config.dialogue, workdir)


if __name__ == "__main__":
    experiment.define_flags()
    main(program)
