"""Responses for many contexts: JSON lines in, JSON lines out, in the same order.

    {"id": 7, "self_persona": ["i sing."], "context": ["hi !", "hello .", "you sing ?"]}

comes back as

    {"id": 7, "partner_persona": ["i am a nurse.", "i love tea."], "response": "yes !",
     "partner_persona_log_prob": -8.1253, "response_log_prob": -3.0672}

Every input line has one output line. A `partner_persona` that is given is taken instead
of a guess, in the form of the data that the models have learned from, and has no
log-probability (null); an `id` that is missing is the line's number; fields of other
names come back as they are. A bad line becomes {"id": ..., "line": 17, "error": ...},
and the rest goes on.

Log-probabilities are in nats, of the distribution that was decoded from: with a
contrast (`--contrast`, `--response_contrast`) the contrasted one, and where answers are
sampled that of the temperature, truncated by `--top_k` and `--top_p`. They are of all
tokens that were generated. The texts may say less: repeated sentences go, of a persona
what tells of the speaker, and of a grounded one what the partner has not said; there
the number is that of the newest inference, before anything is left out.

Answers are written chunk by chunk to OUTPUT.part, which becomes OUTPUT at the end;
OUTPUT.settings.json says what they were made from, OUTPUT.sums has the SHA-256 of each
chunk. A killed run goes on after its last whole chunk: then the batches, and so the
last digits, are those of a run in one go, but of a grounded pipeline: it remembers.
"""

import dataclasses
import datetime
import difflib
import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ppg_jax.config import require_positive
from ppg_jax.errors import UserError
from ppg_jax.files import dumped, hold, once_each
from ppg_jax.inference.pipeline import Pipeline, PipelineConfig, Reply, Request
from ppg_jax.serve import answers
from ppg_jax.serve.answers import Counts

FIELDS = ("id", "self_persona", "context", "partner_persona")
_STANDARD = {"input": "stdin", "output": "stdout"}
_ANSWERS = ("response", "partner_persona_log_prob", "response_log_prob", "error")


@dataclasses.dataclass(frozen=True)
class Config:
    """input, output: files of JSON lines, or "-" for stdin and stdout; /dev/stdin and
    /dev/stdout are these, too, also where the shell has put a file there.

    chunk: lines that are answered together, and then written: what a kill may cost, and
    what a program that talks through pipes waits for. None: 8 batches, at least 64.
    """

    input: str
    output: str
    pipeline: PipelineConfig = PipelineConfig()
    chunk: int | None = None

    def __post_init__(self):
        for name in ("input", "output"):
            if getattr(self, name) == f"/dev/{_STANDARD[name]}":
                object.__setattr__(self, name, "-")
        if self.chunk is not None:
            require_positive(self, "chunk")

    @property
    def chunk_lines(self) -> int:
        """Enough for full batches of like lengths, unless `chunk` says how many."""
        return self.chunk or max(64, 8 * self.pipeline.batch_size)


def run(config: Config, workdir=None) -> Counts:
    """Answers every line of the input, or goes on, or says that it is done.

    Raises UserError if the output holds answers to something else.
    """
    for name in ("input", "output"):
        if not getattr(config, name):
            raise UserError(f"--{name} is empty; give a file, or - for a stream.")
    try:
        if not _is_stream(config.input):
            open(config.input, "rb").close()  # before the models are loaded
        options = dataclasses.asdict(config.pipeline)
        return answer_file(config, Pipeline.load(workdir, **options))
    except BrokenPipeError:
        raise
    except OSError as error:
        name = error.filename or config.output
        raise UserError(f"{name}: {error.strerror}.") from None


