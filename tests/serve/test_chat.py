"""A conversation: context grows, commands act, the persona is shown as it changes."""

import json
import subprocess
from pathlib import Path

import pytest

from ppg_jax.data import personachat
from ppg_jax.data.normalization import normalized
from ppg_jax.errors import UserError
from ppg_jax.inference.pipeline import PartnerPersona, Reply, Request
from ppg_jax.serve import chat
from ppg_jax.serve.chat import Chat, Config
from tests import run_for_tests as runs


class Scripted:
    """A pipeline that replies from a list of (persona, response)."""

    system = "ours_supervised"

    def __init__(self, *script):
        self.script, self.asked, self.numbers = iter(script), [], []

    def check(self, request):
        if (
            sum(map(len, (*request.self_persona, *(request.partner_persona or ()))))
            > 60
        ):
            raise UserError("too long; shorten it.")

    def replies(self, requests, numbers):
        self.asked += [(tuple(r.self_persona), tuple(r.context)) for r in requests]
        self.numbers += numbers
        scripted = next(self.script)
        if not isinstance(scripted, tuple):
            raise scripted
        persona, response = scripted
        partner = PartnerPersona(persona, (persona,), ())
        unread = max(0, len(requests[0].context[-1]) - 90)
        return [Reply(response, partner, (), True, -1.0, unread)]


def test_a_reply_that_is_interrupted_or_refused_leaves_the_conversation_as_it_was():
    pipeline = Scripted(("", "a"), KeyboardInterrupt(), UserError("no."), ("", "b"))
    talk = Chat(pipeline, Config("i sing."))
    assert talk.hear("hi") == ["it:  a"]
    (told,) = talk.hear("what ?")
    assert "forgotten" in told
    assert talk.hear("who ?") == ["(no.)"]
    assert talk.hear("again") == ["it:  b"]
    assert pipeline.asked[-1] == (("i sing.",), ("hi", "a", "again"))


def test_the_partner_persona_is_shown_when_it_changes():
    pipeline = Scripted(("", "a"), ("i run.", "b"), ("i run.", "c"), ("i sing.", "d"))
    talk = Chat(pipeline, Config())
    shown = [talk.hear("hi") for _ in range(4)]
    assert shown == [
        ["it:  a"],
        ["     (you seem to be: i run.)", "it:  b"],
        ["it:  c"],
        ["     (you seem to be: i sing.)", "it:  d"],
    ]


def test_the_model_hears_all_that_was_said_until_a_reset():
    pipeline = Scripted(("", "a"), ("", "b"), ("", "c"))
    talk = Chat(pipeline, Config("i sing.|I'm tall. "))
    for line in ["Hello!\n", "  \n", "you sing ?", "/reset", "again"]:
        talk.hear(line)
    persona = ("i sing.", "I'm tall.")  # the pipeline brings it into the data's form
    contexts = [("Hello!",), ("Hello!", "a", "you sing ?"), ("again",)]
    assert pipeline.asked == [(persona, context) for context in contexts]
    assert len(set(pipeline.numbers)) == 3


def test_commands_say_what_they_did():
    talk = Chat(Scripted(), Config("i sing."))
    assert talk.hear("/persona") == ["(the model is: i sing.)"]
    assert talk.hear("/persona I run.|i swim") == ["(the model is: I run. i swim)"]
    assert talk.hear("/persona " + "x" * 70) == ["(too long; shorten it.)"]
    assert talk.hear("/persona") == ["(the model is: I run. i swim)"]
    assert talk.hear("/help") == chat.HELP.splitlines()
    assert talk.hear("/dance") == ["(no command /dance; /help lists them)"]


class Told(Scripted):
    """Replies as the partner persona is given, or "i run." where none is."""

    def replies(self, requests, numbers):
        told = requests[0].partner_persona
        # In the form of the data, whatever was typed.
        self.script = iter([("i paint. i swim." if told else "i run.", "a")])
        return super().replies(requests, numbers)


