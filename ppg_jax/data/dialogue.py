"""A conversation with both personas, and the instances that are learned from it.

The two speakers are *self*, whose responses we generate, and the *partner*.
"""

import dataclasses
import difflib
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ppg_jax import files
from ppg_jax.errors import UserError

# Of one dialogue: each response has all before it as its context.
MOST_UTTERANCES = 10_000


class DataError(UserError):
    """A file that cannot be read: ``file:line: what is wrong, what was expected``."""

    def __init__(self, path, line: int, message: str):
        super().__init__(f"{path}:{line}: {message}")


def dialogue_of(instance_id: str) -> str:
    """The id of the dialogue that an instance is of."""
    return instance_id.rpartition(":")[0]


@dataclasses.dataclass(frozen=True)
class Instance:
    """One response to learn or to generate, with everything said before it."""

    id: str  # unique in its split: "<dialogue id>:<turn>"
    turn: int  # how many responses self has given before this one
    self_persona: tuple[str, ...]
    partner_persona: tuple[str, ...]
    context: tuple[str, ...]  # every earlier utterance, oldest first
    response: str


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """One conversation: utterances alternate between the partner and self."""

    id: str
    self_persona: tuple[str, ...]
    partner_persona: tuple[str, ...]
    utterances: tuple[str, ...]
    self_speaks_first: bool = False  # ConvAI2's second direction ("__SILENCE__")
    candidates: tuple[tuple[str, ...], ...] = ()  # per response, where the file has any

    def response_indices(self) -> range:
        """Where self speaks in `utterances`."""
        return range(0 if self.self_speaks_first else 1, len(self.utterances), 2)

    def instances(self) -> Iterator[Instance]:
        """One instance per response of self, in order."""
        for turn, index in enumerate(self.response_indices()):
            yield Instance(
                id=f"{self.id}:{turn}",
                turn=turn,
                self_persona=self.self_persona,
                partner_persona=self.partner_persona,
                context=self.utterances[:index],
                response=self.utterances[index],
            )

    def swapped(self) -> "Dialogue":
        """The same conversation from the other side: the partner becomes self."""
        return Dialogue(
            id=f"{self.id}/swapped",
            self_persona=self.partner_persona,
            partner_persona=self.self_persona,
            utterances=self.utterances,
            self_speaks_first=not self.self_speaks_first,
        )


def instances(dialogues: Iterable[Dialogue]) -> tuple[Instance, ...]:
    """All instances of all dialogues, in order."""
    return tuple(instance for d in dialogues for instance in d.instances())


def write_jsonl(dialogues: Iterable[Dialogue], path) -> None:
    """One JSON object a line, the form `read_jsonl` reads; parents are made."""
    files.write_jsonl(Path(path), map(dataclasses.asdict, dialogues))


def read_jsonl(path) -> tuple[Dialogue, ...]:
    """Dialogues of a JSON-lines file, plain or ``.gz``: the fields of `Dialogue`.

    Only `utterances` is required, so plain conversations can be read. Ids default to
    ``<file stem>:<line from 0>``. Other fields ("topic") are passed over, but one
    that looks like a misspelling of ours is an error.

    Raises:
      DataError: names the line, the field and the type it should have.
      UserError: the file cannot be opened.
    """
    path = Path(path)
    stem = path.name.removesuffix(".gz").removesuffix(".jsonl")
    dialogues = []
    seen = set()
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=files.once_each)
            dialogue = from_record(record, f"{stem}:{number - 1}")
        except UnicodeDecodeError:
            raise DataError(path, number, "not UTF-8, expected UTF-8 text.") from None
        except json.JSONDecodeError as error:
            message = f"not JSON ({error.msg}), expected one object a line."
            raise DataError(path, number, message) from None
        except (ValueError, RecursionError) as error:
            raise DataError(path, number, str(error)) from None
        if dialogue.id in seen:
            message = f"id {dialogue.id!r} occurs twice, expected unique ids."
            raise DataError(path, number, message)
        seen.add(dialogue.id)
        dialogues.append(dialogue)
    if not dialogues:
        raise DataError(path, 1, "the file is empty, expected one object a line.")
    return tuple(dialogues)


def from_record(record, default_id: str) -> Dialogue:
    """The dialogue of a dict as `write_jsonl` writes it; ValueError names the field."""
    if not isinstance(record, dict):
        raise ValueError(f"{type(record).__name__}, expected an object with fields.")
    for name in record.keys() - _FIELDS.keys():
        for meant in difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.7):
            raise ValueError(f"unknown field {name!r}, expected {meant!r}.")
    if "utterances" not in record:
        raise ValueError("no field 'utterances', expected a list of strings.")
    values = {"id": default_id, "self_persona": [], "partner_persona": []}
    values |= {name: record[name] for name in _FIELDS if name in record}
    for name, value in values.items():
        matches, expected = _FIELDS[name]
        if not matches(value):
            raise ValueError(f"field {name!r} is wrong, expected {expected}.")
    values["candidates"] = tuple(tuple(c) for c in values.get("candidates", ()))
    for name in ("self_persona", "partner_persona", "utterances"):
        values[name] = tuple(values[name])
    require_few(values["utterances"])
    dialogue = Dialogue(**values)
    responses = len(dialogue.response_indices())
    if dialogue.candidates and len(dialogue.candidates) != responses:
        count = len(dialogue.candidates)
        raise ValueError(f"{count} lists of candidates, expected {responses}.")
    said = [dialogue.utterances[i] for i in dialogue.response_indices()]
    for response, candidates in zip(said, dialogue.candidates, strict=False):
        if candidates and response not in candidates:
            raise ValueError(f"the response {response!r} is none of its candidates.")
    return dialogue


def require_few(utterances: Sequence[str]) -> None:
    """Raises ValueError for more than any conversation has."""
    if len(utterances) > MOST_UTTERANCES:
        raise ValueError(
            f"more than {MOST_UTTERANCES:,} utterances in one dialogue; cut it into "
            "several."
        )


def _is_text(value) -> bool:
    # JSON can spell half of a surrogate pair, which no tokenizer can encode.
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _is_texts(value) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _is_profile(value) -> bool:
    return _is_texts(value) and all(text.strip() for text in value)


_FIELDS = {
    "id": (_is_text, "a string"),
    "self_persona": (_is_profile, "a list of strings, none of them empty"),
    "partner_persona": (_is_profile, "a list of strings, none of them empty"),
    "utterances": (_is_texts, "a list of strings"),  # an empty one is a turn, too
    "self_speaks_first": (lambda value: isinstance(value, bool), "true or false"),
    "candidates": (
        lambda value: isinstance(value, list | tuple) and all(map(_is_texts, value)),
        "a list of lists of strings",
    ),
}


def _lines(path) -> Iterator[bytes]:
    number = 0
    files.require_file(path, "give a file of JSON lines.")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                number += 1
                yield line
    except (gzip.BadGzipFile, EOFError, zlib.error):
        message = "a damaged gzip file, expected gzip; get the file again."
        raise DataError(path, number + 1, message) from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected JSON lines.") from None


def profile_text(persona: Sequence[str], joint: str = " ") -> str:
    """A persona as one text, each sentence with its full stop: what a critic reads."""
    return joint.join(_with_full_stop(sentence) for sentence in persona)


def _with_full_stop(sentence: str) -> str:
    sentence = sentence.strip()
    return sentence if sentence.endswith((".", "!", "?")) else sentence + "."
