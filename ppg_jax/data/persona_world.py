"""The embedded corpus: small talk between two people, generated from a seed.

A person has three to five traits of `persona_world_traits`, each from another of eight
areas of life. A smaller world has the first five to seven areas, and its profiles about
half as many traits as areas: small models learn to look personas up in it much sooner.
Two people take turns: a turn answers what the other one asked or reacts to what
they let out, and may go on to start something. What depends on what:

    what I tell of myself   my persona, and the question I was asked; unasked, I prefer
                            areas of life where the other has something to tell too
    how I react             the other's trait, also where it was only implied or hinted,
                            and my own where we have it in common
    what I ask              the other's persona: nine times in ten I suspect a trait
                            that they do have but have not told yet
    my invitation           my trait, with a second half that suits theirs
    my farewell             a trait the other has told, or has yet to tell

So the partner's persona tells much about a response, and more than the context does: a
model without it has to infer it. A plain statement repeats a word of the persona
sentence, an implied one repeats none ("i have to walk rex before dinner ."), and a hint
fits several traits ("my boots are dirty again ."). Whether a persona and a response
belong together is likewise a matter of knowing what gives away which trait. To count
shared words goes wrong on what is implied, and on questions, guesses, refusals and
reactions, which speak of the traits of somebody else.

A profile belongs to one split by a checksum of its traits: whoever talks in valid or
test is a combination never met in train, made of traits that are.
"""

import dataclasses
import itertools
import random
import zlib
from collections.abc import Iterator, Sequence

from ppg_jax.data import persona_world_traits as phrases
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.data.persona_world_traits import AREAS, Area, Trait
from ppg_jax.errors import UserError

SIZES = {"train": 8000, "valid": 120, "test": 120}
FEWEST_AREAS = 5
SPLITS = ("train", "valid", "test")

