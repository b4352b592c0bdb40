"""Adapters in PEFT's folders, theirs and ours, mean the same to both."""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs pip install "ppg_jax[parity]"')
theirs = pytest.importorskip("peft", reason='needs pip install "ppg_jax[parity]"')

import transformers  # noqa: E402

from ppg_jax.errors import UserError  # noqa: E402
from ppg_jax.models import adapters, peft, pretrained  # noqa: E402
from tests import models_for_tests as small  # noqa: E402

# Between these two packages: PEFT asks transformers for what that has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)
TOKENS = np.random.default_rng(0).integers(300, size=(2, 9))
MADE = {
    "gpt2": transformers.GPT2LMHeadModel,
    "llama": transformers.LlamaForCausalLM,
}


@pytest.fixture(params=MADE)
def base(request, tmp_path):
    """(kind, folder, our model, params): a base as we export it."""
    model, params = small.DECODERS[request.param](300, n_layer=2)
    params = jax.tree.map(lambda p: 0.5 * p if p.ndim == 2 else p, params)
    folder = tmp_path / "base" / "model"
    pretrained.export(model, params, small.tokenizer(), folder)
    return request.param, folder, model, params


def torch_logits(model):
    with torch.no_grad():
        return model.eval()(torch.from_numpy(TOKENS)).logits.numpy()


def our_logits(folder):
    model, params, _ = pretrained.load(folder)
    return np.asarray(jax.jit(model.apply)({"params": params}, TOKENS))


def agree(ours, expected, without):
    """They do, and the adapters matter."""
    largest = max(1.0, np.abs(expected).max())
    assert np.abs(ours - expected).max() <= 1e-4 * largest
    assert np.abs(expected - without).max() > 0.01 * largest


def moved(model):
    """Adapters as after training: B begins as zeros."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.1 * noise)
    return model


@pytest.mark.parametrize("every", [True, False], ids=["all", "some"])
def test_peft_opens_our_folder_and_says_the_same(base, every, tmp_path):
    kind, folder, model, params = base
    learned, _ = adapters.split(adapters.add(params, 3, 0))
    draw = np.random.default_rng(0).normal
    learned = jax.tree.map(lambda p: draw(0, 0.1, p.shape).astype(np.float32), learned)
    if not every:  # the last layer has none
        learned.pop("h_1" if kind == "gpt2" else "layers_1")
    tree = adapters.join(learned, params)
    ours = tmp_path / "stage" / "model"
    pretrained.export(model, tree, small.tokenizer(), ours, str(folder))
    whole = MADE[kind].from_pretrained(folder)
    without = torch_logits(whole)
    opened = theirs.PeftModel.from_pretrained(whole, ours)
    agree(our_logits(ours), torch_logits(opened), without)
    number = sum("lora_" in name for name, _ in opened.named_parameters())
    assert number == len(jax.tree.leaves(learned))


SOME = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"]}
SETTINGS = {
    "plain": {},
    "alpha": {"lora_alpha": 7},
    "rslora": {"lora_alpha": 7, "use_rslora": True},
    "subset": {"target_modules": SOME},
    "layer": {"target_modules": SOME, "layers_to_transform": [1]},
}


def written(base, folder, **settings):
    """A folder of PEFT's, on our base; the torch model."""
    kind, whole, *_ = base
    default = {"gpt2": ["c_attn", "c_fc"], "llama": "all-linear"}
    settings = {"target_modules": default} | settings
    settings = {
        k: v.get(kind, v) if type(v) is dict else v for k, v in settings.items()
    }
    config = theirs.LoraConfig(
        r=3, task_type="CAUSAL_LM", fan_in_fan_out=kind == "gpt2", **settings
    )
    model = theirs.get_peft_model(MADE[kind].from_pretrained(whole), config)
    moved(model).save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", SETTINGS)
