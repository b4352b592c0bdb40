"""The flags of programs that answer: which models of which run, and how they speak."""

import dataclasses

from absl import flags

from ppg_jax.config import from_config_dict
from ppg_jax.inference.pipeline import PipelineConfig
from ppg_jax.models.quantize import WEIGHTS

SYSTEM = "Row of the run's config that answers; the last finished one if empty."


def define() -> None:
    """--workdir and the fields of `PipelineConfig`, for the programs that answer."""
    default = PipelineConfig()
    flags.DEFINE_string(
        "workdir", None, "A run, or an exported folder; else the package's own model."
    )
    flags.DEFINE_string("system", default.system, SYSTEM)
    flags.DEFINE_float("temperature", default.temperature, "0 is greedy.", 0)
    flags.DEFINE_integer("top_k", default.top_k, "Likeliest tokens; 0 is off.", 0)
    flags.DEFINE_float("top_p", default.top_p, "Likeliest mass; 1 is off.", 0, 1)
    flags.DEFINE_float(
        "contrast",
        default.contrast,
        "Weight of what only the conversation tells of the partner; 0 is off, empty as "
        "the system has it.",
        0,
    )
    flags.DEFINE_float(
        "response_contrast",
        default.response_contrast,
        "The same of responses, against telling one's own persona whatever was said.",
        0,
    )
    flags.DEFINE_bool(
        "grounded",
        default.grounded,
        "Of the partner only what was said, no guesses; empty as the system has it.",
    )
    flags.DEFINE_integer("seed", default.seed, "Of the sampling.", 0, 2**31 - 1)
    flags.DEFINE_integer(
        "batch_size",
        default.batch_size,
        "At once; on a CPU two such batches are at work.",
        1,
    )
    flags.DEFINE_integer(
        "bucket", default.bucket, "Tokens that prompts of a batch are padded to.", 1
    )
    flags.DEFINE_bool(
        "as_typed", default.as_typed, "Text stays, in whatever form the models expect."
    )
    flags.DEFINE_enum(
        "weights",
        default.weights,
        WEIGHTS,
        "Their type; less than float32 where the CPU has such products.",
    )


def parsed() -> tuple[PipelineConfig, str | None]:
    """What `define` defined: the config, and the run directory if one was given."""
    names = [field.name for field in dataclasses.fields(PipelineConfig)]
    values = {name: flags.FLAGS[name].value for name in names}
    return from_config_dict(PipelineConfig, values, typed="--"), flags.FLAGS.workdir
