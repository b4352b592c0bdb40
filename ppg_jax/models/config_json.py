"""config.json of a Hugging Face model folder: read into our configs, and written.

`weight_map` has what is particular to each kind.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import traverse_util

from ppg_jax.errors import UserError
from ppg_jax.files import read_json
from ppg_jax.models.classifier import Classifier
from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.models.gpt2 import GPT2, GPT2Config
from ppg_jax.models.llama import Llama, LlamaConfig
from ppg_jax.models.weight_map import FAMILIES, Family, classifying

MOST_LAYERS = 256
WEIGHTS = "model.safetensors"
LABELS = ("unrelated", "related")  # of a critic, as `data.pairs` numbers them
MODELS = {
    "gpt2": (GPT2, GPT2Config),
    "llama": (Llama, LlamaConfig),
    "distilbert": (DistilBert, DistilBertConfig),
    "bert": (DistilBert, DistilBertConfig),
}


def kind_of(model) -> str:
    """The `model_type` under which a model is written."""
    kinds = {made_of: kind for kind, (_, made_of) in reversed(MODELS.items())}
    return kinds[type(model.config)]


def family_of(model) -> Family:
    """The names of a model's parameters; a `Classifier` has another head."""
    family = FAMILIES[kind_of(model)]
    return classifying(family) if isinstance(model, Classifier) else family


def module_of(config, dtype=jnp.float32):
    """The decoder of a `GPT2Config` or a `LlamaConfig`."""
    modules = {made_of: module for module, made_of in MODELS.values()}
    return modules[type(config)](config, jnp.dtype(dtype))


def layers_of(model) -> int:
    return getattr(model.config, FAMILIES[kind_of(model)].layers)


@functools.cache
def shapes_of(model) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path; nothing is computed.

    All layers have one form, so a model with one of them is asked.
    """
    one = {FAMILIES[kind_of(model)].layers: 1}
    small = model.clone(config=dataclasses.replace(model.config, **one))
    tokens = jnp.zeros((1, 1), jnp.int32)
    tree = jax.eval_shape(small.init, jax.random.key(0), tokens)["params"]
    shapes = {}
    for path, leaf in traverse_util.flatten_dict(tree, sep="/").items():
        for layer in range(layers_of(model) if "_0/" in path else 1):
            shapes[path.replace("_0/", f"_{layer}/")] = leaf.shape
    return shapes


def read(values: dict, path: Path):
    """config.json -> its "model_type", and the sizes as a config of ours."""
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join(f'"{name}"' for name in FAMILIES)
        raise UserError(f'{path}: "model_type" is {kind!r}, expected one of {known}.')
    if values.get("quantization_config"):
        raise UserError(
            f"{path}: 'quantization_config' is there, and nothing here computes with "
            "quantized weights; give the model in float32, float16 or bfloat16, saved "
            "without it."
        )
    weights = values.get("transformers_weights")
    _expect(path, "transformers_weights", weights or WEIGHTS, WEIGHTS)
    if kind == "llama":
        values = _complete(_plain_rope(values, path))
    family = FAMILIES[kind]
    for other, name in family.other_names.items():
        if other in values and values.setdefault(name, values[other]) != values[other]:
            both = f"{name!r} is {values[name]!r}, {other!r} is {values[other]!r}"
            raise UserError(f"{path}: {both}; they name one size, keep one of them.")
    for name, expected in family.fixed.items():
        if values.get(name, expected) not in family.same.get(name, ()):
            _expect(path, name, values.get(name, expected), expected)
    _, make = MODELS[kind]
    settings = {
        field.name: _setting(values, field, family, path)
        for field in dataclasses.fields(make)
        if field.name != "num_labels"  # the classifier's own shape tells
    }
    try:
        config = make(**settings)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if (layers := getattr(config, family.layers)) > MOST_LAYERS:
        told = f"{family.layers!r} is {layers}, expected {MOST_LAYERS} at most"
        raise UserError(f"{path}: {told}; each is compiled.")
    if kind == "llama" and values.get("head_dim") is not None:
        _expect(path, "head_dim", values["head_dim"], config.head_size)
    return kind, config


def require_labels(folder: Path) -> None:
    """Raises UserError if a critic's folder says that it numbers `LABELS` otherwise."""
    path = folder / "config.json"
    named = read_json(path).get("id2label") if path.is_file() else None
    for number, label in enumerate(LABELS):
        other = LABELS[1 - number]
        if isinstance(named, dict) and named.get(str(number)) == other:
            raise UserError(
                f"{path}: 'id2label' names {number} {other!r}, where a critic has "
                f"{label!r}; exchange the two rows of its head, or train one."
            )


