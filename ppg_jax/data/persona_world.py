"""The embedded corpus: small talk between two people, generated from a seed.

A person has three to five traits of `persona_world_traits`, each from another area of
life. Two people take turns; a turn reacts to what the other one let out, answers what
the other one asked, and may start something. What depends on what:

    what I tell of myself     my persona, and the question I was asked
    how I react               the other's trait, also where it was only implied or
                              hinted; mine as well where we have it in common
    what I ask                the other's persona: mostly areas where they have
                              something to tell, and at times I have heard about it
    my invitation             my trait, and a second half that suits one of theirs
    my farewell               a trait of the other

So a response cannot be predicted well without the partner's persona, which a model has
to infer: a plain statement repeats a word of the persona sentence, an implied one none,
and a hint ("my boots are dirty again .") fits several traits. To judge whether a
persona and a response belong together a model must know which implied utterance goes
with which trait; counting shared words goes wrong on those, and on questions, guesses,
refusals and reactions, whose words come from traits of somebody else.

A profile belongs to one split by a checksum of its traits: whoever talks in valid or
test is a combination never met in train, made of traits that are.
"""

import dataclasses
import random
import zlib
from collections.abc import Iterator, Sequence

from ppg_jax.data.dialogue import Dialogue
from ppg_jax.data.persona_world_traits import AREAS, CONFLICTS, HINTS, TRAITS, Trait

SIZES = {"train": 1600, "valid": 120, "test": 120}

GREETINGS = (
    "hi there !",
    "hello !",
    "hey !",
    "good evening !",
    "nice to meet you .",
    "hi , i am new here .",
)
MOODS = (
    "how are you ?",
    "how was your day ?",
    "what is new ?",
    "how is it going ?",
)
WELL = ("fine , thank you .", "pretty good .", "not bad .", "i am a bit tired .")
BACK = ("and you ?", "how about you ?", "what about you ?")
GENERIC = (
    "that sounds nice .",
    "oh wow .",
    "haha , i love that .",
    "oh really .",
    "i can imagine .",
    "good to know .",
)
WHY = ("oh , why is that ?", "how come ?", "tell me more ?")
GUESSES = (
    "let me guess , {you} ?",
    "it sounds like {you} , right ?",
    "wait , does that mean {you} ?",
)
RUMOURS = (
    "a friend told me {you} , is it true ?",
    "is it true that {you} ?",
    "somebody said {you} ?",
)
CONFIRMATIONS = ("yes , that is me !", "true !", "haha , yes .", "you got me .")
CORRECTIONS = ("no , not at all .", "good guess , but no .", "no , wrong person .")
ACCEPTANCES = (
    "i would love to !",
    "gladly , thank you !",
    "sounds like a plan .",
    "i will be there !",
)
FAREWELLS = ("i have to go now .", "well , i must run .", "it was nice to talk .")
BRIDGES = ("as for me ,", "by the way ,", "guess what ,")
LONG = 12  # words after which one leaves the word to the other


@dataclasses.dataclass(frozen=True)
class Part:
    """One sentence or two of a turn, and what it is about."""

    kind: str
    text: str
    trait: Trait | None = None  # what it is about, if it is about a trait
    mine: bool = False  # the trait is the speaker's own, else the listener's
    area: str = ""  # of a question, and of a refusal
    lead: str = ""  # what connects it to the rest

    def __str__(self) -> str:
        return f"{self.lead} {self.text}".strip()


NEWS = ("says", "implies", "answer", "common", "hint")
LIGHT = ("greet", "generic", "well", "confirm", "correct", "accept")
QUESTIONS = ("mood", "why", "guess", "rumour", "ask", "back", "follow", "invite")


