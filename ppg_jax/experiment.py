"""Stages and rows of one run directory, as one config: what configs/ builds."""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ppg_jax import presets, run_dir
from ppg_jax.config import Section, from_section, to_config_dict
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.errors import MissingWeights, UserError
from ppg_jax.launching import one_line_errors
from ppg_jax.stages import (
    critic,
    evaluate,
    mtl,
    paml,
    percvae,
    reinforce,
    supervised,
    together,
    transfertransfo,
)
from ppg_jax.systems.controls import CONTROLS, GOLD
from ppg_jax.systems.generators import Generators, PersonaGenerator
from ppg_jax.systems.paml import PAML
from ppg_jax.systems.percvae import PerCVAE
from ppg_jax.systems.system import BEST_CONTROL, System
from ppg_jax.systems.transfertransfo import TransferTransfo

# What trains a stage: all the dispatch there is.
RUNS = {
    supervised.Config: supervised.run,
    critic.Config: critic.run,
    reinforce.Config: reinforce.run,
    percvae.Config: percvae.run,
    paml.Config: paml.run,
    transfertransfo.Config: transfertransfo.run,
    mtl.Config: mtl.run,
}
# The paper's other systems: what a table calls their row, and the row of a stage.
_OTHER_SYSTEMS = {
    transfertransfo.Config: ("TransferTransfo", TransferTransfo),
    percvae.Config: ("PerCVAE", PerCVAE),
    paml.Config: ("PAML, adapted to the speaker's other dialogues", PAML),
    mtl.Config: (
        "MTL with personas reconstruction",
        functools.partial(Generators, told="none"),
    ),
}
_OTHERS = ("data", "prompts", "systems", "evaluate")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What the stages share, the stages in an order to train them in, and the rows.

    Stages that were given this `data` or these `prompts` share them:
    --config.data.source=DIR reaches all of them. systems: by name, in the order of the
    tables; a control's name is taken. Raises ValueError where a name is taken twice or
    names nothing.
    """

    data: DataConfig
    prompts: PromptConfig
    stages: tuple
    systems: Mapping[str, System]
    evaluate: evaluate.Config

    def __post_init__(self):
        known: list[str] = []
        for stage in self.stages:
            _require_known(f"stage {stage.name!r} needs", stage.needs, known)
            if stage.name in (*known, *_OTHERS):
                raise ValueError(f"two parts are named {stage.name!r}; rename one.")
            known.append(stage.name)
        together.require(self.stages, self.evaluate, self.systems)
        rows = (*self.systems, BEST_CONTROL)
        for name, row in self.systems.items():
            if name in (BEST_CONTROL, GOLD, *CONTROLS[row.kind]):
                raise ValueError(f"row {name!r} has a control's name; rename it.")
            _require_known(f"row {name!r} needs", row.needs, known)
            _require_known(f"row {name!r} is compared with", row.against, rows)

    def stage(self, name: str):
        """The config of a stage; UserError names those that there are."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stages)
        raise UserError(f"--stage={name}: no such stage in the config; it has {known}.")


def _require_known(told: str, names, known) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{told} {name!r}, which is none of {tuple(known)}.")


def train(
    experiment: Experiment, name: str, workdir: Path, may_lack_weights: bool = False
) -> dict:
    """Trains one stage, or goes on, or says it is done; returns its result.json.

    may_lack_weights: where pretrained ones are needed and cannot be brought, that and
    what needs this stage is told, and the result is {}; else MissingWeights is raised.
    """
    config = experiment.stage(name)
    lacking = [need for need in config.needs if not run_dir.finished(workdir, need)]
    if lacking and may_lack_weights:
        print(f"{name}: left out: it needs {', '.join(lacking)}", flush=True)
        return {}
    try:
        with written(experiment, workdir):
            return RUNS[type(config)](config, workdir)
    except MissingWeights as error:
        others = run_dir.as_made(workdir, name, config)[1]
        if run_dir.finished(workdir, name) and not others:  # they were here once
            return run_dir.report_done(name, run_dir.result_of(workdir / name))
        if not may_lack_weights:
            raise
        print(f"{name}: left out: {error}", flush=True)
        return {}


def seeded(experiment: Experiment, seed: int) -> Experiment:
    """The same with that seed in every stage; evaluation asks every seed the same."""
    stages = [dataclasses.replace(stage, seed=seed) for stage in experiment.stages]
    return dataclasses.replace(experiment, stages=tuple(stages))