def _plain_rope(values: dict, path: Path) -> dict:
    """config.json with `rope_theta` at the top, where transformers 4 had it."""
    rope = values.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise UserError(f'{path}: "rope_parameters" is {rope!r}, expected an object.')
    _expect(path, "rope_type", _rope_type(rope), "default")
    theta = rope.get("rope_theta", values.get("rope_theta", 1e4))
    scaling = values.get("rope_scaling")
    # The plain positions may be spelled out, and their base with them.
    if isinstance(scaling, dict) and _rope_type(scaling) == "default":
        # It stands for all of the other, where both are there.
        theta = scaling.get("rope_theta", values.get("rope_theta", 1e4))
        values = values | {"rope_scaling": None}
    return values | {"rope_theta": theta}


def _rope_type(rope: dict):
    """transformers 4 called it type; positions that are divided by 1 are plain."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    return "default" if kind == "linear" and rope.get("factor") == 1 else kind


def _complete(values: dict) -> dict:
    """config.json of a Llama with what transformers takes where it says nothing."""
    absent = {"tie_word_embeddings": False, "rms_norm_eps": 1e-6}
    values = absent | values
    if values.get("num_key_value_heads") is None and "num_attention_heads" in values:
        values["num_key_value_heads"] = values["num_attention_heads"]
    return values


def _expect(path: Path, name: str, value, expected) -> None:
    if value != expected:
        raise UserError(
            f"{path}: {name!r} is {value!r}, this architecture has {expected!r} only."
        )


def _setting(values: dict, field: dataclasses.Field, family: Family, path: Path):
    """One field of config.json: a size must be there, a rate has a default."""
    name = family.fields.get(field.name, field.name)
    value = values.get(name, field.default)
    if field.default is None and value is None:
        return None
    if field.type in (int, int | None):
        value, expected = values.get(name), "a positive integer"
        sound = type(value) is int and 0 < value < 2**31
    elif field.type is bool:
        sound, expected = type(value) is bool, "true or false"
    elif name in family.positive:
        sound, expected = type(value) in (int, float) and value > 0, "a number above 0"
    else:
        sound = type(value) in (int, float) and 0 <= value < 1
        expected = "a number from 0 to below 1"
    if not sound:
        told = f"is {value!r}" if name in values else "is not there"
        raise UserError(f"{path}: {name!r} {told}, expected {expected}.")
    return value


def written(model, tokenizer) -> dict:
    """config.json of a model; it says what transformers needs to know."""
    kind, settings = kind_of(model), dataclasses.asdict(model.config)
    settings |= _ARCHITECTURES[kind](settings, tokenizer)
    if isinstance(model, Classifier):
        settings |= _as_classifier(model, settings["architectures"], tokenizer)
    settings["dtype"] = "float32"
    return {"model_type": kind} | FAMILIES[kind].fixed | settings


def generation(tokenizer) -> dict:
    """generation_config.json of a language model: what transformers pads and ends with,
    greedy where nobody says more."""
    end = tokenizer.eos_token_id
    pad = tokenizer.pad_token_id
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "do_sample": False,
        "eos_token_id": end,
        "pad_token_id": end if pad is None else pad,
    }


def _as_gpt2(settings: dict, tokenizer) -> dict:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": _padding(tokenizer),
    }


def _padding(tokenizer) -> int | None:
    """None where rows are padded with the end token, for want of another."""
    pad = tokenizer.pad_token_id
    return None if pad == tokenizer.eos_token_id else pad


def _as_llama(settings: dict, tokenizer) -> dict:
    theta = settings["rope_theta"]
    # transformers drops the gradient of the pad token's embedding: it must not be the
    # end token, which is learned. Nothing here reads it.
    return _as_gpt2(settings, tokenizer) | {
        "architectures": ["LlamaForCausalLM"],
        "pad_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
    }


def _as_distilbert(settings: dict, tokenizer) -> dict:
    return {
        "architectures": ["DistilBertForSequenceClassification"],
        "pad_token_id": _padding(tokenizer),
        **_labels(settings.pop("num_labels")),
    }


def _as_classifier(model: Classifier, architectures: list[str], tokenizer) -> dict:
    (name,) = architectures
    family = name.partition("For")[0].removesuffix("LMHeadModel")
    # transformers reads the last token that is no pad: that must not be the end token,
    # which a text ends with. Without another one it takes no batches.
    return {
        "architectures": [f"{family}ForSequenceClassification"],
        "pad_token_id": _padding(tokenizer),
        **_labels(model.num_labels),
    }


def _labels(number: int) -> dict:
    named = number == len(LABELS)  # a critic
    labels = LABELS if named else [f"LABEL_{i}" for i in range(number)]
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


# What config.json says beside the sizes.
_ARCHITECTURES = {
    "gpt2": _as_gpt2,
    "llama": _as_llama,
    "distilbert": _as_distilbert,
}
