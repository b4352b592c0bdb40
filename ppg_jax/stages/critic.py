"""The critic: does this response come from a speaker with this profile? (section 3.3)

A DistilBERT reads `[CLS] profile [SEP] response [SEP]`. It learns from one related and
one unrelated pair per instance: (sA, rA) and (sB, rB) against (sA, rB) and (sB, rA).
What the other stages load is `ppg_jax.inference.critic.Critic`.

Differs from the paper: its binary cross entropy is written as that of a softmax over
two labels, as DistilBERT's classifier has them.

Axes: B pairs, T tokens, N pairs of any number.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax import run_dir
from ppg_jax.config import DTYPES, require_count, require_one_of, require_positive
from ppg_jax.data import corpus, tokenization
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.data.pairs import (
    COUPLE,
    KINDS,
    LIMITS,
    RELATED,
    Pair,
    PairBatch,
    PairBatches,
    PairEncoder,
    pairs,
)
from ppg_jax.errors import UserError
from ppg_jax.inference.critic import Critic, check_classifier
from ppg_jax.losses import token_log_probs
from ppg_jax.metrics import clusters, overlap, significance
from ppg_jax.models import pretrained
from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.models.starts import initial_params
from ppg_jax.training import loop
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    make_optimizer,
    params_sha256,
)

PERSONAS = (*KINDS, "both")


@dataclasses.dataclass(frozen=True)
class Config:
    """One critic.

    name: its folder in the run directory. persona: whose profile it reads in training:
    that of the response's speaker ("self"), of the other ("partner"), or of "both".
    init: a folder, a hub id or "minilm", with its tokenizer; empty starts from scratch,
    with `model` and with `tokenizer`: "wordpiece:SIZE" or a folder. init_layers: how
    many layers of `init` to keep, evenly spaced, as DistilBERT came from BERT; 0: all.
    max_instances: of the training split, drawn by the seed; 0: all.
    validation_instances: for the curve; 0: all. evaluate_instances: of each split, for
    result.json; 0: all. batch_size: pairs, a multiple of 4.
    """

    name: str = "critic"
    persona: str = "self"
    data: DataConfig = DataConfig()
    init: str = "distilbert-base-uncased"
    init_layers: int = 0
    tokenizer: str = ""
    model: DistilBertConfig = DistilBertConfig()
    max_length: int = 128
    dtype: str = "float32"
    dropout: bool = True
    batch_size: int = 32
    epochs: float = 1.0
    max_instances: int = 0
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-6)
    seed: int = 0  # of the pairs, the weights and dropout
    validation_instances: int = 256
    evaluate_instances: int = 0
    evaluate_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 20

    def __post_init__(self):
        require_one_of(self, persona=PERSONAS, dtype=DTYPES)
        require_positive(self, "batch_size", "epochs", "log_every")
        require_count(self, "evaluate_every", "checkpoint_every", "init_layers", "seed")
        for field in LIMITS:
            if (number := getattr(self, field)) < 0 or number == 1:
                told = "must be 2 or more, for a stranger's profile, or 0 for all."
                raise ValueError(f"{field}={number} {told}")
        if self.init_layers and not self.init:
            raise ValueError("init_layers is of init, which is empty; leave it 0.")
        if self.batch_size % COUPLE:
            told = f"batch_size={self.batch_size} is not a multiple of {COUPLE}."
            raise ValueError(told)
        if bool(self.init) == bool(self.tokenizer):
            raise ValueError(
                f"init={self.init!r} and tokenizer={self.tokenizer!r}: give one of the "
                "two; a pretrained model brings its own tokenizer."
            )

    task: ClassVar[str] = "critic"
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        return KINDS if self.persona == "both" else (self.persona,)


def run(config: Config, workdir: Path) -> dict:
    """Trains the critic in `workdir`/`config.name`, or goes on, or says it is done.

    Returns the content of result.json: steps, accuracies beside those of the controls,
    params_sha256.
    """
    workdir = Path(workdir)
    splits = corpus.load_splits(config.data)
    model, params, tokenizer = initial(config, workdir, splits["train"])
    read = run_dir.sums_of(splits, "train", "valid", "test")
    read["tokenizer"] = tokenization.sha256(tokenizer)
    if config.init:
        read["initial weights"] = params_sha256(params)
    folder, first = workdir / config.name, [params]
    del params  # `make` pops it: nothing here keeps the first weights in training

    def make() -> dict:
        return train(config, folder, splits, tokenizer, model, first)

    return run_dir.once(folder, config, read, make, pretrained.load)


def train(config: Config, folder: Path, splits, tokenizer, model, first: list) -> dict:
    """Trains and exports the critic; returns its result.

    first: its first weights, popped, so that nobody keeps them.
    """
    encoder = PairEncoder(tokenizer, config.max_length)
    made = pairs(splits["train"], config.persona, config.seed, config.max_instances)
    batches = PairBatches(encoder, made, config.batch_size, config.seed)
    steps = max(1, round(config.epochs * batches.steps_per_epoch))
    tx = make_optimizer(config.optimizer, steps)
    train_step = make_train_step(model, tx, config.seed, config.dropout)
    valid = pairs(
        splits["valid"], config.persona, config.seed, config.validation_instances
    )
    params = first.pop()
    parameters = sum(p.size for p in jax.tree.leaves(params))
    state = [TrainState.create(params, tx)]
    del params
    state = loop.train(
        config.name,
        folder,
        state.pop(),
        lambda state, step: train_step(state, batches(step)),
        loop.Schedule.of(config, steps, batches.steps_per_epoch),
        lambda state: (state, validate(config, model, state.params, encoder, valid)),
    )
    tokenizer.model_max_length = config.max_length  # `Critic.load` reads it there
    pretrained.export(model, state.params, tokenizer, folder / "model")
    table = accuracies(config, Critic(model, state.params, encoder), made, splits)
    return {
        "steps": steps,
        "parameters": parameters,
        "train_pairs": len(made),
        **headline(config, table),
        "accuracy": table,
        "params_sha256": params_sha256(state.params),
    }


def initial(config: Config, workdir: Path, train: Sequence[Dialogue]):
    """(model, params, tokenizer): pretrained, or fresh from the seed."""
    dtype = jnp.dtype(config.dtype)
    if config.init:
        model, params, tokenizer = pretrained.load(
            config.init, dtype=dtype, seed=config.seed
        )
        check_classifier(model, config.init)
        if config.init_layers:
            model, params = keep_layers(model, params, config.init_layers)
    else:
        tokenizer = tokenization.of_run(
            config.tokenizer, workdir / "critic_tokenizer", train
        )
        sizes = dataclasses.replace(config.model, vocab_size=len(tokenizer))
        model = DistilBert(sizes, dtype)
        params = initial_params(model, config.seed)
    if not 3 < config.max_length <= (limit := model.config.max_position_embeddings):
        raise UserError(
            f"max_length={config.max_length} of the critic must be more than 3 and at "
            f"most {limit}, the model's positions."
        )
    return model, params, tokenizer


def keep_layers(model: DistilBert, params, number: int):
    """(model, params) with `number` of the layers, evenly spaced from the first on.

    So Sanh et al. (2019, section 3) start DistilBERT from one layer of two of BERT.
    """
    layers = model.config.n_layers
    if not 0 < number <= layers:
        raise UserError(
            f"init_layers={number} of the critic must be between 1 and {layers}, the "
            "layers of init, or 0 for all."
        )
    kept = {
        f"layer_{i}": params["transformer"][f"layer_{i * layers // number}"]
        for i in range(number)
    }
    sizes = dataclasses.replace(model.config, n_layers=number)
    return DistilBert(sizes, model.dtype), {**params, "transformer": kept}


def pair_loss(model: DistilBert, params, batch: PairBatch, dropout_rng=None):
    """Binary cross entropy and accuracy, means over the pairs: two scalars.

    dropout_rng: a key turns dropout on.
    """
    logits = model.apply(
        {"params": params},
        batch.tokens,
        batch.attention_mask,
        deterministic=dropout_rng is None,
        rngs=None if dropout_rng is None else {"dropout": dropout_rng},
    )
    nll = -token_log_probs(logits, batch.labels)
    right = jnp.argmax(logits, axis=-1) == batch.labels
    counted = batch.lengths > 0
    return jnp.mean(nll, where=counted), jnp.mean(right, where=counted)


def make_train_step(
    model: DistilBert, tx, seed: int, dropout: bool
) -> Callable[[TrainState, PairBatch], tuple[TrainState, dict]]:
    """(state, batch) -> (state, metrics), jitted; the state is donated."""
    loss_and_grads = jax.value_and_grad(pair_loss, argnums=1, has_aux=True)

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: PairBatch):
        # A key derived from the step makes a resumed run repeat the original one, so
        # the checkpoint does not have to carry a PRNG state.
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        (nll, accuracy), grads = loss_and_grads(
            model, state.params, batch, rng if dropout else None
        )
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads)))
        metrics = {"loss": nll, "accuracy": accuracy, "grad_norm": norm}
        return state.apply_gradients(grads, tx), metrics

    return train_step


def validate(config: Config, model, params, encoder, valid: Sequence[Pair]) -> dict:
    """Accuracy and nats per pair, which it also prints."""
    score = _score(Critic(model, params, encoder), valid).astype(np.float64)
    labels = np.array([pair.label for pair in valid])
    accuracy = overlap.accuracy(score, labels).mean()
    likelihood = np.where(labels == RELATED, score, 1 - score)
    print(f"{config.name}: valid accuracy {accuracy:.3f}", file=sys.stderr)
    nll = -np.log(np.maximum(likelihood, np.finfo(np.float32).tiny)).mean()
    return {"valid_accuracy": accuracy, "valid_nll": nll}


def accuracies(config: Config, critic: Critic, made: Sequence[Pair], splits) -> dict:
    """{split: {kind of persona: {judge: share, interval and counts}}}.

    The judges are the critic and the controls, which learn from the same pairs. Both
    kinds are asked, whatever it was trained on: REINFORCE asks about the partner's.
    """
    texts, labels = _texts(made), [pair.label for pair in made]
    judges = {
        "overlap": overlap.OverlapClassifier.fit(texts, labels),
        "lexical": overlap.LexicalClassifier.fit(texts, labels),
    }
    table: dict[str, dict] = {}
    for split in ("valid", "test"):
        table[split] = {}
        for kind in KINDS:
            asked = pairs(splits[split], kind, config.seed, config.evaluate_instances)
            scores = {"critic": _score(critic, asked)}
            scores |= {n: judge.score(_texts(asked)) for n, judge in judges.items()}
            scores["random"] = overlap.random_scores(len(asked), config.seed)
            whose = units(asked, splits[split], kind)
            table[split][kind] = _judged(scores, [p.label for p in asked], whose)
    return table


def units(
    asked: Sequence[Pair], dialogues: Sequence[Dialogue], kind: str
) -> np.ndarray:
    """What is resampled [N]: the base persona, of `kind`, of each pair's response."""
    own = kind == "self"
    profile_of = {d.id: d.self_persona if own else d.partner_persona for d in dialogues}
    names = [pair.instance_id.rpartition(":")[0] for pair in asked]
    return clusters.unit(names, [profile_of[name] for name in names]).groups


