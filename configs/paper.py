"""The paper's setting: DialoGPT and DistilBERT weights, its hyper-parameters.

Needs the hub or local copies of the weights (README, "The paper's setting") and a GPU;
not run by us to the end, so it claims nothing. Times in the paper, on a TITAN RTX:
supervised 3 to 4 h, critic 1 h, REINFORCE 15 h.

python -m launch.train --config=configs/paper.py --config.data.source=DIR
"""

import dataclasses

from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.experiment import Experiment, config_dict, paper_rows, table_7
from ppg_jax.stages import critic, evaluate, reinforce, supervised
from ppg_jax.training.train_state import OptimizerConfig

BACKBONE = "microsoft/DialoGPT-medium"


def get_config():
    data = DataConfig(source="personachat")
    prompts = PromptConfig(text="personachat")
    persona = supervised.Config(
        name="persona",
        task="persona",
        data=data,
        prompts=prompts,
        tokenizer="",
        init=BACKBONE,
        batching="instance",
        batch_size=16,
        epochs=2.0,
        optimizer=OptimizerConfig(learning_rate=5e-4),
        validation_dialogues=0,
        evaluate_every=1000,
        keep="last",  # "fine-tuned for 2 epochs"
        checkpoint_every=1000,
    )
    response = dataclasses.replace(persona, name="response", task="response")
    judge = critic.Config(
        name="critic",
        data=data,
        init="distilbert-base-uncased",
        batch_size=32,
        optimizer=OptimizerConfig(learning_rate=5e-6),
        validation_instances=0,
    )
    top3 = dataclasses.replace(response, name="response_top3", partner_persona="top3")
    reward = reinforce.Config(data=data, prompts=prompts, batching="instance")
    alone = table_7(reward)
    return config_dict(
        Experiment(
            data=data,
            prompts=prompts,
            stages=(
                persona,
                response,
                dataclasses.replace(
                    response, name="response_without", partner_persona="none"
                ),
                top3,
                judge,
                reward,
                *alone,
            ),
            systems=paper_rows(top3.name, (reward.name, *(r.name for r in alone))),
            evaluate=evaluate.Config(
                title="The paper's setting on PersonaChat",
                data=data,
                prompts=prompts,
                paper=True,
            ),
        )
    )
