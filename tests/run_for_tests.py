"""A tiny finished run directory, and its pipeline, for whatever needs one."""

import atexit
import dataclasses
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

from ppg_jax.config import flatten
from ppg_jax.data import corpus, tokenization
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue, write_jsonl
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.experiment import paper_rows
from ppg_jax.files import write_json
from ppg_jax.inference.generator import Generator
from ppg_jax.inference.pipeline import Pipeline
from ppg_jax.inference.sampling import Decoding
from ppg_jax.inference.scoring import Scorer
from ppg_jax.models import pretrained
from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.run_dir import EXPERIMENT, claim
from ppg_jax.stages import critic, supervised
from ppg_jax.training.train_state import params_sha256
from tests import forked
from tests import models_for_tests as small

ROOT = Path(__file__).resolve().parents[1]
# The result.json of a stage of whose weights nothing is known: REINFORCE's once had the
# hash of both models together.
FINISHED = {"params_sha256": "0" * 64, "best_update": 1}
CRITIC = {"name": "critic", "task": "critic", "needs": []}
# So short that all prompts have one padded width: compiling is what takes the time.
PROMPTS = PromptConfig(max_length=64, max_persona_tokens=10, max_response_tokens=8)


def export_generator(folder: Path, seed: int, says: str = "", **sizes) -> dict:
    """A random model, as training leaves it behind; its parameters.

    says: a word of one token, with the space before it, that it says most of the time.
    """
    tokenizer = small.tokenizer()
    sizes = {"n_positions": 64, "n_layer": 1} | sizes
    model, params = small.gpt2(len(tokenizer), seed, **sizes)
    if says:
        (token,) = tokenizer.encode(says)
        params = small.insisting(params, token)
    pretrained.export(model, params, tokenizer, folder)
    return params


def export_critic(folder: Path) -> dict:
    """As `export_generator`: a critic that has learned nothing."""
    texts = [u for d in small.DIALOGUES for u in d.utterances]
    tokenizer = tokenization.train_wordpiece(texts, 100)
    model = DistilBert(
        DistilBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=64,
            dim=16,
            n_layers=1,
            n_heads=2,
            hidden_dim=16,
        )
    )
    tokens = jnp.zeros((1, 4), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), shapes)
    pretrained.export(model, params, tokenizer, folder)
    return params


def write_run(folder: Path, **prompts) -> Path:
    """The persona and the response stage, finished, and the paper's rows."""
    config = dataclasses.replace(PROMPTS, **prompts)
    for seed, name in enumerate(("persona", "response")):
        params = export_generator(folder / name / "model", seed)
        fields = flatten(config, "prompts.") | {"partner_persona": "gold"}
        fields |= {"name": name, "task": name}
        write_json(folder / name / "fingerprint.json", fields)
        result = {"params_sha256": params_sha256(params)}
        write_json(folder / name / "result.json", result)
    small.tokenizer().save_pretrained(str(folder / "tokenizer"))
    rows = [{"name": n, **row.description} for n, row in paper_rows().items()]
    write_experiment(folder, {"stages": [CRITIC], "systems": rows})
    return folder


# What partners do, and what is answered: no two dialogues of a split have the same.
THINGS = (
    "i sing.",
    "i run.",
    "i paint.",
    "i love tea.",
    "i have a car.",
    "i need two.",
)


def dialogues(split: str, number: int) -> tuple[Dialogue, ...]:
    """So many, of two responses each; self and partner share no sentence."""
    return tuple(
        Dialogue(
            id=f"{split}:{n}",
            self_persona=(THINGS[n - 1],),
            partner_persona=(THINGS[n], "i am nice."),
            utterances=("hi", f"hello {n}", "are you ?", THINGS[n - 1]),
        )
        for n in range(number)
    )