def headline(config: Config, table: dict) -> dict[str, float]:
    """The critic's accuracies on the persona it was trained on ("both": their mean)."""
    return {
        f"{split}_accuracy": float(
            np.mean([kinds[kind]["critic"]["accuracy"] for kind in config.kinds])
        )
        for split, kinds in table.items()
    }


def _judged(scores: Mapping[str, np.ndarray], labels, groups) -> dict[str, dict]:
    """{judge: its share of right answers}; of a control, the critic's p against it."""
    right = {name: overlap.accuracy(s, labels) for name, s in scores.items()}
    table = {name: _share(answers, groups) for name, answers in right.items()}
    for name in table.keys() - {"critic"}:
        table[name]["critic_p"] = significance.paired_permutation(
            right["critic"], right[name], groups=groups, resamples=4999
        )
    return table


def _share(right: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    share = significance.share(right, groups)
    return {
        "accuracy": share.value,
        "low": share.low,
        "high": share.high,
        "right": int(right.sum()),
        "pairs": len(right),
        "groups": len(np.unique(groups)),
    }


def _texts(made: Sequence[Pair]) -> list[tuple[str, str]]:
    return [(pair.profile_text, pair.response) for pair in made]


def _score(critic: Critic, made: Sequence[Pair]) -> np.ndarray:
    return critic.score([p.profile_text for p in made], [p.response for p in made])
