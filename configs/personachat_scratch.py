"""The whole method on real PersonaChat, from scratch, on two CPU cores.

The result is in docs/results/personachat_scratch/: about four hours.

python -m launch.prepare_data --download --data=data
bash launch/personachat_scratch.sh
"""

import dataclasses

from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.experiment import Experiment, config_dict
from ppg_jax.models.distilbert import DistilBertConfig
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.stages import critic, evaluate, reinforce, supervised
from ppg_jax.systems.generators import paper_rows
from ppg_jax.training.train_state import OptimizerConfig


def get_config():
    data = DataConfig(source="data/personachat")
    prompts = PromptConfig()
    persona = supervised.Config(
        name="persona",
        task="persona",
        data=data,
        prompts=prompts,
        tokenizer="bpe:8192",
        model=GPT2Config(n_positions=512, n_embd=192, n_layer=4, n_head=3),
        # One epoch over 65 k instances does not overfit a model of this size, and
        # random bits are dear on a CPU.
        dropout=False,
        batch_size=4,
        epochs=1.0,
        optimizer=OptimizerConfig(
            learning_rate=1.5e-3, warmup_steps=100, schedule="cosine", clip_norm=1.0
        ),
        validation_dialogues=64,
        evaluate_every=500,
        checkpoint_every=200,
    )
    response = dataclasses.replace(persona, name="response", task="response")
    judge = critic.Config(
        name="critic",
        data=data,
        init="minilm",
        dropout=False,
        batch_size=32,
        max_instances=8192,
        optimizer=OptimizerConfig(
            learning_rate=1e-4, warmup_steps=50, schedule="cosine", clip_norm=1.0
        ),
        evaluate_instances=2000,
        evaluate_every=128,
        checkpoint_every=64,
    )
    return config_dict(
        Experiment(
            data=data,
            prompts=prompts,
            stages=(
                dataclasses.replace(persona, name="dialogue", task="dialogue"),
                persona,
                response,
                dataclasses.replace(
                    response, name="response_without", partner_persona="none"
                ),
                judge,
                dataclasses.replace(
                    judge,
                    name="critic_scratch",
                    init="",
                    tokenizer="wordpiece:8192",
                    model=DistilBertConfig(
                        dim=128, hidden_dim=512, n_layers=3, n_heads=4
                    ),
                    optimizer=dataclasses.replace(judge.optimizer, learning_rate=5e-4),
                ),
                reinforce.Config(
                    data=data,
                    prompts=prompts,
                    baseline="leave_one_out",
                    kl_coefficient=0.05,
                    updates=150,
                    optimizer=OptimizerConfig(learning_rate=2e-5, clip_norm=1.0),
                    validation_instances=200,
                    evaluate_every=50,
                    checkpoint_every=25,
                ),
            ),
            systems=paper_rows(),
            evaluate=evaluate.Config(
                title="The method from scratch on PersonaChat, two CPU cores",
                data=data,
                prompts=prompts,
                paper=True,
                max_dialogues=320,
            ),
        )
    )
