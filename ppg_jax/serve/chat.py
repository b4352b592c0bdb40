"""A conversation in the terminal, with the partner persona shown as it is inferred.

The model has a persona of its own and, before each reply, infers one for the person who
types. Where lines are piped in, what comes out is a transcript.
"""

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from ppg_jax.errors import UserError, printable
from ppg_jax.files import write_text
from ppg_jax.inference.pipeline import Pipeline, PipelineConfig, Request

PROMPT, ANSWER = "you: ", "it:  "
SAVE = "name a file, as /save talk.txt."
HELP = """\
/persona             shows who the model is
/persona A.|B.       makes it someone else
/partner             shows who you are to it
/partner A.|B.       tells it who you are
/partner ?           has it find that out again
/undo                takes back your last line, and its reply
/history             shows the conversation
/save FILE           writes the conversation into a new file
/reset               forgets the conversation
/quit, or Ctrl-D     leaves"""

LEAVE = ("/quit", "/exit")


@dataclasses.dataclass(frozen=True)
class Config:
    """self_persona: the model's sentences, joined by "|"; "" for none."""

    self_persona: str = "i have two dogs.|i love to sing.|i work in a library."
    pipeline: PipelineConfig = PipelineConfig()


class Chat:
    """One conversation: what was said, and who the partner seems to be."""

    def __init__(self, pipeline: Pipeline, config: Config):
        self._pipeline = pipeline
        self._turns = 0  # each has a random number of its own, after a reset too
        self._told: tuple[str, ...] | None = None  # of the partner, by the user
        self._set_persona(config.self_persona)
        self._reset()

    def hear(self, line: str) -> list[str]:
        """What to show for a line that was typed: a reply, or a command's outcome."""
        line = line.strip()
        if not line.startswith("/"):
            return self._reply(line) if line else []
        command, _, rest = line.partition(" ")
        commands = {
            "/persona": self._change_persona,
            "/partner": self._tell_partner,
            "/undo": self._undo,
            "/history": self._history,
            "/save": self._save,
            "/reset": self._reset,
            "/help": lambda _: HELP.splitlines(),
        }
        if command in LEAVE:
            return [f"({command} stands alone)"]
        if command not in commands:
            return [f"(no command {command}; /help lists them)"]
        try:
            return commands[command](rest.strip())
        except UserError as error:
            return [f"({error})"]

    def describe(self) -> str:
        return f"(the model is: {' '.join(self._persona) or 'anyone'})"

    def _reply(self, utterance: str) -> list[str]:
        request = Request(self._persona, [*self._context, utterance], self._told)
        try:
            (reply,) = self._pipeline.replies([request], [self._turns])
        except KeyboardInterrupt:
            return ["(not answered, and forgotten; Ctrl-C at the prompt leaves)"]
        except UserError as error:
            return [f"({error})"]
        self._turns += 1
        self._context += [utterance, reply.text]
        shown = [f"{ANSWER}{reply.text}"]
        if self._told is None and reply.partner_persona.text != self._partner:
            self._partner = reply.partner_persona.text
            shown.insert(0, f"     {self._describe_partner()}")
        if reply.unread:
            told = f"the first {reply.unread} tokens of what you said were not read"
            shown.insert(0, f"     (too long: {told})")
        return shown

    def _change_persona(self, text: str) -> list[str]:
        if text:
            self._set_persona(text)
        return [self.describe()]

    def _set_persona(self, text: str) -> None:
        persona = _sentences(text)
        self._pipeline.check(Request(persona, (), self._told))
        self._persona = persona

    def _tell_partner(self, text: str) -> list[str]:
        if text == "?":
            self._told, self._partner = None, ""
            return ["(it will find out who you are)"]
        if text:
            told = _sentences(text)
            self._pipeline.check(Request(self._persona, (), told))
            self._told, self._partner = told, " ".join(told)
        return [self._describe_partner()]

    def _describe_partner(self) -> str:
        be = "are" if self._told is not None else "seem to be"
        return f"(you {be}: {self._partner or 'anyone'})"

    def _undo(self, _: str = "") -> list[str]:
        if not self._context:
            return ["(nothing was said yet)"]
        *self._context, said, _ = self._context
        if self._told is None:
            self._partner = ""  # it was inferred from what is forgotten, too
        return [f"(forgotten: {said})"]

    def _history(self, _: str = "") -> list[str]:
        said = zip(itertools.cycle((PROMPT, ANSWER)), self._context, strict=False)
        return [who + text for who, text in said] or ["(nothing was said yet)"]

    def _save(self, name: str) -> list[str]:
        if not name:
            raise UserError(SAVE)
        lines = [self.describe(), *self._history()]
        try:
            path = Path(name).expanduser()
            if path.exists():
                raise UserError(f"{name} is there already; name another.")
            write_text(path, (f"{_shown(line)}\n" for line in lines))
        except OSError as error:
            raise UserError(f"{name}: {error.strerror}; name another.") from None
        except (RuntimeError, ValueError) as error:  # ~NAME of nobody; a null byte
            raise UserError(f"{name}: {error}; name another.") from None
        return [f"(saved as {path})"]

    def _reset(self, _: str = "") -> list[str]:
        self._context: list[str] = []
        self._partner = " ".join(self._told or ())
        return ["(a new conversation)"]


def run(config: Config, workdir=None) -> None:
    """Talks until the end of stdin."""
    if sys.stdin is None:
        raise UserError("stdin is closed; chat in a terminal, or pipe lines into it.")
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(errors="replace")  # one odd byte is no reason to leave
    options = dataclasses.asdict(config.pipeline)
    pipeline = Pipeline.load(workdir, **options)
    chat = Chat(pipeline, config)
    print(f"{chat.describe()}\n(system {pipeline.system}; /help lists the commands)")
    for line in _typed():
        if line.strip() in LEAVE:
            break
        for shown in chat.hear(line):
            print(_shown(shown), flush=True)


def _sentences(text: str) -> tuple[str, ...]:
    return tuple(s.strip() for s in text.split("|") if s.strip())


def _shown(line: str) -> str:
    return printable(line).replace("\n", " ").replace("\t", " ")  # as one line


def _typed() -> Iterator[str]:
    """The lines of stdin, with a prompt; where they are piped in, they are echoed."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        for line in sys.stdin:
            if line := line.strip("\ufeff\r\n \t"):
                print(_shown(PROMPT + line), flush=True)
                yield line
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  input() edits and recalls lines with it
    interrupted = False
    while True:
        try:
            line = input(PROMPT)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:  # takes back the line, as in a shell
            if interrupted:
                raise
            interrupted = True
            print("\n(Ctrl-C once more, or Ctrl-D, leaves)")
            continue
        interrupted = False
        yield line