def answer_file(config: Config, pipeline: Pipeline) -> Counts:
    """`run` with a pipeline that is there already."""
    if _is_stream(config.output):
        with _open(config.output, "wb", sys.stdout) as file:
            return _write(config, pipeline, file, Counts(), None)
    output = Path(config.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    answers.require_files(output)
    part, sums_of = (answers.beside(output, end) for end in (".part", ".sums"))
    if _is_stream(config.input):
        total = None
        answers.refuse_to_replace(
            output, part, answers.beside(output, answers.SETTINGS)
        )
    else:
        total = answers.claim(config, pipeline, output)
        if output.exists():
            return _report(config, "done already", answers.whole(output, total))
    with part.open("ab+") as file, sums_of.open("a+b") as sums:
        hold(file, f"{part} is being written by another process.")
        # What is read from a stream cannot be asked for again.
        kept, size = Counts(), 0
        if total is not None:
            kept, size = answers.kept(file, sums, config.chunk_lines)
        file.truncate(size)
        counts = _write(config, pipeline, file, kept, total, sums)
    if total is not None:
        answers.finish(output)
    os.replace(part, output)
    sums_of.unlink()
    return counts


def _write(config, pipeline, file: BinaryIO, done: Counts, total, sums=None) -> Counts:
    """Appends the answers that follow the `done` ones, chunk by chunk.

    sums: a file that gets a line for each chunk: its SHA-256.
    """
    progress, durable = _Progress(done.lines, total), not _is_stream(config.output)
    with _open(config.input, "rb", sys.stdin) as lines:
        numbered = itertools.islice(enumerate(lines, 1), done.lines, None)
        while chunk := list(itertools.islice(numbered, config.chunk_lines)):
            records = answer_lines(pipeline, chunk, _name(config.input, "stdin"))
            errors = sum("error" in record for record in records)
            done = Counts(done.lines + len(chunk), done.errors + errors)
            written = b"".join(map(_encode, records))
            file.write(written)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            if sums:
                sums.write(hashlib.sha256(written).hexdigest().encode() + b"\n")
                sums.flush()
            progress.show(done.lines)
    return _report(config, "done", done)


def answer_lines(
    pipeline: Pipeline, lines: Iterable[tuple[int, bytes]], source: str
) -> list[dict]:
    """One record for each (line number, line); what is wrong is told on stderr."""
    asked = [_question(pipeline, number, line) for number, line in lines]
    good = [question for question in asked if question.request]
    replies = iter(
        pipeline.replies([q.request for q in good], [q.number for q in good])
    )
    records = []
    for question in asked:
        if question.request:
            reply = next(replies)
            records.append(_answer(question.id, reply) | question.others)
            if reply.unread:
                told = f"the first {reply.unread} tokens of the newest utterance"
                where = f"{source}:{question.number}"
                print(f"{where}: too long: {told} were not read", file=sys.stderr)
        else:
            told = f"{source}:{question.number}: {question.error}"
            print(told, file=sys.stderr)
            where = {"id": question.id, "line": question.number}
            records.append(where | {"error": question.error})
    return records


class _Question(NamedTuple):
    number: int  # of the line, from 1
    id: str | int | None
    request: Request | None
    error: str = ""
    others: dict = {}  # fields that are not ours, which come back as they are


def _question(pipeline: Pipeline, number: int, line: bytes) -> _Question:
    id = None
    try:
        record = _parse(line)
        id = _checked_id(record.get("id", number))
        request = _request(record)
        pipeline.check(request)
        others = {k: v for k, v in record.items() if k not in (*FIELDS, *_ANSWERS)}
        _require_writable(others)
    except UserError as error:
        return _Question(number, id, None, str(error))
    return _Question(number, id, request, others=others)


def _parse(line: bytes) -> dict:
    try:
        record = json.loads(line.decode("utf-8-sig"), object_pairs_hook=once_each)
    except UnicodeDecodeError:
        raise UserError("not UTF-8, expected UTF-8 text.") from None
    except json.JSONDecodeError as error:
        told = f"not JSON ({error.msg}), expected one object a line."
        raise UserError(told) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"not readable ({error}), expected one object a line."
        ) from None
    if not isinstance(record, dict):
        told = f"{type(record).__name__}, expected an object with fields."
        raise UserError(told)
    return record


def _checked_id(id: Any) -> str | int:
    sound = type(id) in (str, int)
    if sound and isinstance(id, str):
        sound = not any("\ud800" <= c <= "\udfff" for c in id)
    if not sound:
        raise UserError("field 'id' is wrong, expected a string or a whole number.")
    return id


def _require_writable(fields: dict) -> None:
    for name, value in fields.items():
        try:
            _encode({name: value})
        except (ValueError, RecursionError, UserError):
            raise UserError(
                f"field {name!r} holds half a character or a number that is not finite,"
                " expected what JSON can hold."
            ) from None


def _request(record: dict) -> Request:
    lacking = [name for name in FIELDS[1:] if name not in record]
    for name in record.keys() - {*FIELDS, *_ANSWERS}:
        for meant in difflib.get_close_matches(name, lacking, n=1, cutoff=0.7):
            raise UserError(f"unknown field {name!r}, expected {meant!r}.")
    for name in ("self_persona", "context"):
        if name not in record:
            raise UserError(f"no field {name!r}, expected a list of strings.")
    return Request(*(record.get(name) for name in FIELDS[1:]))


def _answer(id: str | int, reply: Reply) -> dict:
    partner = reply.partner_persona
    given = partner.log_prob is None
    return {
        "id": id,
        "partner_persona": partner.sentences,
        "response": reply.text,
        "partner_persona_log_prob": None if given else round(partner.log_prob, 4),
        "response_log_prob": round(reply.log_prob, 4),
    }


def _encode(record: dict) -> bytes:
    return dumped(record, "the answer", ensure_ascii=False).encode() + b"\n"


def _is_stream(name: str) -> bool:
    """Whether it cannot be read twice or replaced: "-", a pipe, a device."""
    path = Path(name)
    is_device = path.exists() and not path.is_file() and not path.is_dir()
    return name == "-" or is_device


def _open(name: str, mode: str, standard) -> BinaryIO:
    if name == "-" and standard is None:
        raise UserError(
            f"{'stdin' if 'r' in mode else 'stdout'} is closed; give files."
        )
    # A copy of stdin or stdout: closing it leaves the process its own.
    return open(os.dup(standard.fileno()) if name == "-" else name, mode)


def _name(name: str, standard: str) -> str:
    return standard if name == "-" else name


def _report(config: Config, state: str, counts: Counts) -> Counts:
    name = _name(config.output, "stdout")
    told = f"generate: {name}: {state}, {counts.lines} lines"
    if counts.errors:
        told += f", {counts.errors} of them error records"
    print(told, file=sys.stderr)
    return counts


class _Progress:
    """Lines on stderr with the rate and, where the total is known, the time left."""

    def __init__(self, start: int, total: int | None):
        self._start, self._total = start, total
        self._began = self._shown = time.monotonic()
        if start:
            print(f"generate: going on after line {start}", file=sys.stderr)

    def show(self, done: int, every: float = 10.0) -> None:
        """At most every `every` seconds."""
        now = time.monotonic()
        if now - self._shown < every:
            return
        self._shown = now
        rate = (done - self._start) / (now - self._began)
        told = f"generate: {done} lines  {rate:.2f} lines/s"
        if self._total is not None:
            left = round((self._total - done) / rate)
            told += f"  ETA {datetime.timedelta(seconds=left)}"
        print(told, file=sys.stderr, flush=True)
