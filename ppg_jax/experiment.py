"""All stages of one run directory, as one config: what a file under configs/ builds."""

import dataclasses
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from ppg_jax.config import from_config_dict, to_config_dict
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.launching import one_line_errors
from ppg_jax.stages import critic, evaluate, reinforce, supervised


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What the stages share, and the stages in the order in which they are launched.

    Stages that were given this `data` or these `prompts` share them:
    --config.data.source=DIR reaches all of them.
    """

    data: DataConfig
    prompts: PromptConfig
    dialogue: supervised.Config  # a start for generators that have no pretrained one
    persona: supervised.Config
    response: supervised.Config
    response_without: supervised.Config  # the comparison that knows no partner persona
    critic: critic.Config
    critic_scratch: critic.Config  # the same, but from random weights
    reinforce: reinforce.Config
    evaluate: evaluate.Config


def config_dict(experiment: Experiment) -> ConfigDict:
    """What `get_config()` returns."""
    return to_config_dict(experiment, shared=("data", "prompts"))


def define_flags(stage: str | None = None, *others: str) -> None:
    """--config and --workdir, and --stage where a program can train several."""
    with one_line_errors():  # overrides are read from the command line here already
        config_flags.DEFINE_config_file(
            "config",
            "configs/quickstart.py",
            "An experiment; configs/ has the presets.",
        )
    flags.DEFINE_string("workdir", "runs/quickstart", "The run directory.")
    if others:
        flags.DEFINE_enum("stage", stage, [stage, *others], "Which one of the config.")


def from_flags() -> tuple[Experiment, Path]:
    """The experiment with its overrides (--config.persona.seed=1), and the workdir."""
    with one_line_errors():
        experiment = from_config_dict(Experiment, flags.FLAGS.config)
    return experiment, Path(flags.FLAGS.workdir)
