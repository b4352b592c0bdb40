"""The critic's work in the peer of `ppg_jax.benchmark.pytorch`."""

import functools

import numpy as np
import torch
import transformers

from ppg_jax.benchmark.pytorch import Base, Setting
from ppg_jax.benchmark.workload import Job
from ppg_jax.data.pairs import RELATED, UNRELATED, PairBatch, collate
from ppg_jax.inference.critic import SCORED_AT_ONCE


class CriticScore(Base):
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
def probabilities(base: Base, logits, rows, ordered: bool = True) -> np.ndarray:
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


def pair_arguments(base: Base, batch: PairBatch):
    width = int(batch.lengths.max())
    mask = np.arange(width)[None] < batch.lengths[:, None]
    return base.tensor(batch.tokens[:, :width]), base.tensor(mask)


def pair_logits(model, tokens, mask):
    return model(input_ids=tokens, attention_mask=mask).logits
