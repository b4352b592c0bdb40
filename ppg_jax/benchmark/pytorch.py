"""The peer: transformers on PyTorch, eager or compiled, at the best setting we found;
low-rank adapters by peft.

Scaled dot-product attention (`sdpa`), the fused Adam, instances of like lengths side by
side, padded no wider than the longest of them, logits at the targets alone, inference
mode where nothing is learned. `form` is what one pass holds:

    instance    one instance a row, as a user of transformers trains
    dialogue    our tensor program in PyTorch: the same batches, masks and positions

Each class is a `ppg_jax.benchmark.race.Work`.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers

from ppg_jax.benchmark.workload import (
    OPTIMIZER,
    Job,
    Part,
    Workload,
    as_checks,
    in_order,
    replies,
)
from ppg_jax.data.batching import Batch
from ppg_jax.data.passes import BRANCHES
from ppg_jax.inference.scoring import Score as NLL
from ppg_jax.models import pretrained
from ppg_jax.models.peft import is_adapter


class Setting(NamedTuple):
    """How PyTorch runs."""

    form: str = "instance"
    compiled: bool = False
    threads: int = 0


class Base:
    """The device, the models and how they are compiled."""

    def __init__(self, job: Job, setting: Setting):
        if setting.threads:
            torch.set_num_threads(setting.threads)
        torch.manual_seed(job.seed)
        torch.set_float32_matmul_precision("high")
        self.job, self.setting = job, setting
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.work = Workload(job)

    def generator(self, folder: str):
        """A whole model, or one with the adapters of a folder, which alone learn."""
        kind = transformers.AutoModelForCausalLM
        if not is_adapter(Path(folder)):
            return self.load(kind, folder)
        from peft import PeftModel

        base = self.load(kind, pretrained.base_of(folder))
        # It puts them into the base's layers: the base is the model that learns.
        PeftModel.from_pretrained(base, folder, is_trainable=True)
        return base.train(self.job.dropout)

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
        learned = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.Adam(learned, lr=OPTIMIZER.learning_rate, fused=True)


class Score(Base):
    """The log-likelihood of every target."""

    def __init__(self, job: Job, setting: Setting):
        super().__init__(job, setting)
        self.model = self.generator(job.generator)
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
    hidden = model.base_model(
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


class Generate(Base):
    """Context -> partner persona -> response, by `model.generate`."""

    def __init__(self, job: Job, setting: Setting):
        super().__init__(job, setting)
        made = {folder: self.generator(folder).eval() for folder in job.answering}
        # Its int8 on CPU is for `nn.Linear`, which GPT-2's layers are not.
        if job.weights == "bfloat16":
            made = {folder: model.to(torch.bfloat16) for folder, model in made.items()}
        self.models = [made[folder] for folder in job.answering]
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
        return as_checks(self.work, *self._replies(self.options))

    def run(self):
        self._replies(self.sampling)

    def _replies(self, options):
        return replies(self.work, functools.partial(self._complete, options))

    def _complete(self, options, which: int, rows, new_tokens: int) -> list[list[int]]:
        """The completions of prompts, in their order, without end tokens."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        completions: list[list[int]] = [[]] * len(rows)
        size = self.job.batch_size
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            picked = [rows[i] for i in chunk]
            made = complete(self, self.models[which], picked, new_tokens, options)
            for i, row in zip(chunk, made.tolist(), strict=True):
                completions[i] = until(row, self.work.prompts.end_id)
        return completions


@torch.inference_mode()
def complete(base: Base, model, rows, new_tokens: int, options) -> torch.Tensor:
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
