"""Lines in, lines out: in order, complete, whatever happens in between."""

import concurrent.futures
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from ppg_jax.errors import UserError
from ppg_jax.files import hold
from ppg_jax.inference.pipeline import PipelineConfig, Request
from ppg_jax.serve import generate
from ppg_jax.serve.generate import Config, answer_file
from tests import models_for_tests as small
from tests import run_for_tests as runs

CHUNK = 3
IDS = ["a", 7, "a", "\u00e9\U0001f600", 0, "z", "\u2028"]


def records(count):
    """Requests of many lengths, with ids that repeat and keep their types."""
    instances = [i for d in small.DIALOGUES for i in d.instances()]
    for n, instance in enumerate(itertools.islice(itertools.cycle(instances), count)):
        yield {
            "id": IDS[n % len(IDS)],
            "self_persona": instance.self_persona[: n % 3],
            "context": instance.context * (1 + n % 4),
        }


def write(path, lines):
    lines = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def config(source, output, chunk=CHUNK):
    return Config(str(source), str(output), chunk=chunk)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An input of eleven lines with a bad one in the middle, answered in one go."""
    folder = tmp_path_factory.mktemp("whole")
    lines = [*records(11)]
    lines[5] = {"id": "bad", "self_persona": [], "contxt": []}
    lines[7] |= {"mood": "error", "error": "is none of ours"}
    source, output = write(folder / "in.jsonl", lines), folder / "out.jsonl"
    counts = answer_file(config(source, output), runs.pipeline())
    assert counts == (11, 1)
    return source, output


def test_every_line_is_answered_in_its_place(whole):
    asked, answered = map(read, whole)
    assert [r["id"] for r in answered] == [r["id"] for r in asked]
    pipeline = runs.pipeline()
    for n, (question, answer) in enumerate(zip(asked, answered, strict=True)):
        if n == 5:
            continue
        request = Request(question["self_persona"], question["context"])
        reply = pipeline.replies([request], [n + 1])[0]
        assert answer["response"] == reply.text
        assert answer["partner_persona"] == list(reply.partner_persona.sentences)
        expected = pytest.approx(reply.partner_persona.log_prob, abs=1e-3)
        assert answer["partner_persona_log_prob"] == expected
        assert answer["response_log_prob"] == pytest.approx(reply.log_prob, abs=1e-3)


def test_a_bad_line_becomes_an_error_record_and_the_rest_goes_on(whole):
    bad, another = (read(whole[1])[n] for n in (5, 7))
    assert another["mood"] == "error" and "error" not in another
    told = "unknown field 'contxt', expected 'context'."
    assert bad == {"id": "bad", "line": 6, "error": told}


GOOD = {"self_persona": ["i sing."], "context": ["hi"]}


def test_fields_of_ones_own_come_back_whatever_they_are_called(tmp_path):
    own = {"uid": "u3", "idx": 1, "persona": "p", "text": "t", "contents": [2]}
    source = write(tmp_path / "in.jsonl", [GOOD | own])
    first = tmp_path / "out.jsonl"
    assert answer_file(config(source, first), runs.pipeline()).errors == 0
    (record,) = read(first)
    assert record | own == record
    # What was answered is asked again, with all that the answer said.
    source = write(tmp_path / "again.jsonl", [record | GOOD])
    again = tmp_path / "again_out.jsonl"
    assert answer_file(config(source, again), runs.pipeline()).errors == 0


@pytest.mark.parametrize("name", ["input", "output"])
def test_an_empty_name_of_a_file_is_refused(name, tmp_path):
    files = {"input": "in.jsonl", "output": str(tmp_path / "out.jsonl")} | {name: ""}
    with pytest.raises(UserError, match=f"--{name} is empty; give a file"):
        generate.run(generate.Config(**files))


@pytest.mark.parametrize(
    ("line", "id", "told"),
    [
        (b"", None, "not JSON (Expecting value), expected one object a line."),
        (b'{"id": 1', None, "not JSON"),
        (b"\xff{}", None, "not UTF-8, expected UTF-8 text."),
        (b"[" * 100_000, None, "not readable"),
        (b'{"id": ' + b"1" * 5000 + b"}", None, "not readable"),
        (b"[1]", None, "list, expected an object with fields."),
        ({"id": 3, "context": []}, 3, "no field 'self_persona', expected a list"),
        ({"self_persona": []}, 1, "no field 'context', expected a list of strings."),
        (GOOD | {"id": [1]}, None, "field 'id' is wrong, expected a string or a"),
        (GOOD | {"id": True}, None, "field 'id' is wrong"),
        (GOOD | {"id": "\ud800"}, None, "field 'id' is wrong"),
        (GOOD | {"context": "hi"}, 1, "'context' is of type str, expected a list"),
        (GOOD | {"context": ["\udc00"]}, 1, "'context' holds half a character"),
        (GOOD | {"partner_persona": 3}, 1, "'partner_persona' is of type int"),
        (GOOD | {"partner_personas": []}, 1, "expected 'partner_persona'."),
        (GOOD | {"context": ["hi"] * 10_001}, 1, "more than 10,000 utterances"),
        (GOOD | {"mood": "\ud800"}, 1, "field 'mood' holds half a character"),
        (GOOD | {"\ud800": 1}, 1, "field '\\ud800' holds half a character"),
        (GOOD | {"score": float("nan")}, 1, "'score' holds half a character or a numb"),
        (b'{"id": 1, "id": 2}', None, "field 'id' stands there twice."),
        (GOOD | {"self_persona": ["tea"] * 200}, 1, "max_length is 64; raise it"),
    ],
)
def test_a_bad_line_is_told_with_its_place_and_what_was_expected(
    line, id, told, capsys, tmp_path
):
    source = write(tmp_path / "in.jsonl", [line])
    output = tmp_path / "out.jsonl"
    assert answer_file(config(source, output), runs.pipeline()).errors == 1
    (record,) = read(output)
    assert record["id"] == id and record["line"] == 1 and told in record["error"]
    assert f"{source}:1: {record['error']}\n" in capsys.readouterr().err


def test_a_given_partner_persona_comes_back_as_it_is(tmp_path):
    lines = [GOOD, GOOD | {"partner_persona": ["i run.", "tea"]}, GOOD | {"id": "x"}]
    lines += [GOOD | {"partner_persona": None}, GOOD | {"mood": "other fields"}]
    source, output = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    answer_file(config(source, output), runs.pipeline())
    first, given, *others = read(output)
    assert given["partner_persona"] == ["i run.", "tea"]
    assert given["partner_persona_log_prob"] is None
    assert [r["id"] for r in (first, given, *others)] == [1, 2, "x", 4, 5]
    assert all(r["partner_persona_log_prob"] < 0 for r in (first, *others))
    assert others[-1]["mood"] == "other fields"


def resumed(whole, folder, left):
    """What comes of a run that a kill left with the bytes `left`."""
    source, output = whole
    again = folder / "out.jsonl"
    settings = output.with_name("out.jsonl.settings.json").read_bytes()
    (folder / "out.jsonl.settings.json").write_bytes(settings)
    (folder / "out.jsonl.part").write_bytes(left)
    lines = output.read_bytes().splitlines(keepends=True)
    chunks = [b"".join(lines[i : i + CHUNK]) for i in range(0, len(lines), CHUNK)]
    sums = [f"{hashlib.sha256(chunk).hexdigest()}\n" for chunk in chunks]
    (folder / "out.jsonl.sums").write_text("".join(sums))
    answer_file(config(source, again), runs.pipeline())
    assert not (folder / "out.jsonl.part").exists()
    assert not (folder / "out.jsonl.sums").exists()
    return again.read_bytes()


def test_a_run_cut_anywhere_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch):
    answered = whole[1].read_bytes()
    lines = answered.splitlines(keepends=True)
    ends = list(itertools.accumulate(map(len, lines), initial=0))
    cuts = [0, 1, ends[CHUNK] - 1, ends[CHUNK], ends[CHUNK] + 5, ends[-1]]
    for n, cut in enumerate([*cuts, random.Random().randrange(ends[-1])]):
        folder = tmp_path / str(n)
        folder.mkdir()
        assert resumed(whole, folder, answered[:cut]) == answered, f"cut at {cut}"
    folder.joinpath("out.jsonl").unlink()
    torn = answered[: ends[5]] + b"\0" * 40 + b"\n"  # as after a power failure
    assert resumed(whole, folder, torn) == answered


def test_whole_chunks_are_not_answered_again(whole, tmp_path, monkeypatch):
    answered = whole[1].read_bytes()
    lines = answered.splitlines(keepends=True)
    seen = []
    answer_lines = generate.answer_lines

    def watch(pipeline, chunk, source):
        seen.extend(number for number, _ in chunk)
        return answer_lines(pipeline, chunk, source)

    monkeypatch.setattr(generate, "answer_lines", watch)
    assert resumed(whole, tmp_path, b"".join(lines[:8]) + b'{"id"') == answered
    assert seen == [7, 8, 9, 10, 11]


def test_a_changed_letter_of_earlier_answers_is_answered_again(whole, tmp_path):
    answered = whole[1].read_bytes()
    changed = answered.replace(b"response", b"responze", 1)
    assert resumed(whole, tmp_path, changed) == answered


def test_a_finished_output_that_was_cut_or_changed_is_no_more_done(whole, tmp_path):
    source, output = whole
    copy = tmp_path / "out.jsonl"
    for path in (output, output.with_name("out.jsonl.settings.json")):
        shutil.copy(path, tmp_path)
    content = copy.read_bytes()
    for damaged in (content[:-1], content.replace(b"response", b"responze", 1)):
        copy.write_bytes(damaged)
        with pytest.raises(UserError, match=r"out\.jsonl is not as it was finished"):
            answer_file(config(source, copy), runs.pipeline())
    half = b"".join(content.splitlines(keepends=True)[:5])
    copy.write_bytes(half)
    with pytest.raises(UserError, match=r"5 lines for the 11 of the input"):
        answer_file(config(source, copy), runs.pipeline())


@pytest.mark.parametrize("content", ["{}", "[]", "nonsense", '{"seed": '])
def test_damaged_settings_of_an_output_are_told_with_what_to_delete(
    content, whole, tmp_path
):
    shutil.copy(whole[1], tmp_path)
    path = tmp_path / "out.jsonl.settings.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"out\.jsonl.*delete"):
        answer_file(config(whole[0], tmp_path / "out.jsonl"), runs.pipeline())


@pytest.mark.parametrize(("batch_size", "lines"), [(1, 64), (8, 64), (100, 800)])
def test_a_chunk_holds_full_batches_unless_it_is_given(batch_size, lines):
    pipeline = PipelineConfig(batch_size=batch_size)
    assert Config("in", "out", pipeline).chunk_lines == lines
    assert Config("in", "out", pipeline, chunk=2).chunk_lines == 2
    with pytest.raises(ValueError, match="chunk=0 must be more than 0"):
        Config("in", "out", pipeline, chunk=0)


@pytest.mark.parametrize("ending", [".part", ".sums", ".settings.json"])
def test_a_pipe_beside_the_output_is_told_and_not_waited_for(ending, whole, tmp_path):
    os.mkfifo(tmp_path / f"out.jsonl{ending}")
    with pytest.raises(UserError, match=rf"out\.jsonl\{ending} is no file; remove it"):
        answer_file(config(whole[0], tmp_path / "out.jsonl"), runs.pipeline())


def test_what_are_no_records_is_neither_done_nor_gone_on_with(whole, tmp_path):
    source, output = whole
    settings = json.loads(output.with_name("out.jsonl.settings.json").read_text())
    lines = [b"7\n"] + output.read_bytes().splitlines(keepends=True)[1:]
    (tmp_path / "out.jsonl").write_bytes(b"".join(lines))
    settings["sha256 of the output"] = hashlib.sha256(b"".join(lines)).hexdigest()
    (tmp_path / "out.jsonl.settings.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"out\.jsonl is not as it was written"):
        answer_file(config(source, tmp_path / "out.jsonl"), runs.pipeline())
    (tmp_path / "out.jsonl").rename(tmp_path / "out.jsonl.part")
    sums = hashlib.sha256(b"".join(lines[:CHUNK])).hexdigest()
    (tmp_path / "out.jsonl.sums").write_text(f"{sums}\n")
    answer_file(config(source, tmp_path / "out.jsonl"), runs.pipeline())
    assert (tmp_path / "out.jsonl").read_bytes() == output.read_bytes()


def test_a_finished_output_is_left_alone(whole, capsys, monkeypatch):
    before = whole[1].read_bytes()
    monkeypatch.setattr(generate, "answer_lines", None)
    assert answer_file(config(*whole), runs.pipeline()) == (11, 1)
    assert "done already, 11 lines, 1 of them error" in capsys.readouterr().err
    assert whole[1].read_bytes() == before


def test_an_output_of_something_else_is_refused_by_name(whole, tmp_path):
    source, output = whole
    before = output.read_bytes()
    longer = write(tmp_path / "in.jsonl", [*records(12)])
    with pytest.raises(UserError, match=r"sha256 of the input was .* is "):
        answer_file(config(longer, output), runs.pipeline())
    with pytest.raises(UserError, match="chunk was 3, is 4"):
        answer_file(config(source, output, chunk=4), runs.pipeline())
    with pytest.raises(UserError, match=r"in\.jsonl is there already; give another"):
        answer_file(config(source, source), runs.pipeline())
    assert output.read_bytes() == before


def test_a_pipe_that_has_a_name_is_written_to_and_not_replaced(whole, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with concurrent.futures.ThreadPoolExecutor() as other:
        received = other.submit(pipe.read_bytes)
        answer_file(config(whole[0], pipe), runs.pipeline())
        assert received.result() == whole[1].read_bytes()
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_the_name_of_stdout_is_written_to_where_stdout_is_a_file(whole):
    done = runs.launched("generate", f"--input={whole[0]}", "--output=/dev/stdout")
    assert done.returncode == 1, done.stderr  # a line is bad
    ids = [json.loads(line)["id"] for line in done.stdout.split("\n")[:-1]]
    assert ids == [record["id"] for record in read(whole[0])]
    assert Config("/dev/stdin", "/dev/stdout") == Config("-", "-")


def test_two_processes_do_not_write_one_output(whole, tmp_path):
    part = tmp_path / "out.jsonl.part"
    with part.open("ab") as file:
        hold(file, "held")
        with pytest.raises(UserError, match="being written by another process"):
            resumed(whole, tmp_path, b"")


@pytest.mark.parametrize("name", ["nowhere.jsonl", "."])
def test_an_input_that_cannot_be_read_is_named(name, tmp_path):
    with pytest.raises(UserError, match=rf"{tmp_path}.*: (No such file|Is a dir)"):
        generate.run(config(tmp_path / name, tmp_path / "out"), runs.finished_run())


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(tmp_path):
    source = write(tmp_path / "in.jsonl", [*records(60), b"{"])
    flags = [f"--input={source}", "--chunk=1"]
    output = tmp_path / "out.jsonl"
    # From two on: a line is written before its sum, without which it does not count.
    part, goal = tmp_path / "out.jsonl.part", random.Random().randint(2, 25)
    process = runs.launch("generate", *flags, f"--output={output}")
    while process.poll() is None:
        if part.exists() and part.read_bytes().count(b"\n") >= goal:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert part.read_bytes().count(b"\n") >= goal and not output.exists()
    done = runs.launched("generate", *flags, f"--output={output}")
    assert done.returncode == 1  # all is written, and one line is an error record
    assert "going on after line " in done.stderr
    assert f"{source}:61: not JSON" in done.stderr
    straight = tmp_path / "straight.jsonl"
    answer_file(config(source, straight, chunk=1), runs.pipeline())
    assert output.read_bytes() == straight.read_bytes()
    left = sorted(p.name for p in tmp_path.glob("out*"))
    assert left == ["out.jsonl", "out.jsonl.settings.json"]


def test_pipes_are_answered_chunk_by_chunk_and_may_close(whole):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    flags = ["--input=-", "--output=-", "--chunk=1"]
    with runs.launch("generate", *flags, **pipes) as process:
        for line in whole[0].read_bytes().splitlines()[:3]:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())  # before more is asked
            assert answer["id"] == json.loads(line)["id"]
        process.stdout.close()
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        told = process.stderr.read()
        # A tiny model has no room for a whole utterance; nothing else is told.
        assert all(b"were not read" in line for line in told.splitlines())
        assert process.wait() == 141


def test_a_wrong_flag_is_one_line_and_exit_code_2():
    flags = ["--input=x", "--output=y", "--top_p=0"]
    done = runs.launched("generate", *flags)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "top_p=0.0 must be in (0, 1]" in done.stderr


def test_the_time_left_is_told_by_what_this_process_has_done(monkeypatch, capsys):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(generate.time, "monotonic", lambda: next(clock))
    generate._Progress(100, 300).show(200)
    told = "generate: 200 lines  10.00 lines/s  ETA 0:00:10\n"
    assert capsys.readouterr().err.endswith(told)


@pytest.mark.parametrize("left", ["", ".part", ".settings.json"])
def test_answers_to_a_stream_replace_no_file(left, tmp_path):
    (tmp_path / f"out.jsonl{left}").write_text("x")
    with pytest.raises(UserError, match="is there already; give another"):
        answer_file(config("/dev/null", tmp_path / "out.jsonl"), runs.pipeline())
    assert (tmp_path / f"out.jsonl{left}").read_text() == "x"


def test_a_part_of_nobody_knows_what_is_not_gone_on_with(tmp_path):
    source = write(tmp_path / "in.jsonl", [GOOD])
    (tmp_path / "out.jsonl.part").write_text("x")
    with pytest.raises(UserError, match=r"out\.jsonl\.part is there already"):
        answer_file(config(source, tmp_path / "out.jsonl"), runs.pipeline())
