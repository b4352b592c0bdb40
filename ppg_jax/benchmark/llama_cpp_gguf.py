"""A model folder as a GGUF file, the form that llama.cpp opens.

python -m ppg_jax.benchmark.llama_cpp_gguf FOLDER q8_0 TARGET

Weights and sizes only: contestants get token ids, so the file has no tokenizer.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

from ppg_jax.benchmark import converted
from ppg_jax.files import read_json
from ppg_jax.models import config_json
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.models.tensor_files import FOLDER, read_folder
from ppg_jax.models.weight_map import FAMILIES, weights

TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "float16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
_FILES = {
    "float32": gguf.LlamaFileType.ALL_F32,
    "float16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
LAYER_NORM = 1e-5  # what GPT-2 adds to a variance


def convert(folder: Path, kind: str) -> Path:
    """The file, beside the folder; written if it is not there.

    kind: of `TYPES`, of matrices; vectors and GPT-2's positions stay float32.
    """
    target = folder.with_name(f"{folder.name}_{kind}.gguf")
    return converted.once(target, __spec__.name, folder, kind)


def _write(folder: Path, kind: str, path: Path) -> None:
    file = folder / "config.json"
    name, config = config_json.read(read_json(file, FOLDER), file)
    family = FAMILIES[name]
    layers = getattr(config, family.layers)
    writer = gguf.GGUFWriter(path, name)
    _add_sizes(writer, config, kind)
    arch = {"gpt2": gguf.MODEL_ARCH.GPT2, "llama": gguf.MODEL_ARCH.LLAMA}[name]
    names = gguf.get_tensor_name_map(arch, layers)
    _, tensors = read_folder(folder, family.prefix, family.skipped)
    for place, told, transposed in weights(family.modules + family.head, layers):
        if told not in tensors:
            continue  # the head is the token embedding
        array = np.asarray(tensors[told].array, np.float32)
        if place.endswith("kernel") and not transposed:
            array = array.T  # [in, out], as GPT-2 keeps it
        layer, _, leaf = family.full_name(told).rpartition(".")
        if layer.endswith(("q_proj", "k_proj")):
            array = _interleaved(array, config.head_size)
        new = f"{names.get_name(layer)}.{leaf}"
        plain = array.ndim == 1 or new.startswith("position_embd")
        wanted = TYPES["float32" if plain else kind]
        array = gguf.quants.quantize(np.ascontiguousarray(array), wanted)
        writer.add_tensor(new, array, raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(writer: gguf.GGUFWriter, config, kind: str) -> None:
    writer.add_file_type(_FILES[kind])
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.n_positions)
    if isinstance(config, GPT2Config):
        writer.add_embedding_length(config.n_embd)
        writer.add_feed_forward_length(4 * config.n_embd)
        writer.add_block_count(config.n_layer)
        writer.add_head_count(config.n_head)
        writer.add_layer_norm_eps(LAYER_NORM)
        return
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_rope_freq_base(config.rope_theta)


def _interleaved(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows of q or k in llama.cpp's order, which `ppg_jax.models.gguf` undoes: the two
    halves of a head, of `size` rows together, take turns."""
    heads = rows.reshape(-1, 2, size // 2, rows.shape[1])
    return heads.swapaxes(1, 2).reshape(rows.shape)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
