"""A model folder as OpenVINO's graph, the form that its pipelines open.

python -m ppg_jax.benchmark.openvino_ir FOLDER float32 TARGET

Made as users make it: transformers' module is traced, its cache becomes states of the
graph, nncf rounds the weights. A program of its own, so that what this needs is not
counted as the contestant's memory.

Axes: B rows, T new tokens, S all of them; N heads of keys, H head size, V vocabulary.
"""

import shutil
import sys
import warnings
from pathlib import Path

import torch
import transformers
from transformers.cache_utils import Cache, DynamicLayer

# On its import openvino would tell its maker, over the net, that it is used.
sys.modules["openvino_telemetry"] = None
import openvino  # noqa: E402
from openvino import opset13 as ops  # noqa: E402
from openvino._offline_transformations import (  # noqa: E402
    apply_make_stateful_transformation,
)

CONFIGS = ("config.json", "generation_config.json")


def write(folder: Path, target: Path, weights: str) -> None:
    """weights: "float32", or "int8": of matrices and the embedding, a scale and a zero
    point for each output."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="sdpa"
    )
    config = model.eval().config
    size = config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    graph = traced(model, config.num_hidden_layers, heads, size)
    make_stateful(graph, heads, size)
    if weights == "int8":
        import nncf

        graph = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
    target.mkdir(exist_ok=True)
    for name in CONFIGS:
        shutil.copyfile(folder / name, target / name)
    openvino.save_model(graph, target / "openvino_model.xml", compress_to_fp16=False)


class OfCache(torch.nn.Module):
    """A model as a function of its cache.

    (input_ids [B, T], attention_mask [B, S], position_ids [B, T], keys and values
    [B, N, S - T, H] of each layer) -> (logits [B, T, V], keys and values [B, N, S, H])
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, past):
        layers = []
        for keys, values in zip(past[::2], past[1::2], strict=True):
            layer = DynamicLayer()
            layer.keys, layer.values, layer.is_initialized = keys, values, True
            layers.append(layer)
        logits = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=Cache(layers=layers),
            use_cache=True,
        ).logits
        return logits, *(x for layer in layers for x in (layer.keys, layer.values))


def traced(model, layers: int, heads: int, size: int) -> openvino.Model:
    """The graph of `OfCache`, under the names that openvino-genai asks for."""
    names = [
        f"past_key_values.{layer}.{kind}"
        for layer in range(layers)
        for kind in ("key", "value")
    ]
    # No two lengths alike, so that none is taken for another.
    rows, new, before = 2, 3, 4
    positions = torch.arange(before, before + new).expand(rows, new)
    example = {
        "input_ids": torch.ones(rows, new, dtype=torch.long),
        "attention_mask": torch.ones(rows, before + new, dtype=torch.long),
        "position_ids": positions.contiguous(),
        "past": [torch.zeros(rows, heads, before, size) for _ in names],
    }
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of each branch that is not traced
        graph = openvino.convert_model(OfCache(model), example_input=example)
    for given, name in zip(graph.inputs[-len(names) :], names, strict=True):
        given.get_tensor().set_names({name})
        given.get_node().set_partial_shape(openvino.PartialShape([-1, heads, -1, size]))
    made = ["logits", *map(_present, names)]
    for given, name in zip(graph.outputs, made, strict=True):
        given.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()
    return graph


def make_stateful(graph: openvino.Model, heads: int, size: int) -> None:
    """Keys and values stay inside; rows are reordered by a new input, beam_idx [B]."""
    integer = openvino.Type.i64
    first = ops.constant(0, integer)
    order = ops.parameter([-1], openvino.Type.i32, name="beam_idx")
    order.output(0).get_tensor().set_names({"beam_idx"})
    graph.add_parameters([order])
    names = [given.get_any_name() for given in graph.inputs]
    names = [name for name in names if name.startswith("past_key_values.")]
    for name in names:
        past = graph.input(name)
        readers = past.get_target_inputs()
        picked = ops.gather(past, order, first)
        for reader in readers:
            reader.replace_source_output(picked.output(0))
    graph.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(graph, {n: _present(n) for n in names})
    shape = ops.shape_of(graph.input("input_ids"), output_type="i64")
    rows = ops.gather(shape, ops.constant([0], integer), first)
    empty = ops.concat([rows, ops.constant([heads, 0, size], integer)], 0)
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            zero = ops.constant(0.0, openvino.Type.f32)
            node.set_arguments([ops.broadcast(zero, empty)])
    graph.validate_nodes_and_infer_types()


def _present(name: str) -> str:
    return name.replace("past_key_values", "present")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[3]), sys.argv[2])
