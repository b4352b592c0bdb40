"""The peer: transformers on PyTorch, eager or compiled, at the best setting we found.

Scaled dot-product attention (`sdpa`), the fused Adam, instances of like lengths side by
side, padded no wider than the longest of them, logits at the targets alone, inference
mode where nothing is learned. `form` is what one pass holds:

    instance    one instance a row, as a user of transformers trains
    dialogue    our tensor program in PyTorch: the same batches, masks and positions

Each class is a `ppg_jax.benchmark.race.Work`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import transformers

from ppg_jax.benchmark.workload import OPTIMIZER, Job, Part, Workload, in_order, padded
from ppg_jax.data.batching import Batch
from ppg_jax.data.pairs import RELATED, UNRELATED, PairBatch, collate
from ppg_jax.data.prompts import BRANCHES
from ppg_jax.inference.critic import SCORED_AT_ONCE
from ppg_jax.inference.scoring import Score as NLL
from ppg_jax.rl import rewards


class Setting(NamedTuple):
    """How PyTorch runs."""

    form: str = "instance"
    compiled: bool = False
    threads: int = 0


class _Base:
    """The device, the models and how they are compiled."""

    def __init__(self, job: Job, setting: Setting):
        if setting.threads:
            torch.set_num_threads(setting.threads)
        torch.manual_seed(job.seed)
        torch.set_float32_matmul_precision("high")
        self.job, self.setting = job, setting
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.work = Workload(job)

    def load(self, kind, folder: str):
        model = kind.from_pretrained(folder, attn_implementation="sdpa")
        return model.to(self.device).train(self.job.dropout)

    def compile(self, function):
        # Lengths vary: static shapes would be compiled by the dozen.
        return (
            torch.compile(function, dynamic=True) if self.setting.compiled else function
        )

    def tensor(self, array) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if tensor.dtype == torch.int32:
            tensor = tensor.long()
        return tensor.to(self.device)

    def autocast(self):
        kind = getattr(torch, self.job.dtype)
        return torch.autocast(self.device, kind, enabled=kind != torch.float32)

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def fetched(self, losses: Sequence[torch.Tensor]) -> np.ndarray | None:
        """The losses of a lap, once all its work is done; none of them with dropout."""
        self.wait()
        return None if self.job.dropout else torch.stack(losses).double().cpu().numpy()

    def optimizer(self, model):
        return torch.optim.Adam(
            model.parameters(), lr=OPTIMIZER.learning_rate, fused=True
        )


class Score(_Base):
    """The log-likelihood of every target."""

    def __init__(self, job: Job, setting: Setting):
        super().__init__(job, setting)
        self.model = self.load(transformers.GPT2LMHeadModel, job.generator)
        self.nll = self.compile(functools.partial(target_nll, self.model))
        self.parts = self.work.parts(setting.form)

    def arguments(self, batch: Batch) -> tuple:
        """What `target_nll` reads."""
        positions = mask = None
        if self.setting.form == "instance":
            # Padding on the right needs no mask: no real token looks that way. Nor
            # positions, with which transformers would look for packed sequences.
            batch = trimmed(batch)
        else:
            positions = self.tensor(batch.position_ids)
            branches = map(self.tensor, (batch.branch_ids, batch.branch_starts))
            mask = branch_mask(*branches, positions)
        arrays = (batch.target_index, batch.targets, batch.target_mask)
        return self.tensor(batch.tokens), positions, *map(self.tensor, arrays), mask

    def check(self):
        return {"nll": in_order(self._scores())}

    def run(self):
        self._scores()

    @torch.inference_mode()
    def _scores(self) -> dict[str, NLL]:
        self.model.eval()
        scores = {}
        for part in self.parts:
            with self.autocast():
                nll = self.nll(*self.arguments(part.batch))
            scores |= by_instance(part, nll.float().cpu().numpy())
        return scores


class Train(Score):
    """Updates of one generator; each sums its gradient over micro-batches."""

    def __init__(self, job: Job, setting: Setting):
        super().__init__(job, setting)
        self.adam = self.optimizer(self.model)
        self.updates = self.work.updates(setting.form)

    def run(self):
        self.model.train(self.job.dropout)
        losses = []
        for parts in self.updates:
            self.adam.zero_grad(set_to_none=True)
            targets = sum(int(part.batch.target_mask.sum()) for part in parts)
            loss = 0
            for batch, _ in parts:
                with self.autocast():
                    nll = self.nll(*self.arguments(batch)).sum() / targets
                nll.backward()
                loss += nll.detach()
            self.adam.step()
            losses.append(loss)
        return self.fetched(losses)


def by_instance(part: Part, nll: np.ndarray) -> dict[str, NLL]:
    """Nats of each target [B, M] -> of each instance."""
    scores = {}
    for row, ids in enumerate(part.ids):
        counted = part.batch.target_mask[row, : nll.shape[1]]
        owner = part.batch.target_of[row, : nll.shape[1]][counted]
        sums = np.bincount(owner, nll[row][counted], minlength=len(ids))
        sizes = np.bincount(owner, minlength=len(ids))
        triples = zip(ids, sums, sizes, strict=True)
        scores |= {name: NLL(float(n), int(size)) for name, n, size in triples}
    return scores


def target_nll(model, tokens, positions, index, targets, counted, mask):
    """Nats of each target [B, M], 0 where it does not count; logits only there."""
    hidden = model.transformer(
        input_ids=tokens, position_ids=positions, attention_mask=mask
    ).last_hidden_state
    hidden = hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))
    rows = hidden[counted]
    nll = torch.nn.functional.cross_entropy(
        model.lm_head(rows).float(), targets[counted], reduction="none"
    )
    return torch.zeros(counted.shape, device=nll.device).masked_scatter(counted, nll)


def branch_mask(branch, starts, positions) -> torch.Tensor:
    """bool [B, 1, T, T]: `ppg_jax.inference.scoring.branch_mask` in PyTorch."""
    own = (branch[:, :, None] == branch[:, None, :]).tril()
    before = positions[:, None, :] < starts[:, :, None]
    trunk = branch // BRANCHES * BRANCHES
    return (own | (before & (branch[:, None, :] == trunk[:, :, None])))[:, None]


def trimmed(batch: Batch) -> Batch:
    """Without the columns that are padding in every row: eager needs no buckets."""
    width = int((batch.branch_ids >= 0).any(axis=0).nonzero()[0][-1]) + 1
    count = int(batch.target_mask.any(axis=0).nonzero()[0][-1]) + 1
    wide = ("tokens", "position_ids", "branch_ids", "branch_starts")
    kept = {name: getattr(batch, name)[:, :width] for name in wide}
    narrow = ("target_index", "targets", "target_mask", "target_of")
    return Batch(**kept, **{name: getattr(batch, name)[:, :count] for name in narrow})


class Generate(_Base):
    """Context -> partner persona -> response, by `model.generate`."""

    def __init__(self, job: Job, setting: Setting):
        super().__init__(job, setting)
        self.model = self.load(transformers.GPT2LMHeadModel, job.generator).eval()
        # Its int8 on CPU is for `nn.Linear`, which GPT-2's layers are not.
        if job.weights == "bfloat16":
            self.model = self.model.to(torch.bfloat16)
        self.options = {"do_sample": False}
        if setting.compiled:
            # transformers compiles the decode step of a cache that does not grow.
            self.options["cache_implementation"] = "static"
        self.sampling = self.options
        if job.top_p:
            self.sampling = self.options | {
                "do_sample": True,
                "temperature": 1.0,
                "top_k": 0,
                "top_p": job.top_p,
            }

    def check(self):
        personas, responses = self._replies(self.options)
        limits = self.work.prompts.config
        return {
            "persona": padded(personas, limits.max_persona_tokens),
            "response": padded(responses, limits.max_response_tokens),
        }

    def run(self):
        self._replies(self.sampling)

    def _replies(self, options):
        prompts, limits = self.work.prompts, self.work.prompts.config
        chosen = self.work.first_instances()
        made = self._complete(
            [prompts.persona_prompt(i) for i in chosen],
            limits.max_persona_tokens,
            options,
        )
        personas = [prompts.generated_persona(tokens) for tokens in made]
        pairs = zip(chosen, personas, strict=True)
        responses = self._complete(
            [prompts.response_prompt(i, persona) for i, persona in pairs],
            limits.max_response_tokens,
            options,
        )
        for tokens in made + responses:
            prompts.text(tokens)
        return personas, responses

    def _complete(self, rows, new_tokens: int, options) -> list[list[int]]:
        """The completions of prompts, in their order, without end tokens."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        completions: list[list[int]] = [[]] * len(rows)
        size = self.job.batch_size
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            made = complete(
                self, self.model, [rows[i] for i in chunk], new_tokens, options
            )
            for i, row in zip(chunk, made.tolist(), strict=True):
                completions[i] = until(row, self.work.prompts.end_id)
        return completions


