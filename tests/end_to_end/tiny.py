"""All stages at a size that takes seconds: a config for tests."""

import dataclasses

from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.experiment import Experiment, config_dict, paper_rows
from ppg_jax.models.distilbert import DistilBertConfig
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.stages import critic, evaluate, reinforce, supervised
from ppg_jax.training.train_state import OptimizerConfig


def get_config():
    data = DataConfig(max_dialogues=24)
    prompts = PromptConfig(max_length=256, max_persona_tokens=16, max_response_tokens=8)
    dialogue = supervised.Config(
        name="dialogue",
        task="dialogue",
        data=data,
        prompts=prompts,
        tokenizer="bpe:400",
        model=GPT2Config(n_positions=256, n_embd=16, n_layer=1, n_head=2),
        batch_size=12,
        epochs=4.0,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        validation_dialogues=4,
        evaluate_every=4,
        checkpoint_every=2,
        log_every=1,
    )
    persona = dataclasses.replace(
        dialogue, name="persona", task="persona", init_stage="dialogue"
    )
    response = dataclasses.replace(persona, name="response", task="response")
    judge = critic.Config(
        name="critic",
        data=data,
        init="",
        tokenizer="wordpiece:300",
        model=DistilBertConfig(dim=16, hidden_dim=32, n_layers=1, n_heads=2),
        max_length=64,
        batch_size=32,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        max_instances=64,
        validation_instances=16,
        evaluate_instances=32,
        evaluate_every=2,
        checkpoint_every=1,
        log_every=1,
    )
    return config_dict(
        Experiment(
            data=data,
            prompts=prompts,
            stages=(
                dialogue,
                persona,
                response,
                dataclasses.replace(
                    response, name="response_without", partner_persona="none"
                ),
                judge,
                dataclasses.replace(judge, name="critic_scratch"),
                reinforce.Config(
                    data=data,
                    prompts=prompts,
                    kl_coefficient=0.1,
                    entropy_coefficient=0.01,
                    baseline="leave_one_out",
                    batch_size=4,
                    updates=6,
                    optimizer=OptimizerConfig(learning_rate=1e-3),
                    validation_instances=8,
                    evaluate_every=3,
                    checkpoint_every=1,
                    log_every=1,
                ),
            ),
            systems=paper_rows(),
            evaluate=evaluate.Config(
                title="Tiny",
                data=data,
                prompts=prompts,
                max_dialogues=6,
                batch_size=16,
            ),
        )
    )
