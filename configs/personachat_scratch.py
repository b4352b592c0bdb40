"""The whole method on real PersonaChat, from scratch, on two CPU cores."""

from ppg_jax import supervised
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.experiment import Experiment, config_dict
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.train_state import OptimizerConfig


def get_config():
    shared = dict(
        data=DataConfig(source="../shared/data/personachat"),
        prompts=PromptConfig(),
        tokenizer="bpe:8192",
        model=GPT2Config(n_positions=512, n_embd=192, n_layer=4, n_head=3),
        # One epoch over 64 k instances does not overfit a model of this size, and
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
    return config_dict(
        Experiment(
            persona=supervised.Config(name="persona", task="persona", **shared),
            response=supervised.Config(name="response", task="response", **shared),
            response_without=supervised.Config(
                name="response_without",
                task="response",
                partner_persona="none",
                **shared,
            ),
        )
    )
