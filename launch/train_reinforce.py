"""REINFORCE on both generators.

python -m launch.train_reinforce --config=... --workdir=...
Needs the finished stages persona, response and critic in the same --workdir.
"""

from ppg_jax import experiment
from ppg_jax.launching import main
from ppg_jax.stages import reinforce


def program():
    config, workdir = experiment.from_flags()
    reinforce.run(config.reinforce, workdir)


if __name__ == "__main__":
    experiment.define_flags()
    main(program)
