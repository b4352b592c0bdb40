"""ParlAI text: every kind is read, every bad line is named."""

import dataclasses
import json
import random

import pytest

from ppg_jax.data import dialogue, personachat
from ppg_jax.data.dialogue import DataError, Dialogue, instances
from ppg_jax.errors import UserError

SELF = ["i have two dogs.", "i like jazz."]
PARTNER = ["i am a cook.", "i live in ohio.", "i hate rain."]
EXCHANGES = [("hello !", "hi , how are you ?"), ("fine .", "me too .")]
CANDIDATES = ["no way .", "hi , how are you ?", "me too .", "what ?"]


def parlai_text(dialogue, candidates=False):
    """A writer for the tests: the inverse of the reader."""
    lines = [f"your persona: {s}" for s in dialogue.self_persona]
    lines += [f"partner's persona: {s}" for s in dialogue.partner_persona]
    said = list(dialogue.utterances)
    if dialogue.self_speaks_first:
        said.insert(0, personachat.SILENCE)
    for turn, (utterance, response) in enumerate(
        zip(said[::2], said[1::2], strict=True)
    ):
        line = f"{utterance}\t{response}"
        if candidates:
            line += "\t\t" + "|".join(dialogue.candidates[turn])
        lines.append(line)
    return "".join(f"{n} {line}\n" for n, line in enumerate(lines, start=1))


def random_dialogues(seed, count=20):
    rng = random.Random(seed)
    words = ["i", "am", "it's", "é", "|", "__", "1", "persona:", "?"]

    def text(alphabet=tuple(words)):
        return " ".join(rng.choices(alphabet, k=rng.randint(1, 6)))

    for number in range(count):
        first = rng.random() < 0.5
        utterances = [text(words[:4]) for _ in range(2 * rng.randint(1, 4) - first)]
        responses = utterances[(0 if first else 1) :: 2]
        yield Dialogue(
            id=f"train_both_original:{number}",
            self_persona=tuple(text() for _ in range(rng.randint(0, 3))),
            partner_persona=tuple(text() for _ in range(rng.randint(0, 3))),
            utterances=tuple(utterances),
            self_speaks_first=first,
            candidates=tuple(("what ?", response) for response in responses),
        )


def write(folder, text, name="train_both_original.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("self_persona", "partner_persona"),
    [(SELF, []), ([], PARTNER), (SELF, PARTNER), ([], [])],
    ids=["self", "other", "both", "none"],
)
@pytest.mark.parametrize("candidates", [False, True])
def test_every_kind_is_read(tmp_path, self_persona, partner_persona, candidates):
    dialogue = Dialogue(
        id="train_both_original:0",
        self_persona=tuple(self_persona),
        partner_persona=tuple(partner_persona),
        utterances=tuple(text for exchange in EXCHANGES for text in exchange),
        candidates=(tuple(CANDIDATES),) * 2 if candidates else (),
    )
    path = write(tmp_path, parlai_text(dialogue, candidates))
    assert personachat.read(path) == (dialogue,)


@pytest.mark.parametrize("seed", range(5))
def test_reading_inverts_writing_with_and_without_candidates(tmp_path, seed):
    dialogues = tuple(random_dialogues(seed))
    bare = tuple(dataclasses.replace(d, candidates=()) for d in dialogues)
    with_candidates = "".join(parlai_text(d, candidates=True) for d in dialogues)
    without = "".join(parlai_text(d) for d in dialogues)
    assert personachat.read(write(tmp_path, with_candidates)) == dialogues
    name = "train_both_original_no_cands.txt"
    assert personachat.read(write(tmp_path, without, name)) == bare


def test_silence_lets_self_speak_first(tmp_path):
    text = "1 your persona: i am .\n2 __SILENCE__\thi .\n3 hello .\tbye .\n"
    (dialogue,) = personachat.read(write(tmp_path, text))
    assert dialogue.utterances == ("hi .", "hello .", "bye .")
    assert [i.response for i in dialogue.instances()] == ["hi .", "bye ."]
    assert [i.context for i in dialogue.instances()] == [(), ("hi .", "hello .")]


def test_persona_lines_may_come_in_either_order_as_in_convai2(tmp_path):
    text = "1 partner's persona: b.\n2 your persona: a.\n3 hi\tho\n"
    (dialogue,) = personachat.read(write(tmp_path, text))
    assert (dialogue.self_persona, dialogue.partner_persona) == (("a.",), ("b.",))


def test_line_ends_byte_order_marks_and_blank_lines_do_not_matter(tmp_path):
    text = "1 your persona: a.\n2 hi\tho\n1 oh\tno\n"
    expected = personachat.read(write(tmp_path, text))
    assert len(expected) == 2
    for variant in [
        text.replace("\n", "\r\n"),
        text.removesuffix("\n"),
        "\ufeff" + text,
        text.replace("\n", "\n\n") + " \n",
    ]:
        assert personachat.read(write(tmp_path, variant)) == expected


