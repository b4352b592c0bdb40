"""The folder of a network of whole words: its sizes, its tensors and its vocabulary.

config.json         the fields of its config
model.safetensors   its parameters by their paths, and what else belongs to the model
vocabulary.json     `data.vocabulary`
"""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from ppg_jax.data.vocabulary import Vocabulary
from ppg_jax.errors import UserError
from ppg_jax.files import read_json, understood, write_json
from ppg_jax.models.soundness import require_sound
from ppg_jax.models.tensor_files import read_file, write_folder
from ppg_jax.training.train_state import params_sha256

CONFIG, TENSORS = "config.json", "model.safetensors"
_HINT = "delete the folder of this stage and train it again."


def save(
    folder: Path, config, params: dict, vocabulary: Vocabulary, **beside: np.ndarray
) -> None:
    """A folder that `read` opens.  beside: tensors that are no parameters, by name."""
    tensors = traverse_util.flatten_dict(params, sep="/") | beside
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}

    def write(partial: Path) -> None:
        write_json(partial / CONFIG, dataclasses.asdict(config))
        safetensors.numpy.save_file(arrays, partial / TENSORS)
        shutil.copymode(partial / CONFIG, partial / TENSORS)  # it is made unreadable
        vocabulary.save(partial)

    write_folder(folder, write)


class Read(NamedTuple):
    """What a folder holds."""

    config: object
    tensors: dict[str, jax.Array]
    vocabulary: Vocabulary

    def require_fit(self, folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises UserError unless the tensors have these shapes, and the vocabulary as
        many words as the config says."""
        fits = shapes == {name: a.shape for name, a in self.tensors.items()}
        if not fits or len(self.vocabulary) != self.config.vocab_size:
            told = f"{folder / TENSORS} does not fit {CONFIG} and the vocabulary"
            raise UserError(f"{told} beside it; {_HINT}")

    def params(self, folder: Path) -> dict:
        """The tensors as a tree; UserError where they were others."""
        params = traverse_util.unflatten_dict(self.tensors, sep="/")
        require_sound(folder, lambda: params_sha256(params))
        return params


def read(folder: Path, kind: type) -> Read:
    """What `save` wrote; kind: of its config.  Raises UserError where it is not."""
    values = read_json(folder / CONFIG, _HINT)
    with understood(folder / CONFIG, _HINT):
        config = kind(**values)
    tensors = {t.name: jnp.asarray(t.array) for t in read_file(folder / TENSORS)}
    return Read(config, tensors, Vocabulary.load(folder))


def shapes_of(model, *example) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path; nothing is computed."""
    made = jax.eval_shape(model.init, jax.random.key(0), *example)
    flat = traverse_util.flatten_dict(made["params"], sep="/")
    return {path: leaf.shape for path, leaf in flat.items()}