class _Chance:
    """Draws from `random.random` alone, which is the same on every Python."""

    def __init__(self, seed: int):
        self._random = random.Random(seed).random

    def true(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, options: Sequence):
        return options[int(self._random() * len(options))]

    def weighted(self, options: Sequence[tuple]):
        """One of (weight, value) by weight."""
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
    """Two profiles at talk; speakers are 0 and 1, and 0 opens."""

    def __init__(self, chance: _Chance, profiles: tuple[tuple[Trait, ...], ...]):
        self.chance = chance
        self.profiles = profiles
        self.turns: list[list[Part]] = []
        self.told: tuple[list[Trait], list[Trait]] = ([], [])
        self.asked: tuple[list[str], list[str]] = ([], [])
        self.used: set[str] = set()

    def talk(self, turns: int) -> list[list[Part]]:
        for index in range(turns):
            me = index % 2
            parts = self._turn(me, last=index == turns - 1)
            self.turns.append(parts)
        return self.turns

    def _turn(self, me: int, last: bool) -> list[Part]:
        if not self.turns:
            return [Part("greet", self._fresh(GREETINGS)), *self._open(me)]
        heard = self.turns[-1]
        question = heard[-1] if heard[-1].kind in QUESTIONS else None
        news = next((p for p in heard[::-1] if p.kind in NEWS), None)
        parts = []
        if len(self.turns) == 1 and self.chance.true(0.5):
            parts += [Part("greet", self._fresh(GREETINGS[:4]))]
        if question:
            parts += self._answer(me, question, news)
        elif news:
            parts += [self._react(me, news, may_ask=not last)]
        else:
            parts += self._go_on(me, heard[-1])
        if last:
            return parts + self._leave(me, news, parts)
        ends_open = parts and parts[-1].kind in QUESTIONS
        words = sum(len(p.text.split()) for p in parts if p.kind not in LIGHT)
        if not ends_open and (words == 0 or (words < LONG and self.chance.true(0.8))):
            parts += self._initiative(me, None if question else news, question)
        return parts

    # What one says of oneself.

    def _reveal(self, me: int, trait: Trait, says: float = 0.6) -> Part:
        kind = "says" if self.chance.true(says) else "implies"
        self._tell(me, trait)
        return Part(kind, self._fresh(getattr(trait, kind)), trait, mine=True)

    def _tell(self, me: int, trait: Trait) -> None:
        if trait not in self.told[me]:
            self.told[me].append(trait)

    def _hint(self, me: int) -> Part:
        trait = self.chance.pick(self._untold(me))
        fitting = [text for text, names in HINTS.items() if trait.name in names]
        return Part("hint", self._fresh(fitting), trait, mine=True)

    def _untold(self, who: int) -> list[Trait]:
        return [t for t in self.profiles[who] if t not in self.told[who]]

    def _of_area(self, who: int, area: str) -> Trait | None:
        return next((t for t in self.profiles[who] if t.area == area), None)

    # Opening and closing.

    def _open(self, me: int) -> list[Part]:
        return self.chance.weighted(
            (
                (3, lambda: [self._question_of_mood()]),
                (3, lambda: [self._hint(me)]),
                (2, lambda: [self._reveal(me, self.chance.pick(self._untold(me)))]),
                (1.5, lambda: self._ask(me)),
                (1, lambda: self._rumour(me)),
            )
        )()

    def _question_of_mood(self) -> Part:
        return Part("mood", self._fresh(MOODS))

    def _leave(self, me: int, news: Part | None, parts: list[Part]) -> list[Part]:
        more = []
        if not any(p.mine for p in parts) and self.chance.true(0.8):
            more = self._add(me, news)
        known = self.told[1 - me]
        if known and self.chance.true(0.6):
            trait = self.chance.pick(known)
            more += [Part("leave", trait.farewell, trait)]
        elif self.chance.true(0.5) or not parts + more:
            more += [Part("leave", self._fresh(FAREWELLS))]
        return more

    # How one takes up what the other one said.

    def _react(self, me: int, news: Part, may_ask: bool) -> Part:
        trait = news.trait
        if trait in self.profiles[me] and trait not in self.told[me]:
            self._tell(me, trait)
            self._tell(1 - me, trait)
            return Part("common", trait.common, trait, mine=True)
        if news.kind == "hint" and may_ask:
            if self.chance.true(0.75):
                return self._guess(me, news)
            return Part("why", self._fresh(WHY), trait)
        return self._remark(news)

    def _remark(self, news: Part) -> Part:
        if news.kind != "hint" and self.chance.true(0.75):
            return Part("comment", self._fresh(news.trait.comments), news.trait)
        return Part("generic", self._fresh(GENERIC))

    def _guess(self, me: int, hint: Part) -> Part:
        trait = hint.trait
        if self.chance.true(0.15):
            names = HINTS[hint.text]
            trait = self.chance.pick([t for t in TRAITS if t.name in names])
        return self._about("guess", GUESSES, trait)

    def _about(self, kind: str, templates: Sequence[str], trait: Trait) -> Part:
        return Part(kind, self._fresh(templates).format(you=trait.you), trait)

    def _answer(self, me: int, question: Part, news: Part | None) -> list[Part]:
        """The answer, at times after a remark on what came before the question."""
        reply = self._reply(me, question)
        takes_up = news and question.kind in ("ask", "back", "rumour")
        if not takes_up or not self.chance.true(0.3):
            return reply
        return [self._remark(news), *reply]

    def _go_on(self, me: int, remark: Part) -> list[Part]:
        """More of the same, where the other one only remarked on a trait of mine."""
        if remark.trait not in self.profiles[me]:
            return []
        left = [text for text in remark.trait.implies if text not in self.used]
        if not left:
            return []
        return [Part("implies", self._fresh(left), remark.trait, mine=True)]

    def _reply(self, me: int, question: Part) -> list[Part]:
        if question.kind == "mood":
            return [Part("well", self._fresh(WELL)), *self._small_news(me)]
        if question.kind == "why":
            return [self._reveal(me, question.trait, says=0.7)]
        if question.kind in ("guess", "rumour"):
            return self._confirm(me, question)
        if question.kind == "follow":
            answer = dict(question.trait.follow_ups)[question.text]
            return [Part("answer", answer, question.trait, mine=True)]
        if question.kind == "invite":
            return [Part("accept", self._fresh(ACCEPTANCES))]
        trait = self._of_area(me, question.area)
        return [self._reveal(me, trait) if trait else self._deny(question.area)]

    def _small_news(self, me: int) -> list[Part]:
        if not self._untold(me) or not self.chance.true(0.7):
            return []
        if self.chance.true(0.8):
            return [self._hint(me)]
        return [self._reveal(me, self.chance.pick(self._untold(me)))]

    def _deny(self, area: str) -> Part:
        return Part("deny", self._fresh(AREAS[area].denials), area=area)

    def _confirm(self, me: int, question: Part) -> list[Part]:
        trait = question.trait
        if trait in self.profiles[me]:
            yes = Part("confirm", self._fresh(CONFIRMATIONS))
            return [yes, self._reveal(me, trait, says=0.35)]
        no = Part("correct", self._fresh(CORRECTIONS))
        mine = self._of_area(me, trait.area)
        return [no, self._reveal(me, mine) if mine else self._deny(trait.area)]

    # What one starts.

    def _initiative(self, me: int, news: Part | None, question: Part | None):
        you = 1 - me
        options = [(0.7, lambda: self._ask(me))]
        if question and question.area and question.area not in self.asked[you]:
            yours = self._of_area(you, question.area)
            weight = 3.0 if yours in self._untold(you) else 0.4
            options += [(weight, lambda: self._back(me, question.area))]
        if news and news.kind != "hint" and self._left(news.trait.follow_ups):
            options += [(3.0, lambda: self._follow(news.trait))]
        if self._untold(you) and self._first(me, "rumour"):
            options += [(1.0, lambda: self._rumour(me))]
        if self._untold(me) and not question:
            options += [(4.0, lambda: self._add(me, news))]
            options += [(2.0, lambda: self._share(me))]
        if self.told[you] and self._first(me, "invite") and not question:
            options += [(2.5, lambda: self._invite(me))]
        return self.chance.weighted(options)()

    def _add(self, me: int, news: Part | None) -> list[Part]:
        """Something of my own: from the same area of life, or with a bridge to it."""
        mine = self._of_area(me, news.trait.area) if news else None
        if mine in self._untold(me):
            return [self._reveal(me, mine)]
        if not self._untold(me):
            return []
        if self.chance.true(0.25):
            part = self._hint(me)
        else:
            part = self._reveal(me, self.chance.pick(self._untold(me)))
        return [dataclasses.replace(part, lead=self._fresh(BRIDGES))]

    def _first(self, me: int, kind: str) -> bool:
        """Whether I have not done this yet."""
        mine = self.turns[me::2]
        return not any(part.kind == kind for turn in mine for part in turn)

    def _left(self, follow_ups) -> list[str]:
        return [text for text, _ in follow_ups if text not in self.used]

    def _ask(self, me: int) -> list[Part]:
        you = 1 - me
        taken = [*self.asked[you], *(t.area for t in self.told[you])]
        areas = [area for area in AREAS if area not in taken]
        telling = [t.area for t in self._untold(you) if t.area in areas]
        if telling and self.chance.true(0.85):
            areas = telling
        area = self.chance.pick(areas)
        return [self._question(you, area)]

    def _question(self, you: int, area: str) -> Part:
        self.asked[you].append(area)
        return Part("ask", self._fresh(AREAS[area].questions), area=area)

    def _back(self, me: int, area: str) -> list[Part]:
        self.asked[1 - me].append(area)
        return [Part("back", self._fresh(BACK), area=area)]

    def _follow(self, trait: Trait) -> list[Part]:
        text = self._fresh(self._left(trait.follow_ups))
        return [Part("follow", text, trait)]

    def _rumour(self, me: int) -> list[Part]:
        trait = self.chance.pick(self._untold(1 - me))
        if self.chance.true(0.12):
            trait = self.chance.pick([t for t in TRAITS if t.area == trait.area])
        return [self._about("rumour", RUMOURS, trait)]

    def _share(self, me: int) -> list[Part]:
        """Something of my own, and a question about the same area of life."""
        you = 1 - me
        areas = [t.area for t in self._untold(you) if t.area not in self.asked[you]]
        both = [t for t in self._untold(me) if t.area in areas]
        if not both:
            return self._add(me, None)
        trait = self.chance.pick(both)
        return [self._reveal(me, trait), self._question(you, trait.area)]

    def _invite(self, me: int) -> list[Part]:
        able = [t for t in self.profiles[me] if t.invite]
        mine, yours = self.chance.pick(able), self.told[1 - me][-1]
        text = f"{mine.invite} , {yours.welcome} ."
        self._tell(me, mine)
        return [Part("invite", text, mine, mine=True)]

    def _fresh(self, options: Sequence[str]) -> str:
        """One that nobody has said yet, where there is one."""
        left = [text for text in options if text not in self.used]
        text = self.chance.pick(left or options)
        self.used.add(text)
        return text


