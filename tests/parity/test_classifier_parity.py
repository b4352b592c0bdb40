"""Decoders as classifiers: the same logits as transformers and PEFT, padded too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs pip install "ppg_jax[parity]"')

import transformers  # noqa: E402

from ppg_jax.files import read_json  # noqa: E402
from ppg_jax.models import adapters, pretrained  # noqa: E402
from ppg_jax.models.classifier import new_classifier  # noqa: E402
from tests import models_for_tests as small  # noqa: E402
from tests.parity import oracle  # noqa: E402

# Between these two packages: PEFT asks transformers for what that has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)
MADE = {
    "gpt2": transformers.GPT2ForSequenceClassification,
    "llama": transformers.LlamaForSequenceClassification,
}
PAD = "<pad>"
LENGTHS = np.array([9, 6, 2, 1])
TARGETS = {"gpt2": ["c_attn", "c_fc"], "llama": "all-linear"}


def tokenizer():
    """With a pad token that is not its end token, as SmolLM2's has."""
    made = small.tokenizer(special=(PAD,))
    made.pad_token = PAD
    return made


def batch():
    """int [B, T] that ends with the end token in each row, and its mask."""
    mask = np.arange(9)[None] < LENGTHS[:, None]
    tokens = np.random.default_rng(0).integers(2, 300, size=mask.shape)
    tokens[np.arange(len(tokens)), LENGTHS - 1] = tokenizer().eos_token_id
    return np.where(mask, tokens, tokenizer().pad_token_id), mask


@pytest.fixture(params=MADE)
def made(request):
    """(kind, decoder, params, classifier, its params)."""
    model, params = small.DECODERS[request.param](300, n_layer=2)
    params = jax.tree.map(lambda p: 0.5 * p if p.ndim == 2 else p, params)
    judge, its = new_classifier(model, params, 0)
    its["score"] = {"kernel": 10 * its["score"]["kernel"]}
    return request.param, model, params, judge, its


def torch_logits(model):
    tokens, mask = map(torch.from_numpy, batch())
    with torch.no_grad():
        return model.eval()(tokens, attention_mask=mask.long()).logits.numpy()


def our_logits(folder):
    model, params, _ = pretrained.load(folder)
    return np.asarray(jax.jit(model.apply)({"params": params}, *batch()))


def agree(ours, theirs, without=None):
    largest = max(1.0, np.abs(theirs).max())
    assert np.abs(ours - theirs).max() <= 1e-4 * largest
    assert theirs.std() > 0.05
    if without is not None:
        assert np.abs(theirs - without).max() > 0.01 * largest


def test_transformers_opens_our_folder_and_says_the_same(made, tmp_path):
    *_, judge, its = made
    folder = pretrained.export(judge, its, tokenizer(), tmp_path / "ours")
    auto = transformers.AutoModelForSequenceClassification
    opened = auto.from_pretrained(folder)
    assert type(opened) is MADE[made[0]]
    assert opened.config.id2label == {0: "unrelated", 1: "related"}
    agree(our_logits(folder), torch_logits(opened))


def test_a_folder_that_transformers_wrote_says_the_same_here(made, tmp_path):
    kind, model, params, *_ = made
    base = pretrained.export(model, params, tokenizer(), tmp_path / "base")
    pad = tokenizer().pad_token_id
    theirs = MADE[kind].from_pretrained(base, num_labels=2, pad_token_id=pad)
    tokenizer().save_pretrained(tmp_path / "theirs")
    oracle.randomise(theirs, 0.05).save_pretrained(tmp_path / "theirs")
    agree(our_logits(tmp_path / "theirs"), torch_logits(theirs))


# ---- PEFT ----


@pytest.fixture
def peft():
    reason = 'needs pip install "ppg_jax[parity]"'
    return pytest.importorskip("peft", reason=reason)


def opened_base(kind, folder):
    """Without its output head; PEFT's classifiers keep the pad token in the model."""
    pad = tokenizer().pad_token_id
    torch.manual_seed(0)
    return MADE[kind].from_pretrained(folder, num_labels=2, pad_token_id=pad)


def test_peft_opens_our_adapters_and_says_the_same(made, peft, tmp_path):
    kind, model, params, judge, its = made
    base = pretrained.export(model, params, tokenizer(), tmp_path / "base")
    learned, frozen = adapters.split(adapters.add(its, 3, 0))
    draw = np.random.default_rng(0).normal
    moved = {k: v for k, v in learned.items() if k != "score"}
    moved = jax.tree.map(lambda p: jnp.float32(draw(0, 0.1, p.shape)), moved)
    tree = adapters.join(moved, adapters.join(learned, frozen))
    folder = tmp_path / "stage" / "model"
    pretrained.export(judge, tree, tokenizer(), folder, str(base))
    whole = pretrained.export(judge, its, tokenizer(), tmp_path / "whole")
    opened = peft.PeftModel.from_pretrained(opened_base(kind, base), folder)
    agree(our_logits(folder), torch_logits(opened), our_logits(whole))


def test_adapters_that_peft_wrote_say_the_same_here(made, peft, tmp_path):
    kind, model, params, *_ = made
    base = pretrained.export(model, params, tokenizer(), tmp_path / "base")
    config = peft.LoraConfig(
        r=3,
        lora_alpha=7,
        task_type="SEQ_CLS",
        fan_in_fan_out=kind == "gpt2",
        target_modules=TARGETS[kind],
    )
    theirs = peft.get_peft_model(opened_base(kind, base), config)
    before = torch_logits(theirs)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                spread = 0.5 if "score" in name else 0.1
                parameter.add_(spread * torch.randn(parameter.shape))
    folder = tmp_path / "theirs"
    theirs.save_pretrained(folder)
    saved = read_json(folder / "adapter_config.json")
    assert saved["modules_to_save"] == ["classifier", "score"]
    agree(our_logits(folder), torch_logits(theirs), before)
    again = tmp_path / "again" / "model"
    pretrained.export(*pretrained.load(folder), again, str(base))
    agree(our_logits(again), torch_logits(theirs))


@pytest.mark.parametrize("saves", [True, False], ids=["head", "no head"])
def test_a_classifier_that_peft_adapted_without_a_task_says_the_same_here(
    made, peft, saves, tmp_path
):
    """On a base that is a classifier, whose own head is read where none was trained."""
    kind, *_, judge, its = made
    base = pretrained.export(judge, its, tokenizer(), tmp_path / "base")
    config = peft.LoraConfig(
        r=3,
        fan_in_fan_out=kind == "gpt2",
        target_modules=["c_attn", "q_proj", "up_proj"],
        modules_to_save=["score"] if saves else None,
    )
    theirs = peft.get_peft_model(opened_base(kind, base), config)
    before = torch_logits(theirs)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    theirs.save_pretrained(tmp_path / "theirs")
    agree(our_logits(tmp_path / "theirs"), torch_logits(theirs), before)
