"""The layout of every prompt, token by token, and what goes first when it is long."""

import dataclasses
import re
from itertools import chain, product

import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from ppg_jax.data import personachat
from ppg_jax.data.chat_template import chat_templates, fits
from ppg_jax.data.dialogue import Dialogue, Instance, instances
from ppg_jax.data.examples import examples
from ppg_jax.data.prompts import CUES, PromptConfig, Prompts, layout
from ppg_jax.data.sentences import sentences
from ppg_jax.data.tokenization import load_tokenizer
from ppg_jax.errors import UserError
from ppg_jax.inference.generation import splice
from tests import models_for_tests as small

FORMS = list(product(("persona_first", "context_first"), ("text", "tokens")))
DIALOGUE = small.DIALOGUES[0]
INSTANCE = list(DIALOGUE.instances())[1]
CONTEXT = (
    "hi , how are you ?END fine , just fed my dogs .END nice ! i had a long shift .END"
)
CONTEXT = CONTEXT.replace("END ", "END")
SELF = {
    ("text", "space"): "your persona: i have two dogs. i sing.END",
    ("text", "newline"): "your persona:\ni have two dogs.\ni sing.END",
    ("tokens", "space"): "<|self|>i have two dogs. i sing.END",
    ("tokens", "newline"): "<|self|>i have two dogs.\ni sing.END",
}
CUE = {"text": "partner's persona:", "tokens": "<|partner|>"}
PARTNER = {
    ("text", "space"): " i am a nurse. i love tea. my car is red.END",
    ("text", "newline"): "\ni am a nurse.\ni love tea.\nmy car is red.END",
    ("tokens", "space"): "i am a nurse. i love tea. my car is red.END",
    ("tokens", "newline"): "i am a nurse.\ni love tea.\nmy car is red.END",
}


def shown(prompts: Prompts, tokens) -> str:
    text = prompts.tokenizer.decode(tokens, skip_special_tokens=False)
    return text.replace(prompts.tokenizer.eos_token, "END")


@pytest.mark.parametrize("joint", ["space", "newline"])
@pytest.mark.parametrize(("order", "style"), FORMS)
def test_every_form_of_every_prompt(order, style, joint):
    prompts = small.prompts(order=order, style=style, joint=joint)
    own, cue, partner = SELF[style, joint], CUE[style], PARTNER[style, joint]
    told = prompts.persona_target(INSTANCE.partner_persona)
    persona = prompts.persona_prompt(INSTANCE)
    response = prompts.response_prompt(INSTANCE, told)
    without = prompts.response_prompt(INSTANCE, None)
    if order == "persona_first":
        expected = own + CONTEXT + cue, own + cue + partner + CONTEXT, own + CONTEXT
    else:
        expected = CONTEXT + own + cue, CONTEXT + own + cue + partner, CONTEXT + own
    found = tuple(shown(prompts, tokens) for tokens in (persona, response, without))
    assert found == expected
    assert shown(prompts, told) == partner
    assert shown(prompts, prompts.response_target("great !")) == "great !END"


@pytest.mark.parametrize(("order", "style"), FORMS)
def test_an_example_is_prompt_and_target_in_one_causal_row(order, style):
    prompts = small.prompts(order=order, style=style)
    told = prompts.persona_target(INSTANCE.partner_persona)
    response = prompts.response_target(INSTANCE.response)
    for example, prompt, target in [
        (prompts.persona_example(INSTANCE), prompts.persona_prompt(INSTANCE), told),
        (
            prompts.response_example(INSTANCE, told),
            prompts.response_prompt(INSTANCE, told),
            response,
        ),
    ]:
        assert example.ids == (INSTANCE.id,)
        assert example.tokens.tolist() == prompt + target
        assert example.target_of.tolist() == [0] * len(prompt) + [1] * len(target)
        assert example.position_ids.tolist() == list(range(len(example)))
        assert not example.branch_ids.any()
        assert example.tokens[-1] == prompts.end_id


