"""A finished run as one folder to carry away: models for transformers, and for us.

DIR/persona, DIR/response, and DIR/critic if there is one, are Hugging Face folders;
DIR/pipeline.json is what `Pipeline.load(DIR)` needs beside them.
"""

import dataclasses
from pathlib import Path

from ppg_jax.files import write_json
from ppg_jax.models import pretrained
from ppg_jax.run_dir import EXPORTED, find_models


@dataclasses.dataclass(frozen=True)
class Config:
    """output: the folder to write. system: as in `PipelineConfig`."""

    output: str
    system: str = ""


def run(config: Config, workdir: Path) -> None:
    """Writes the folder; what an earlier export left in it is replaced."""
    found, output = find_models(workdir, config.system), Path(config.output)
    # It comes last: a folder without it is no pipeline, so none is ever half new.
    (output / EXPORTED).unlink(missing_ok=True)
    for name in ("persona", "response", "critic"):
        source = getattr(found, name)
        if source is not None:
            print(f"wrote {pretrained.export(*pretrained.load(source), output / name)}")
    prompts = dataclasses.asdict(found.prompts)
    write_json(output / EXPORTED, {"system": found.system, "prompts": prompts})
    print(f"wrote {output / EXPORTED} (system {found.system})")