def stages_for(experiment: Experiment, rows: Collection[str]) -> list[str]:
    """The stages that rows need, and those that they start from, in the order of
    training; the critics, too, which judge all rows. What is no row here needs none."""
    known, systems = {s.name: s for s in experiment.stages}, experiment.systems
    needed = {need for row in rows if row in systems for need in systems[row].needs}
    needed |= {*experiment.evaluate.critics.values()} & known.keys()
    for stage in reversed(experiment.stages):  # a stage needs earlier ones
        if stage.name in needed:
            needed |= set(stage.needs)
    return [name for name in known if name in needed]


def require_finished(experiment: Experiment, workdir: Path) -> None:
    """Raises UserError where there is nothing to evaluate but the controls."""
    if not any(run_dir.finished(workdir, s.name) for s in experiment.stages):
        raise UserError(
            f"{workdir} has no finished stage of this config; first run python -m "
            "launch.train with the same --config and --workdir."
        )


def written(experiment: Experiment, workdir: Path):
    """`run_dir.written_experiment` of what the config says of stages and rows."""
    stages = [
        {"name": s.name, "task": s.task, "needs": list(s.needs)}
        for s in experiment.stages
    ]
    systems = [
        {"name": name, **row.description} for name, row in experiment.systems.items()
    ]
    parts = {s.name: s for s in experiment.stages} | {"evaluate": experiment.evaluate}
    config = {
        name: run_dir.as_made(workdir, name, part)[0] for name, part in parts.items()
    }
    told = {"stages": stages, "systems": systems, "config": config}
    return run_dir.written_experiment(workdir, told)


def config_dict(experiment: Experiment) -> Section:
    """What `get_config()` returns: each stage under its name beside the others."""
    others = {name: getattr(experiment, name) for name in _OTHERS}
    stages = {stage.name: stage for stage in experiment.stages}
    return to_config_dict(others | stages, (experiment.data, experiment.prompts))


def from_config_dict(values: Section) -> Experiment:
    """The experiment of `config_dict`, with what was changed since.

    Raises UserError for a value that is refused.
    """
    named = [name for name in values.order if name != "systems"]
    parts = {name: from_section(values[name], name) for name in named}
    rows = values.systems
    systems = {n: from_section(rows[n], f"systems.{n}") for n in rows.order}
    stages = [part for name, part in parts.items() if name not in _OTHERS]
    shared = (parts["data"], parts["prompts"])
    try:
        return Experiment(*shared, tuple(stages), systems, parts["evaluate"])
    except ValueError as error:
        raise UserError(f"the config: {error}") from None


def from_flags() -> tuple[Experiment, Path]:
    """The experiment with its overrides (--config.persona.seed=1), and the workdir."""
    values, workdir = presets.from_flags()
    with one_line_errors():
        return from_config_dict(values), workdir


def changed(stage, changes: Mapping[str, tuple]) -> tuple[reinforce.Config, ...]:
    """Stages like this one, each with one of `reinforce.TABLE_7` or `VARIANTS`."""
    return tuple(
        dataclasses.replace(stage, name=f"{stage.name}_{name}", **fields)
        for name, (_, fields) in changes.items()
    )


def exposures(
    stage: supervised.Config, persona: str, contrast: float = 0.0
) -> tuple[supervised.Config, ...]:
    """Stages like this one, which learn from gold personas, from those that the stage
    `persona` infers, with that contrast, and from either in one instance of two."""
    made = functools.partial(supervised.Exposure, persona, contrast=contrast)
    named = {"gold": supervised.Exposure(), "mixed": made(0.5), "generated": made()}
    return tuple(
        dataclasses.replace(stage, name=f"exposed_{name}", exposure=exposure)
        for name, exposure in named.items()
    )