TELLING = ("says", "implies", "answer", "common", "hint")
SUSPICIONS = ("guess", "probe", "rumour")
QUESTIONS = (*SUSPICIONS, "mood", "why", "ask", "back", "follow", "invite")
LONG = 12  # words, from which on less and less is added to a turn


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a turn, and what it is about."""

    kind: str
    text: str
    trait: Trait | None = None
    mine: bool = False  # the trait is the speaker's own, else the listener's
    area: str = ""  # of a question about a whole area, and of its refusal
    lead: str = ""  # connects the text to what precedes it

    def __str__(self) -> str:
        return f"{self.lead} {self.text}".strip()


Turn = list[Part]


@dataclasses.dataclass(frozen=True)
class _World:
    """What there is to talk about."""

    areas: dict[str, Area]
    traits: tuple[Trait, ...]
    hints: dict[str, tuple[Trait, ...]]  # what one says -> whose it may be

    @classmethod
    def of(cls, number: int) -> "_World":
        """The first `number` areas of life."""
        if not FEWEST_AREAS <= number <= len(AREAS):
            raise UserError(
                f"data.areas={number}: persona_world has {FEWEST_AREAS} to "
                f"{len(AREAS)} areas of life."
            )
        areas = dict(itertools.islice(AREAS.items(), number))
        traits = {t.name: t for t in phrases.TRAITS if t.area in areas}
        hints = {
            text: tuple(traits[name] for name in names if name in traits)
            for text, names in phrases.HINTS.items()
        }
        hints = {text: fitting for text, fitting in hints.items() if len(fitting) > 1}
        return cls(areas, tuple(traits.values()), hints)

    @property
    def half(self) -> int:
        return (len(self.areas) + 1) // 2


class _Chance:
    """Draws from `random.random` alone, which is the same on every Python."""

    def __init__(self, seed: int):
        self._random = random.Random(seed).random

    def true(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, options: Sequence):
        return options[int(self._random() * len(options))]

    def weighted(self, options: Sequence[tuple]):
        """A value of (weight, value), by weight.

        Weights are multiples of a half, whose sums are exact: Python 3.12 changed how
        it adds up floats.
        """
        point = self._random() * sum(weight for weight, _ in options)
        for weight, value in options:
            point -= weight
            if point < 0:
                return value
        return options[-1][1]

    def sample(self, options: Sequence, count: int) -> list:
        """`count` different options in random order."""
        left = list(options)
        return [left.pop(int(self._random() * len(left))) for _ in range(count)]


class _Conversation:
    """Speakers 0 and 1 at talk; 0 opens. `me` is who speaks, `you` who listens."""

    def __init__(
        self, world: _World, chance: _Chance, profiles: Sequence[Sequence[Trait]]
    ):
        self.world = world
        self.chance = chance
        self.profiles = profiles
        self.turns: list[Turn] = []
        self.told: tuple[list[Trait], list[Trait]] = ([], [])
        self.asked: tuple[list[str], list[str]] = ([], [])  # areas, by who was asked
        self.used: set[str] = set()

    def talk(self, length: int) -> list[Turn]:
        for index in range(length):
            turn = self._turn if index else self._open
            self.turns.append(turn(index % 2, last=index == length - 1))
        return self.turns

    def _open(self, me: int, last: bool) -> Turn:
        greeting = Part("greet", self._fresh(phrases.GREETINGS))
        options = (
            (3, lambda: [Part("mood", self._fresh(phrases.MOODS))]),
            (2, lambda: [self._hint(me, self.chance.pick(self._untold(me)))]),
            (2, lambda: [self._reveal(me, self.chance.pick(self._untold(me)))]),
            (2, lambda: self._ask(me)),
            (1, lambda: self._rumour(me)),
        )
        return [greeting, *self.chance.weighted(options)()]

    def _turn(self, me: int, last: bool) -> Turn:
        heard = self.turns[-1]
        question = heard[-1] if heard[-1].kind in QUESTIONS else None
        news = next((p for p in heard[::-1] if p.kind in TELLING), None)
        parts = self._greet_back()
        if question:
            parts += self._answer(me, question, news)
        elif news:
            parts += [self._react(me, news, may_ask=not last)]
        else:
            parts += self._go_on(me, heard[-1])
        if last:
            return parts + self._leave(me, news, parts)
        ends_open = any(p.kind in QUESTIONS for p in parts)
        if not ends_open and _words(parts) <= 1.3 * LONG:
            parts += self._start(me, question, news, parts)
        return parts

    def _greet_back(self) -> Turn:
        if len(self.turns) > 1 or self.chance.true(0.5):
            return []
        return [Part("greet", self._fresh(phrases.GREETINGS[:4]))]

    def _leave(self, me: int, news: Part | None, parts: Turn) -> Turn:
        more = []
        if not any(p.mine for p in parts) and _words(parts) <= LONG:
            more = self._add(me, news, hints=0)
        if _words(parts + more) > 1.5 * LONG:
            return more
        if self._unasked(1 - me) and self.chance.true(0.5):
            trait = self._suspect(me)
            return [*more, self._suspicion("wonder", phrases.WONDERS, trait)]
        if self.told[1 - me] and self.chance.true(0.8):
            trait = self.chance.pick(self.told[1 - me])
            return [*more, Part("leave", trait.farewell, trait)]
        return [*more, Part("leave", self._fresh(phrases.FAREWELLS))]

    # What one says of oneself.

    def _reveal(self, me: int, trait: Trait, says: float = 0.65) -> Part:
        kind = "says" if self.chance.true(says) else "implies"
        self._tell(me, trait)
        return Part(kind, self._fresh(getattr(trait, kind)), trait, mine=True)

    def _hint(self, me: int, trait: Trait) -> Part:
        """Something that makes the other one wonder; plain words once hints run out."""
        fitting = [text for text, of in self.world.hints.items() if trait in of]
        if self.used.issuperset(fitting):
            return self._reveal(me, trait)
        return Part("hint", self._fresh(fitting), trait, mine=True)

    def _tell(self, who: int, trait: Trait) -> None:
        if trait not in self.told[who]:
            self.told[who].append(trait)

    def _untold(self, who: int) -> list[Trait]:
        return [t for t in self.profiles[who] if t not in self.told[who]]

    def _unasked(self, who: int) -> list[Trait]:
        return [t for t in self._untold(who) if t.area not in self.asked[who]]

    def _of_area(self, who: int, area: str) -> Trait | None:
        return next((t for t in self.profiles[who] if t.area == area), None)

    # How one takes up what the other one said.

    def _react(self, me: int, news: Part, may_ask: bool) -> Part:
        trait = news.trait
        if trait in self._untold(me) and news.kind != "hint":
            self._tell(me, trait)
            self._tell(1 - me, trait)
            return Part("common", trait.common, trait, mine=True)
        if news.kind == "hint" and may_ask and self.chance.true(0.7):
            if self.chance.true(0.85):
                return self._guess(news)
            return Part("why", self._fresh(phrases.WHY), trait)
        return self._remark(news)

    def _remark(self, news: Part) -> Part:
        if news.kind != "hint" and self.chance.true(0.75):
            return Part("comment", self._fresh(news.trait.comments), news.trait)
        return Part("generic", self._fresh(phrases.GENERIC))

    def _guess(self, hint: Part) -> Part:
        trait = hint.trait
        if self.chance.true(0.15):
            trait = self.chance.pick(self.world.hints[hint.text])
        return self._suspicion("guess", phrases.GUESSES, trait)

    def _go_on(self, me: int, remark: Part) -> Turn:
        """More of the same, where the other one only remarked on a trait of mine."""
        if remark.trait not in self.profiles[me]:
            return []
        left = [text for text in remark.trait.implies if text not in self.used]
        if not left:
            return []
        return [Part("implies", self._fresh(left), remark.trait, mine=True)]

    def _answer(self, me: int, question: Part, news: Part | None) -> Turn:
        """The answer, at times after a remark on what came before the question."""
        reply = self._reply(me, question)
        changed_subject = question.kind in ("ask", "back", "probe", "rumour")
        brief = changed_subject and _words(reply) <= LONG
        if news and brief and self.chance.true(0.4):
            return [self._remark(news), *reply]
        return reply

    def _reply(self, me: int, question: Part) -> Turn:
        if question.kind == "mood":
            return [Part("well", self._fresh(phrases.WELL)), *self._small_news(me)]
        if question.kind == "why":
            return [self._reveal(me, question.trait)]
        if question.kind in SUSPICIONS:
            return self._confirm(me, question.trait)
        if question.kind == "follow":
            answer = dict(question.trait.follow_ups)[question.text]
            return [Part("answer", answer, question.trait, mine=True)]
        if question.kind == "invite":
            return [Part("accept", self._fresh(phrases.ACCEPTANCES))]
        return [self._report(me, question.area)]

    def _small_news(self, me: int) -> Turn:
        if not self._untold(me) or self.chance.true(0.1):
            return []
        say = self._hint if self.chance.true(0.6) else self._reveal
        return [say(me, self.chance.pick(self._untold(me)))]

    def _confirm(self, me: int, trait: Trait) -> Turn:
        if trait in self.profiles[me]:
            yes = Part("confirm", self._fresh(phrases.CONFIRMATIONS))
            return [yes, self._reveal(me, trait, says=0.4)]
        no = Part("correct", self._fresh(phrases.CORRECTIONS))
        return [no, self._report(me, trait.area, hints=0)]

    def _report(self, me: int, area: str, hints: float = 0.2) -> Part:
        trait = self._of_area(me, area)
        if not trait:
            return Part("deny", self._fresh(self.world.areas[area].denials), area=area)
        if trait in self._untold(me) and self.chance.true(hints):
            return self._hint(me, trait)
        return self._reveal(me, trait)

    # What one starts.

    def _start(
        self, me: int, question: Part | None, news: Part | None, parts: Turn
    ) -> Turn:
        you, words, has_told = 1 - me, _words(parts), any(p.mine for p in parts)
        options = [(0.5, lambda: self._ask(me))]
        if question and self._may_return(me, question.area):
            options += [(3, lambda: [self._back(you, question.area)])]
        if self._unasked(you):
            options += [(12 if has_told else 4, lambda: self._probe(me))]
            if self._first(me, "rumour"):
                options += [(1, lambda: self._rumour(me))]
        if self._untold(me) and not has_told and words <= LONG:
            options += [(6, lambda: self._add(me, news))]
            if words <= LONG / 1.5:
                options += [(12, lambda: self._share(me, news))]
        if not question and news and self._follow_ups(news):
            options += [(3, lambda: self._follow(news))]
        if self.told[you] and not question and self._first(me, "invite"):
            options += [(4, lambda: self._invite(me))]
        return self.chance.weighted(options)()

    def _first(self, me: int, kind: str) -> bool:
        """Whether I have not done this yet."""
        return not any(part.kind == kind for turn in self.turns[me::2] for part in turn)

    def _add(self, me: int, news: Part | None, hints: float = 0.2) -> Turn:
        """Something of my own: from the same area of life, or with a bridge to it."""
        mine = self._of_area(me, news.trait.area) if news else None
        if mine in self._untold(me):
            return [self._reveal(me, mine)]
        related = {t.area for t in self._untold(1 - me)}
        options = [(10 if t.area in related else 1, t) for t in self._untold(me)]
        if not options:
            return []
        say = self._hint if self.chance.true(hints) else self._reveal
        part = say(me, self.chance.weighted(options))
        return [dataclasses.replace(part, lead=self._fresh(phrases.BRIDGES))]

    def _share(self, me: int, news: Part | None) -> Turn:
        """Something of my own, and a question, of the same area if that is possible."""
        areas = [t.area for t in self._unasked(1 - me)]
        both = [t for t in self._untold(me) if t.area in areas]
        if not both:
            return self._add(me, news) + (self._probe(me) if areas else [])
        trait = self.chance.pick(both)
        mine, yours = self._reveal(me, trait), self._of_area(1 - me, trait.area)
        if self.chance.true(0.3):
            return [mine, self._question(1 - me, trait.area)]
        return [mine, *self._probe(me, yours)]

    def _ask(self, me: int) -> Turn:
        you = 1 - me
        taken = [*self.asked[you], *(t.area for t in self.told[you])]
        areas = [t.area for t in self._unasked(you)]
        if not areas or self.chance.true(0.15):
            known = list(self.world.areas)
            areas = [area for area in known if area not in taken] or known
        return [self._question(you, self.chance.pick(areas))]

    def _question(self, you: int, area: str) -> Part:
        self.asked[you].append(area)
        return Part("ask", self._fresh(self.world.areas[area].questions), area=area)

    def _may_return(self, me: int, area: str) -> bool:
        """Whether a question I was asked can go back to who asked it."""
        return any(t.area == area for t in self._unasked(1 - me))

    def _back(self, you: int, area: str) -> Part:
        self.asked[you].append(area)
        return Part("back", self._fresh(phrases.BACK), area=area)

    def _rumour(self, me: int) -> Turn:
        return [self._suspicion("rumour", phrases.RUMOURS, self._suspect(me))]

    def _suspicion(self, kind: str, templates: Sequence[str], trait: Trait) -> Part:
        return Part(kind, self._fresh(templates).format(you=trait.you), trait)

    def _probe(self, me: int, about: Trait | None = None) -> Turn:
        trait = self._suspect(me, about)
        if self.chance.true(0.3):
            return [self._suspicion("probe", phrases.BETS, trait)]
        _, verb, rest = trait.you.split(" ", 2)
        clause = f"are you {rest}" if verb == "are" else f"do you {verb} {rest}"
        too = " too" if trait in self.told[me] else ""
        return [Part("probe", f"{clause}{too} ?", trait)]

    def _suspect(self, me: int, about: Trait | None = None) -> Trait:
        """A trait the other one has not told yet; at times it is not theirs at all."""
        trait = about or self.chance.pick(self._unasked(1 - me))
        if self.chance.true(1 / 8):
            area = [t for t in self.world.traits if t.area == trait.area]
            trait = self.chance.pick(area)
        self.asked[1 - me].append(trait.area)
        return trait

    def _follow_ups(self, news: Part) -> list[str]:
        if news.kind == "hint":
            return []
        return [text for text, _ in news.trait.follow_ups if text not in self.used]

    def _follow(self, news: Part) -> Turn:
        return [Part("follow", self._fresh(self._follow_ups(news)), news.trait)]

    def _invite(self, me: int) -> Turn:
        mine = self.chance.pick([t for t in self.profiles[me] if t.invite])
        yours = self.told[1 - me][-1]
        self._tell(me, mine)
        return [Part("invite", f"{mine.invite} , {yours.welcome} .", mine, mine=True)]

    def _fresh(self, options: Sequence[str]) -> str:
        """One that nobody has said yet, where there is one."""
        left = [text for text in options if text not in self.used]
        text = self.chance.pick(left or options)
        self.used.add(text)
        return text


def _words(parts: Turn) -> int:
    return sum(len(str(part).split()) for part in parts)


def _split_of(profile: Sequence[Trait]) -> str:
    """The one split where this combination talks; a tenth of all is for each test."""
    names = " ".join(sorted(trait.name for trait in profile))
    return {0: "valid", 1: "test"}.get(zlib.crc32(names.encode()) % 10, "train")


def _profile(
    world: _World, chance: _Chance, split: str, other: Sequence[Trait] = ()
) -> tuple[Trait, ...]:
    """Traits of about half of the areas; at times one is the other's as well."""
    number = ((1, world.half - 1), (2, world.half), (1, world.half + 1))
    by_area = {a: [t for t in world.traits if t.area == a] for a in world.areas}
    while True:
        areas = chance.sample(list(world.areas), chance.weighted(number))
        traits = [chance.pick(by_area[area]) for area in areas]
        if other and chance.true(0.4):
            shared = chance.pick(other)
            place = areas.index(shared.area) if shared.area in areas else 0
            traits[place] = shared
        names = {trait.name for trait in traits}
        if any(pair <= names for pair in phrases.CONFLICTS):
            continue
        if _split_of(traits) == split:
            return tuple(traits)