def test_the_partner_may_say_who_they_are_and_have_it_found_out_again():
    talk = Chat(Told(), Config("i sing."))
    assert talk.hear("hi") == ["     (you seem to be: i run.)", "it:  a"]
    assert talk.hear("/partner I paint.| i swim") == ["(you are: I paint. i swim)"]
    assert talk.hear("hi") == ["it:  a"]
    assert talk.hear("/partner " + "x" * 99) == ["(too long; shorten it.)"]
    assert talk.hear("/partner") == ["(you are: I paint. i swim)"]
    assert talk.hear("/partner ?") == ["(it will find out who you are)"]
    assert talk.hear("hi") == ["     (you seem to be: i run.)", "it:  a"]


def test_a_line_that_is_taken_back_was_never_said():
    pipeline = Scripted(("", "a"), ("", "b"), ("", "c"))
    talk = Chat(pipeline, Config("i sing."))
    assert talk.hear("/undo") == talk.hear("/history") == ["(nothing was said yet)"]
    talk.hear("hi")
    talk.hear("i am a tree")
    assert talk.hear("/undo") == ["(forgotten: i am a tree)"]
    assert talk.hear("/partner") == ["(you seem to be: anyone)"]
    talk.hear("i am a nurse")
    assert pipeline.asked[-1][1] == ("hi", "a", "i am a nurse")
    assert len(set(pipeline.numbers)) == 3
    assert talk.hear("/history") == ["you: hi", "it:  a", "you: i am a nurse", "it:  c"]


def test_a_conversation_is_saved_into_a_new_file_and_over_nothing(tmp_path):
    talk = Chat(Scripted(("", "a\x1b[2J")), Config("i sing."))
    talk.hear("hi")
    path = tmp_path / "talk.txt"
    assert talk.hear(f"/save {path}") == [f"(saved as {path})"]
    assert path.read_text() == "(the model is: i sing.)\nyou: hi\nit:  a [2J\n"
    assert talk.hear(f"/save {path}") == [f"({path} is there already; name another.)"]
    names = f"{path}/below", "x" * 300, "~nobody.of.this.name/talk", "a\0b"
    for name in names:
        assert talk.hear(f"/save {name}")[0].endswith("name another.)")
    assert talk.hear("/save") == [f"({chat.SAVE})"]
    assert talk.hear("/quit now") == ["(/quit stands alone)"]


def test_what_is_too_long_to_be_read_is_told():
    talk = Chat(Scripted(("", "a"), ("", "b")), Config("i sing."))
    told = "     (too long: the first 10 tokens of what you said were not read)"
    assert talk.hear("x" * 100) == [told, "it:  a"]
    assert talk.hear("x" * 90) == ["it:  b"]


def test_what_a_prompt_leaves_out_of_a_long_utterance_is_counted():
    pipeline = runs.pipeline()
    prompts = pipeline.prompts
    nothing = Request(["i sing."], []).instance()
    most = prompts.config.max_persona_tokens
    # No partner persona leaves the prompt of a response the most room.
    for partner in (None, (5,) * 3, (5,) * most, (5,) * (most + 2)):
        read = []
        for text in [" ".join(["tea and dogs"] * n) for n in (1, 5, 20, 40)]:
            instance = Request(["i sing."], [text]).instance()
            turn = len(prompts.tokenizer.encode(text)) + 1
            read.append(turn - prompts.unread(instance, partner))
            given = prompts.response_prompt(instance, partner)
            empty = prompts.response_prompt(nothing, partner)
            assert read[-1] == len(given) - len(empty)
        assert read[0] < read[-1] == read[-2]


class Typing:
    """Stands for a keyboard: lines, and what else comes of one."""

    def __init__(self, monkeypatch, *typed):
        self.typed = iter(typed)
        monkeypatch.setattr("builtins.input", self)
        for stream in ("stdin", "stdout"):
            monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)

    def __call__(self, prompt):
        line = next(self.typed, EOFError)
        if isinstance(line, str):
            return line
        raise line


