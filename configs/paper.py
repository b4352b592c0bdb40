"""The paper's setting: DialoGPT and DistilBERT weights, its hyper-parameters.

Needs the hub or local copies of the weights (README, "The paper's setting") and a GPU;
not run by us to the end, so it claims nothing. Times in the paper, on a TITAN RTX:
supervised 3 to 4 h, critic 1 h, REINFORCE 15 h.

python -m launch.train --config=configs/paper.py --config.data.source=DIR
"""

import dataclasses

from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.experiment import Experiment, changed, config_dict, other_rows, paper_rows
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.stages import (
    critic,
    evaluate,
    mtl,
    paml,
    percvae,
    reinforce,
    supervised,
    transfertransfo,
)
from ppg_jax.systems.generators import Generators
from ppg_jax.training.train_state import OptimizerConfig

BACKBONE = "microsoft/DialoGPT-medium"
GPT2 = "openai-community/gpt2-medium"  # of the same size and the same tokens


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
    # "The best model is selected, the third one."
    gpt2 = dataclasses.replace(top3, name="gpt2", tokenizer=BACKBONE, init=GPT2)
    # Its published code's: batches of 4, 8 of which make an update.
    double = transfertransfo.Config(
        name="transfertransfo",
        data=data,
        prompts=prompts,
        tokenizer="",
        init=BACKBONE,
        batch_size=32,
        micro_batches=8,
        validation_dialogues=0,
        evaluate_every=1000,
        keep="last",
        checkpoint_every=1000,
    )
    autoencoder = percvae.Config(name="percvae", data=data)  # as published
    # Its published code's: 10,000 updates at most, or a hundred validations in vain.
    learner = paml.Config(
        name="paml", data=data, vocabulary_most=0, epochs=167.0, patience=100
    )
    multi = mtl.Config(
        name="mtl",
        data=data,
        prompts=prompts,
        tokenizer=BACKBONE,
        model=GPT2Config(n_positions=512, n_embd=300, n_layer=6, n_head=6),
        epochs=4.0,
        optimizer=OptimizerConfig(
            learning_rate=5e-4, warmup_steps=100, schedule="linear", clip_norm=1.0
        ),
        validation_dialogues=0,
        evaluate_every=1000,
        checkpoint_every=1000,
    )
    multi_backbone = dataclasses.replace(
        multi, name="mtl_backbone", tokenizer="", init=BACKBONE, epochs=2.0
    )
    reward = reinforce.Config(data=data, prompts=prompts, batching="instance")
    beside = changed(reward, reinforce.TABLE_7)
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
                *beside,
                gpt2,
                double,
                autoencoder,
                learner,
                multi,
                multi_backbone,
            ),
            systems=paper_rows(top3.name, (reward.name, *(r.name for r in beside)))
            | {gpt2.name: Generators("E2E from GPT-2", gpt2.name, against=("full",))}
            | other_rows(double, autoencoder, learner, multi)
            | other_rows(multi_backbone, where=", on the backbone"),
            evaluate=evaluate.Config(
                title="The paper's setting on PersonaChat",
                data=data,
                prompts=prompts,
                paper=True,
            ),
        )
    )