def test_a_folder_that_peft_wrote_says_the_same_here(base, name, tmp_path):
    without = our_logits(base[1])
    model = written(base, tmp_path / "theirs", **SETTINGS[name])
    agree(our_logits(tmp_path / "theirs"), torch_logits(model), without)
    # And once more through our own hands.
    again = tmp_path / "ours"
    made, params, tokenizer = pretrained.load(tmp_path / "theirs")
    pretrained.export(made, params, tokenizer, again, str(base[1]))
    opened = theirs.PeftModel.from_pretrained(
        MADE[base[0]].from_pretrained(base[1]), again
    )
    agree(torch_logits(opened), torch_logits(model), without)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "lora_only"}, "bias"),
        ({"modules_to_save": ["ln_f", "norm"]}, "modules_to_save"),
        (
            {"rank_pattern": {"gpt2": {"c_attn": 2}, "llama": {"q_proj": 2}}},
            "rank_pattern",
        ),
        (
            {"alpha_pattern": {"gpt2": {"c_attn": 2}, "llama": {"q_proj": 2}}},
            "alpha_pattern",
        ),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
    ],
)
def test_what_is_no_plain_lora_of_peft_is_refused_by_name(
    base, settings, told, tmp_path
):
    written(base, tmp_path / "theirs", **settings)
    values = json.loads((tmp_path / "theirs" / peft.CONFIG).read_text())
    assert values[told]
    with pytest.raises(UserError, match=f"'{told}' is") as error:
        pretrained.load(tmp_path / "theirs")
    assert "\n" not in str(error.value)


EMBEDS = {"gpt2": "wte", "llama": "embed_tokens"}


def both(*names):
    """A setting of layers, under the name of each kind."""
    return {kind: [n.get(kind) for n in names] for kind in MADE}


QUERY = {"gpt2": "c_attn", "llama": "q_proj"}
HEAD = dict.fromkeys(MADE, "lm_head")


# PEFT warns of most of these: of tied layers, and of biases that it finds of no size.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("settings", "merges"),
    [
        ({"target_modules": both(QUERY, HEAD)}, ()),
        ({"target_modules": both(QUERY, EMBEDS)}, ()),
        ({"modules_to_save": both(HEAD)}, ("llama",)),
        ({"modules_to_save": both(EMBEDS)}, ("llama",)),
        ({"modules_to_save": both(EMBEDS, HEAD)}, ("llama",)),
        ({"trainable_token_indices": [3, 5]}, tuple(MADE)),
        ({"use_dora": True}, tuple(MADE)),
        ({"target_modules": both(QUERY), "lora_bias": True}, ("gpt2",)),
        ({"init_lora_weights": "pissa"}, tuple(MADE)),
    ],
)
def test_a_merge_is_advised_where_it_gives_the_model_that_was_trained(
    base, settings, merges, tmp_path
):
    kind, whole, *_ = base
    model = written(base, tmp_path / "theirs", **settings)
    expected = torch_logits(model)
    with pytest.raises(UserError) as error:
        pretrained.load(tmp_path / "theirs")
    advised = "merge it into its base with PEFT" in str(error.value)
    assert advised == (kind in merges)
    if advised:
        merged = tmp_path / "merged"
        model.merge_and_unload().save_pretrained(merged)
        small.tokenizer().save_pretrained(merged)
        agree(our_logits(merged), expected, our_logits(whole))


def test_adapters_beside_the_config_of_their_base_say_the_same(base, tmp_path):
    model = written(base, tmp_path / "theirs")
    config = (base[1] / "config.json").read_text()
    (tmp_path / "theirs" / "config.json").write_text(config)
    agree(our_logits(tmp_path / "theirs"), torch_logits(model), our_logits(base[1]))


def test_adapters_in_a_pickle_are_not_opened(base, tmp_path):
    written(base, tmp_path / "theirs")
    weights = tmp_path / "theirs" / peft.WEIGHTS
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match=r"adapter_model\.bin is a pickle, .* type: "):
        pretrained.load(tmp_path / "theirs")


def test_adapters_that_peft_trained_on_a_body_alone_say_the_same(base, tmp_path):
    kind, whole, *_ = base
    body = transformers.AutoModel.from_pretrained(whole)
    targets = {"gpt2": ["c_attn", "c_fc"], "llama": ["q_proj", "up_proj"]}[kind]
    config = theirs.LoraConfig(
        r=3, target_modules=targets, fan_in_fan_out=kind == "gpt2"
    )
    model = moved(theirs.get_peft_model(body, config))
    model.save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        hidden = model.eval()(torch.from_numpy(TOKENS)).last_hidden_state
        table = MADE[kind].from_pretrained(whole).get_output_embeddings().weight
        expected = (hidden @ table.T).numpy()
    agree(our_logits(tmp_path / "theirs"), expected, our_logits(whole))