def test_an_interrupt_takes_back_a_line_and_a_second_one_leaves(monkeypatch, capsys):
    stop = KeyboardInterrupt
    Typing(monkeypatch, "a", stop, "b", stop, "c")
    assert list(chat._typed()) == ["a", "b", "c"]
    assert capsys.readouterr().out.count("Ctrl-C once more") == 2
    Typing(monkeypatch, "a", stop, stop, "c")
    with pytest.raises(KeyboardInterrupt):
        list(chat._typed())


def test_a_long_chat_goes_on():
    talk = Chat(runs.pipeline(), Config("i sing."))
    for _ in range(12):
        assert talk.hear("tea and dogs and nurses")[-1].startswith("it:  ")


def test_a_piped_chat_is_a_transcript_and_leaves_at_the_end():
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process = runs.launch("chat", "--self_persona=i sing.", **pipes)
    out, error = process.communicate(b"\xef\xbb\xbfhi !\r\n\n\xff\xfe?\n/persona")
    lines = out.decode().split("\n")
    assert process.returncode == 0 and error == b""
    assert lines[0] == "(the model is: i sing.)" and "supervised" in lines[1]
    assert "you: hi !" in lines and sum(x.startswith("it:  ") for x in lines) == 2
    assert lines[-3:] == ["you: /persona", "(the model is: i sing.)", ""]


def test_a_reader_that_leaves_ends_a_piped_chat_in_silence():
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process = runs.launch("chat", "--self_persona=i sing.", **pipes)
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, error = process.communicate(b"hi !\n" * 20)
    assert error == b"" and process.returncode == 141  # as a shell has it for SIGPIPE


CONVERSATIONS = Path(__file__).parents[1] / "conversations"


@pytest.mark.parametrize(
    "path", sorted(CONVERSATIONS.glob("*.txt")), ids=lambda p: p.stem
)
def test_a_scripted_conversation_has_ten_turns_and_says_its_facts(path):
    persona, *turns = path.read_text(encoding="utf-8").splitlines()
    told = json.loads((CONVERSATIONS / "facts.json").read_text(encoding="utf-8"))
    facts = told[path.stem]
    assert persona.startswith("/persona ") and len(turns) == 10
    assert len(facts) >= 5
    for fact in facts:
        said = turns[fact["turn"] - 1].lower()
        assert all(word in said for word in fact["words"]), fact
    talk = Chat(runs.pipeline(), Config("i sing."))
    assert all(talk.hear(line)[-1].startswith("it:  ") for line in turns)


def test_no_scripted_conversation_is_in_a_training_file(shared):
    folder = shared / "data" / "personachat"
    heard = set()
    for path in folder.glob("*_both_original_no_cands.txt"):
        for dialogue in personachat.read(path):
            heard |= set(dialogue.utterances)
    for path in CONVERSATIONS.glob("*.txt"):
        _, *turns = path.read_text(encoding="utf-8").splitlines()
        assert heard.isdisjoint(normalized(turn, "personachat") for turn in turns)


@pytest.mark.parametrize("command", ["/undo", "/reset"])
def test_who_you_said_that_you_are_stays(command):
    talk = Chat(Told(), Config("i sing."))
    talk.hear("/partner i paint.")
    talk.hear("hi")
    talk.hear(command)
    assert talk.hear("/partner") == ["(you are: i paint.)"]


def test_a_persona_that_does_not_fit_beside_yours_is_not_taken():
    talk = Chat(Scripted(), Config("i sing."))
    talk.hear("/partner " + "x" * 40)
    assert talk.hear("/persona " + "y" * 30) == ["(too long; shorten it.)"]
    assert talk.hear("/persona") == ["(the model is: i sing.)"]


def test_what_is_saved_has_a_line_for_each_utterance(tmp_path):
    talk = Chat(Scripted(("", "a\nb")), Config("i sing."))
    talk.hear("hi")
    talk.hear(f"/save {tmp_path / 'talk.txt'}")
    assert (tmp_path / "talk.txt").read_text(encoding="utf-8").endswith("it:  a b\n")