def _split_of(profile: Sequence[Trait]) -> str:
    """The one split where this combination may talk: a tenth each is held out."""
    names = " ".join(sorted(trait.name for trait in profile))
    return {0: "valid", 1: "test"}.get(zlib.crc32(names.encode()) % 10, "train")


def _profile(chance: _Chance, split: str, friend: Sequence[Trait] = ()):
    """Three to five traits of different areas; at times one of the friend's."""
    while True:
        count = chance.weighted(((1, 3), (2, 4), (1, 5)))
        traits = [
            chance.pick([t for t in TRAITS if t.area == area])
            for area in chance.sample(list(AREAS), count)
        ]
        if friend and chance.true(0.4):
            shared = chance.pick(friend)
            traits = [t for t in traits if t.area != shared.area][: count - 1]
            traits.insert(int(chance.weighted(((1, 0), (1, 1), (1, 2)))), shared)
        names = {trait.name for trait in traits}
        if any(conflict <= names for conflict in CONFLICTS):
            continue
        if _split_of(traits) == split:
            return tuple(traits)


def conversations(seed: int, split: str, count: int) -> Iterator[tuple]:
    """`count` pairs of a dialogue and its turns, each a list of `Part`."""
    chance = _Chance(3 * seed + list(SIZES).index(split))
    for number in range(count):
        self_profile = _profile(chance, split)
        partner_profile = _profile(chance, split, friend=self_profile)
        length = chance.weighted(((2, 6), (1, 8)))
        turns = _Conversation(chance, (partner_profile, self_profile)).talk(length)
        yield (
            Dialogue(
                id=f"{split}-{number}",
                self_persona=tuple(chance.pick(t.persona) for t in self_profile),
                partner_persona=tuple(chance.pick(t.persona) for t in partner_profile),
                utterances=tuple(" ".join(map(str, turn)) for turn in turns),
            ),
            turns,
        )


def generate(
    seed: int = 0, sizes: dict[str, int] | None = None
) -> dict[str, tuple[Dialogue, ...]]:
    """The corpus by split, the same for the same seed on every machine.

    `sizes` gives dialogues per split; default `SIZES`. Self is the second speaker.
    """
    return {
        split: tuple(dialogue for dialogue, _ in conversations(seed, split, count))
        for split, count in (SIZES if sizes is None else sizes).items()
    }
