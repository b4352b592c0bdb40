"""What lies in a run directory is whole, its own, and there, or is told in one line."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import math
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from ppg_jax import files, run_dir
from ppg_jax.config import flatten
from ppg_jax.data import tokenization
from ppg_jax.errors import UserError
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.found import find_models
from ppg_jax.models import adapters, pretrained
from ppg_jax.models.soundness import require_sound
from ppg_jax.serve import export
from ppg_jax.stages import critic, evaluate, supervised
from tests import models_for_tests as small
from tests import run_for_tests as runs


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = "persona"
    size: int = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run with both generators, a critic and REINFORCE, and its exported folder."""
    workdir = tmp_path_factory.mktemp("made")
    runs.write_run(workdir)
    result = {"params_sha256": adapters.sha256(runs.export_critic(_critic(workdir)))}
    files.write_json(workdir / "critic" / "result.json", result)
    weights = {
        name: adapters.sha256(runs.export_generator(workdir / "reinforce" / name, seed))
        for seed, name in enumerate(("model_persona", "last_response"), 7)
    }
    result = {"params_sha256": "0" * 64, "weights": weights}
    files.write_json(workdir / "reinforce" / "result.json", result)
    for name in ("critic", "reinforce"):
        files.write_json(workdir / name / "fingerprint.json", {"name": name})
    output = str(workdir / "exported")
    export.run(export.Config(output, "ours_supervised"), workdir)
    return workdir


def _critic(workdir: Path) -> Path:
    return workdir / "critic" / "model"


