"""A finished run as one folder to carry away: models for transformers, and for us.

DIR/persona, DIR/response, and DIR/critic if there is one, are Hugging Face folders, or
PEFT's, with DIR/base if that has no name to get it by; DIR/pipeline.json is what
`Pipeline.load(DIR)` needs beside them.
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
    bases: dict[str, Path] = {}
    for name in ("persona", "response", "critic"):
        source = getattr(found, name)
        if source is not None:
            print(f"wrote {_carry(source, output / name, bases)}")
    prompts = dataclasses.asdict(found.prompts)
    write_json(output / EXPORTED, {"system": found.system, "prompts": prompts})
    print(f"wrote {output / EXPORTED} (system {found.system})")


def _carry(source: Path, folder: Path, bases: dict[str, Path]) -> Path:
    """Writes a model as `folder`; the base of adapters comes along, unless it is here,
    in `bases`, or has a name that anybody gets it by."""
    base = pretrained.base_of(source)
    if base and Path(base).exists():
        if base not in bases:
            beside = folder.with_name(f"{folder.name}_base")
            bases[base] = pretrained.export(*pretrained.load(base), beside)
        base = str(bases[base])
    return pretrained.export(*pretrained.load(source), folder, base)
