"""Trains a critic: the one that REINFORCE asks, or its like from random weights.

python -m launch.train_critic --config=... --workdir=... [--stage=critic_scratch]
"""

from absl import flags

from ppg_jax import experiment
from ppg_jax.launching import main
from ppg_jax.stages import critic


def program():
    config, workdir = experiment.from_flags()
    critic.run(getattr(config, flags.FLAGS.stage), workdir)


if __name__ == "__main__":
    experiment.define_flags("critic", "critic_scratch")
    main(program)