@pytest.mark.parametrize(("order", "style"), FORMS)
def test_a_whole_dialogue_is_text_whose_cues_are_no_targets(order, style):
    prompts = small.prompts(order=order, style=style)
    told = prompts.persona_target(DIALOGUE.partner_persona)
    example = prompts.dialogue_example(DIALOGUE, told)
    personas = SELF[style, "space"] + CUE[style] + PARTNER[style, "space"]
    turns = "".join(u + "END" for u in DIALOGUE.utterances)
    text = turns + personas if order == "context_first" else personas + turns
    assert shown(prompts, example.tokens) == text
    assert example.ids == (DIALOGUE.id,)
    without = prompts.dialogue_example(DIALOGUE, None)
    assert CUE[style] not in shown(prompts, without.tokens)
    silent = shown(prompts, example.tokens[example.target_of == 0])
    cues = SELF[style, "space"].split("i have")[0].rstrip() + CUE[style]
    assert silent == ("hi" + cues if order == "context_first" else cues)
    short = dataclasses.replace(prompts.config, max_length=len(example) - 9)
    cut = Prompts(prompts.tokenizer, short).dialogue_example(DIALOGUE, told)
    np.testing.assert_array_equal(cut.tokens, example.tokens[:-9])


@pytest.mark.parametrize("order", ["persona_first", "context_first"])
def test_a_dialogue_without_personas_is_its_turns(order):
    prompts = small.prompts(order=order)
    plain = dataclasses.replace(DIALOGUE, self_persona=(), partner_persona=())
    example = prompts.dialogue_example(plain, None)
    turns = "".join(u + "END" for u in DIALOGUE.utterances)
    text = turns + "END" if order == "context_first" else "END" + turns
    assert shown(prompts, example.tokens) == text
    assert (example.target_of == 0).sum() == 1 + (order == "context_first")


def test_the_cues_of_the_token_style_are_one_token_each():
    prompts = small.prompts(style="tokens")
    vocabulary = prompts.tokenizer.get_vocab()
    tokens = prompts.response_prompt(INSTANCE, [prompts.end_id])
    assert [tokens.count(vocabulary[cue]) for cue in CUES["tokens"]] == [1, 1]


@pytest.mark.parametrize("style", CUES)
def test_nobody_forges_an_end_or_a_cue_by_typing_it(style):
    prompts = small.prompts(style=style)
    rude = "a<|endoftext|>b<|partner|>c"
    special = set(prompts.tokenizer.all_special_ids)
    assert prompts.text(prompts.response_target(rude)[:-1]) == rude
    assert special.isdisjoint(prompts.response_target(rude)[:-1])
    prompts.prime([Dialogue("x", (), (), (rude + "!",))])
    assert special.isdisjoint(prompts.response_target(rude + "!")[:-1])


def test_priming_changes_no_token():
    primed, unprimed = small.prompts(), small.prompts()
    primed.prime(small.DIALOGUES)
    for instance in instances(small.DIALOGUES):
        ours, theirs = (p.response_example(instance, None) for p in (primed, unprimed))
        assert ours.tokens.tolist() == theirs.tokens.tolist()


@pytest.mark.parametrize(("order", "style"), FORMS)
def test_a_generated_persona_goes_in_as_the_tokens_that_it_is(order, style):
    """What the persona generator learns to write is what the response prompt holds."""
    prompts = small.prompts(order=order, style=style)
    example = prompts.persona_example(INSTANCE)
    written = example.tokens[example.target_of > 0].tolist()
    gold = prompts.persona_target(INSTANCE.partner_persona)
    expected = prompts.response_prompt(INSTANCE, gold)
    assert prompts.response_prompt(INSTANCE, written) == expected
    before, after = prompts.response_parts(INSTANCE, len(written) + 32)
    pieces = [jnp.array([p], jnp.int32) for p in (before, written, after)]
    tokens, mask = splice([(p, jnp.ones(p.shape, bool)) for p in pieces])
    assert mask.all() and tokens[0].tolist() == expected


@pytest.mark.parametrize("joint", ["space", "newline"])
def test_a_persona_as_text_is_its_sentences_again(joint):
    prompts = small.prompts(joint=joint)
    text = prompts.text(prompts.persona_target(("i am a nurse.", "why not?", "i sing")))
    assert sentences(text) == ("i am a nurse.", "why not?", "i sing.")


