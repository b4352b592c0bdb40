"""From the name of a data source to the dialogues of its splits.

Sources: ``persona_world`` (embedded), a folder with ParlAI files, JSON lines or a
`datasets.DatasetDict`, a single file, or ``hub:NAME`` on the Hugging Face hub.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ppg_jax.config import require_count, require_one_of
from ppg_jax.data import persona_world, personachat
from ppg_jax.data.dialogue import DataError, Dialogue, from_record, read_jsonl
from ppg_jax.errors import UserError

SPLITS = ("train", "valid", "test")
VERSIONS = ("original", "revised")
_DOWNLOAD = "python -m launch.prepare_data --download --data=DIR"

# The first form of which a folder has any split is read. Files without candidates
# hold the same dialogues and are ten times smaller.
_PARLAI = (
    "{split}_both_{version}_no_cands.txt",
    "{split}_both_{version}.txt",
    "personachat/{split}_both_{version}_no_cands.txt",
    "personachat/{split}_both_{version}.txt",
)
_JSONL = ("{split}.jsonl", "{split}.jsonl.gz")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which dialogues to read, and what to do with them."""

    source: str = "persona_world"  # or a file, a folder, hub:NAME
    version: str = "original"  # or revised: the personas of a folder of ParlAI files
    seed: int = 0  # of persona_world
    areas: int = 8  # of life that people in persona_world talk about; 5 to 8
    both_sides: bool = False  # each dialogue from the partner's side, too
    expand_contractions: bool = False  # ConvAI2's "i'm" to PersonaChat's "i am"
    max_dialogues: int = 0  # per split, the first ones; 0: all

    def __post_init__(self):
        require_count(self, "max_dialogues", "seed")
        require_one_of(self, version=VERSIONS)


class Splits(dict):
    """Dialogues by split; asking for one that the source lacks is a `UserError`."""

    def __init__(self, splits, source: str):
        super().__init__(splits)
        self.source = source

    def __missing__(self, split: str):
        found = ", ".join(self)
        raise UserError(
            f"{self.source} has no {split} split, only {found}; expected a folder "
            f"with all three (PersonaChat: {_DOWNLOAD})."
        )


def load_splits(config: DataConfig) -> dict[str, tuple[Dialogue, ...]]:
    """The splits that the source has, of train, valid and test; a file is a train.

    Raises:
      UserError: no such source, or (on access) no such split; says what to type.
      DataError: a file of it cannot be read; names file and line.
    """
    if not config.source:
        raise UserError("source is empty; give persona_world, hub:NAME or a path.")
    splits = {name: _edit(found, config) for name, found in _load(config).items()}
    for split, dialogues in splits.items():
        _require_unlike_ids(dialogues, f"{config.source}, {split}")
    return Splits(splits, config.source)


def _require_unlike_ids(dialogues: Sequence[Dialogue], where: str) -> None:
    seen: set[str] = set()
    for number, dialogue in enumerate(dialogues, 1):
        if dialogue.id in seen:
            told = f"the id {dialogue.id!r} is another dialogue's; give each its own"
            raise DataError(where, number, told)
        seen.add(dialogue.id)


def fingerprint(dialogues: Iterable[Dialogue]) -> str:
    """SHA-256 (hex) of everything in the dialogues, ids and order included."""
    digest = hashlib.sha256()
    names = [field.name for field in dataclasses.fields(Dialogue)]
    for dialogue in dialogues:
        values = [getattr(dialogue, name) for name in names]
        digest.update(json.dumps(values).encode() + b"\n")
    return digest.hexdigest()


def sums_of(splits: Mapping[str, Sequence[Dialogue]], *names: str) -> dict[str, str]:
    """The splits of these names as inputs of a stage (`run_dir.claim`)."""
    long = {"train": "training", "valid": "validation", "test": "test"}
    return {f"{long[name]} data": fingerprint(splits[name]) for name in names}