@torch.inference_mode()
def complete(base: _Base, model, rows, new_tokens: int, options) -> torch.Tensor:
    """Left-padded prompts in, new tokens [B, new] out."""
    end_id, width = base.work.prompts.end_id, max(map(len, rows))
    tokens = np.full((len(rows), width), end_id, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for i, row in enumerate(rows):
        tokens[i, width - len(row) :], mask[i, width - len(row) :] = row, 1
    with base.autocast():
        made = model.generate(
            base.tensor(tokens),
            attention_mask=base.tensor(mask),
            max_new_tokens=new_tokens,
            eos_token_id=end_id,
            pad_token_id=end_id,
            **options,
        )
    return made[:, width:]


def until(row: Sequence[int], end_id: int) -> list[int]:
    """The tokens before the first end token."""
    row = list(row)
    return row[: row.index(end_id)] if end_id in row else row


class Reinforce(_Base):
    """The same algorithm: sample both, judge, one Adam step each."""

    def __init__(self, job: Job, setting: Setting):
        super().__init__(job, setting)
        self.models = [
            self.load(transformers.GPT2LMHeadModel, job.generator).eval()
            for _ in range(2)
        ]
        self.adams = [self.optimizer(model) for model in self.models]
        self.nlls = [
            self.compile(functools.partial(target_nll, model)) for model in self.models
        ]
        critic = self.load(
            transformers.DistilBertForSequenceClassification, job.critic
        ).eval()
        self.judge = self.compile(functools.partial(pair_logits, critic))
        self.chosen = self.work.reinforced_instances()
        self.encode = self.work.pair_encoder()

    def check(self):
        chosen = self.chosen[: self.job.batch_size]
        prompts, made, score = self._judged(chosen, {"do_sample": False})
        end_id, limits = self.work.prompts.end_id, self.work.prompts.config
        widths = (limits.max_persona_tokens, limits.max_response_tokens)
        tables, log_probs, lengths = [], [], []
        for i in range(2):
            rows = [c + [end_id] for c in made[i]]
            rows = [row[: widths[i]] for row in rows]
            table = padded(rows, widths[i])
            tables.append(np.where(table < 0, end_id, table))
            with torch.no_grad():
                log_probs.append(self._log_prob(i, prompts[i], rows).cpu().numpy())
            lengths.append([len(row) for row in rows])
        return {
            "persona": tables[0].astype(np.int32),
            "response": tables[1].astype(np.int32),
            "log_prob": np.stack(log_probs),
            "lengths": np.array(lengths, np.int32),
            "critic_score": score,
        }

    def run(self):
        size = self.job.batch_size
        end_id, limits = self.work.prompts.end_id, self.work.prompts.config
        widths = (limits.max_persona_tokens, limits.max_response_tokens)
        sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        for start in range(0, len(self.chosen), size):
            chosen = self.chosen[start : start + size]
            prompts, made, score = self._judged(chosen, sampling)
            reward = rewards.sign(rewards.Judged(score, (), (), ()))
            for i, adam in enumerate(self.adams):
                rows = [(c + [end_id])[: widths[i]] for c in made[i]]
                adam.zero_grad(set_to_none=True)
                self._backward(i, prompts[i], rows, reward)
                adam.step()
        self.wait()

    def _backward(self, i: int, prompts, rows, reward):
        """Sums the gradient of policy i over micro-batches of like lengths."""
        lengths = [len(p) + len(r) for p, r in zip(prompts, rows, strict=True)]
        order, size = np.argsort(lengths, kind="stable"), self.job.micro_batch
        for start in range(0, len(order), size):
            part = order[start : start + size]
            log_prob = self._log_prob(
                i, [prompts[j] for j in part], [rows[j] for j in part]
            )
            loss = -(self.tensor(reward[part]) * log_prob).sum() / len(order)
            loss.backward()

    def _judged(self, chosen, options):
        """Prompts, completions (without end tokens) and critic scores of a batch."""
        prompts, limits = self.work.prompts, self.work.prompts.config
        first = [prompts.persona_prompt(i) for i in chosen]
        end_id = prompts.end_id
        made = complete(
            self, self.models[0], first, limits.max_persona_tokens, options
        ).tolist()
        personas = [until(row, end_id) for row in made]
        pairs = zip(chosen, personas, strict=True)
        second = [
            prompts.response_prompt(i, prompts.generated_persona(p)) for i, p in pairs
        ]
        made = complete(
            self, self.models[1], second, limits.max_response_tokens, options
        ).tolist()
        responses = [until(row, end_id) for row in made]
        rows = self.encode(
            [prompts.text(p) for p in personas], [prompts.text(r) for r in responses]
        )
        score = probabilities(self, self.judge, rows)
        return (first, second), (personas, responses), score

    def _log_prob(self, i: int, prompts, completions) -> torch.Tensor:
        """log P of each completion under policy i, [B], with its graph."""
        width = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
        count = max(map(len, completions))
        height = len(prompts)
        tokens = np.zeros((height, width), np.int64)
        index = np.zeros((height, count), np.int64)
        targets = np.zeros((height, count), np.int64)
        counted = np.zeros((height, count), bool)
        for row, (prompt, made) in enumerate(zip(prompts, completions, strict=True)):
            tokens[row, : len(prompt) + len(made)] = [*prompt, *made]
            index[row, : len(made)] = len(prompt) - 1 + np.arange(len(made))
            targets[row, : len(made)] = made
            counted[row, : len(made)] = True
        arrays = map(self.tensor, (index, targets, counted))
        with self.autocast():
            nll = self.nlls[i](self.tensor(tokens), None, *arrays, None)
        return -nll.sum(1)


class CriticScore(_Base):
    """P(related) of pairs, from text."""

    def __init__(self, job: Job, setting: Setting):
        super().__init__(job, setting)
        self.model = self.load(
            transformers.DistilBertForSequenceClassification, job.critic
        ).eval()
        self.logits = self.compile(functools.partial(pair_logits, self.model))
        self.encode = self.work.pair_encoder()
        self.texts = self.work.pair_texts()

    def check(self):
        return {"critic_score": self._scores()}

    def run(self):
        self._scores()

    def _scores(self):
        self.model.eval()
        rows, ordered = self.encode(*self.texts), self.setting.form == "dialogue"
        return probabilities(self, self.logits, rows, ordered)


class CriticTrain(CriticScore):
    """Updates of the critic: on our batches, or (form: instance) in any order."""

    def __init__(self, job: Job, setting: Setting):
        super().__init__(job, setting)
        self.adam = self.optimizer(self.model)
        self.batches = self.work.pair_batches(mixed=setting.form == "instance")

    def run(self):
        self.model.train(self.job.dropout)
        losses = []
        for batch in self.batches:
            self.adam.zero_grad(set_to_none=True)
            with self.autocast():
                logits = self.logits(*pair_arguments(self, batch))
            labels = self.tensor(batch.labels)
            loss = torch.nn.functional.cross_entropy(logits.float(), labels)
            loss.backward()
            self.adam.step()
            losses.append(loss.detach())
        losses = self.fetched(losses)
        return losses if self.setting.form == "dialogue" else None


@torch.inference_mode()
def probabilities(base: _Base, logits, rows, ordered: bool = True) -> np.ndarray:
    """P(related) of token rows; ordered: like lengths side by side.

    logits: `pair_logits` of a model.
    """
    order = np.arange(len(rows))
    if ordered:
        order = np.argsort([len(row) for row in rows], kind="stable")
    scores = np.zeros(len(rows), np.float32)
    for start in range(0, len(order), SCORED_AT_ONCE):
        chunk = order[start : start + SCORED_AT_ONCE]
        picked = [rows[i] for i in chunk]
        batch = collate(picked, [UNRELATED] * len(picked), len(picked))
        with base.autocast():
            found = logits(*pair_arguments(base, batch))
        scores[chunk] = found.float().softmax(-1)[:, RELATED].cpu().numpy()
    return scores


def pair_arguments(base: _Base, batch: PairBatch):
    width = int(batch.lengths.max())
    mask = np.arange(width)[None] < batch.lengths[:, None]
    return base.tensor(batch.tokens[:, :width]), base.tensor(mask)


def pair_logits(model, tokens, mask):
    return model(input_ids=tokens, attention_mask=mask).logits
