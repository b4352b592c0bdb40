"""A finished run as one folder to carry away: models for transformers, and for us.

DIR/persona, DIR/response, and DIR/critic if there is one, are Hugging Face folders, or
PEFT's, with DIR/base if that has no name to get it by; DIR/pipeline.json is what
`Pipeline.load(DIR)` needs beside them.
"""

import dataclasses
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp

from ppg_jax.errors import UserError
from ppg_jax.files import read_json, write_json
from ppg_jax.inference.found import Found, find_models
from ppg_jax.models import adapters, pretrained
from ppg_jax.run_dir import EXPORTED, EXPORTED_BEFORE


@dataclasses.dataclass(frozen=True)
class Config:
    """output: the folder to write. system: as in `PipelineConfig`.

    adapters: adapters stay apart from their base, in half precision, without critic, as
    the package carries them. Else they are merged into it.
    """

    output: str
    system: str = ""
    adapters: bool = False


def run(config: Config, workdir: Path) -> str:
    """Writes the folder; what an earlier export left in it is replaced, and what is no
    export's stays.

    Returns the system's name.
    """
    if not config.output:
        raise UserError("--output is empty; give a folder.")
    found, output = find_models(workdir, config.system), Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    if output.samefile(found.persona.parent):
        raise UserError(f"--output={output} is what is read; give another folder.")
    if config.adapters:
        _require_adapters(found)
    before, known = output / EXPORTED_BEFORE, {}
    # It comes last: a folder without it is no pipeline, so none is ever half new.
    if (output / EXPORTED).exists():
        os.replace(output / EXPORTED, before)
    if before.exists():
        known = read_json(before, f"remove {before}.").get("weights", {})
    write = _write_adapters if config.adapters else _write_models
    names = "system", "contrast", "response_contrast", "grounded"
    kept = {name: getattr(found, name) for name in names}
    kept["prompts"] = dataclasses.asdict(found.prompts)
    weights = write(found, output)
    read = {found.persona, found.response, found.critic}
    for name in ("critic", "base", "base_response"):
        if name in known and name not in weights and output / name not in read:
            shutil.rmtree(output / name, ignore_errors=True)
    write_json(output / EXPORTED, kept | {"weights": weights})
    before.unlink(missing_ok=True)
    print(f"wrote {output / EXPORTED} (system {found.system})")
    return found.system


def is_export(folder: Path) -> bool:
    """Whether an export has been written there, or was begun in the place of one."""
    return (folder / EXPORTED).exists() or (folder / EXPORTED_BEFORE).exists()


def _write_models(found: Found, output: Path) -> dict[str, str]:
    """Name -> SHA-256 of its weights."""
    weights = {}
    for name in ("persona", "response", "critic"):
        source = getattr(found, name)
        if source is not None:
            model, params, tokenizer = pretrained.load(source)
            # That of a GGUF file stands for another, which is what is saved.
            saved = getattr(tokenizer, "whole", tokenizer)
            saved.chat_template = found.chat_template(name, saved)
            if name != "critic" and not saved.chat_template:
                told = "its tokenizer reads a prompt otherwise in one piece"
                print(f"{name}: without a chat template, for {told}")
            whole = adapters.merge(params)
            folder = pretrained.export(model, whole, tokenizer, output / name)
            weights[name] = adapters.sha256(whole)
            print(f"wrote {folder}")
    return weights


def _require_adapters(found: Found) -> None:
    for source in (found.persona, found.response):
        if not pretrained.base_of(source):
            raise UserError(
                f"{source} is a whole model; leave --adapters away to export it."
            )


def _write_adapters(found: Found, output: Path) -> dict[str, str]:
    """As `_write_models`."""
    bases: dict = {}
    weights: dict[str, str] = {}
    written: dict[str, str] = {}
    for name in ("persona", "response"):
        source = getattr(found, name)
        base = pretrained.base_of(source)
        model, params, tokenizer = pretrained.load(source, bases=bases)
        if Path(base).expanduser().exists():  # and no name to get it by
            if base not in written:
                folder = output / (f"base_{name}" if written else "base")
                weights[folder.name] = _write_base(base, folder)
                written[base] = str(folder)
            base = written[base]
        learned, _ = adapters.split(params)
        half = jax.tree.map(lambda a: a.astype(jnp.float16), learned)
        own = tokenizer if pretrained.has_tokenizer(source) else None  # or its base's
        print(f"wrote {pretrained.export(model, half, own, output / name, base)}")
        weights[name] = adapters.sha256(
            jax.tree.map(lambda a: a.astype(jnp.float32), half)
        )
    return weights


def _write_base(base: str, folder: Path) -> str:
    """The whole model of a path, as a folder; the SHA-256 of its weights."""
    model, params, tokenizer = pretrained.load(base)
    print(f"wrote {pretrained.export(model, params, tokenizer, folder)}")
    return adapters.sha256(params)
