"""The whole method on real PersonaChat, from scratch, on two CPU cores.

The method's generators start from a model of whole dialogues that has learned which
word follows which; the one that never hears of partner personas from one that has never
seen any. The result, without the paper's other systems, is in
docs/results/personachat_scratch/: about three hours.

python -m launch.prepare_data --download --data=data
bash launch/personachat_scratch.sh
"""

import dataclasses

from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.experiment import Experiment, config_dict, other_rows, paper_rows
from ppg_jax.models.distilbert import DistilBertConfig
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.models.paml import PAMLConfig
from ppg_jax.models.percvae import PerCVAEConfig
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
from ppg_jax.training.train_state import OptimizerConfig


def get_config():
    data = DataConfig(source="data/personachat")
    prompts = PromptConfig(text="personachat")
    dialogue = supervised.Config(
        name="dialogue",
        task="dialogue",
        data=data,
        prompts=prompts,
        tokenizer="bpe:8192",
        model=GPT2Config(n_positions=512, n_embd=192, n_layer=4, n_head=3),
        # Random bits are dear on a CPU, and four epochs do not overfit dialogues.
        dropout=False,
        batch_size=4,
        epochs=4.0,
        optimizer=OptimizerConfig(
            learning_rate=1.5e-3, warmup_steps=100, schedule="cosine", clip_norm=1.0
        ),
        validation_dialogues=100,
        evaluate_every=500,
        checkpoint_every=500,
        patience=4,
    )
    without = dataclasses.replace(
        dialogue, name="dialogue_without", partner_persona="none"
    )
    # A generator of personas soon knows the 957 of training by heart.
    persona = dataclasses.replace(
        dialogue,
        name="persona",
        task="persona",
        init_stage="dialogue",
        dropout=True,
        epochs=0.4,
        optimizer=dataclasses.replace(dialogue.optimizer, learning_rate=3e-4),
        evaluate_every=125,
        checkpoint_every=125,
    )
    response = dataclasses.replace(
        persona,
        name="response",
        task="response",
        dropout=False,
        epochs=0.5,
        optimizer=dataclasses.replace(dialogue.optimizer, learning_rate=1e-4),
    )
    judge = critic.Config(
        name="critic",
        data=data,
        init="minilm",
        dropout=False,
        batch_size=32,
        max_instances=4096,
        optimizer=OptimizerConfig(
            learning_rate=1e-4, warmup_steps=50, schedule="cosine", clip_norm=1.0
        ),
        evaluate_instances=2000,
        evaluate_every=128,
        checkpoint_every=64,
    )
    # It meets its speakers here first.
    double = transfertransfo.Config(
        name="transfertransfo",
        data=data,
        prompts=prompts,
        tokenizer=dialogue.tokenizer,
        init_stage="dialogue_without",
        model=dialogue.model,
        dropout=False,
        epochs=0.15,
        optimizer=dataclasses.replace(dialogue.optimizer, learning_rate=5e-4),
        validation_dialogues=50,
        evaluate_every=75,
        checkpoint_every=75,
    )
    autoencoder = percvae.Config(
        name="percvae",
        data=data,
        model=PerCVAEConfig(
            embedding=128,
            sentence=128,
            context=192,
            memory=128,
            latent=64,
            prior=128,
            bag=256,
            decoder=256,
        ),
        kl_steps=2000,
        epochs=2.0,
        optimizer=OptimizerConfig(learning_rate=2e-3, clip_norm=5.0),
        validation_dialogues=200,
        evaluate_every=500,
        checkpoint_every=500,
    )
    learner = paml.Config(
        name="paml",
        data=data,
        model=PAMLConfig(width=128, layers=3),
        tasks=8,
        epochs=10.0,
        optimizer=dataclasses.replace(
            dialogue.optimizer, learning_rate=2e-3, clip_norm=2.0
        ),
        validation_dialogues=200,
        evaluate_every=100,
        checkpoint_every=100,
    )
    multi = mtl.Config(
        name="mtl",
        data=data,
        prompts=prompts,
        tokenizer=dialogue.tokenizer,
        model=dialogue.model,
        dropout=False,
        branches=3,
        epochs=1.3,  # a third of a dialogue model's, for each of three alphas
        optimizer=dialogue.optimizer,
        validation_dialogues=100,
        evaluate_every=500,
        checkpoint_every=500,
    )
    multi_backbone = dataclasses.replace(
        multi,
        name="mtl_backbone",
        init_stage="dialogue_without",
        epochs=0.16,  # a third of a generator's
        optimizer=response.optimizer,
        evaluate_every=125,
        checkpoint_every=125,
    )
    return config_dict(
        Experiment(
            data=data,
            prompts=prompts,
            stages=(
                dialogue,
                without,
                persona,
                response,
                dataclasses.replace(
                    response,
                    name="response_without",
                    init_stage="dialogue_without",
                    partner_persona="none",
                ),
                dataclasses.replace(
                    response,
                    name="response_top3",
                    partner_persona="top3",
                    batching="instance",
                    batch_size=32,
                    epochs=0.15,
                    evaluate_every=75,
                    checkpoint_every=75,
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
                    updates=100,
                    optimizer=OptimizerConfig(learning_rate=2e-5, clip_norm=1.0),
                    validation_instances=200,
                    evaluate_every=50,
                    checkpoint_every=25,
                ),
                double,
                autoencoder,
                learner,
                multi,
                multi_backbone,
            ),
            systems=paper_rows(top3="response_top3")
            | other_rows(double, autoencoder, learner, multi)
            | other_rows(multi_backbone, where=", from the dialogue model"),
            evaluate=evaluate.Config(
                title="The method from scratch on PersonaChat, two CPU cores",
                data=data,
                prompts=prompts,
                paper=True,
            ),
        )
    )