def paper_rows(
    top3: str = "",
    reinforced: Sequence[str] = ("reinforce",),
    contrast: float = 0.0,
    grounded: bool = False,
    response_contrast: float = 0.0,
    study: Mapping[str, System] | None = None,
) -> dict[str, System]:
    """The paper's rows, of stages with the names that the presets have.

    E2E three times, ours without and with RL (Table 1), the generators (Table 4). top3:
    a stage that learned from BM25's three sentences, which then is the third row, as in
    the paper. reinforced: the first one's row is "ours"; Table 7's may follow.
    contrast, grounded: of every inferred persona; the supervised rows are there without
    them, too. response_contrast: of one more row, ours without RL. study: further rows,
    before the last of the paper's, which is what people talk with.
    """
    inferred = {"contrast": contrast, "grounded": grounded}
    gold = Generators("E2E, gold partner personas", "response", against=("without",))
    full = top3 or "response"
    told = "gold partner personas, BM25's top 3" if top3 else "gold partner personas"
    rows: dict[str, System] = {
        "without": Generators("E2E without partner personas", "response_without"),
        "training_only": Generators(
            "E2E, partner personas in training only", full, told="none"
        ),
        "full": Generators(
            f"E2E, {told}", full, against=("without", "ours_supervised")
        ),
    }
    if top3:
        rows["full_all"] = gold
    supervised = Generators("Ours without RL", "response", "persona", **inferred)
    against = "without", "training_only", BEST_CONTROL
    if contrast or grounded:
        label = "Ours without RL, personas as generated"
        rows["ours_plain"] = Generators(label, "response", "persona")
        against = *against, "ours_plain"
    rows["ours_supervised"] = dataclasses.replace(supervised, against=against)
    if response_contrast:
        rows["ours_heeding"] = dataclasses.replace(
            supervised,
            label="Ours without RL, responses with contrast",
            response_contrast=response_contrast,
            against=("ours_supervised",),
        )
    with_rl = functools.partial(_with_rl, **inferred)
    ours, *others = reinforced
    beside = {n: c for n, c in reinforce.TABLE_7.items() if f"{ours}_{n}" in others}
    rows |= _varied(ours, beside, **inferred)
    rows |= study or {}
    rows["ours_last"] = with_rl("Ours with RL, after the last update", ours, "last")
    rows["ours"] = with_rl("Ours with RL", ours, "model")
    return rows | _persona_rows(ours, contrast, grounded)


def study_rows(
    reinforced: str, exposed: Sequence[str], **inferred
) -> dict[str, System]:
    """Rows of `reinforce.VARIANTS` of the stage `reinforced`, and of `exposures`.

    inferred: as `paper_rows` has it.
    """
    rows = _varied(reinforced, reinforce.VARIANTS, **inferred)
    for stage in exposed:
        label = f"Ours without RL, learned from {stage.rpartition('_')[2]} personas"
        against = tuple(f"ours_{n}" for n in exposed[:1] if n != stage)
        row = Generators(label, stage, "persona", against=against, **inferred)
        rows[f"ours_{stage}"] = row
    rows["reinforced_traits"] = PersonaGenerator(
        "Generator with RL, trait F1 as reward, after the last update",
        f"{reinforced}_traits/last_persona",
        **inferred,
        against=("supervised", "reinforced_last"),
    )
    return rows


def other_rows(*stages, where: str = "") -> dict[str, System]:
    """Rows of the paper's other systems by the names of their stages.  where: is added
    to each label."""
    against = "without", BEST_CONTROL
    known = {stage.name: _OTHER_SYSTEMS[type(stage)] for stage in stages}
    return {
        name: row(label + where, name, against=against)
        for name, (label, row) in known.items()
    }


def _persona_rows(ours: str, contrast: float, grounded: bool) -> dict[str, System]:
    label = "Generator without RL"
    rows: dict[str, System] = {}
    if contrast or grounded:
        rows["supervised_plain"] = PersonaGenerator(f"{label}, as generated", "persona")
    if contrast and grounded:
        rows["supervised_guessing"] = PersonaGenerator(
            f"{label}, with guesses", "persona", contrast
        )
    against = (BEST_CONTROL, *rows)
    rows["supervised"] = PersonaGenerator(label, "persona", contrast, grounded, against)
    for name, label, made in [
        ("reinforced", "Generator with RL", "model"),
        ("reinforced_last", "Generator with RL, after the last update", "last"),
    ]:
        given = f"{ours}/{made}_persona", contrast, grounded, ("supervised",)
        rows[name] = PersonaGenerator(label, *given)
    return rows


def _varied(ours: str, changes: Mapping[str, tuple], **inferred) -> dict[str, System]:
    """Of one policy alone, what was kept; else of the last update: what is kept may be
    the first weights of all, and then tells nothing of what was changed."""
    rows: dict[str, System] = {}
    for name, (told, _) in changes.items():
        stage = f"{ours}_{name}"
        row = f"Ours with RL, {told}, after the last update", stage, "last", "ours_last"
        if name in reinforce.POLICIES:
            row = f"Ours with RL {told}", stage, "model", "ours_supervised"
        rows[f"ours_{name}"] = _with_rl(*row, **inferred)
    return rows


def _with_rl(
    label: str, stage: str, made: str, against: str = "ours_supervised", **inferred
) -> Generators:
    response, persona = (f"{stage}/{made}_{of}" for of in ("response", "persona"))
    return Generators(label, response, persona, against=(against,), **inferred)