def _load(config):
    if config.source == "persona_world":
        if config.version != "original":
            raise UserError("persona_world has no revised version; use original.")
        most = config.max_dialogues or max(persona_world.SIZES.values())
        sizes = {split: min(n, most) for split, n in persona_world.SIZES.items()}
        return persona_world.generate(config.seed, sizes, config.areas)
    if config.source.startswith("hub:"):
        _require_original(config)
        return _hugging_face(config.source, local=False)
    path = Path(config.source).expanduser()
    if path.is_file():
        if path.suffix != ".txt":
            _require_original(config)
        return {"train": _read(path)}
    if not path.is_dir():
        raise UserError(
            f"no file or folder {path}; expected persona_world, hub:NAME or a path "
            f"(PersonaChat: {_DOWNLOAD})."
        )
    if (path / "dataset_dict.json").exists():
        _require_original(config)
        return _hugging_face(str(path), local=True)
    return {split: _read(file) for split, file in _files(path, config.version).items()}


def _require_original(config) -> None:
    """Files of ParlAI's alone are of a version that one can ask for."""
    if config.version != "original":
        told = f"{config.source} has no {config.version} version; use original"
        raise UserError(f"{told}, or give a folder of ParlAI's files.")


def _files(folder, version) -> dict[str, Path]:
    # JSON lines say nothing of a version, so they cannot stand in for the revised one.
    forms = [_PARLAI, _JSONL] if version == "original" else [_PARLAI]
    for form in forms:
        found = {}
        for split in SPLITS:
            names = [name.format(split=split, version=version) for name in form]
            paths = [folder / name for name in names if (folder / name).is_file()]
            if paths:
                found[split] = paths[0]
        if found:
            return found
    looked = [name.format(split="train", version=version) for f in forms for name in f]
    raise UserError(
        f"no dialogues in {folder}: looked for {', '.join(looked)}, and the same for "
        f"valid and test (PersonaChat: {_DOWNLOAD})."
    )


def _read(path) -> tuple[Dialogue, ...]:
    if path.suffix == ".txt":
        return personachat.read(path)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return read_jsonl(path)
    raise UserError(f"{path}: expected a file named .txt (ParlAI), .jsonl or .jsonl.gz")


def _hugging_face(source, local) -> dict[str, tuple[Dialogue, ...]]:
    import datasets  # takes a second, and few need it

    try:
        if local:
            tables = datasets.load_from_disk(source)
        else:
            tables = datasets.load_dataset(source.removeprefix("hub:"))
        if not isinstance(tables, dict):  # one table, without a name
            tables = {"train": tables}
        names = {"validation": "valid"}
        return {names.get(s, s): _rows(table, source, s) for s, table in tables.items()}
    except UserError:
        raise
    except Exception as error:  # of any kind: the repository is somebody's
        lines = str(error).strip().splitlines() or [type(error).__name__]
        told = f"datasets cannot read {source}: {lines[0].rstrip('.')}"
        raise UserError(
            f"{told}; check the name and the network, or give a folder with "
            "train.jsonl, valid.jsonl and test.jsonl."
        ) from None


def _rows(table, source, split) -> tuple[Dialogue, ...]:
    dialogues = []
    for number, row in enumerate(table, start=1):
        record = {name: value for name, value in row.items() if value is not None}
        try:
            dialogues.append(from_record(record, f"{split}:{number - 1}"))
        except ValueError as error:
            raise DataError(f"{source}/{split}", number, str(error)) from None
    return tuple(dialogues)


def _edit(dialogues, config) -> tuple[Dialogue, ...]:
    if config.max_dialogues:
        dialogues = dialogues[: config.max_dialogues]
    if config.expand_contractions:
        dialogues = map(personachat.expanded, dialogues)
    if config.both_sides:
        dialogues = (side for d in dialogues for side in (d, d.swapped()))
    return tuple(dialogues)
