"""What a response is asked for, in every form that programs have it."""

import dataclasses
from collections.abc import Iterable, Sequence

from ppg_jax.data.dialogue import Instance, require_few
from ppg_jax.data.normalization import normalized, normalized_persona
from ppg_jax.errors import UserError

# Roles of messages that tell a model what to do.
_INSTRUCTING = ("system", "developer")


@dataclasses.dataclass(frozen=True)
class PartnerPersona:
    """What the response generator is told about the partner; prints as its text.

    log_prob: in nats, of all that the generator wrote after the newest utterance, in
    the distribution that it was decoded from (`generator.Completion`); None if the
    persona was given. It is not of the text: that has repeated sentences once and
    nothing that tells of the speaker, and that of a grounded persona is what rests on
    the partner's words, of earlier inferences, too.
    """

    text: str
    sentences: tuple[str, ...]
    tokens: tuple[int, ...]  # with the end token; () leaves the persona out
    ended: bool = True  # False: cut at `max_persona_tokens`
    log_prob: float | None = None

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Request:
    """What a response is asked for.  Raises UserError if it is no text.

    context: the utterances so far, oldest first; the partner spoke last. Messages of
    chat programs, {"role": "user" or "assistant", "content": text}, will do; the
    content may be parts, [{"type": "text", "text": ..}].
    partner_persona: sentences, or a text, or an inferred one, all taken as given; ()
    for none at all; None to have it inferred.
    """

    self_persona: Sequence[str]
    context: Sequence[str]
    partner_persona: Sequence[str] | str | PartnerPersona | None = None

    def __post_init__(self):
        object.__setattr__(self, "context", _said(self.context))
        for name in ("self_persona", "context"):
            _check_texts(name, getattr(self, name))
        try:
            require_few(self.context)
        except ValueError as error:
            raise UserError(f"'context': {error}") from None
        partner = self.partner_persona
        if isinstance(partner, str):
            _check_texts("partner_persona", [partner])
        elif not isinstance(partner, PartnerPersona | None):
            _check_texts("partner_persona", partner)

    def instance(self, form: str = "as_typed") -> Instance:
        """This as `Prompts` reads it, its text in one of `normalization.FORMS`."""
        persona = normalized_persona(list(filter(str.strip, self.self_persona)), form)
        context = tuple(normalized(utterance, form) for utterance in self.context)
        return Instance("of this request", 0, persona, (), context, response="")


def _said(context):
    """The texts of messages; whatever else it is stays for `_check_texts`."""
    messages = isinstance(context, list | tuple) and context
    if not messages or not all(isinstance(m, dict) for m in context):
        return context
    for number, message in enumerate(context):
        role = ("user", "assistant")[(len(context) - number + 1) % 2]
        given = message.get("role")
        if given in _INSTRUCTING:
            raise UserError(
                f"'context' message {number} has the role {given!r}: no instructions "
                "are followed; leave it out, and say who the model is in self_persona."
            )
        if given != role:
            raise UserError(
                f"'context' message {number} has the role {given!r}, expected {role!r}:"
                " the two take turns, and the user is the last."
            )
    return tuple(_text_of(n, m.get("content")) for n, m in enumerate(context))


def _text_of(number: int, content):
    """Of a message's content: its text, or that of its parts."""
    if not isinstance(content, list | tuple):
        return content
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise UserError(
                f"'context' message {number} has a part of type {kind!r}; expected "
                'parts {"type": "text", "text": ..} alone.'
            )
    return " ".join(part["text"] for part in content)


def all_asked(requests) -> list[Request]:
    """Those of a call; UserError for one alone, or for what is none."""
    single = str | bytes | dict | Request
    if isinstance(requests, single) or not isinstance(requests, Iterable):
        raise UserError(f"requests={requests!r:.60}: expected a list of them.")
    return [asked(request) for request in requests]


def asked(request) -> Request:
    """A request as it may be given: its fields in a dict or in a row."""
    names = [field.name for field in dataclasses.fields(Request)]
    if isinstance(request, Request):
        return request
    if isinstance(request, dict) and {"self_persona", "context"} <= request.keys():
        if request.keys() <= set(names):
            return Request(**request)
    elif isinstance(request, list | tuple) and 2 <= len(request) <= len(names):
        return Request(*request)
    raise UserError(
        f"a request is {request!r:.60}, expected Request(self_persona, context), or a "
        f"dict or a tuple of {', '.join(names)}."
    )


def _check_texts(name: str, value) -> None:
    expected = "expected a list of strings"
    if not isinstance(value, list | tuple):
        raise UserError(f"{name!r} is of type {type(value).__name__}, {expected}.")
    for text in value:
        if not isinstance(text, str):
            raise UserError(f"{name!r} holds a {type(text).__name__}, {expected}.")
        try:
            text.encode()
        except UnicodeEncodeError:
            # JSON can spell half of a surrogate pair, which no tokenizer can encode.
            raise UserError(f"{name!r} holds half a character, {expected}.") from None
