"""Races ppg_jax against PyTorch and others at the work that users do.

python -m launch.benchmark --suite=train --source=data/personachat \\
    --gpt2_tokenizer=FOLDER --bert_tokenizer=FOLDER

Writes benchmark.json, benchmark.md and benchmark.png into --output after every row;
with --rounds=0 only parity.json: how far the results are apart, without a race.
"""

import dataclasses
import os
from pathlib import Path

from absl import flags

from ppg_jax.benchmark import models, suites
from ppg_jax.benchmark.measure import SWEPT, Benchmark, Settings, rows
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.launching import main

SUITE = flags.DEFINE_enum("suite", "train", [*suites.SUITES, "all"], "Which races.")
ROW = flags.DEFINE_multi_string("row", [], "Only the rows of these names.")
PEER = flags.DEFINE_multi_enum(
    "peer", ["torch_eager"], [*suites.PEERS, "none"], "Against whom."
)
FORM = flags.DEFINE_multi_enum(
    "form", list(suites.FORMS), list(suites.FORMS), "PyTorch's, where it has two."
)
flags.DEFINE_enum(
    "model", "small", list(models.SIZES), "The generator: GPT-2 of a size, or SmolLM2."
)
flags.DEFINE_integer(
    "adapter_rank", 0, "Of adapters, which alone are trained then; 0 trains all.", 0
)
flags.DEFINE_string("source", "persona_world", "Of the dialogues.")
flags.DEFINE_string("split", "valid", "Which of the source.")
GPT2_TOKENIZER = flags.DEFINE_string(
    "gpt2_tokenizer", "gpt2", "A folder or hub id; SmolLM2 has its own."
)
BERT_TOKENIZER = flags.DEFINE_string(
    "bert_tokenizer", "distilbert-base-uncased", "A folder or hub id; likewise."
)
flags.DEFINE_integer("instances", 64, "Of one lap; 0 is all.", 0)
flags.DEFINE_integer(
    "batch_size", 4, "Dialogues (train, score), contexts or pairs at once.", 1
)
flags.DEFINE_integer(
    "micro_batch", 8, "Instances at once; PyTorch's, and contexts of CTranslate2.", 1
)
flags.DEFINE_integer("parts", 1, "Of a gradient, one after the other; ours.", 1)
flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Compute type; on CPU, of products."
)
flags.DEFINE_enum(
    "weights", "float32", models.WEIGHTS, "Of the generate suite's models."
)
flags.DEFINE_integer(
    "max_length", PromptConfig.max_length, "Tokens of prompt and completion.", 1
)
flags.DEFINE_bool("dropout", False, "Whether training drops out.")
flags.DEFINE_integer("rounds", 6, "Timed laps of each contestant.", 0)
flags.DEFINE_integer("threads", 2, "Cores for each; 0 is all.", 0)
SWEEP = flags.DEFINE_string(
    "sweep", "", f"A cost curve: FLAG=V1,V2,... with FLAG one of {', '.join(SWEPT)}."
)
LABEL = flags.DEFINE_string(
    "label", "", "Added to the name of each row's record; empty: its types, if rounded."
)
OUTPUT = flags.DEFINE_string("output", "runs/benchmark", "Where the results go.")
MODELS = flags.DEFINE_string("models", "", "Where the models go; empty: the output.")


def program():
    # Contestants share a GPU: none may take all of its memory at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Every field has a flag of its name.
    names = [field.name for field in dataclasses.fields(Settings)]
    output = Path(OUTPUT.value)
    benchmark = Benchmark(
        rows=rows(SUITE.value, ROW.value, FORM.value),
        peers=[peer for peer in PEER.value if peer != "none"],
        settings=Settings(**{name: flags.FLAGS[name].value for name in names}),
        gpt2_tokenizer=GPT2_TOKENIZER.value,
        bert_tokenizer=BERT_TOKENIZER.value,
        output=output,
        models=Path(MODELS.value) if MODELS.value else output / "models",
        label=LABEL.value,
    )
    benchmark.run(SWEEP.value)


if __name__ == "__main__":
    main(program)
