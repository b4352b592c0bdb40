"""A conversation: context grows, commands act, the persona is shown as it changes."""

import subprocess

import pytest

from ppg_jax.errors import UserError
from ppg_jax.inference.pipeline import PartnerPersona, Reply
from ppg_jax.serve import chat
from ppg_jax.serve.chat import Chat, Config, as_in_personachat
from tests import run_for_tests as runs


class Scripted:
    """A pipeline that replies from a list of (persona, response)."""

    system = "ours_supervised"

    def __init__(self, *script):
        self.script, self.asked, self.numbers = iter(script), [], []

    def check(self, request):
        if sum(map(len, request.self_persona)) > 60:
            raise UserError("too long; shorten it.")

    def replies(self, requests, numbers):
        self.asked += [(tuple(r.self_persona), tuple(r.context)) for r in requests]
        self.numbers += numbers
        persona, response = next(self.script)
        return [
            Reply(response, PartnerPersona(persona, (persona,), ()), (), True, -1.0)
        ]


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
    persona = ("i sing.", "i am tall.")
    contexts = [("hello !",), ("hello !", "a", "you sing ?"), ("again",)]
    assert pipeline.asked == [(persona, context) for context in contexts]
    assert len(set(pipeline.numbers)) == 3


def test_commands_say_what_they_did():
    talk = Chat(Scripted(), Config("i sing."))
    assert talk.hear("/persona") == ["(the model is: i sing.)"]
    assert talk.hear("/persona I run.|i swim") == ["(the model is: i run. i swim)"]
    assert talk.hear("/persona " + "x" * 70) == ["(too long; shorten it.)"]
    assert talk.hear("/persona") == ["(the model is: i run. i swim)"]
    assert talk.hear("/help") == chat.HELP.splitlines()
    assert talk.hear("/dance") == ["(no command /dance; /help lists them)"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("Hi, I'm Bob!", "hi , i am bob !"),
        ("You   sing?!  ok...", "you sing ?! ok ..."),
        ("at 3.5 miles , :)", "at 3.5 miles , :)"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_what_is_typed_gets_the_form_of_the_corpus(typed, expected):
    assert as_in_personachat(typed) == expected


def test_as_typed_leaves_it():
    pipeline = Scripted(("", "a"))
    Chat(pipeline, Config("I'm B.", as_typed=True)).hear("Hi, Bob.")
    assert pipeline.asked == [(("I'm B.",), ("Hi, Bob.",))]


def test_a_long_chat_goes_on():
    talk = Chat(runs.pipeline(), Config("i sing."))
    for _ in range(12):
        assert talk.hear("tea and dogs and nurses")[-1].startswith("it:  ")


def test_a_piped_chat_is_a_transcript_and_leaves_at_the_end():
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process = runs.launch("chat", "--self_persona=i sing.", **pipes)
    out, error = process.communicate(b"hi !\n\xff\xfe?\n/persona\n")
    lines = out.decode().split("\n")
    assert process.returncode == 0 and error == b""
    assert lines[0] == "(the model is: i sing.)" and "supervised" in lines[1]
    assert "you: hi !" in lines and sum(x.startswith("it:  ") for x in lines) == 2
    assert lines[-3:] == ["you: /persona", "(the model is: i sing.)", ""]
