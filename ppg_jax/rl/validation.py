"""When REINFORCE is worth keeping and when it should stop, by a validation."""

import sys
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ppg_jax.data.dialogue import Dialogue, Instance, instances
from ppg_jax.data.prompts import Prompts
from ppg_jax.inference.generator import Generator
from ppg_jax.inference.sampling import Decoding
from ppg_jax.inference.scoring import Scorer, mean_nll
from ppg_jax.metrics.distinct import distinct
from ppg_jax.rl.update import Policies, ReinforceState
from ppg_jax.training.best import Best, copied
from ppg_jax.training.train_state import TrainState

# What a validation measures.
MEASURED = ("response_nll", "persona_nll", "persona_distinct_2")
CRITERIA = MEASURED[:2]


class Validator:
    """Perplexity of the gold response given the generated persona, on a fixed subset.

    Called with a state, it returns the state with the best policies kept up to date.
    """

    def __init__(
        self, name: str, prompts: Prompts, subset, policies: Policies, criterion: str
    ):
        """name: of the stage. subset: instances.

        criterion: of `CRITERIA`, what the best policies have least of.
        """
        self.subset, self.prompts, self._policies = subset, prompts, policies
        persona_model, response_model = policies.persona.model, policies.response.model
        greedy = Decoding(prompts.config.max_persona_tokens)
        self._generate = Generator(
            persona_model, greedy, prompts.end_id, batch_size=64, bucket=128
        )
        self._persona_scorer = Scorer(persona_model, 32)
        # Its examples hold new personas each time: widths that fit them would, too.
        self._response_scorer = Scorer(response_model, 32, widths=0)
        # As in training: an empty profile is nothing to be likely.
        known = [i for i in self.subset if i.partner_persona] or self.subset
        self._persona_examples = [prompts.persona_example(i) for i in known]
        self._name, self._criterion = name, criterion

    def __call__(self, state: ReinforceState):
        seen = self.measure(state.persona.params, state.response.params)
        last = {k: jnp.asarray(v, jnp.float32) for k, v in seen.items()}
        began = int(state.step) == 0
        now = {"persona": state.persona.params, "response": state.response.params}
        best = state.best.seen(
            last[self._criterion], state.step, None if began else now
        )
        first = last if began else state.first
        state = state.replace(best=best, first=first, last=last)
        metrics = {f"valid_{k}": v for k, v in seen.items()}
        metrics |= {
            f"valid_{name}_ppl": np.exp(seen[f"{name}_nll"])
            for name in ("persona", "response")
        }
        told = "  ".join(f"{k} {v:.4g}" for k, v in metrics.items())
        print(f"{self._name}: {told}", file=sys.stderr)
        return state, metrics

    def measure(self, persona: dict, response: dict) -> dict[str, float]:
        """NLL in nats per token of gold personas and gold responses; Distinct-2.

        persona, response: what each policy has learned.
        """
        prompts, subset, policies = self.prompts, self.subset, self._policies
        persona_params = policies.persona.params(persona)
        response_params = policies.response.params(response)
        rows = [prompts.persona_prompt(instance) for instance in subset]
        personas = self._generate(persona_params, rows)
        examples = [
            prompts.response_example(i, prompts.generated_persona(p.tokens))
            for i, p in zip(subset, personas, strict=True)
        ]
        responses = self._response_scorer(response_params, examples)
        gold = self._persona_scorer(persona_params, self._persona_examples)
        return {
            "response_nll": mean_nll(responses.values()),
            "persona_nll": mean_nll(gold.values()),
            "persona_distinct_2": distinct(
                [prompts.text(p.tokens) for p in personas], 2
            ),
        }


def initial_state(policies: Policies, tx) -> ReinforceState:
    """The supervised policies, not validated yet."""
    unknown = {name: jnp.full((), jnp.inf) for name in MEASURED}
    return ReinforceState(
        step=jnp.zeros((), jnp.int32),
        persona=TrainState.create(copied(policies.persona.learned), tx),
        response=TrainState.create(copied(policies.response.learned), tx),
        best=Best.create(
            {"persona": policies.persona.learned, "response": policies.response.learned}
        ),
        first=unknown,
        last=unknown,
    )


def subset_of(dialogues: Sequence[Dialogue], number: int, seed: int) -> list[Instance]:
    """So many instances, drawn by the seed; 0 is all, in the order drawn."""
    known = instances(dialogues)
    order = np.random.default_rng(seed).permutation(len(known))
    return [known[i] for i in order[: number or None]]


def finished(patience: int):
    """state -> why training should stop now; empty if it should not.

    Patience is the paper's early stopping. A collapse is told as one: perplexity far
    above where it started, or personas that have become all alike.
    """

    def reason(state: ReinforceState) -> str:
        first, last = (
            {k: float(v) for k, v in m.items()} for m in (state.first, state.last)
        )
        for name, factor in [("response", 1.5), ("persona", 4.0)]:
            before, after = (np.exp(m[f"{name}_nll"]) for m in (first, last))
            if not after <= factor * before:  # NaN, too
                return f"collapsed: {name} perplexity {before:.3g} -> {after:.3g}"
        before, after = first["persona_distinct_2"], last["persona_distinct_2"]
        if after < 0.25 * before:
            return f"collapsed: Distinct-2 of personas {before:.3g} -> {after:.3g}"
        return state.best.given_up(patience)

    return reason
