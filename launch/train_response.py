"""Trains a response generator: with gold partner personas, or without any.

python -m launch.train_response --config=... --workdir=... [--stage=response_without]
"""

from absl import flags

from ppg_jax import experiment
from ppg_jax.launching import main
from ppg_jax.stages import supervised


def program():
    config, workdir = experiment.from_flags()
    supervised.run(getattr(config, flags.FLAGS.stage), workdir)


if __name__ == "__main__":
    experiment.define_flags("response", "response_without")
    main(program)
