"""What a checkpoint calls each parameter: one table a family, read in both directions.

Also what `config.json` may say. Pure data: nothing here opens a file.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

# Ours, theirs, transposed. A torch Linear keeps its matrix as [out, in], a flax Dense
# as [in, out]; GPT-2's Conv1D is [in, out] already.
_LEAVES = {
    "embedding": (("embedding", "weight", False),),
    "norm": (("scale", "weight", False), ("bias", "bias", False)),
    "conv1d": (("kernel", "weight", False), ("bias", "bias", False)),
    "linear": (("kernel", "weight", True), ("bias", "bias", False)),
    "matrix": (("kernel", "weight", True),),
    "scale": (("scale", "weight", False),),
}


class Module(NamedTuple):
    """One row of the table; {} in the names is the layer."""

    path: str  # in the params tree
    name: str  # in the checkpoint, without the family's prefix
    kind: str


class Weight(NamedTuple):
    """One parameter: a leaf of a module in a layer."""

    path: str  # "h_0/ln_1/scale"
    name: str  # "h.0.ln_1.weight"
    transposed: bool


@dataclasses.dataclass(frozen=True)
class Family:
    """What is particular to one `model_type` of config.json."""

    modules: tuple[Module, ...]
    layers: str  # the config field that {} counts up to
    prefix: str  # of all names but the head's; a file may leave it out
    skipped: str  # pattern of tensors that hold no parameter of this architecture
    fixed: dict[str, object]  # what config.json must say, or leave out
    fields: dict[str, str] = dataclasses.field(default_factory=dict)  # ours -> theirs
    head: tuple[Module, ...] = ()  # absent from a checkpoint of the body alone
    tied: tuple[str, ...] = ()  # names of the head where it is the token embedding
    positive: tuple[str, ...] = ()  # numbers of config.json that may be 1 or more
    # Other names of config.json for ours, and other values that mean a fixed one.
    other_names: dict[str, str] = dataclasses.field(default_factory=dict)
    same: dict[str, tuple] = dataclasses.field(default_factory=dict)

    def in_head(self, name: str) -> bool:
        """Whether a tensor (name without prefix) belongs to the head."""
        return name.rpartition(".")[0] in {module.name for module in self.head}

    def full_name(self, name: str) -> str:
        """What transformers calls a tensor (name without prefix)."""
        return name if self.in_head(name) else self.prefix + name


def weights(modules: tuple[Module, ...], layers: int) -> Iterator[Weight]:
    """The table written out, one entry a parameter."""
    for module in modules:
        for layer in range(layers) if "{}" in module.path else [None]:
            path, name = module.path.format(layer), module.name.format(layer)
            for leaf, suffix, transposed in _LEAVES[module.kind]:
                yield Weight(f"{path}/{leaf}", f"{name}.{suffix}", transposed)


_GPT2 = (
    Module("wte", "wte", "embedding"),
    Module("wpe", "wpe", "embedding"),
    Module("h_{}/ln_1", "h.{}.ln_1", "norm"),
    Module("h_{}/attn/c_attn", "h.{}.attn.c_attn", "conv1d"),
    Module("h_{}/attn/c_proj", "h.{}.attn.c_proj", "conv1d"),
    Module("h_{}/ln_2", "h.{}.ln_2", "norm"),
    Module("h_{}/mlp/c_fc", "h.{}.mlp.c_fc", "conv1d"),
    Module("h_{}/mlp/c_proj", "h.{}.mlp.c_proj", "conv1d"),
    Module("ln_f", "ln_f", "norm"),
)
_LLAMA = (
    Module("embed_tokens", "embed_tokens", "embedding"),
    *(
        Module(f"layers_{{}}/{path}", f"layers.{{}}.{path.replace('/', '.')}", kind)
        for path, kind in (
            ("input_layernorm", "scale"),
            ("self_attn/q_proj", "matrix"),
            ("self_attn/k_proj", "matrix"),
            ("self_attn/v_proj", "matrix"),
            ("self_attn/o_proj", "matrix"),
            ("post_attention_layernorm", "scale"),
            ("mlp/gate_proj", "matrix"),
            ("mlp/up_proj", "matrix"),
            ("mlp/down_proj", "matrix"),
        )
    ),
    Module("norm", "norm", "scale"),
)
_EMBEDDINGS = (
    Module("embeddings/word_embeddings", "embeddings.word_embeddings", "embedding"),
    Module(
        "embeddings/position_embeddings", "embeddings.position_embeddings", "embedding"
    ),
    Module("embeddings/LayerNorm", "embeddings.LayerNorm", "norm"),
)
_HEAD = (
    Module("pre_classifier", "pre_classifier", "linear"),
    Module("classifier", "classifier", "linear"),
)


def _encoder(prefix: str, rows) -> tuple[Module, ...]:
    return _EMBEDDINGS + tuple(
        Module(f"transformer/layer_{{}}/{path}", f"{prefix}.{{}}.{name}", kind)
        for path, name, kind in rows
    )


_DISTILBERT = _encoder(
    "transformer.layer",
    (
        ("attention/q_lin", "attention.q_lin", "linear"),
        ("attention/k_lin", "attention.k_lin", "linear"),
        ("attention/v_lin", "attention.v_lin", "linear"),
        ("attention/out_lin", "attention.out_lin", "linear"),
        ("sa_layer_norm", "sa_layer_norm", "norm"),
        ("ffn/lin1", "ffn.lin1", "linear"),
        ("ffn/lin2", "ffn.lin2", "linear"),
        ("output_layer_norm", "output_layer_norm", "norm"),
    ),
)
_BERT = _encoder(
    "encoder.layer",
    (
        ("attention/q_lin", "attention.self.query", "linear"),
        ("attention/k_lin", "attention.self.key", "linear"),
        ("attention/v_lin", "attention.self.value", "linear"),
        ("attention/out_lin", "attention.output.dense", "linear"),
        ("sa_layer_norm", "attention.output.LayerNorm", "norm"),
        ("ffn/lin1", "intermediate.dense", "linear"),
        ("ffn/lin2", "output.dense", "linear"),
        ("output_layer_norm", "output.LayerNorm", "norm"),
    ),
)

# What a model may have beside its own head: that of a double-heads model, a value
# function of reinforcement learning, what marks the answer to a question.
_HEADS_BESIDE = r"multiple_choice_head\..*|v_head\..*|qa_outputs\..*"

# Of a decoder as classifier.
_SCORE = (Module("score", "score", "matrix"),)


def classifying(family: Family) -> Family:
    """A decoder's family with a classifier as its head."""
    return dataclasses.replace(family, head=_SCORE, tied=())