@pytest.mark.parametrize(
    "lines",
    [
        ["Your persona: a.", "Partner\u2019s persona: b."],
        ["your persona: a.\\npartner's persona: b."],
    ],
)
def test_persona_lines_are_known_however_they_are_written(lines, tmp_path):
    lines = [*lines, "hi\tho"]
    text = "".join(f"{n} {line}\n" for n, line in enumerate(lines, start=1))
    (dialogue,) = personachat.read(write(tmp_path, text))
    assert (dialogue.self_persona, dialogue.partner_persona) == (("a.",), ("b.",))
    text = "1 " + "\\n".join(lines) + "\n"  # all of it in one line
    (dialogue,) = personachat.read(write(tmp_path, text))
    assert (dialogue.self_persona, dialogue.partner_persona) == (("a.",), ("b.",))
    assert dialogue.utterances == ("hi", "ho")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (b"1 hi\tme too .|so do i .\n", 1, "the response has '|', which parts several"),
        (b"1 hi\t__SILENCE__\n", 1, "the response is __SILENCE__, expected text"),
        (b"", 1, "empty"),
        (b"\n\n", 1, "empty"),
        (b"2 hi\tho\n", 1, "expected 1"),
        (b"1 hi\tho\n3 hi\tho\n", 2, "expected 2 or 1"),
        (b"1 hi\tho\nhi\tho\n", 2, "line number"),
        ("1 hi\tho\n٢ hi\tho\n".encode(), 2, "line number"),
        (b"9" * 5000 + b" hi\tho\n", 1, "line number"),
        (b"1 hi\tho\n2\n", 2, "0 tabs"),
        (b"1 hi ho\n", 1, "0 tabs"),
        (b"1 hi\tho\tx\n", 1, "2 tabs"),
        (b"1 hi\tho\tmuch\tho|x\n", 1, "3 tabs"),
        (b"1 hi\tho\t1\tho|x\tx\n", 1, "4 tabs"),
        (b"1 hi\t\n", 1, "response is empty"),
        (b"1 \tho\n", 1, "utterance is empty"),
        (b"1 hi\tho\t\tx|y\n", 1, "not among its candidates"),
        (b"1 hi\tho\t\tho|y\n2 hi\tho\n", 2, "candidates in all"),
        (b"1 hi\tho\n2 hi\tho\t\tho|y\n", 2, "candidates in all"),
        (b"1 hi\tho\n2 __SILENCE__\tho\n", 2, "only open"),
        (b"1 hi\tho\n2 your persona: a.\n", 2, "after an exchange"),
        (b"1 your persona: \n", 1, "one persona sentence"),
        (b"1 your persona: a.\tb.\n", 1, "one persona sentence"),
        (b"1 your persona: a.\n1 hi\tho\n", 1, "without an exchange"),
        (b"1 hi\tho\n1 your persona: a.\n\n", 2, "without an exchange"),
        (b"1 hi\tho\n2 h\xff\tho\n", 2, "UTF-8"),
        (b"1 hi\tho\n2 h\0\tho\n", 2, "binary"),
        (b"\x1f\x8b\x08\0\0", 1, "binary"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(tmp_path, text, line, said):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as error:
        personachat.read(path)
    message = str(error.value)
    assert message.startswith(f"{path}:{line}: ")
    assert said in message
    assert "\n" not in message


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UserError, match="expected a ParlAI file") as error:
            personachat.read(path)
        assert str(path) in str(error.value)


