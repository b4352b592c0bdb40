"""ParlAI's text form of PersonaChat and ConvAI2 -> dialogues.

A line is ``N text``; a number of 1 starts an episode. Persona lines come first,
``your persona: ...`` (self) and ``partner's persona: ...``, as many as the file's
kind has (self, other, both, none). Then exchanges, ``utterance<TAB>response``, with
candidates ``utterance<TAB>response<TAB><TAB>one|two|...``; between the two tabs may
stand a reward. A line break within a text is written as a backslash and an n.
Format: ParlAI, FbDeprecatedDialogTeacher.
"""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from ppg_jax import assets
from ppg_jax.data.dialogue import DataError, Dialogue, require_few
from ppg_jax.errors import UserError
from ppg_jax.files import require_file

# ConvAI2 has the partner "say" this where self speaks first.
SILENCE = "__SILENCE__"
SELF_PREFIX = "your persona:"
PARTNER_PREFIX = "partner's persona:"


def download(folder, progress: Callable[[int, int], None] | None = None) -> Path:
    """ParlAI's archive, verified and unpacked: ``<folder>/personachat``, made once.

    Raises UserError: no network, no space, or not the archive of the manifest.
    """
    unpacked = Path(folder) / "personachat"
    if not unpacked.exists():
        [file] = assets.load_manifest("personachat").files
        assets.unpack(assets.download(file, folder, progress), folder)
    return unpacked


def read(path) -> tuple[Dialogue, ...]:
    """All dialogues of one file, in order; ids are ``<file stem>:<episode from 0>``.

    The stem goes without ``_no_cands``, so that a file has the same ids with and
    without candidates.

    Raises:
      DataError: the file is not of this form; names the line.
      UserError: the file cannot be opened.
    """
    path = Path(path)
    episodes = []
    expected = 1
    last_line = 1
    for line_number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        number, text = _numbered(path, line_number, line)
        if number == 1:
            _require_exchange(path, last_line, episodes)
            episodes.append(_Episode())
        elif number != expected:
            wanted = f"{expected} or 1" if expected > 1 else "1"
            raise DataError(path, line_number, f"line {number}, expected {wanted}.")
        try:
            episodes[-1].add(text)
        except ValueError as error:
            raise DataError(path, line_number, str(error)) from None
        expected, last_line = number + 1, line_number
    if not episodes:
        raise DataError(path, 1, "the file is empty, expected '1 your persona: ...'.")
    _require_exchange(path, last_line, episodes)
    stem = path.name.removesuffix(".txt").removesuffix("_no_cands")
    return tuple(e.dialogue(f"{stem}:{i}") for i, e in enumerate(episodes))


@dataclasses.dataclass
class _Episode:
    """The dialogue that is being read."""

    self_persona: list = dataclasses.field(default_factory=list)
    partner_persona: list = dataclasses.field(default_factory=list)
    utterances: list = dataclasses.field(default_factory=list)
    candidates: list = dataclasses.field(default_factory=list)
    self_speaks_first: bool = False

    def add(self, text: str) -> None:
        text = text.replace("\\n", "\n")  # as ParlAI reads a line
        rest = text
        while owner := _owner(rest):  # several stand in one line of its newer form
            trait, rest = _parted(rest)
            persona = getattr(self, f"{owner}_persona")
            self._add_trait(persona, trait.partition(":")[2])
        if rest or not _owner(text):
            self._add_exchange(rest)

    def _add_trait(self, persona, sentence):
        if self.utterances:
            raise ValueError("a persona line after an exchange, expected it before.")
        if not sentence.strip() or "\t" in sentence:
            raise ValueError("expected one persona sentence after 'persona:'.")
        persona.append(sentence.strip())

    def _add_exchange(self, text):
        fields = [field.strip() for field in text.split("\t")]
        while len(fields) > 2 and not fields[-1]:
            fields.pop()
        if not 2 <= len(fields) <= 4 or not _is_reward(*fields[2:3]):
            raise ValueError(
                f"{len(fields) - 1} tabs, expected utterance<TAB>response or "
                "utterance<TAB>response<TAB>reward<TAB>candidates, the reward a number "
                "or nothing."
            )
        utterance, response = fields[:2]
        if not utterance or not response:
            missing = "response" if utterance else "utterance"
            raise ValueError(f"the {missing} is empty, expected text.")
        if response == SILENCE:
            raise ValueError(f"the response is {SILENCE}, expected text.")
        if "|" in response:
            raise ValueError("the response has '|', which parts several; expected one.")
        candidates = fields[3].split("|") if len(fields) == 4 else []
        self._add_candidates(candidates, response)
        if utterance == SILENCE:
            if self.utterances:
                raise ValueError(f"{SILENCE} may only open a dialogue.")
            self.self_speaks_first = True
        else:
            self.utterances.append(utterance)
        self.utterances.append(response)
        require_few(self.utterances)

    def _add_candidates(self, candidates, response):
        if self.utterances and bool(candidates) != bool(self.candidates):
            raise ValueError("expected candidates in all exchanges of a dialogue.")
        candidates = [candidate.strip() for candidate in candidates]
        if candidates and response not in candidates:
            raise ValueError("the response is not among its candidates, expected it.")
        if candidates:
            self.candidates.append(tuple(candidates))

    def dialogue(self, id: str) -> Dialogue:
        return Dialogue(
            id=id,
            self_persona=tuple(self.self_persona),
            partner_persona=tuple(self.partner_persona),
            utterances=tuple(self.utterances),
            self_speaks_first=self.self_speaks_first,
            candidates=tuple(self.candidates),
        )


