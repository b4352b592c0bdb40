"""Our decoders and those of transformers on torch compute the same, weights and all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs pip install "ppg_jax[parity]"')

import transformers  # noqa: E402

from ppg_jax.inference.generator import Generator  # noqa: E402
from ppg_jax.inference.sampling import Decoding  # noqa: E402
from ppg_jax.losses import cross_entropy, token_log_probs  # noqa: E402
from ppg_jax.models import config_json, gpt2, llama, pretrained  # noqa: E402
from ppg_jax.models.decoder import Pass, causal_mask  # noqa: E402
from tests.parity import oracle  # noqa: E402

KINDS = {
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel, gpt2.Block),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, llama.Block),
}
GPT2_ODD = {
    "vocab_size": 17,
    "n_positions": 32,
    "n_embd": 20,
    "n_layer": 3,
    "n_head": 5,
}
LLAMA_ODD = {
    "vocab_size": 17,
    "max_position_embeddings": 32,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    "tie_word_embeddings": True,
}
SMOLLM2 = {
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
    "tie_word_embeddings": True,
}
CASES = {
    "gpt2-odd": ("gpt2", GPT2_ODD),
    "dialogpt-small": ("gpt2", {}),
    "llama-odd": ("llama", LLAMA_ODD),
    # As many heads of keys as of queries, and a head of its own.
    "llama-untied": (
        "llama",
        LLAMA_ODD | {"num_key_value_heads": 6, "tie_word_embeddings": False},
    ),
    "smollm2-135m": ("llama", SMOLLM2),
}
PARAMETERS = {"dialogpt-small": 124_439_808, "smollm2-135m": 134_515_008}
SLOW = {"smollm2-135m": pytest.mark.slow}


@pytest.fixture(
    scope="module",
    params=[pytest.param(case, marks=SLOW.get(case, ())) for case in CASES],
)
def pair(request, tmp_path_factory):
    """(torch model, our model, params) with the same random weights."""
    kind, sizes = CASES[request.param]
    made_of, made, _ = KINDS[kind]
    torch.manual_seed(0)
    config = made_of(**sizes, bos_token_id=0, eos_token_id=1)
    noise = 0.2 if config.vocab_size == 17 else 0.02
    theirs = oracle.randomise(made(config), noise)
    return theirs, *oracle.load_ours(theirs, tmp_path_factory.mktemp(kind))


def batch(vocab_size, side="right"):
    """Rows of 11, 7 and 1 tokens, padded with a token that also occurs inside."""
    tokens = np.random.default_rng(0).integers(vocab_size, size=(3, 11))
    lengths = np.array([[11], [7], [1]])
    places = np.arange(11)[None]
    mask = places < lengths if side == "right" else places >= 11 - lengths
    return np.where(mask, tokens, 1), mask


def positions(mask):
    return np.maximum(mask.cumsum(axis=1) - 1, 0)


def run_torch(theirs, tokens, mask, **options):
    arrays = {
        "input_ids": tokens,
        "attention_mask": mask.astype(int),
        "position_ids": positions(mask),
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return theirs(**tensors, **options)


@pytest.mark.parametrize("side", ["right", "left"])
def test_logits(pair, side):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size, side)
    with torch.no_grad():
        expected = run_torch(theirs, tokens, mask).logits.numpy()
    apply = jax.jit(model.apply)
    logits = np.asarray(apply({"params": params}, tokens, attention_mask=mask))
    largest = max(1.0, np.abs(expected[mask]).max() / 10)
    assert np.abs(logits - expected)[mask].max() <= 1e-4 * largest


def test_each_layer(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    kind = config_json.kind_of(model)
    body = theirs.transformer.h if kind == "gpt2" else theirs.model.layers
    with torch.no_grad(), oracle.recorded(body) as calls:
        run_torch(theirs, tokens, mask)
    assert len(calls) == config_json.layers_of(model)
    block = KINDS[kind][2](model.config, jnp.float32)
    told = Pass(causal_mask(mask), rotation=model.rotation(positions(mask)))
    run = jax.jit(lambda params, x: block.apply({"params": params}, x, told)[0])
    name = {"gpt2": "h_{}", "llama": "layers_{}"}[kind]
    for layer, (x, expected) in enumerate(calls):
        y = run(params[name.format(layer)], x)
        largest = max(1.0, np.abs(expected[mask]).max())
        assert np.abs(y - expected)[mask].max() <= 1e-5 * largest


def test_gradients_and_one_adamw_step(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    labels = torch.from_numpy(np.where(mask, tokens, -100))
    grads, after = oracle.torch_step(
        theirs, run_torch(theirs, tokens, mask, labels=labels).loss
    )

    @jax.jit
    def step(params):
        def loss(params):
            logits = model.apply({"params": params}, tokens, attention_mask=mask)
            log_probs = token_log_probs(logits[:, :-1], tokens[:, 1:])
            return cross_entropy(log_probs, jnp.asarray(mask[:, 1:]))

        grads = jax.grad(loss)(params)
        return grads, oracle.our_step(params, grads)

    kind = config_json.kind_of(model)
    ours = (oracle.under_torch_names(model, kind, tree) for tree in step(params))
    assert oracle.largest_difference(next(ours), grads) <= 1e-4
    assert oracle.largest_difference(next(ours), after) <= 1e-4


def test_export_reopens_in_transformers_bit_for_bit(pair, tmp_path):
    theirs, model, params = pair
    tokenizer = oracle.word_tokenizer(17)
    folder = pretrained.export(model, params, tokenizer, tmp_path / "out")
    opened = type(theirs).from_pretrained(folder).state_dict()
    expected = theirs.state_dict()
    assert opened.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(opened[name], tensor), name
    reopened = transformers.AutoTokenizer.from_pretrained(folder)
    assert reopened("w3 w5")["input_ids"] == tokenizer("w3 w5")["input_ids"] == [3, 5]
    tokens, mask = batch(model.config.vocab_size)
    again = type(theirs).from_pretrained(folder)
    with torch.no_grad():
        both = [run_torch(m, tokens, mask).logits for m in (theirs, again.eval())]
    assert torch.equal(*both)  # rotary positions and epsilons went out, too


def test_greedy_text_alone_and_in_a_padded_batch(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    prompts = [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]
    expected = []
    for prompt in prompts:
        text = torch.tensor([prompt])
        options = {"attention_mask": torch.ones_like(text), "pad_token_id": 0}
        reply = theirs.generate(text, max_new_tokens=8, do_sample=False, **options)
        expected.append(tuple(reply[0, len(prompt) :].tolist()))
    generator = Generator(model, Decoding(max_new_tokens=8), end_id=1, bucket=16)
    together = generator(params, prompts)
    alone = [generator(params, [prompt])[0] for prompt in prompts]
    for completions in (together, alone):
        assert [c.tokens + (1,) * c.ended for c in completions] == expected


def test_bfloat16_stays_close(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    half = model.clone(dtype=jnp.bfloat16)
    logits = jax.jit(half.apply)({"params": params}, tokens, attention_mask=mask)
    assert logits.dtype == jnp.float32
    with torch.no_grad():
        expected = run_torch(theirs, tokens, mask).logits.numpy()
    # bfloat16 keeps 8 bits (0.4 % a rounding), and the residual stream is rounded twice
    # a layer: a few per cent of the largest logit is what torch's own bfloat16 has too.
    difference = np.abs(logits - expected)[mask].max()
    assert 0 < difference < 0.05 * np.abs(expected[mask]).max()


def test_every_tensor_has_its_parameter_and_the_reverse(pair, request):
    theirs, model, params = pair
    ours = oracle.under_torch_names(model, config_json.kind_of(model), params)
    tensors = {n: p.detach().numpy() for n, p in theirs.named_parameters()}
    assert oracle.largest_difference(ours, tensors) == 0
    number = sum(array.size for array in ours.values())
    assert PARAMETERS.get(request.node.callspec.params["pair"], number) == number


def test_the_end_token_of_an_exported_llama_keeps_its_gradient_in_torch(tmp_path):
    """The tokenizer pads with the end token, whose gradient torch would then drop."""
    torch.manual_seed(0)
    theirs = oracle.randomise(
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA_ODD)), 0.2
    )
    model, params = oracle.load_ours(theirs, tmp_path / "in")
    tokenizer = oracle.word_tokenizer(17)
    tokenizer.pad_token = tokenizer.eos_token
    folder = pretrained.export(model, params, tokenizer, tmp_path / "out")
    opened = transformers.LlamaForCausalLM.from_pretrained(folder)
    assert opened.config.eos_token_id == 1
    assert opened.get_input_embeddings().padding_idx is None
    tokens = np.array([[3, 1, 5, 1, 7]])  # not only at the end
    opened(torch.from_numpy(tokens), labels=torch.from_numpy(tokens)).loss.backward()

    def loss(params):
        logits = model.apply({"params": params}, tokens)
        log_probs = token_log_probs(logits[:, :-1], tokens[:, 1:])
        return cross_entropy(log_probs, jnp.ones((1, 4), bool))

    ours = jax.jit(jax.grad(loss))(params)["embed_tokens"]["embedding"][1]
    row = opened.get_input_embeddings().weight.grad[1].numpy()
    np.testing.assert_allclose(row, ours, atol=1e-5)