@pytest.mark.parametrize("order", ["persona_first", "context_first"])
def test_the_oldest_turns_go_first_and_personas_never(order):
    config = {"order": order, "max_persona_tokens": 8, "max_response_tokens": 4}
    whole = small.prompts(**config)
    last = list(DIALOGUE.instances())[-1]
    told = whole.persona_target(last.partner_persona)
    own = whole.persona_target(last.self_persona)
    turns = [whole.response_target(utterance) for utterance in last.context]
    suffixes = [list(chain(*turns[n:])) for n in range(len(turns) + 1)]
    most = len(whole.response_example(last, told))
    seen = set()
    for max_length in range(most - len(suffixes[0]) + 8, most + 2):
        prompts = small.prompts(max_length=max_length, **config)
        for example in (
            prompts.response_example(last, told),
            prompts.persona_example(last),
            prompts.response_example(last, None),
        ):
            assert len(example) <= max_length
            row = example.tokens.tolist()
            assert contains(row, own)
            kept = next(n for n, turns in enumerate(suffixes) if contains(row, turns))
            seen.add(kept)
        # And no turn goes without need: the next older one would not have fit.
        row = prompts.response_example(last, told).tokens.tolist()
        kept = next(n for n, turns in enumerate(suffixes) if contains(row, turns))
        room = max(len(whole.response_target(last.response)), 4) + max(len(told), 8)
        fixed = len(row) - len(suffixes[kept]) - len(told)
        fixed -= len(whole.response_target(last.response))
        assert contains(row, told)
        assert not kept or fixed + room + len(suffixes[kept - 1]) > max_length
    assert seen == set(range(len(suffixes)))


def contains(row: list[int], part: list[int]) -> bool:
    return any(row[at : at + len(part)] == part for at in range(len(row)))


def test_of_a_newest_turn_that_is_too_long_the_end_is_kept():
    config = {"max_persona_tokens": 8, "max_response_tokens": 4}
    whole = small.prompts(**config)
    instance = next(iter(DIALOGUE.instances()))
    turn = whole.response_target(instance.context[-1])
    longest = len(whole.response_prompt(instance, None)) + 4
    for cut in range(1, len(turn)):
        prompts = small.prompts(max_length=longest - cut, **config)
        row = prompts.response_prompt(instance, None)
        assert len(row) + 4 == longest - cut
        assert row[-len(turn) + cut :] == turn[cut:]


def test_room_is_kept_for_completions_of_the_maximal_lengths():
    prompts = small.prompts(max_length=150)
    for instance in DIALOGUE.instances():
        assert len(prompts.persona_prompt(instance)) + 72 <= 150
        before, after = prompts.response_parts(instance)
        assert len(before) + 72 + len(after) + 32 <= 150
        for persona in ([0], [1] * 40, [1] * 72):
            prompt = prompts.response_prompt(instance, persona)
            # As many turns whatever the persona's length, so that it can be spliced.
            assert prompt == before + persona + after


def test_personas_that_leave_no_room_are_refused_with_the_instance():
    prompts = small.prompts(max_length=110)
    with pytest.raises(UserError, match=r"instance a:1: .*max_length is 110"):
        prompts.response_prompt(INSTANCE, [1] * 100)
    with pytest.raises(UserError, match=r"instance a:1: .*max_length is 60"):
        small.prompts(max_length=60).persona_prompt(INSTANCE)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_no_more_than_the_newest_turns_are_read(turns):
    prompts, bare = small.prompts(max_turns=turns), small.prompts()
    told = prompts.persona_target(DIALOGUE.partner_persona)
    for instance in DIALOGUE.instances():
        context = instance.context[-turns:]
        cut = dataclasses.replace(instance, context=context)
        assert prompts.persona_prompt(instance) == bare.persona_prompt(cut)
        assert prompts.response_prompt(instance, told) == bare.response_prompt(
            cut, told
        )
    single = [prompts.response_example(i, told) for i in DIALOGUE.instances()]
    packed = prompts.response_dialogue(DIALOGUE, told)
    passes = [pass_of(e, n + 1) for e in packed for n in range(len(e.ids))]
    assert passes == [e.tokens.tolist() for e in single]


def pass_of(example, number: int) -> list[int]:
    """The tokens that the target `number` of a packed example sees, and itself."""
    own = example.target_of == number
    branch = example.branch_ids[own][0]
    start = example.branch_starts[own][0]
    last = np.flatnonzero(own)[-1]
    trunk = (example.branch_ids == 0) & (example.position_ids < start)
    seen = trunk | (example.branch_ids == branch)
    return example.tokens[: last + 1][seen[: last + 1]].tolist()


