"""Where a run directory, or an exported folder, has the models of a system."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import ppg_jax
from ppg_jax.config import from_config_dict
from ppg_jax.data.chat_template import chat_templates, fits
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.errors import UserError, meant
from ppg_jax.run_dir import (
    EXPORTED,
    EXPORTED_BEFORE,
    FINGERPRINT,
    finished,
    finished_stage,
    model_folder,
    read_experiment,
    read_exported,
    reading,
    require_fresh,
    settings_of,
)

# One that comes with the package.
RELEASED = Path(ppg_jax.__file__).with_name("released") / "personachat_smollm2"
# Of an export's pipeline.json.
_EXPORTED_FIELDS = {"system", "prompts", "weights"}
_EXPORTED_FIELDS |= {"contrast", "response_contrast", "grounded"}


class Found(NamedTuple):
    """The model folders of a system, and the form of their prompts."""

    system: str  # the row of the config
    prompts: PromptConfig
    persona: Path
    response: Path
    critic: Path | None
    # Of inferred personas and of responses, see `PipelineConfig`.
    contrast: float
    response_contrast: float
    grounded: bool

    def chat_template(self, name: str, tokenizer) -> str | None:
        """The prompts of a generator, for other programs; None of a critic, and where
        its tokenizer reads them otherwise in one piece."""
        known = fits(tokenizer, self.prompts) if name != "critic" else False
        return chat_templates(self.prompts)[name] if known else None


def require_folder(run_dir) -> None:
    """Raises UserError if this is no folder's path, and says how to come by one."""
    is_path = isinstance(run_dir, str | os.PathLike)
    if not is_path or not os.fspath(run_dir):
        raise UserError(f"{run_dir!r:.60} is no folder; give its path, or nothing.")
    if os.path.isdir(run_dir):
        return
    told = "a file, and no folder" if os.path.exists(run_dir) else "no such folder"
    made = f" --workdir={run_dir}" if told == "no such folder" else ""
    raise UserError(
        f"{run_dir}: {told}; give a run directory, which python -m launch.train "
        f"--config=CONFIG{made} makes, or a folder that launch.export wrote."
    )


def find_models(workdir=None, system: str = "") -> Found:
    """Where a run directory or an exported folder has what `Pipeline` needs.

    workdir: None is the folder that comes with the package. system: a row of its config
    that infers the partner; "" is the last one of which all stages have finished.
    Raises UserError that names the command to run first.
    """
    workdir = RELEASED if workdir is None else Path(workdir)
    exported = (workdir / EXPORTED).exists()
    if not exported and (workdir / EXPORTED_BEFORE).exists():
        raise UserError(
            f"{workdir}: an export into it was broken off; export the run again: "
            f"python -m launch.export --workdir=RUN --output={workdir}"
        )
    with reading(workdir):
        return (_find_exported if exported else _find_trained)(workdir, system)


def _find_trained(workdir: Path, system: str) -> Found:
    experiment = read_experiment(workdir)
    row = _chosen(workdir, experiment["systems"], system)
    for need in row["needs"]:
        finished_stage(workdir, need)
        require_fresh(workdir, need)
    models = [workdir / row["models"][name] for name in ("persona", "response")]
    critics = [s["name"] for s in experiment["stages"] if s["task"] == "critic"]
    made = [workdir / model_folder(c) for c in critics if finished(workdir, c)]
    config = experiment.get("config", {})
    prompts = _trained_prompts(workdir, config, *row["models"].values())
    critic = made[0] if made else None
    return Found(row["name"], prompts, *models, critic, *_decoded(row))


def learned_as(workdir: Path, source: str, kind: str) -> dict:
    """The settings of the supervised stage that a "persona" or a "response" generator
    comes from.

    source: its stage, or a model of one. Raises UserError where it has not finished.
    """
    stage = finished_stage(workdir, source.partition("/")[0])
    settings = settings_of(stage)
    if "task" in settings:
        return settings
    began = settings.get(kind)  # REINFORCE goes on from another stage
    if not isinstance(began, str):
        raise UserError(
            f"{stage / FINGERPRINT} names neither a task nor a {kind} generator; "
            f"delete {stage} and train the stage again."
        )
    return learned_as(workdir, began, kind)


def _decoded(values: Mapping) -> tuple[float, float, bool]:
    """Of a row or an exported folder; older ones say nothing of it."""
    contrasts = values.get("contrast", 0.0), values.get("response_contrast", 0.0)
    grounded = values.get("grounded", False)
    if not all(type(c) in (int, float) and 0 <= c < math.inf for c in contrasts):
        raise ValueError(f"contrasts are {contrasts}")
    if not isinstance(grounded, bool):
        raise ValueError(f"grounded is {grounded!r}")
    return *contrasts, grounded


def _chosen(workdir: Path, systems: Sequence[dict], name: str) -> dict:
    rows = [row for row in systems if row.get("models", {}).get("persona")]
    rows = [row for row in rows if row["kind"] == "responses"]
    named = [row for row in rows if row["name"] == name]
    if not rows or (name and not named):
        known = ", ".join(row["name"] for row in rows) or "none"
        raise UserError(
            f"{workdir} has no system {name!r} that infers the partner; give --system="
            f"one of: {known}."
        )
    done = [r for r in rows if all(finished(workdir, need) for need in r["needs"])]
    return (named or done[-1:] or rows)[0]


def _find_exported(folder: Path, system: str) -> Found:
    values = read_exported(folder)
    for key in sorted(values.keys() - _EXPORTED_FIELDS):
        told = f"{key!r}{meant(key, _EXPORTED_FIELDS)}"
        raise UserError(f"{folder / EXPORTED}: no field {told} is known; remove it.")
    name = values.get("system")
    if system not in ("", name):
        raise UserError(
            f"{folder} holds the system {name!r} only; export again with "
            f"--system={system}."
        )
    where = f"{folder / EXPORTED}: prompts."
    prompts = from_config_dict(PromptConfig, values.get("prompts", {}), typed=where)
    models = folder / "persona", folder / "response"
    critic = folder / "critic" if (folder / "critic").is_dir() else None
    return Found(name, prompts, *models, critic, *_decoded(values))


def _trained_prompts(workdir: Path, config: Mapping, *models: str) -> PromptConfig:
    """The form that the models' stages were trained on, from their fingerprints.

    config: of the experiment, stage by stage, for what it says of people's text.
    """
    forms = {}
    for stage in dict.fromkeys(model.partition("/")[0] for model in models):
        fields = settings_of(workdir / stage).items()
        start = "prompts."
        form = {k.removeprefix(start): v for k, v in fields if k.startswith(start)}
        text = config.get(stage, {}).get("prompts.text")
        form |= {"text": text} if text else {}
        forms[stage] = from_config_dict(PromptConfig, form)
    (one, first), *others = forms.items()
    other, last = others[0] if others else (one, first)
    for field in dataclasses.fields(PromptConfig):
        a, b = (getattr(form, field.name) for form in (first, last))
        if a != b:
            raise UserError(
                f"{workdir}: prompts.{field.name} was {a!r} for {one} and {b!r} for "
                f"{other}; train both with one setting."
            )
    return first
