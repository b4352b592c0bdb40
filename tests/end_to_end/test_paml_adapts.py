"""PAML learns to adapt: as the quickstart trains it, on the embedded corpus."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from configs import quickstart
from ppg_jax.data.corpus import load_splits
from ppg_jax.data.dialogue import instances
from ppg_jax.data.speaker_tasks import speakers
from ppg_jax.experiment import from_config_dict
from ppg_jax.metrics.significance import Interval, bootstrap, paired_bootstrap
from ppg_jax.stages import paml
from ppg_jax.systems.system import Asking

EXPERIMENT = from_config_dict(quickstart.get_config())


def measured(workdir: Path, split: str) -> tuple[Interval, Interval, Interval]:
    """Nats per word of those who speak twice or more in the split: unadapted, adapted,
    and the difference; 95 % intervals over speakers."""
    dialogues = load_splits(EXPERIMENT.data)[split]
    numbers = speakers(dialogues)
    more = [d for d, n in zip(dialogues, numbers, strict=True) if sum(numbers == n) > 1]
    groups = [n for d, n in zip(dialogues, numbers, strict=True) for _ in d.instances()]
    groups = np.array([n for n in groups if sum(numbers == n) > 1])
    asking = Asking(workdir, (), EXPERIMENT.prompts, evaluated=dialogues)
    columns = []
    for steps in (0, 10):
        row = dataclasses.replace(EXPERIMENT.systems["paml"], steps=steps)
        scores = row.load(asking).score(instances(more))
        columns.append(np.array([[s.nll, s.tokens] for s in scores]))
    none, ten = ([c] for c in columns)
    each = [bootstrap(c, groups=groups) for c in (none, ten)]
    return *each, paired_bootstrap(ten, none, groups=groups)


@pytest.mark.slow
def test_ten_passes_over_the_speakers_other_dialogues_beat_none(tmp_path):
    paml.run(EXPERIMENT.stage("paml"), tmp_path)
    none, ten, difference = measured(tmp_path, "valid")
    print("perplexity", *(np.exp(found) for found in (none, ten)), difference)
    assert difference.high < 0
