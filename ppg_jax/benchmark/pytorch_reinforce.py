"""REINFORCE in the peer of `ppg_jax.benchmark.pytorch`."""

import functools

import numpy as np
import torch
import transformers

from ppg_jax.benchmark.pytorch import Base, Setting, complete, target_nll, until
from ppg_jax.benchmark.pytorch_critic import pair_logits, probabilities
from ppg_jax.benchmark.workload import Job, padded
from ppg_jax.rl import rewards


class Reinforce(Base):
    """The same algorithm: sample both, judge, one Adam step each."""

    def __init__(self, job: Job, setting: Setting):
        super().__init__(job, setting)
        self.models = [self.generator(folder).eval() for folder in job.answering]
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