@pytest.fixture
def workdir(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


MODELS = (
    "persona/model",
    "response/model",
    "critic/model",
    "reinforce/model_persona",
    "reinforce/last_response",
    "exported/persona",
    "exported/response",
    "exported/critic",
)


def flip(folder: Path) -> None:
    """The lowest bit of a weight: nothing but a hash can tell."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", MODELS)
def test_a_flipped_bit_of_a_models_weights_is_told(name, workdir):
    pretrained.load(workdir / name)
    flip(workdir / name)
    with pytest.raises(UserError, match=r"weights are damaged .*(remove|export)"):
        pretrained.load(workdir / name)


def test_another_stages_model_in_the_place_of_ones_own_is_told(workdir):
    shutil.rmtree(workdir / "persona" / "model")
    shutil.copytree(workdir / "response" / "model", workdir / "persona" / "model")
    with pytest.raises(UserError, match="weights are damaged or another model's"):
        pretrained.load(workdir / "persona" / "model")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["response/model", "critic/model"])
def test_weights_that_are_no_numbers_are_refused(name, number, workdir, tmp_path):
    folder = shutil.copytree(workdir / name, tmp_path / "elsewhere")
    file = folder / "model.safetensors"
    tensors = {k: v.copy() for k, v in safetensors.numpy.load_file(file).items()}
    last = sorted(tensors)[-1]
    tensors[last].flat[-1] = number
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(UserError, match=f"{last}' holds NaN or infinity"):
        pretrained.load(folder)


def start(workdir: Path, config: Config = Config()) -> dict:
    """The stage persona, as a training program starts it."""
    inputs = {"training data": "a" * 64}
    return run_dir.once(
        workdir / "persona", config, inputs, lambda: runs.FINISHED, pretrained.load
    )


@pytest.fixture
def finished(workdir) -> Path:
    """A run directory whose stage persona was trained with `Config()`."""
    folder = workdir / "persona"
    result = json.loads((folder / "result.json").read_text())
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for name in ("fingerprint.json", "result.json"):
        (folder / name).unlink()
    start(workdir)
    files.write_json(folder / "result.json", result)
    return workdir


def test_a_finished_stage_says_so_and_writes_nothing(finished, capsys):
    folder = finished / "persona"
    (folder / ".lock").unlink()
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*"))
    assert start(finished)["params_sha256"]
    assert "persona: done" in capsys.readouterr().out
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*")) == before
    with pytest.raises(UserError, match="size was 3, is 4"):
        start(finished, Config(size=4))


@pytest.mark.parametrize("kept", [False, True])
def test_a_stage_that_failed_before_a_checkpoint_takes_another_setting(kept, tmp_path):
    """As the smaller batch that the message of too little memory advises."""
    folder = tmp_path / "persona"

    def fail():
        (folder / "checkpoints" / ("5" * kept)).mkdir(parents=True)
        raise MemoryError

    with pytest.raises(MemoryError):
        run_dir.once(folder, Config(), {}, fail, pretrained.load)
    expected = pytest.raises(UserError, match="size was 3, is 4")
    with expected if kept else pytest.raises(FileExistsError):
        run_dir.once(folder, Config(size=4), {}, fail, pretrained.load)


def test_a_stage_whose_folder_was_removed_meanwhile_is_known_by_what_made_it(
    workdir, capsys
):
    folder = workdir / "persona"
    shutil.rmtree(folder)

    def make(**other):
        shutil.rmtree(folder)
        runs.export_generator(folder / "model", 0)
        if other:
            files.write_json(folder / "fingerprint.json", other)
        return {"params_sha256": "0" * 64, "best_update": 1}

    once = functools.partial(run_dir.once, folder, Config(), {}, load=pretrained.load)
    assert once(make)["params_sha256"]
    assert "was removed meanwhile" in capsys.readouterr().out
    assert run_dir.settings_of(folder)["size"] == 3
    assert once(None)["params_sha256"]
    (folder / "result.json").unlink()
    with pytest.raises(UserError, match=r"is another run's now .*size was 4, is 3"):
        once(functools.partial(make, name="persona", size=4))
    assert not (folder / "result.json").exists()


def test_a_finished_stage_whose_model_is_damaged_or_gone_is_not_done(finished):
    flip(finished / "persona" / "model")
    with pytest.raises(UserError, match=r"damaged .*remove .*result\.json and run"):
        start(finished)
    shutil.rmtree(finished / "persona" / "model")
    for ask in (start, lambda w: run_dir.finished_stage(w, "persona")):
        with pytest.raises(UserError, match=r"model is gone; remove .*result\.json"):
            ask(finished)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"params_sha256": 3}',
        '{"params_sha256": "a"}',
        "{",
        "[",
    ],
)
def test_a_damaged_result_is_no_finished_stage(content, finished):
    (finished / "persona" / "result.json").write_text(content)
    find = functools.partial(find_models, system="ours_supervised")
    for ask in (start, lambda w: run_dir.finished_stage(w, "persona"), find):
        with pytest.raises(UserError, match=r"result\.json.*remove .*result\.json"):
            ask(finished)


@pytest.mark.parametrize(
    "left", ["checkpoints/3", "result.json", "metrics.jsonl", "instances.jsonl"]
)
def test_what_was_made_from_nobody_knows_what_is_refused(left, tmp_path):
    folder = tmp_path / "persona"
    (folder / left).parent.mkdir(parents=True)
    (folder / left).write_text("{}")
    with pytest.raises(UserError, match=r"fingerprint\.json is missing; .*Delete"):
        run_dir.claim(folder, Config(), {})


WRONG = [None, 3, "x", [], {}, [3], {"x": 3}, [None]]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("name", ["experiment.json", "exported/pipeline.json"])
def test_a_field_of_another_type_is_told_with_its_file(name, wrong, workdir):
    path = workdir / name
    values = json.loads(path.read_text())
    for field in values:
        if values[field] != wrong and field != "config":
            path.write_text(json.dumps(values | {field: wrong}))
            try:
                find_models(path.parent)
            except UserError as error:
                assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"contrast": -1},
        {"contrast": "1"},
        {"contrast": math.inf},
        {"response_contrast": math.nan},
        {"grounded": "yes"},
    ],
    ids=str,
)
def test_a_way_to_decode_that_is_none_is_told_with_its_file(wrong, workdir):
    path = workdir / "exported" / "pipeline.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(UserError, match=r"pipeline\.json.* (is|are) .*; export"):
        find_models(path.parent)


def test_a_critic_that_has_lost_how_much_it_reads_is_told(workdir):
    (_critic(workdir) / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer_config\.json is missing; .*critic"):
        Critic.load(_critic(workdir))


HASH = "a" * 64


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"params_sha256": None}, "params_sha256 is None"),
        ({"params_sha256": 0.5}, "params_sha256 is 0.5"),
        ({"params_sha256": "a" * 63 + "g"}, "params_sha256 is 'aaa"),
        ({"weights": {}}, "'weights' names no model"),
        ({"weights": None}, "'weights' names no model"),
        ({"weights": [HASH]}, r"weights is \['aaa"),
        ({"weights": {"model": 0.5}}, "weights.model is 0.5"),
        ({"weights": {"modell": HASH}}, "names no weights of model/, and modell alone"),
    ],
    ids=str,
)
def test_a_result_without_the_hash_of_its_weights_is_told(wrong, told, workdir):
    path = workdir / "persona" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(UserError, match=f"result.json.*{told}.*; remove .*result.json"):
        pretrained.load(workdir / "persona" / "model")


@pytest.mark.parametrize("wrong", [{}, None, {"persona": 1}, {"response": HASH}])
def test_an_export_without_the_hash_of_its_weights_is_told(wrong, workdir):
    path = workdir / "exported" / "pipeline.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights": wrong}))
    with pytest.raises(UserError, match=r"pipeline\.json.* weights|weights.*; export"):
        pretrained.load(workdir / "exported" / "persona")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"contrst": 1.0}, r"no field 'contrst' \(did you mean contrast\?\) is known"),
        (
            {"prompts": {"ordr": 1}},
            r"prompts\.ordr: no such field \(did you mean order",
        ),
        (
            {"prompts": {"max_length": "x"}},
            r"prompts\.max_length='x': expected a whole",
        ),
    ],
    ids=str,
)
def test_an_export_with_a_field_that_nobody_knows_is_told_by_it(wrong, told, workdir):
    path = workdir / "exported" / "pipeline.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(UserError, match=rf"exported/pipeline\.json: {told}"):
        find_models(path.parent)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(UserError, match=r"config\.json is no file"):
        files.read_json(tmp_path / "config.json")


def test_a_file_that_cannot_be_written_is_told_by_its_own_name():
    with pytest.raises(OSError, match=r"^\[Errno \d+\] [\w ]+: '/proc/a\.json'$"):
        files.write_json(Path("/proc/a.json"), {})


def test_json_that_we_write_has_no_number_that_json_has_no_word_for(tmp_path):
    path = tmp_path / "result.json"
    with pytest.raises(UserError, match=r"result\.json is not written: valid_ppl is"):
        files.write_json(path, {"steps": 3, "valid_ppl": float("nan")})
    with pytest.raises(UserError, match="nll is not finite"):
        files.write_jsonl(path, [{"nll": 1.0}, {"nll": float("inf")}])
    assert not path.exists()


# --- Critics and tokenizers ---


def test_a_folder_without_a_classifier_is_no_critic(workdir):
    folder = _critic(workdir)
    file = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    kept = {k: v for k, v in tensors.items() if "classifier" not in k}
    safetensors.numpy.save_file(kept, file)
    with pytest.raises(UserError, match="has no classifier, which a critic is"):
        Critic.load(folder)


@pytest.mark.parametrize("length", [-5, 0, 2, 3])
def test_a_critic_of_too_few_tokens_is_refused(length, workdir):
    path = _critic(workdir) / "tokenizer_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"model_max_length": length}))
    with pytest.raises(UserError, match=f"model_max_length is {length}, expected"):
        Critic.load(_critic(workdir))


def test_a_tokenizers_own_code_is_neither_run_nor_asked_about(tmp_path, monkeypatch):
    small.tokenizer().save_pretrained(str(tmp_path))
    path = tmp_path / "tokenizer_config.json"
    values = json.loads(path.read_text())
    code = {"AutoTokenizer": [None, "own.Own"]}
    values |= {"auto_map": code, "tokenizer_class": "Own"}
    path.write_text(json.dumps(values))
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')\nclass Own: pass\n")
    asked = []
    monkeypatch.setattr("builtins.input", lambda *text: asked.append(text) or "y")
    try:
        tokenization.load_tokenizer(tmp_path)
    except UserError as error:
        assert str(tmp_path) in str(error)
    assert asked == []


def tokenizer_of(workdir: Path):
    dialogues = small.DIALOGUES
    return tokenization.of_run("bpe:280", workdir / "tokenizer", dialogues)


def test_stages_that_start_together_make_one_tokenizer(tmp_path, monkeypatch):
    trained = []
    train = tokenization.TRAINED["bpe"]

    def counting(*arguments):
        trained.append(arguments)
        return train(*arguments)

    monkeypatch.setitem(tokenization.TRAINED, "bpe", counting)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = list(pool.map(tokenizer_of, [tmp_path] * 4))
    assert len({tokenization.sha256(tokenizer) for tokenizer in made}) == 1
    assert len(trained) == 1


def test_a_changed_tokenizer_of_a_run_is_told(tmp_path):
    made = tokenization.sha256(tokenizer_of(tmp_path))
    path = tmp_path / "tokenizer" / "tokenizer.json"
    content = path.read_text()
    values = json.loads(content)
    vocabulary = values["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"tokenizer is damaged: .*Delete"):
        tokenizer_of(tmp_path)
    path.write_text(content)
    record = tmp_path / "tokenizer" / "made_from.json"
    values = json.loads(record.read_text())
    for wrong in ("{}", "[]", "", "{"):
        record.write_text(wrong)
        with pytest.raises(UserError, match="tokenizer"):
            tokenizer_of(tmp_path)
    del values["sha256"]  # as older ones are
    record.write_text(json.dumps(values))
    assert tokenization.sha256(tokenizer_of(tmp_path)) == made


def test_a_run_that_is_older_than_a_field_goes_on_where_the_field_says_what_it_did(
    finished, monkeypatch
):
    path = finished / "persona" / run_dir.FINGERPRINT
    known = files.read_json(path)
    del known["size"]
    files.write_json(path, known)
    with pytest.raises(UserError, match="size was None, is 3"):
        start(finished)
    monkeypatch.setattr(run_dir, "YOUNGER", {"size": 4})
    with pytest.raises(UserError, match="size was 4, is 3"):
        start(finished)
    monkeypatch.setattr(run_dir, "YOUNGER", {"size": 3, "of_another_stage": 1})
    assert start(finished)["params_sha256"]


def test_what_older_runs_did_is_what_the_fields_are_if_nothing_is_said():
    made = [supervised.Config("r", "response"), critic.Config(), evaluate.Config()]
    fields = {k: v for config in made for k, v in flatten(config).items()}
    assert {name: fields[name] for name in run_dir.YOUNGER} == run_dir.YOUNGER


def test_a_command_that_is_refused_leaves_what_the_config_said(tmp_path):
    def told():
        return run_dir.read_experiment(tmp_path)["systems"]

    values = {"stages": [], "systems": [{"name": "ours"}], "config": {}}
    with run_dir.written_experiment(tmp_path, values):
        assert told() == [{"name": "ours"}]
    other = values | {"systems": [{"name": "mine"}]}
    with (
        pytest.raises(UserError, match="another setting"),
        run_dir.written_experiment(tmp_path, other),
    ):
        raise UserError("another setting")
    assert told() == [{"name": "ours"}]
    with pytest.raises(KeyboardInterrupt), run_dir.written_experiment(tmp_path, other):
        raise KeyboardInterrupt
    assert told() == [{"name": "ours"}]
    with run_dir.written_experiment(tmp_path, other):
        pass
    assert told() == [{"name": "mine"}]


def test_what_one_process_is_refused_takes_no_config_from_another(tmp_path):
    values = {"stages": [], "systems": [], "config": {}}
    first, second = (run_dir.written_experiment(tmp_path, values) for _ in range(2))
    with contextlib.ExitStack() as later:
        with pytest.raises(UserError, match="too few"), first:
            later.enter_context(second)  # which reads its data now
            raise UserError("too few positions")
        run_dir.claim(tmp_path / "persona", Config(), {})
    assert run_dir.read_experiment(tmp_path) == values


def test_what_is_refused_before_it_begins_binds_a_new_run_directory_to_nothing(
    tmp_path,
):
    def refused():
        raise UserError("too few positions")

    def begins():
        (tmp_path / "persona" / "checkpoints" / "3").mkdir(parents=True)
        raise UserError("loss is nan")

    def ask(size: int, make):
        folder, values = tmp_path / "persona", {"stages": [], "systems": []}
        with run_dir.written_experiment(tmp_path, values | {"config": {"size": size}}):
            return run_dir.once(folder, Config(size=size), {}, make, pretrained.load)

    with pytest.raises(UserError, match="too few positions"):
        ask(4, refused)
    assert not (tmp_path / run_dir.EXPERIMENT).exists()
    with pytest.raises(UserError, match="loss is nan"):  # and not: another setting
        ask(3, begins)
    assert run_dir.read_experiment(tmp_path)["config"] == {"size": 3}
    with pytest.raises(UserError, match="size was 3, is 4"):
        ask(4, refused)
    with pytest.raises(UserError, match="too few positions"):
        ask(3, refused)
    assert run_dir.settings_of(tmp_path / "persona")["size"] == 3


def test_an_evaluation_may_have_another_title_and_answer_more_at_once(tmp_path):
    made = evaluate.Config(batch_size=64)
    run_dir.claim(tmp_path / "evaluate", made, {})
    other = dataclasses.replace(made, batch_size=16, title="Mine", paper=True)
    run_dir.claim(tmp_path / "evaluate", other, {})
    assert run_dir.settings_of(tmp_path / "evaluate")["batch_size"] == 16
    with pytest.raises(UserError, match="max_dialogues was 0, is 9"):
        run_dir.claim(
            tmp_path / "evaluate", dataclasses.replace(other, max_dialogues=9), {}
        )


def test_what_stands_beside_a_strangers_model_is_none_of_ours(tmp_path):
    (tmp_path / run_dir.RESULT).write_text('{"weights": {"model": 0.5}}')
    require_sound(tmp_path / "model", lambda: "abc")
    (tmp_path / run_dir.FINGERPRINT).write_text("{}")
    (tmp_path / run_dir.RESULT).write_text(json.dumps({"params_sha256": "a" * 64}))
    with pytest.raises(UserError, match="its weights are damaged"):
        require_sound(tmp_path / "model", lambda: "abc")
    (tmp_path / run_dir.RESULT).write_text('{"weights": [0.1, 0.2]}')
    with pytest.raises(UserError, match="is not as it was written"):
        require_sound(tmp_path / "model", lambda: "abc")


def test_what_has_finished_is_told_as_it_was_made(tmp_path):
    run_dir.claim(tmp_path / "persona", Config(), {})
    assert run_dir.as_made(tmp_path, "persona", Config(size=4))[0]["size"] == 4
    files.write_json(tmp_path / "persona" / run_dir.RESULT, {})
    made, others = run_dir.as_made(tmp_path, "persona", Config(size=4))
    assert (made["size"], others) == (3, ["size"])
    assert run_dir.as_made(tmp_path, "persona", Config())[1] == []


def test_what_was_read_of_a_stage_with_heads_is_its_decoder(tmp_path):
    """TransferTransfo's own sum is of its heads, too."""
    double, later = tmp_path / "double", tmp_path / "later"
    result = {"params_sha256": "b" * 64, "weights": {"model": "a" * 64}}
    files.write_json(double / "result.json", result)
    made = {
        "name": "later",
        "init_stage": "double",
        "sha256 of the initial weights": "a" * 64,
    }
    files.write_json(later / "fingerprint.json", made)
    run_dir.require_fresh(tmp_path, "later")
    files.write_json(double / "result.json", result | {"weights": {"model": "c" * 64}})
    with pytest.raises(UserError, match=r"made from another double .*aaa, now ccc"):
        run_dir.require_fresh(tmp_path, "later")


def test_a_line_of_json_ends_at_its_line_feed_alone(tmp_path):
    told = [{"text": "a\u2028b\x85c"}]
    files.write_jsonl(tmp_path / "a.jsonl", told)
    assert [record for _, record in files.read_jsonl(tmp_path / "a.jsonl")] == told


def test_a_file_below_a_file_is_missing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"x\.json is missing; get it again"):
        files.read_json(tmp_path / "file" / "x.json")


def test_sums_of_older_results_are_of_the_only_model():
    assert run_dir.weights_of({"params_sha256": "a"}) == {"model": "a"}
    assert run_dir.weights_of({"params_sha256": "a", "best_update": 3}) == {}


def test_a_stage_goes_on_from_a_checkpoint_that_is_one(tmp_path):
    (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    with pytest.raises(UserError, match="it goes on from its last checkpoint"):
        run_dir.result_of(tmp_path)
    (tmp_path / "checkpoints" / "12").rename(tmp_path / "checkpoints" / "12.damaged")
    with pytest.raises(UserError, match="it starts again"):
        run_dir.result_of(tmp_path)


def test_products_of_another_precision_are_another_run(tmp_path):
    run_dir.claim(tmp_path, critic.Config(), {})
    told = "MATMUL_PRECISION was None, is 'float32'"
    with (
        jax.default_matmul_precision("float32"),
        pytest.raises(UserError, match=told),
    ):
        run_dir.claim(tmp_path, critic.Config(), {})