FAMILIES = {
    "gpt2": Family(
        modules=_GPT2,
        layers="n_layer",
        prefix="transformer.",
        skipped=rf"h\.\d+\.attn\.(bias|masked_bias)|{_HEADS_BESIDE}",
        fixed={
            "activation_function": "gelu_new",
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False,
            "is_causal": True,
        },
        tied=("lm_head.weight", "lm_head.decoder.weight"),
        other_names={
            "hidden_size": "n_embd",
            "max_position_embeddings": "n_positions",
            "num_attention_heads": "n_head",
            "num_hidden_layers": "n_layer",
        },
        same={
            "activation_function": (
                "gelu_pytorch_tanh",
                "gelu_python_tanh",
                "gelu_accurate",
                "gelu_fast",
            )
        },
    ),
    "llama": Family(
        modules=_LLAMA,
        layers="num_hidden_layers",
        prefix="model.",
        skipped=rf"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq|{_HEADS_BESIDE}",
        fixed={
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "rope_scaling": None,
            "is_causal": True,
        },
        head=(Module("lm_head", "lm_head", "matrix"),),
        tied=("lm_head.weight",),
        positive=("rope_theta",),
        same={"hidden_act": ("swish",)},
    ),
    "distilbert": Family(
        modules=_DISTILBERT,
        layers="n_layers",
        prefix="distilbert.",
        skipped=r"embeddings\.position_ids|vocab_(transform|layer_norm|projector)\..*"
        rf"|{_HEADS_BESIDE}",
        fixed={"activation": "gelu", "is_causal": False},
        head=_HEAD,
        other_names={
            "hidden_size": "dim",
            "num_attention_heads": "n_heads",
            "num_hidden_layers": "n_layers",
        },
        same={"activation": ("gelu_python",)},
    ),
    "bert": Family(
        modules=_BERT,
        layers="n_layers",
        prefix="bert.",
        skipped=r"embeddings\.(position|token_type)_ids|pooler\.dense\..*|cls\..*"
        rf"|{_HEADS_BESIDE}",
        fixed={
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "position_embedding_type": "absolute",
            "is_decoder": False,
            "is_causal": False,
        },
        fields={
            "dim": "hidden_size",
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
            "hidden_dim": "intermediate_size",
            "dropout": "hidden_dropout_prob",
            "attention_dropout": "attention_probs_dropout_prob",
        },
        head=_HEAD,
        same={"hidden_act": ("gelu_python",), "position_embedding_type": (None,)},
    ),
}