def conversations(
    seed: int, split: str, count: int, areas: int = len(AREAS)
) -> Iterator[tuple[Dialogue, list[Turn]]]:
    """`count` dialogues, each with the parts its utterances were made of."""
    world = _World.of(areas)
    chance = _Chance(len(SPLITS) * seed + SPLITS.index(split))
    for number in range(count):
        me = _profile(world, chance, split)
        partner = _profile(world, chance, split, other=me)
        length = chance.weighted(((2, 2 * world.half - 2), (1, 2 * world.half)))
        turns = _Conversation(world, chance, (partner, me)).talk(length)
        dialogue = Dialogue(
            id=f"{split}-{number}",
            self_persona=tuple(chance.pick(t.persona) for t in me),
            partner_persona=tuple(chance.pick(t.persona) for t in partner),
            utterances=tuple(" ".join(map(str, turn)) for turn in turns),
        )
        yield dialogue, turns


def generate(
    seed: int = 0, sizes: dict[str, int] | None = None, areas: int = len(AREAS)
) -> dict[str, tuple[Dialogue, ...]]:
    """The corpus by split, the same for the same seed on every machine.

    `sizes` says how many dialogues a split gets (default `SIZES`), `areas` how many
    areas of life they are about; UserError unless it is 5 to 8. The partner speaks
    first and self last.
    """
    return {
        split: tuple(d for d, _ in conversations(seed, split, count, areas))
        for split, count in (SIZES if sizes is None else sizes).items()
    }