@pytest.mark.parametrize(("order", "style"), FORMS)
@pytest.mark.parametrize("task", ["persona", "response", "without"])
def test_a_packed_dialogue_holds_each_instance_or_falls_back(task, order, style):
    options = {"max_persona_tokens": 8, "max_response_tokens": 16}
    packings = set()
    for max_length in (95, 110, 125, 140, 155, 170, 200, 448):
        prompts = small.prompts(
            order=order, style=style, max_length=max_length, **options
        )
        told = prompts.persona_target(DIALOGUE.partner_persona)
        told = None if task == "without" else told
        if task == "persona":
            single = [prompts.persona_example(i) for i in DIALOGUE.instances()]
            packed = prompts.persona_dialogue(DIALOGUE)
        else:
            single = [prompts.response_example(i, told) for i in DIALOGUE.instances()]
            packed = prompts.response_dialogue(DIALOGUE, told)
        passes = [pass_of(e, n + 1) for e in packed for n in range(len(e.ids))]
        assert passes == [e.tokens.tolist() for e in single]
        assert [i for e in packed for i in e.ids] == [i for e in single for i in e.ids]
        packings.add(len(packed))
    both = {1, len(single)}
    nested = task == "persona" or order == "persona_first"
    assert packings == (both if nested else {len(single)})


def test_dialogues_at_the_edges():
    prompts = small.prompts()
    silent = Dialogue("silent", ("i sing.",), ("i run.",), ("hello ?",))
    assert prompts.persona_dialogue(silent) == []
    assert prompts.response_dialogue(silent, None) == []
    first = Dialogue("first", (), ("i run.",), ("hello !",), self_speaks_first=True)
    (instance,) = first.instances()
    (persona,), (response,) = (
        prompts.persona_dialogue(first),
        prompts.response_dialogue(first, None),
    )
    cue = "partner's persona:"
    assert shown(prompts, persona.tokens) == f"END{cue} i run.END"
    assert shown(prompts, response.tokens) == "ENDhello !END"
    assert response.target_of[0] == 0  # something precedes a target, always
    assert prompts.response_prompt(instance, None) == [prompts.end_id]


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": "a"},
        {"style": "b"},
        {"joint": "c"},
        {"max_length": 0},
        {"max_persona_tokens": 0},
        {"max_response_tokens": -1},
    ],
)
def test_a_wrong_form_is_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        PromptConfig(**wrong)


def test_real_personachat_has_the_lengths_of_the_specification(shared):
    """PAPER.md, A2: responses of 13.55 tokens with the end; 448 cuts two turns."""
    path = shared / "data" / "personachat" / "valid_both_original_no_cands.txt"
    prompts = Prompts(load_tokenizer(shared / "tokenizers" / "gpt2"), PromptConfig())
    dialogues = personachat.read(path)
    prompts.prime(dialogues)
    lengths, responses, cut = [], [], 0
    for instance in instances(dialogues):
        told = prompts.persona_target(instance.partner_persona)
        example = prompts.response_example(instance, told)
        lengths.append(len(example))
        responses.append(np.count_nonzero(example.target_of))
        _, after = prompts.response_parts(instance)
        cut += len(after) < sum(
            len(prompts.response_target(u)) for u in instance.context
        )
    assert len(lengths) == 7801
    assert np.mean(responses) == pytest.approx(13.55, abs=0.005)
    assert max(responses) == 28
    # 189 without the ten tokens of the cues.
    assert np.median(lengths) == 199
    # Room for the longest persona and response that may be generated costs two
    # instances, of 391 and 411 tokens, their oldest turns.
    assert cut == 2


def test_a_tokenizer_without_an_end_token_is_told():
    tokenizer = small.tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="has no end token; name one as eos_token"):
        Prompts(tokenizer, PromptConfig())


def test_what_is_remembered_of_texts_is_bounded_by_their_length(monkeypatch):
    made = small.prompts()
    made._room = 12
    seen = []
    for text in ("i sing.", "i run.", "i sing.", "hello"):
        made.response_target(text)
        seen.append(len(made._known))
    assert seen[1] <= seen[0]
    assert made.response_target("i sing.") == small.prompts().response_target("i sing.")


@pytest.mark.parametrize("batching", ["dialogue", "instance"])
def test_a_response_that_is_too_long_is_cut_and_told(batching, capsys):
    long = dataclasses.replace(
        DIALOGUE, utterances=(*DIALOGUE.utterances[:3], "we went to the lake . " * 90)
    )
    prompts = small.prompts(max_length=200)
    made = examples(prompts, [long], "response", batching)
    assert [name for e in made for name in e.ids] == ["a:0", "a:1"]
    assert all(len(e) <= 200 for e in made)
    whole = prompts.response_target(long.utterances[-1])
    target = made[-1].tokens[made[-1].target_of > 0].tolist()
    assert 32 <= len(target) < 200
    assert target == whole[: len(target)]  # and no end, which nobody said
    told = f"1 responses are cut, .*=200 has no room for: a:1 has {len(whole)} tokens"
    assert re.match(told, capsys.readouterr().err)


