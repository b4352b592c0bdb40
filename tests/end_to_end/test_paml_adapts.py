"""PAML learns who a speaker is from what they say elsewhere, where speakers recur.

The embedded corpus, whose people are drawn anew for each dialogue, regrouped: a speaker
is whoever has the same traits, in whatever words. Those of the test split are in no
other.
"""

import collections
import dataclasses

import numpy as np
import pytest

from configs import quickstart
from ppg_jax.data import persona_world
from ppg_jax.data.corpus import DataConfig, load_splits
from ppg_jax.data.dialogue import instances, write_jsonl
from ppg_jax.data.persona_world_traits import TRAITS
from ppg_jax.experiment import from_config_dict
from ppg_jax.metrics import significance
from ppg_jax.stages import paml
from ppg_jax.systems.paml import PAML
from ppg_jax.systems.system import Asking

SPEAKERS = {"test": 30, "valid": 20}  # the rest trains
EACH, FEWEST = 10, 6  # dialogues of one there; of anybody who is taken


def speakers() -> list[list]:
    """The dialogues of each, who say of themselves the same sentences each time."""
    first = {s: t.persona[0] for t in TRAITS for s in t.persona}
    groups = collections.defaultdict(list)
    for dialogue in persona_world.generate(sizes={"train": 8000}, areas=5)["train"]:
        self_persona = tuple(sorted(first[s] for s in dialogue.self_persona))
        one = dataclasses.replace(dialogue, self_persona=self_persona)
        groups[self_persona].append(one)
    return [groups[who] for who in sorted(groups) if len(groups[who]) >= FEWEST]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_adaptation_beats_none_for_people_never_met(tmp_path):
    known = speakers()
    order = np.random.default_rng(0).permutation(len(known)).tolist()
    for split in ("test", "valid", "train"):
        taken = order[: SPEAKERS.get(split)]
        most = EACH if split in SPEAKERS else None
        order = order[len(taken) :]
        some = [d for who in taken for d in known[who][:most]]
        write_jsonl(some, tmp_path / "data" / f"{split}.jsonl")
    experiment = from_config_dict(quickstart.get_config())
    data = DataConfig(source=str(tmp_path / "data"))
    stage = dataclasses.replace(experiment.stage("paml"), data=data, epochs=16.0)
    paml.run(stage, tmp_path)
    test = load_splits(data)["test"]
    asking = Asking(tmp_path, (), experiment.prompts, evaluated=test)
    asked = instances(test[::5])
    adapted, plain = (
        PAML("PAML", "paml", steps=steps).load(asking).score(asked) for steps in (3, 0)
    )
    both = zip(plain, adapted, strict=True)
    saved = np.array([(p.nll - a.nll, p.tokens) for p, a in both])
    people = [" ".join(i.self_persona) for i in asked]
    gain = significance.bootstrap([saved], groups=people)
    print(f"nats per word saved by three passes: {gain}")
    assert gain.low > 0
