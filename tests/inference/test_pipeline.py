"""From a run directory to replies: the right models, the right tokens, any text."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import ppg_jax
from ppg_jax.data.chat_template import chat_templates
from ppg_jax.data.dialogue import Instance
from ppg_jax.data.tokenization import load_tokenizer
from ppg_jax.errors import UserError
from ppg_jax.files import write_json
from ppg_jax.inference import generator
from ppg_jax.inference.generator import Completion
from ppg_jax.inference.pipeline import PartnerPersona, Pipeline, Request
from ppg_jax.inference.sampling import Decoding
from ppg_jax.models import product
from ppg_jax.run_dir import claim, read_experiment, settings_of
from ppg_jax.serve import export
from ppg_jax.stages import supervised
from tests import run_for_tests as runs

SELF = ["i have two dogs.", "i sing"]
CONTEXT = ["hi , how are you ?", "fine , and you ?", "i am a nurse ."]
REQUESTS = [
    Request(SELF, CONTEXT),
    Request([], []),
    Request(["i paint."], ["hello"]),
    Request(SELF, ["\U0001f600 \u00e7a va ?\n\u4f60\u597d", "", "<|endoftext|>"]),
    Request(SELF, CONTEXT * 40),
    Request(SELF, CONTEXT, ["i am a nurse.", "i love tea"]),
    Request(SELF, CONTEXT, ()),
]


def texts(replies):
    return [(r.partner_persona.tokens, r.tokens, r.text) for r in replies]


def test_a_reply_prints_as_its_text_and_carries_the_rest():
    reply = runs.pipeline().reply(SELF, CONTEXT, seed=0)
    assert str(reply) == reply.text and isinstance(reply.text, str)
    assert str(reply.partner_persona) == reply.partner_persona.text
    assert reply.log_prob < 0 and reply.partner_persona.log_prob < 0
    inferred = runs.pipeline().infer_partner(SELF, CONTEXT, seed=0)
    assert reply.partner_persona == inferred


def test_a_request_has_the_same_reply_alone_and_among_others():
    pipeline = runs.pipeline()
    together = pipeline.replies(REQUESTS, range(len(REQUESTS)))
    backwards = pipeline.replies(REQUESTS[::-1], range(len(REQUESTS))[::-1])[::-1]
    alone = [pipeline.replies([r], [n])[0] for n, r in enumerate(REQUESTS)]
    assert texts(together) == texts(backwards) == texts(alone)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.log_prob, b.log_prob, atol=1e-3)


def test_the_seed_and_the_number_of_a_request_change_what_is_sampled(monkeypatch):
    pipeline = runs.pipeline()
    same = [Request(SELF, CONTEXT)] * 4
    replies = texts(pipeline.replies(same, range(4)))
    assert len(set(replies)) == len(same)
    reseeded = dataclasses.replace(pipeline.config, seed=1)
    monkeypatch.setattr(pipeline, "config", reseeded)
    assert not set(texts(pipeline.replies(same, range(4)))) & set(replies)


def test_each_call_draws_anew_and_a_seed_repeats_one():
    pipeline = Pipeline.load(runs.finished_run(), temperature=1.0, batch_size=2)
    pipeline._persona, pipeline._response = vars(runs.pipeline())["_persona"], None
    same = Request(SELF, CONTEXT)

    def draw(**seed):
        return [p.tokens for p in pipeline.infer_partners([same] * 2, **seed)]

    calls = [tokens for _ in range(3) for tokens in draw()]
    assert len(set(calls)) == len(calls)
    assert calls[:2] == draw(seed=0) == draw(seed=0) != draw(seed=1)
    one = pipeline.infer_partner(SELF, CONTEXT, seed=1)
    assert one.tokens == draw(seed=1)[0]


@pytest.mark.parametrize("seed", [-1, 2**31, 0.5, "7", True])
def test_a_seed_of_a_call_that_is_none_is_told(seed):
    with pytest.raises(UserError, match="expected a whole number from 0"):
        runs.pipeline().reply(SELF, CONTEXT, seed=seed)


@pytest.mark.parametrize("contrast", [0.0, 1.0])
def test_after_a_warm_up_no_single_request_waits_for_a_compilation(contrast):
    pipeline = Pipeline.load(runs.finished_run(), bucket=32, contrast=contrast)
    pipeline.warm_up()
    generators = {pipeline._persona, pipeline._response}
    compiled = [g.compile_count for g in generators]
    for context in ([], CONTEXT[:1], CONTEXT, CONTEXT * 3, CONTEXT * 40):
        pipeline.reply(SELF, context)
    assert [g.compile_count for g in generators] == compiled


def test_what_a_pipeline_compiles_is_kept_and_nothing_foreign_is_told(tmp_path):
    """Though the process has compiled something before, and PyTorch is not there."""
    code = (
        "import importlib.util as util, jax; find = util.find_spec\n"
        "util.find_spec = lambda n, *a: None if n == 'torch' else find(n, *a)\n"
        "jax.jit(lambda x: x + 1)(1.0)\n"
        "from ppg_jax import Pipeline\n"
        f"pipeline = Pipeline.load({str(runs.finished_run())!r})\n"
        "pipeline.infer_partner(['i sing.'], ['hi'])"
    )
    kept = {"JAX_COMPILATION_CACHE_DIR", "TRANSFORMERS_VERBOSITY"}
    # What compiles in no time is not kept: here, as users compile.
    kept |= {"JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"}
    usual = {name: value for name, value in os.environ.items() if name not in kept}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=runs.ROOT,
        env=usual | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / ".cache" / "ppg_jax" / "xla").iterdir())


def test_a_persona_and_its_response_share_no_randomness(monkeypatch):
    pipeline = runs.pipeline()
    drawn, row_keys = [], generator.row_keys

    def record(seed, ids):
        drawn.append({(seed, int(i)) for i in ids})
        return row_keys(seed, ids)

    monkeypatch.setattr(generator, "row_keys", record)
    pipeline.replies([Request(SELF, CONTEXT), Request(["i paint."], ["hello"])])
    personas, responses = drawn
    assert len(personas) == len(responses) == 2
    assert not personas & responses


class Spy:
    """A generator that says what it is told to, and keeps its prompts."""

    decoding = Decoding(9)

    def __init__(self, completion):
        self.completion, self.prompts = completion, []

    def __call__(self, params, prompts, seed, ids, limit, without=()):
        self.prompts += prompts
        return [self.completion] * len(prompts)


@pytest.mark.parametrize("ended", [True, False])
def test_the_generated_persona_reaches_the_response_generator_token_by_token(
    monkeypatch, ended
):
    pipeline = runs.pipeline()
    prompts = pipeline.prompts
    # Single letters: encoding their text again would merge them into other tokens.
    letters = prompts.tokenizer.convert_tokens_to_ids(list("nurse."))
    assert prompts.persona_target(["nurse."])[:-1] != letters
    spy = Spy(Completion((8,), True, -1.0))
    inferred = Spy(Completion(tuple(letters), ended, -2.0))
    monkeypatch.setattr(pipeline._infer, "_generator", inferred)
    monkeypatch.setattr(pipeline._reply, "_generator", spy)
    reply = pipeline.reply(SELF, CONTEXT)
    instance = Instance("", 0, tuple(SELF), (), tuple(CONTEXT), "")
    assert inferred.prompts == [prompts.persona_prompt(instance)]
    tokens = [*letters, prompts.end_id]
    before, after = prompts.response_parts(instance)
    assert spy.prompts == [before + tokens + after]
    assert reply.partner_persona.tokens == tuple(tokens)
    assert reply.partner_persona.sentences == ("nurse.",)
    assert reply.partner_persona.ended == ended


def test_a_given_persona_is_told_as_it_is_in_training(monkeypatch):
    pipeline = runs.pipeline()
    spy, idle = Spy(Completion((8,), True, -1.0)), Spy(None)
    monkeypatch.setattr(pipeline._infer, "_generator", idle)
    monkeypatch.setattr(pipeline._reply, "_generator", spy)
    instance = REQUESTS[0].instance()
    inferred = pipeline._infer._told([instance], [Completion((50, 51), False, -1.0)])
    given = [("i sing.", "i run."), "i sing. i run.", inferred, (), ""]
    for persona in given:
        reply = pipeline.reply(SELF, CONTEXT, persona)
    target = pipeline.prompts.persona_target(["i sing.", "i run."])
    tokens = [target, target, inferred.tokens, None, None]
    assert spy.prompts == [
        pipeline.prompts.response_prompt(instance, t) for t in tokens
    ]
    assert reply.partner_persona.log_prob is None and not idle.prompts


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("i sing.", ["hi"]), "'self_persona' is of type str, expected a list"),
        ((["i sing."], "hi"), "'context' is of type str, expected a list"),
        ((["i sing."], ["hi", 3]), "'context' holds a int, expected a list"),
        ((["\ud800"], ["hi"]), "'self_persona' holds half a character"),
        ((["i sing."], ["hi"], 7), "'partner_persona' is of type int"),
        ((["i sing."] * 60, ["hi"]), "max_length is 64; raise it or shorten"),
        ((["i sing."], ["hi"], ["i run."] * 60), "max_length is 64; raise it"),
    ],
)
def test_what_is_no_request_is_told_in_one_line(arguments, told):
    pipeline = runs.pipeline()
    with pytest.raises(UserError, match=told):
        pipeline.reply(*arguments)
    with pytest.raises(UserError, match=told):
        pipeline.check(Request(*arguments))


def test_whatever_passes_the_check_has_a_reply_of_any_length(monkeypatch):
    pipeline = runs.pipeline()
    monkeypatch.setattr(
        pipeline._reply, "_generator", Spy(Completion((8,), True, -1.0))
    )
    longest = Completion((50,) * runs.PROMPTS.max_persona_tokens, False, -1.0)
    monkeypatch.setattr(pipeline._infer, "_generator", Spy(longest))
    fitting = 0
    for words in range(1, 64):
        request = Request(["tea " * words], [])
        try:
            pipeline.check(request)
        except UserError:
            continue
        pipeline.replies([request])
        fitting += 1
    assert 0 < fitting < 63


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"contrast": -1},
        {"response_contrast": -1},
        {"stage": "x"},
        {"temp": 1},
    ],
)
def test_a_wrong_option_is_named(options):
    with pytest.raises(UserError, match=rf"\b{next(iter(options))}\b"):
        Pipeline.load(runs.finished_run(), **options)


@pytest.fixture
def run_dir(tmp_path):
    return shutil.copytree(
        runs.finished_run(), tmp_path / "run", ignore=shutil.ignore_patterns("xla")
    )


def is_loaded_from(pipeline, folder):
    weights = (folder / "model.safetensors").read_bytes()
    return np.asarray(pipeline.persona[1]["wpe"]["embedding"]).tobytes() in weights


def test_the_reinforced_models_are_taken_once_their_stage_has_finished(run_dir):
    reinforced = run_dir / "reinforce"
    runs.export_generator(reinforced / "model_persona", seed=5)
    runs.export_generator(reinforced / "model_response", seed=6)
    assert Pipeline.load(run_dir).system == "ours_supervised"
    shutil.copy(run_dir / "response" / "fingerprint.json", reinforced)
    write_json(reinforced / "result.json", runs.FINISHED)
    pipeline = ppg_jax.Pipeline.load(run_dir)
    assert pipeline.system == "ours"
    assert is_loaded_from(pipeline, reinforced / "model_persona")
    pipeline = Pipeline.load(run_dir, system="ours_supervised")
    assert pipeline.system == "ours_supervised"
    assert is_loaded_from(pipeline, run_dir / "persona" / "model")


def test_models_of_other_supervised_ones_than_those_beside_them_are_refused(run_dir):
    """REINFORCE goes on from two stages; one of them was trained anew since."""
    reinforced = run_dir / "reinforce"
    for name in ("persona", "response"):
        runs.export_generator(reinforced / f"model_{name}", seed=5)
    made = json.loads((run_dir / "response" / "fingerprint.json").read_text())
    made |= {"response": "response", "sha256 of the response generator": "a" * 64}
    (reinforced / "fingerprint.json").write_text(json.dumps(made))
    write_json(reinforced / "result.json", runs.FINISHED)
    result = run_dir / "response" / "result.json"
    result.write_text(json.dumps(runs.FINISHED | {"params_sha256": "a" * 64}))
    assert Pipeline.load(run_dir).system == "ours"
    result.write_text(json.dumps(runs.FINISHED | {"params_sha256": "b" * 64}))
    told = r"reinforce was made from another response .*aaa, now bbb.* --stage=reinf"
    with pytest.raises(UserError, match=told):
        Pipeline.load(run_dir)


def test_what_is_missing_is_told_with_the_command_that_makes_it(run_dir):
    (run_dir / "response" / "result.json").unlink()
    with pytest.raises(UserError, match=r"python -m launch\.train --stage=response "):
        Pipeline.load(run_dir)
    with pytest.raises(UserError, match=r"python -m launch\.train --config=CONFIG"):
        Pipeline.load(run_dir / "nowhere")
    with pytest.raises(UserError, match=r"no system 'theirs' .* ours_supervised, ours"):
        Pipeline.load(run_dir, system="theirs")


def test_generators_that_do_not_fit_together_are_refused(run_dir):
    path = run_dir / "response" / "fingerprint.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"prompts.order": "context_first"}))
    with pytest.raises(UserError, match=r"prompts\.order was 'context_first' for resp"):
        Pipeline.load(run_dir)
    path.write_text(json.dumps(fields))
    runs.export_generator(run_dir / "response" / "model", 1, n_positions=32)
    write_json(run_dir / "response" / "result.json", runs.FINISHED)
    with pytest.raises(UserError, match=r"32 positions, prompts\.max_length is 64"):
        Pipeline.load(run_dir)


@pytest.mark.parametrize("content", ["{}", '{"task": "response"}', '{"a": 0.5}'])
def test_a_fingerprint_of_no_stage_says_nothing_of_prompts(run_dir, content):
    (run_dir / "response" / "fingerprint.json").write_text(content)
    with pytest.raises(UserError, match=r"fingerprint\.json: it has no 'name'"):
        Pipeline.load(run_dir)


def test_tokenizers_that_end_otherwise_do_not_fit_together(run_dir):
    path = run_dir / "response" / "model" / "tokenizer_config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"eos_token": "a"}))
    with pytest.raises(UserError, match="have different tokenizers"):
        Pipeline.load(run_dir)


def test_an_exported_folder_stands_alone(run_dir, tmp_path):
    runs.export_generator(run_dir / "critic" / "model", seed=7)
    write_json(run_dir / "critic" / "result.json", runs.FINISHED)
    output = tmp_path / "exported"
    for _ in range(2):  # the second replaces the first
        export.run(export.Config(str(output)), run_dir)
    shutil.rmtree(run_dir)
    made = sorted(p.name for p in output.iterdir())
    assert made == ["critic", "persona", "pipeline.json", "response"]
    pipeline = Pipeline.load(output)
    assert (
        pipeline.system == "ours_supervised" and pipeline.prompts.config == runs.PROMPTS
    )
    ours = runs.pipeline()
    assert pipeline.prompts.tokenizer.get_vocab() == ours.prompts.tokenizer.get_vocab()
    jax.tree.map(np.testing.assert_array_equal, pipeline.persona[1], ours.persona[1])
    jax.tree.map(np.testing.assert_array_equal, pipeline.response[1], ours.response[1])
    for name, template in chat_templates(runs.PROMPTS).items():
        tokenizer = load_tokenizer(output / name)
        assert tokenizer.chat_template == template
        assert tokenizer.pad_token == tokenizer.eos_token


def test_an_export_removes_what_an_export_wrote_and_nothing_else(run_dir, tmp_path):
    runs.export_generator(run_dir / "critic" / "model", seed=7)
    write_json(run_dir / "critic" / "result.json", runs.FINISHED)
    output = tmp_path / "out"
    (output / "base").mkdir(parents=True)
    (output / "base" / "of_somebody").write_text("x")
    assert not export.is_export(output)
    export.run(export.Config(str(output)), run_dir)
    assert (output / "critic").is_dir() and export.is_export(output)
    shutil.rmtree(run_dir / "critic")
    file = run_dir / "response" / "model" / "model.safetensors"
    weights = file.read_bytes()
    file.unlink()
    with pytest.raises(UserError):
        export.run(export.Config(str(output)), run_dir)
    # No pipeline any more, but what there is of one is still an export's.
    assert export.is_export(output) and not (output / "pipeline.json").exists()
    with pytest.raises(UserError, match="was broken off; export the run again"):
        Pipeline.load(output)
    file.write_bytes(weights)
    export.run(export.Config(str(output)), run_dir)
    made = sorted(p.name for p in output.iterdir())
    assert made == ["base", "persona", "pipeline.json", "response"]
    assert (output / "base" / "of_somebody").read_text() == "x"


@pytest.mark.parametrize("place", ["", "/../exported"])
def test_an_export_of_an_exported_folder_onto_itself_is_refused(
    run_dir, tmp_path, place
):
    """A kill in its middle would leave nothing to begin again from."""
    output = tmp_path / "exported"
    export.run(export.Config(str(output)), run_dir)
    with pytest.raises(UserError, match="is what is read; give another folder"):
        export.run(export.Config(f"{output}{place}"), output)
    assert Pipeline.load(output).system == "ours_supervised"


def test_an_export_into_something_else_is_refused(run_dir):
    with pytest.raises(UserError, match="is there already and is no model folder"):
        export.run(export.Config(str(run_dir)), run_dir)
    assert Pipeline.load(run_dir).system == "ours_supervised"


@pytest.mark.parametrize(
    "weights, has", [("bfloat16", product.has_bfloat16), ("int8", product.has_int8)]
)
def test_smaller_weights_answer_alone_as_among_others(weights, has):
    if not has():
        pytest.skip(f"this CPU does not multiply {weights} numbers")
    pipeline = Pipeline.load(runs.finished_run(), weights=weights, batch_size=2)
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(pipeline.response[1])}
    assert kinds == {"float32", weights}
    requests = REQUESTS[:4]
    together = pipeline.replies(requests)
    alone = [pipeline.replies([r], [n])[0] for n, r in enumerate(requests)]
    same = [a == b for a, b in zip(texts(together), texts(alone), strict=True)]
    # Sums in another order tip an activation to the next step of int8 now and then.
    assert sum(same) >= {"bfloat16": 4, "int8": 3}[weights]


def test_an_unknown_type_of_weights_is_one_line():
    with pytest.raises(UserError, match="weights='int4' is none of") as told:
        Pipeline.load(runs.finished_run(), weights="int4")
    assert "\n" not in str(told.value)


TYPED = Request(["I've got two dogs!"], ["Hi, I'm Bob."], ["I'm a nurse.", "I sing"])
WRITTEN = Request(
    ["i have got two dogs."], ["hi , i am bob ."], ["i am a nurse.", "i sing"]
)


def asked(monkeypatch, pipeline, request) -> list:
    """The prompts of both generators for a request, with and without its persona."""
    spies = [Spy(Completion((8,), True, -1.0)) for _ in range(2)]
    monkeypatch.setattr(pipeline._infer, "_generator", spies[0])
    monkeypatch.setattr(pipeline._reply, "_generator", spies[1])
    pipeline.replies([request, dataclasses.replace(request, partner_persona=None)])
    return [spy.prompts for spy in spies]


def test_what_people_type_reaches_the_models_in_the_form_that_they_know(monkeypatch):
    pipeline = runs.pipeline()
    expected = asked(monkeypatch, pipeline, WRITTEN)
    assert asked(monkeypatch, pipeline, TYPED) == expected
    told = dataclasses.replace(TYPED, partner_persona="I'm a nurse. I sing.")
    assert asked(monkeypatch, pipeline, told) == expected


def test_a_model_of_text_as_typed_gets_it_so(monkeypatch, run_dir):
    values = read_experiment(run_dir)
    stages = ("persona", "response")
    config = {name: {"prompts.text": "as_typed"} for name in stages}
    runs.write_experiment(run_dir, values | {"config": config})
    export.run(export.Config(str(run_dir / "carried")), run_dir)
    for folder in (run_dir, run_dir / "carried"):
        pipeline = Pipeline.load(folder)
        assert pipeline.prompts.config.text == "as_typed"
        prompts = asked(monkeypatch, pipeline, TYPED)
        assert prompts != asked(monkeypatch, pipeline, WRITTEN)
    kept = asked(monkeypatch, Pipeline.load(runs.finished_run(), as_typed=True), TYPED)
    assert kept == prompts


def test_a_run_that_says_nothing_of_text_is_loaded_with_the_datas_form(run_dir):
    for name in ("persona", "response"):
        path = run_dir / name / "fingerprint.json"
        fields = json.loads(path.read_text())
        fields.pop("prompts.text", None)
        path.write_text(json.dumps(fields))
    assert Pipeline.load(run_dir).prompts.config.text == "personachat"


def test_no_stage_is_made_anew_because_of_the_form_of_peoples_text(tmp_path):
    """A run of before there was such a field goes on."""
    other = dataclasses.replace(runs.PROMPTS, text="as_typed")
    for prompts in (runs.PROMPTS, other):
        claim(tmp_path, supervised.Config("a", "persona", prompts=prompts), {})
    assert "prompts.text" not in settings_of(tmp_path)


@pytest.mark.parametrize("ended", [True, False])
def test_an_inferred_persona_says_each_sentence_once(monkeypatch, ended):
    pipeline = runs.pipeline()
    prompts = pipeline.prompts
    sampled = prompts.tokenizer.encode(" i run. i run. i ru")[:9]
    spy = Spy(Completion((8,), True, -1.0))
    inferred = Spy(Completion(tuple(sampled), ended, -2.0))
    monkeypatch.setattr(pipeline._infer, "_generator", inferred)
    monkeypatch.setattr(pipeline._reply, "_generator", spy)
    partner = pipeline.reply(SELF, CONTEXT).partner_persona
    tail = () if not ended else partner.sentences[1:]
    assert partner.sentences == ("i run.", *tail) and "i run." not in tail
    instance = Request(SELF, CONTEXT).instance("personachat")
    assert spy.prompts == [prompts.response_prompt(instance, partner.tokens)]
    assert partner.text == prompts.text(partner.tokens)
    assert partner.log_prob == -2.0  # of what was sampled


def test_requests_may_be_given_as_programs_have_them():
    pipeline = runs.pipeline()
    roles = ("user", "assistant", "user")
    said = [{"role": r, "content": t} for r, t in zip(roles, CONTEXT, strict=True)]
    assert ppg_jax.Request(SELF, said) == Request(SELF, tuple(CONTEXT))
    parts = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in said]
    assert ppg_jax.Request(SELF, parts) == Request(SELF, tuple(CONTEXT))
    asked = {"self_persona": SELF, "context": said}
    given = [Request(SELF, CONTEXT), (SELF, CONTEXT), asked]
    assert len(set(texts(pipeline.replies(given, [1, 1, 1])))) == 1


@pytest.mark.parametrize(
    ("requests", "numbers", "told"),
    [
        ([{"context": []}], None, "expected Request"),
        ([Request([], []), "hi"], None, "a request is 'hi', expected"),
        ([([], [], None, 3)], None, "expected Request"),
        ([Request([], [])], [1, 2], "'numbers' has 2 for 1 requests"),
        (None, None, "requests=None: expected a list of them"),
        (Request([], []), None, "requests=Request.*: expected a list of them"),
        *(
            ([Request([], [])], numbers, "numbers=.*: expected a list of whole numbers")
            for numbers in (1, "1", [None], [1.5], [-1], [True], [2**30])
        ),
        (
            [Request([], [], PartnerPersona("tea", ("tea",), (-3,)))],
            None,
            "'partner_persona' has tokens that are no ids below",
        ),
    ],
)
def test_requests_of_another_form_are_told_in_one_line(requests, numbers, told):
    with pytest.raises(ppg_jax.UserError, match=told):
        runs.pipeline().replies(requests, numbers)


@pytest.mark.parametrize(
    ("context", "told"),
    [
        (
            [("system", "be kind"), ("user", "hi")],
            "message 0 has the role 'system': no",
        ),
        ([("user", "hi"), ("assistant", "ho")], "message 0 has the role 'user', exp"),
        ([("user", None)], "holds a NoneType"),
        (
            [("user", [{"type": "image_url"}])],
            "message 0 has a part of type 'image_url",
        ),
        ([("user", ["hi"])], "message 0 has a part of type 'str'"),
    ],
)
def test_messages_that_are_no_conversation_are_told(context, told):
    messages = [{"role": role, "content": content} for role, content in context]
    with pytest.raises(UserError, match=f"^'context' {told}"):
        Request([], messages)


def test_a_pipeline_shows_its_models():
    assert repr(runs.pipeline()).startswith("Pipeline(system=")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("runs/nope", "runs/nope: no such folder; give a run"),
        ("someone/model", "someone/model: no such folder; give a run"),
        (__file__, f"{__file__}: a file, and no folder; give a run"),
        ("", "'' is no folder; give its path, or nothing"),
    ],
)
def test_what_is_no_folder_is_told_first(name, told):
    with pytest.raises(UserError, match=f"^{told}"):
        Pipeline.load(name)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"run_dir": 123}, "123 is no folder; give its path"),
        ({"run_dir": "x" * 5000}, "no such folder"),
        ({"contrast": "x"}, "contrast='x': expected a finite number or nothing"),
        ({"grounded": 1}, "grounded=1: expected true or false or nothing"),
        ({"seed": -1}, "^seed=-1 must be 0 or more"),
        ({"temperature": -1}, "^temperature=-1 must be 0, which is greedy"),
        ({"temperature": "hot"}, "^temperature='hot': expected a finite number"),
        ({"temperatur": 1}, r"^temperatur: no such field \(did you mean temperature"),
    ],
)
def test_what_a_pipeline_cannot_be_loaded_with_is_one_line(given, told):
    with pytest.raises(UserError, match=told) as error:
        Pipeline.load(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("response_contrast", [0.0, 1.5, 2.0])
def test_what_is_said_is_contrasted_with_the_same_before_any_word(
    run_dir, response_contrast
):
    """As the system has it, unless another weight is asked for."""
    experiment = read_experiment(run_dir)
    for row in experiment["systems"]:
        row |= {"contrast": 2.0, "response_contrast": response_contrast}
    write_json(run_dir / "experiment.json", experiment)
    ours = Pipeline.load(run_dir)
    persona, response = ours._persona.decoding, ours._response.decoding
    assert (persona.contrast, response.contrast) == (2.0, response_contrast)
    plain = Pipeline.load(run_dir, contrast=0.0, response_contrast=0.0)
    assert plain._persona.decoding.contrast == plain._response.decoding.contrast == 0
    instance = Instance("", 0, tuple(SELF), (), tuple(CONTEXT), "")
    before = dataclasses.replace(instance, context=())
    prompts = [[ours.prompts.persona_prompt(i)] for i in (instance, before)]
    (wanted,) = ours._persona(ours.persona[1], prompts[0], without=prompts[1])
    found = ours.infer_partner(SELF, CONTEXT)
    assert found.log_prob == pytest.approx(wanted.log_prob, abs=1e-3)
    told = found.tokens
    prompts = [[ours.prompts.response_prompt(i, told)] for i in (instance, before)]
    without = prompts[1] if response_contrast else ()
    (wanted,) = ours._response(
        ours.response[1], prompts[0], limit=response.max_new_tokens, without=without
    )
    reply = ours.reply(SELF, CONTEXT, found)
    assert reply.log_prob == pytest.approx(wanted.log_prob, abs=1e-3)
    export.run(export.Config(str(run_dir / "exported")), run_dir)
    config = Pipeline.load(run_dir / "exported").config
    assert (config.contrast, config.response_contrast) == (2.0, response_contrast)


@pytest.mark.parametrize("grounded", [True, False])
def test_guesses_are_told_unless_the_system_or_the_caller_does_without(
    run_dir, grounded
):
    experiment = read_experiment(run_dir)
    for row in experiment["systems"]:
        row["grounded"] = grounded
    write_json(run_dir / "experiment.json", experiment)
    usual, other = Pipeline.load(run_dir), Pipeline.load(run_dir, grounded=not grounded)
    assert (usual.config.grounded, other.config.grounded) == (grounded, not grounded)
    # Of random weights the persona is no words, and so was said by nobody.
    told = [pipeline.infer_partner(SELF, CONTEXT) for pipeline in (usual, other)]
    assert [not persona.tokens for persona in told] == [grounded, not grounded]
    assert told[0].log_prob == pytest.approx(told[1].log_prob, abs=1e-4)
    nobody = [pipeline.reply(SELF, CONTEXT).text for pipeline in (usual, other)]
    given = usual.reply(SELF, CONTEXT, partner_persona=()).text
    assert nobody[not grounded] == given
    export.run(export.Config(str(run_dir / "exported")), run_dir)
    assert Pipeline.load(run_dir / "exported").config.grounded == grounded


def test_what_is_no_choice_of_guesses_is_refused():
    with pytest.raises(UserError, match="grounded='yes': expected true or false"):
        Pipeline.load(runs.finished_run(), grounded="yes")


def test_a_reply_does_not_tell_again_what_the_model_has_told(monkeypatch):
    pipeline, text = runs.pipeline(), "i have two dogs now . i sing ."
    tokens = tuple(pipeline.prompts._encode(text))
    monkeypatch.setattr(
        pipeline._reply, "_generator", Spy(Completion(tokens, True, -1.0))
    )
    own, partners = ["hi .", "i have two dogs now .", "ok"], ["i have two dogs now ."]
    reply = pipeline.reply(SELF, own, ())
    assert (reply.text, reply.tokens) == ("i sing .", tokens)
    assert pipeline.reply(SELF, partners, ()).text == text