def write_stages(workdir: Path, **says: str) -> DataConfig:
    """Data, both generators and the critic in `workdir`, as REINFORCE reads them.

    says: stage -> what `export_generator` has it say; further stages are response
    generators of their own.
    """
    for split, number in {"train": 6, "valid": 3, "test": 5}.items():
        made = list(dialogues(split, number))
        if split == "train":  # nobody answered, and nothing is to learn from it
            made.append(Dialogue("unanswered", ("i am alone.",), (), ("hi",)))
        write_jsonl(made, workdir / "data" / f"{split}.jsonl")
    data = DataConfig(source=str(workdir / "data"))
    write_config(workdir)
    read = {"training data": corpus.fingerprint(corpus.load_splits(data)["train"])}
    names = dict.fromkeys(("persona", "response", *says))
    for seed, name in enumerate(names):
        params = export_generator(workdir / name / "model", seed, says.get(name, ""))
        task = "persona" if name == "persona" else "response"
        config = supervised.Config(
            name=name,
            task=task,
            data=data,
            prompts=PROMPTS,
            partner_persona="none" if name == "response_without" else "gold",
        )
        _finish(workdir / name, config, read, params)
    params = export_critic(workdir / "critic" / "model")
    _finish(workdir / "critic", critic.Config(data=data), read, params)
    return data


def write_experiment(workdir: Path, values: dict) -> None:
    """What a training program keeps of its config."""
    write_json(workdir / EXPERIMENT, values)


def write_config(workdir: Path) -> None:
    """What a training program keeps of a config with a critic alone."""
    write_experiment(workdir, {"stages": [CRITIC], "systems": [], "config": {}})


def _finish(folder: Path, config, read: dict, params) -> None:
    claim(folder, config, read)
    write_json(folder / "result.json", {"params_sha256": params_sha256(params)})


def load_generator(folder: Path) -> tuple:
    """(model, params, prompts) of a folder that `export_generator` or a stage wrote."""
    model, params, tokenizer = pretrained.load(folder)
    return model, params, Prompts(tokenizer, PROMPTS)


def inferred(generator: tuple, asked) -> list[list[int]]:
    """The likeliest partner persona of each instance, as a response generator reads it.

    With nothing of the stages but the generator itself, as in `scored`.
    """
    prompts = generator[2]
    rows = [prompts.persona_prompt(instance) for instance in asked]
    written = _likeliest(generator, rows, PROMPTS.max_persona_tokens)
    return [prompts.generated_persona(persona.tokens) for persona in written]


def answered(generator: tuple, asked, partners) -> list[str]:
    """The likeliest response to each instance, the partner's persona being told."""
    prompts = generator[2]
    pairs = zip(asked, partners, strict=True)
    rows = [prompts.response_prompt(*pair) for pair in pairs]
    said = _likeliest(generator, rows, PROMPTS.max_response_tokens)
    return [prompts.text(response.tokens) for response in said]


def _likeliest(generator: tuple, rows, limit: int) -> list:
    model, params, prompts = generator
    return _greedy(model, limit, prompts.end_id)(params, rows)


@functools.cache
def _greedy(model, limit: int, end_id: int) -> Generator:
    return Generator(model, Decoding(limit), end_id, bucket=64)


def gold(prompts: Prompts, asked) -> list[list[int]]:
    """The partner persona of each instance as the data have it, in the same form."""
    return [prompts.persona_target(i.partner_persona) for i in asked]


def scored(generator: tuple, asked, partners) -> dict:
    """Instance id -> `Score` of its gold response, the partner's persona being told."""
    model, params, prompts = generator
    pairs = zip(asked, partners, strict=True)
    return _scorer(model)(params, [prompts.response_example(*p) for p in pairs])


_scorer = functools.cache(functools.partial(Scorer, batch_size=4, widths=0))


@functools.cache
def finished_run() -> Path:
    """One for all tests of a session; nobody writes into it."""
    folder = Path(tempfile.mkdtemp(prefix="ppg_jax_run_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_run(folder)


@functools.cache
def pipeline() -> Pipeline:
    """Of `finished_run`, for all tests: what it compiles serves them all.

    It samples, so that what two requests get alike they do not get by chance.
    """
    return Pipeline.load(finished_run(), temperature=1.0, batch_size=2)


def launch(program: str, *flags, **pipes) -> subprocess.Popen:
    """python -m launch.PROGRAM, as `pipeline` is."""
    command = [sys.executable, "-m", f"launch.{program}", *_settings(), *flags]
    return subprocess.Popen(command, cwd=ROOT, **pipes)


def launched(program: str, *flags) -> subprocess.CompletedProcess:
    """As `launch`, and it has ended."""
    return forked.run(f"launch.{program}", *_settings(), *flags)


def _settings() -> list[str]:
    return [f"--workdir={finished_run()}", "--temperature=1", "--batch_size=2"]