def mutated(data, rng):
    """Some bytes replaced, removed, doubled or moved."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(data))
        to = at + rng.choice([1, 3, 30])
        noise = rng.choice([b"\t", b"\n", b"|", b" ", b"\0", b"\xc3", b"a", b"\n1 "])
        piece = bytes(data[at:to])
        data[at:to] = rng.choice([b"", piece * 2, noise, noise + piece, piece[::-1]])
    return bytes(data)


def test_a_mutated_file_is_read_or_its_line_is_named(tmp_path):
    rng = random.Random(0)
    dialogues = tuple(random_dialogues(1, count=4))
    outcomes = {"read": 0, "refused": 0}
    for trial in range(1000):
        text = "".join(parlai_text(d, candidates=trial % 2 == 0) for d in dialogues)
        variant = mutated(text.encode(), rng)
        path = write(tmp_path, variant)
        try:
            result = personachat.read(path)
        except DataError as error:
            line = int(str(error).removeprefix(f"{path}:").partition(":")[0])
            assert 1 <= line <= variant.count(b"\n") + 1
            outcomes["refused"] += 1
        else:
            assert all(d.utterances and all(d.utterances) for d in result)
            outcomes["read"] += 1
    assert min(outcomes.values()) > 100, outcomes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i'm sure you don't", "i am sure you do not"),
        ("I’m here , it's late", "I am here , it is late"),
        ("it's been long , he's got a cat", "it has been long , he has got a cat"),
        ("i'd better go , i'd love to", "i had better go , i would love to"),
        ("my name's bo , my mom's bo", "my name is bo , my moms bo"),
        ("can't , won't , shan't , isn't", "cannot , will not , shall not , is not"),
        ("they've gone , we'll see", "they have gone , we will see"),
        ("you're what i'd like", "you are what i would like"),
        ("my mom's dog , let's go", "my moms dog , lets go"),
        ("he's tall , that's all", "he is tall , that is all"),
        ("'tis rock 'n' roll", "'tis rock 'n' roll"),
    ],
)
def test_contractions_take_the_form_of_personachat(text, expected):
    assert personachat.expand_contractions(text) == expected


def test_expansion_reaches_every_text_of_a_dialogue(tmp_path):
    text = (
        "1 your persona: i'm .\n2 partner's persona: i'm .\n3 i'm\ti'm\t\ti'm|don't\n"
    )
    (dialogue,) = map(personachat.expanded, personachat.read(write(tmp_path, text)))
    assert dialogue.self_persona == dialogue.partner_persona == ("i am .",)
    assert dialogue.utterances == ("i am", "i am")
    assert dialogue.candidates == (("i am", "do not"),)


@pytest.mark.parametrize(
    ("name", "dialogues", "count", "mine", "partners", "context"),
    [
        ("train_both_original", 8939, 65638, 4.502, 4.489, 7.43),
        ("valid_both_original", 1000, 7801, 4.483, 4.495, 7.84),
        ("test_both_original", 968, 7512, 4.489, 4.512, 7.80),
        ("valid_both_revised", 1000, 7801, 4.483, 4.495, 7.84),
    ],
)
def test_personachat_has_the_published_counts(
    shared, name, dialogues, count, mine, partners, context
):
    read = personachat.read(shared / f"data/personachat/{name}_no_cands.txt")
    contexts = [len(instance.context) for instance in instances(read)]
    assert (len(read), len(contexts)) == (dialogues, count)
    assert len({d.id for d in read}) == dialogues
    means = [sum(len(d.self_persona) for d in read) / dialogues]
    means += [sum(len(d.partner_persona) for d in read) / dialogues]
    assert means == pytest.approx([mine, partners], abs=5e-4)
    assert sum(contexts) / count == pytest.approx(context, abs=5e-3)


def test_revised_personachat_differs_in_the_personas_alone(shared):
    original, revised = (
        personachat.read(shared / f"data/personachat/valid_both_{v}_no_cands.txt")
        for v in ("original", "revised")
    )
    assert [d.utterances for d in original] == [d.utterances for d in revised]
    assert all(
        a.self_persona != b.self_persona for a, b in zip(original, revised, strict=True)
    )


def test_personachat_is_already_in_the_expanded_form(shared):
    path = shared / "data/personachat/valid_both_original_no_cands.txt"
    read = personachat.read(path)
    assert read == tuple(map(personachat.expanded, read))


def test_a_line_is_read_as_parlai_reads_it(tmp_path):
    text = "1 your persona: i\\nsail.\n2 hi !\\nyou ?\tme too .\t0.5\n3 a\tb\t\t\n"
    [dialogue] = personachat.read(write(tmp_path, text))
    assert dialogue.self_persona == ("i\nsail.",)
    assert dialogue.utterances == ("hi !\nyou ?", "me too .", "a", "b")


def test_a_dialogue_without_end_is_refused_by_both_readers(tmp_path):
    """Its contexts, one for each response, would be quadratic in memory."""
    most = dialogue.MOST_UTTERANCES
    told = "more than 10,000 utterances in one dialogue; cut it into several"
    path = tmp_path / "a.txt"
    lines = [f"{n} hi\thello\n" for n in range(1, most // 2 + 2)]
    path.write_text("".join(lines[:-1]))
    assert len(personachat.read(path)[0].utterances) == most
    path.write_text("".join(lines))
    with pytest.raises(DataError, match=f"a.txt:{len(lines)}: {told}"):
        personachat.read(path)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"utterances": ["hi"] * (most + 1)}))
    with pytest.raises(DataError, match=f"a.jsonl:1: {told}"):
        dialogue.read_jsonl(path)


def test_rewards_may_have_signs(tmp_path):
    path = write(tmp_path, "1 hi\tho\t-1.5\n2 a\tb\t.5\n3 c\td\t+2\n")
    [talk] = personachat.read(path)
    assert talk.utterances == ("hi", "ho", "a", "b", "c", "d")


def test_spaces_around_candidates_are_none_of_theirs(tmp_path):
    [talk] = personachat.read(write(tmp_path, "1 hi\tho\t\tno | ho \n"))
    assert talk.candidates == (("no", "ho"),)