def _owner(text: str) -> str:
    """Whose persona a line has, "self" or "partner"; "" for an exchange."""
    head = text.replace("’", "'").lower()
    known = {"self": SELF_PREFIX, "partner": PARTNER_PREFIX}
    return next((owner for owner, of in known.items() if head.startswith(of)), "")


def _parted(text: str) -> tuple[str, str]:
    """A persona sentence, which may have line breaks, and the lines behind it."""
    lines = text.split("\n")
    ends = (n for n, s in enumerate(lines) if n and (_owner(s) or "\t" in s))
    end = next(ends, len(lines))
    return "\n".join(lines[:end]), "\n".join(lines[end:])


def _is_reward(text: str = "") -> bool:
    """Of ParlAI's third field, which nothing here is made of."""
    return bool(re.fullmatch(r"([-+]?[0-9]*\.?[0-9]+)?", text))


def _text(path) -> str:
    require_file(path, "expected a ParlAI file.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a ParlAI file.") from None
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise DataError(path, line, "binary data, expected ParlAI text.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(path, line, "not UTF-8, expected UTF-8 text.") from None


def _numbered(path, line_number, line) -> tuple[int, str]:
    number, _, text = line.partition(" ")
    # int() would also take "+1", "1_0" and other scripts' digits.
    if not re.fullmatch("[0-9]{1,6}", number):
        message = f"starts with {number[:20]!r}, expected 'N text' with a line number."
        raise DataError(path, line_number, message)
    return int(number), text


def _require_exchange(path, line_number, episodes):
    if episodes and not episodes[-1].utterances:
        message = "the dialogue ends without an exchange, expected at least one."
        raise DataError(path, line_number, message)


# Only after these is 's surely "is": "my mom's" is a possessive, and PersonaChat
# writes it without the apostrophe.
_IS = "it|that|this|what|who|where|when|how|why|there|here|he|she|everything|name"
_CONTRACTIONS = tuple(
    (re.compile(pattern, re.IGNORECASE), expansion)
    for pattern, expansion in [
        (r"\b(ca)n't\b", r"\1nnot"),
        (r"\b(w)on't\b", r"\1ill not"),
        (r"\b(sha)n't\b", r"\1ll not"),
        (r"(?<=\w)n't\b", " not"),
        (r"(?<=\bi)'m\b", " am"),
        (r"(?<=\w)'re\b", " are"),
        (r"(?<=\w)'ve\b", " have"),
        (r"(?<=\w)'ll\b", " will"),
        (r"(?<=\w)'d(?= (?:better|been)\b)", " had"),
        (r"(?<=\w)'d\b", " would"),
        (rf"\b({_IS})'s(?= (?:been|got)\b)", r"\1 has"),
        (rf"\b({_IS})'s\b", r"\1 is"),
        (r"(?<=\w)'s\b", "s"),
    ]
)


def expand_contractions(text: str) -> str:
    """ConvAI2's "i'm", "don't" -> PersonaChat's "i am", "do not" (no apostrophes)."""
    text = text.replace("’", "'")
    if "'" in text:
        for pattern, expansion in _CONTRACTIONS:
            text = pattern.sub(expansion, text)
    return text


def expanded(dialogue: Dialogue) -> Dialogue:
    """The dialogue with `expand_contractions` done on every text."""
    expand = expand_contractions
    return dataclasses.replace(
        dialogue,
        self_persona=tuple(map(expand, dialogue.self_persona)),
        partner_persona=tuple(map(expand, dialogue.partner_persona)),
        utterances=tuple(map(expand, dialogue.utterances)),
        candidates=tuple(tuple(map(expand, c)) for c in dialogue.candidates),
    )
