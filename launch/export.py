"""Writes the finished models of a run into a folder that stands alone.

python -m launch.export --workdir=RUN --output=DIR
"""

import json
from pathlib import Path

from absl import flags

from ppg_jax.data.prompts import PromptConfig, layout
from ppg_jax.launching import main
from ppg_jax.report import cards
from ppg_jax.serve import export
from ppg_jax.serve.flags import SYSTEM

_WORKDIR = flags.DEFINE_string("workdir", "runs/quickstart", "The run directory.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder to write.")
_SYSTEM = flags.DEFINE_string("system", "", SYSTEM)
_ADAPTERS = flags.DEFINE_bool(
    "adapters", False, "Low-rank adapters stay apart from their base."
)


def program() -> None:
    config = export.Config(_OUTPUT.value, _SYSTEM.value, _ADAPTERS.value)
    workdir = Path(_WORKDIR.value)
    output = Path(config.output)
    card = output / "README.md"
    ours = export.is_export(output) or not card.exists()
    system = export.run(config, workdir)
    if not (workdir / "experiment.json").exists():
        return  # an exported folder, of which nothing more is known
    if not ours:
        print(f"{card} is no export's, and stays; the model card is not written.")
        return
    form = json.loads((output / "pipeline.json").read_text(encoding="utf-8"))["prompts"]
    prompts = layout(PromptConfig(**form))
    cards.write(card, workdir, system, prompts=prompts, adapters=config.adapters)


if __name__ == "__main__":
    flags.mark_flag_as_required("output")
    main(program)