@pytest.mark.parametrize("order", ["persona_first", "context_first"])
@pytest.mark.parametrize("style", ["text", "tokens"])
@pytest.mark.parametrize("joint", ["space", "newline"])
def test_the_layout_of_a_card_is_that_of_the_prompts(order, style, joint):
    ours = small.prompts(order=order, style=style, joint=joint)
    said = Instance("", 0, ("i have two dogs.", "i sing."), (), ("hi !",), "")
    partner = ours.persona_target(["i am a nurse."])
    prompts = ours.persona_prompt(said), ours.response_prompt(said, partner)
    texts = [ours.tokenizer.decode(tokens) for tokens in prompts]
    shown = [text.replace("<|endoftext|>", "END") for text in texts]
    assert dict(zip(("persona", "response"), shown, strict=True)) == layout(ours.config)


@pytest.mark.parametrize("order", ["persona_first", "context_first"])
@pytest.mark.parametrize("style", ["text", "tokens"])
def test_a_tokenizer_that_marks_where_a_text_begins_has_no_chat_template(order, style):
    ours = small.prompts(order=order, style=style)
    assert fits(ours.tokenizer, ours.config)
    # What people type stays text all the same.
    assert ours.tokenizer.backend_tokenizer.encode_special_tokens
    backend = ours.tokenizer.backend_tokenizer
    marked = pre_tokenizers.Metaspace(replacement="x", prepend_scheme="first")
    backend.pre_tokenizer = marked
    assert not fits(ours.tokenizer, ours.config)


@pytest.mark.parametrize("own", [("i have two dogs", "i sing!"), ()])
@pytest.mark.parametrize("order", ["persona_first", "context_first"])
@pytest.mark.parametrize("style", ["text", "tokens"])
@pytest.mark.parametrize("joint", ["space", "newline"])
def test_the_chat_template_makes_the_same_tokens(order, style, joint, own):
    pytest.importorskip("jinja2", reason="transformers fills templates by it")
    ours = small.prompts(order=order, style=style, joint=joint)
    context = ("hi !", " what do you do ?")
    said = Instance("", 0, own, (), context, "")
    partner = ["i am a nurse ", "i love tea."]
    told = ours.persona_target(partner)
    expected = {
        "persona": [ours.persona_prompt(said)],
        "response": [ours.response_prompt(said, p) for p in (told, None)],
    }
    ours.tokenizer.backend_tokenizer.encode_special_tokens = False
    messages = [{"role": "user", "content": text} for text in context]
    for name, template in chat_templates(ours.config).items():
        made = [
            ours.tokenizer.apply_chat_template(
                messages,
                chat_template=template,
                tokenize=True,
                return_dict=False,
                **{"self_persona": list(own)} | known,
            )
            for known in ({"partner_persona": partner}, {})[: len(expected[name])]
        ]
        assert made == expected[name]


def test_a_response_that_is_cut_leaves_room_for_what_it_answers():
    said = (*DIALOGUE.utterances[:3], "we went to the lake . " * 90)
    long = dataclasses.replace(DIALOGUE, utterances=said)
    prompts = small.prompts(max_length=200)
    [*_, made] = examples(prompts, [long], "response", "instance")
    asked = prompts.response_target(long.utterances[2])
    assert contains(made.tokens[made.target_of == 0].tolist(), asked)


def test_dialogues_are_packed_only_where_a_persona_of_any_length_has_room():
    """The one told here is short, one that is generated may not be."""
    short, numbers = dataclasses.replace(DIALOGUE, partner_persona=("i run.",)), set()
    for max_length in range(150, 260, 10):
        prompts = small.prompts(
            max_length=max_length, max_persona_tokens=60, max_response_tokens=16
        )
        told = prompts.persona_target(short.partner_persona)
        packed = prompts.response_dialogue(short, told)
        single = [prompts.response_example(i, told) for i in short.instances()]
        passes = [pass_of(e, n + 1) for e in packed for n in range(len(e.ids))]
        assert passes == [e.tokens.tolist() for e in single]
        numbers.add(len(packed))
    assert len(numbers) == 2
