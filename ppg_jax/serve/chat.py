"""A conversation in the terminal, with the partner persona shown as it is inferred.

The model has a persona of its own and, before each reply, infers one for the person who
types. Where lines are piped in, what comes out is a transcript.
"""

import contextlib
import dataclasses
import re
import sys
from collections.abc import Iterator

from ppg_jax.errors import UserError
from ppg_jax.inference.pipeline import Pipeline, PipelineConfig, Request

PROMPT = "you: "
HELP = """\
/persona             shows who the model is
/persona A.|B.       makes it someone else
/reset               forgets the conversation
/quit, or Ctrl-D     leaves"""


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
        self._set_persona(config.self_persona)
        self._reset()

    def hear(self, line: str) -> list[str]:
        """What to show for a line that was typed: a reply, or a command's outcome."""
        line = line.strip()
        if not line.startswith("/"):
            return self._reply(line) if line else []
        command, _, rest = line.partition(" ")
        if command == "/persona":
            return self._change_persona(rest)
        if command == "/reset":
            self._reset()
            return ["(a new conversation)"]
        if command == "/help":
            return HELP.splitlines()
        return [f"(no command {command}; /help lists them)"]

    def describe(self) -> str:
        return f"(the model is: {' '.join(self._persona) or 'anyone'})"

    def _reply(self, utterance: str) -> list[str]:
        self._context.append(utterance)
        request = Request(self._persona, self._context)
        (reply,) = self._pipeline.replies([request], [self._turns])
        self._turns += 1
        self._context.append(reply.text)
        shown = [f"it:  {reply.text}"]
        if reply.partner_persona.text != self._partner:
            self._partner = reply.partner_persona.text
            shown.insert(0, f"     (you seem to be: {self._partner or 'anyone'})")
        return shown

    def _change_persona(self, text: str) -> list[str]:
        if text:
            try:
                self._set_persona(text)
            except UserError as error:
                return [f"({error})"]
        return [self.describe()]

    def _set_persona(self, text: str) -> None:
        persona = tuple(s.strip() for s in text.split("|") if s.strip())
        self._pipeline.check(Request(persona, ()))
        self._persona = persona

    def _reset(self) -> None:
        self._context: list[str] = []
        self._partner = ""


def run(config: Config, workdir="") -> None:
    """Talks until the end of stdin."""
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(errors="replace")  # one odd byte is no reason to leave
    options = dataclasses.asdict(config.pipeline)
    pipeline = Pipeline.load(workdir, **options)
    chat = Chat(pipeline, config)
    print(f"{chat.describe()}\n(system {pipeline.system}; /help lists the commands)")
    for line in _typed():
        if line.strip() in ("/quit", "/exit"):
            break
        for shown in chat.hear(line):
            print(_shown(shown), flush=True)


def _shown(line: str) -> str:
    # A byte-level model can write any byte, and a terminal would obey some.
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", line)


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
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            print()
            return


if __name__ == "__main__":
    print("this is no program; type: python -m launch.chat --help", file=sys.stderr)
    sys.exit(2)
