"""A run that was stopped, in whatever way, ends like one that never was.

The model is a regression with four weights: what is tested is the loop around it.
"""

import dataclasses
import errno
import functools
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.errors import UserError
from ppg_jax.files import read_jsonl, read_metrics, write_text
from ppg_jax.run_dir import agree, claim, finished_stage, once
from ppg_jax.training.checkpoint import Checkpoints
from ppg_jax.training.loop import Schedule, train
from ppg_jax.training.run_log import RunLog, duration
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    make_optimizer,
    params_sha256,
)

STEPS = 14
SCHEDULE = Schedule(STEPS, log_every=1, checkpoint_every=3, evaluate_every=4)
ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def optimizer():
    return make_optimizer(OptimizerConfig(learning_rate=0.1, schedule="cosine"), STEPS)


@functools.partial(jax.jit, donate_argnums=0)
def update(state, x, y):
    rng = jax.random.fold_in(jax.random.key(0), state.step)
    noise = 0.1 * jax.random.normal(rng, (4,))

    def loss(params):
        return jnp.mean((x @ (params["w"] + noise) - y) ** 2)

    value, grads = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads, optimizer()), {"loss": value}


def regress(
    folder: Path, on_step=lambda step: None, pause=0.0, finished=None, schedule=SCHEDULE
):
    """Trains in `folder`; `on_step` is called before each step."""

    def take_step(state, step):
        time.sleep(pause)
        on_step(step)
        rng = np.random.default_rng(step)
        x = rng.normal(size=(8, 4)).astype(np.float32)
        return update(state, x, x @ np.arange(4, dtype=np.float32))

    def evaluate(state):
        return state, {"distance": jnp.abs(state.params["w"]).sum()}

    state = TrainState.create({"w": jnp.zeros(4)}, optimizer())
    options = {"finished": finished} if finished else {}
    return train("test", folder, state, take_step, schedule, evaluate, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder and the final state of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, jax.device_get(regress(folder))


def assert_same_run(folder: Path, state, whole) -> None:
    """Bit for bit the same state; metrics.jsonl the same, every step once."""
    expected_folder, expected = whole
    assert params_sha256(state.params) == params_sha256(expected.params)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), expected)
    logged = read_metrics(folder / "metrics.jsonl")
    assert logged == read_metrics(expected_folder / "metrics.jsonl")
    assert [r["step"] for r in logged if "loss" in r] == list(range(1, STEPS + 1))
    assert [r["step"] for r in logged if "distance" in r] == [0, 4, 8, 12, 14]


def raises_at(number, when):
    return lambda step: signal.raise_signal(number) if step == when else None


@pytest.mark.parametrize("step", [0, 4, 8, STEPS - 1])
def test_resuming_at_a_step_equals_never_having_stopped(step, whole, tmp_path):
    with pytest.raises(SystemExit):
        regress(tmp_path, raises_at(signal.SIGTERM, step))
    taken = []
    state = regress(tmp_path, taken.append)
    assert taken == list(range(step + 1, STEPS))
    assert_same_run(tmp_path, state, whole)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_a_signal_saves_a_checkpoint_and_sets_the_exit_code(
    number, code, tmp_path, capsys
):
    if signal.getsignal(number) is signal.SIG_IGN:  # these tests were started so
        signal.signal(number, signal.SIG_DFL)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        regress(tmp_path, raises_at(number, 4))
    assert stop.value.code == code
    assert signal.getsignal(number) == before
    assert "stopped at step 5 and saved" in capsys.readouterr().err
    assert (tmp_path / "checkpoints" / "5").is_dir()


@pytest.mark.parametrize("when", [1, 6, 8])
def test_a_crash_goes_on_from_the_last_checkpoint(when, whole, tmp_path):
    """The one of step 6 is still being written when the crash comes."""

    def crash(step):
        if step == when:
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        regress(tmp_path, crash)
    taken = []
    state = regress(tmp_path, taken.append)
    assert taken[0] == {1: 0, 6: 6, 8: 6}[when]
    assert_same_run(tmp_path, state, whole)


def test_kill_9_and_the_same_command_give_the_same_weights(whole, tmp_path):
    code = (
        "import sys, pathlib; from tests.training.test_training import regress; "
        "regress(pathlib.Path(sys.argv[1]), pause=0.2)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    metrics = tmp_path / "metrics.jsonl"
    while len(read_metrics(metrics)) < 8:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    # The line that was being written, as a kill may leave it.
    with metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 7, "lo')
    taken = []
    state = regress(tmp_path, taken.append)
    assert len(taken) < STEPS
    assert_same_run(tmp_path, state, whole)


def test_a_finished_run_takes_no_step_again(whole, tmp_path):
    tmp_path = tmp_path / whole[0].name
    shutil.copytree(whole[0], tmp_path)
    taken = []
    state = regress(tmp_path, taken.append)
    assert taken == []
    assert_same_run(tmp_path, state, whole)


def test_a_resumed_run_holds_no_state_but_its_own(whole, tmp_path):
    """The one it would have started from is gone when the first step is taken."""
    tmp_path = tmp_path / whole[0].name
    shutil.copytree(whole[0], tmp_path)
    started, alive = [], []

    def start():
        state = TrainState.create({"w": jnp.zeros(4)}, optimizer())
        started.extend(weakref.ref(leaf) for leaf in jax.tree.leaves(state))
        return state

    def take_step(state, step):
        alive.extend(ref for ref in started if ref() is not None)
        return state.replace(step=state.step + 1), {"loss": 0.0}

    schedule = dataclasses.replace(SCHEDULE, steps=STEPS + 2)
    state = train("test", tmp_path, start(), take_step, schedule)
    assert state.step == STEPS + 2
    assert started and not alive


def test_a_stage_that_is_missing_is_told_with_the_command_that_trains_it(tmp_path):
    with pytest.raises(UserError, match=r"run python -m launch.train --stage=foo "):
        finished_stage(tmp_path, "foo")


def test_the_reason_to_finish_is_asked_after_each_validation(tmp_path, capsys):
    taken = []

    def finished(state):
        return "far enough" if int(state.step) >= 8 else ""

    regress(tmp_path, taken.append, finished=finished)
    assert taken == list(range(8))
    assert "stopped early: far enough" in capsys.readouterr().err
    # And is kept: what follows may be killed, and the same command goes on there.
    regress(tmp_path, taken.append, finished=finished)
    assert taken == list(range(8))
    assert "going on from step 8" in capsys.readouterr().err


def test_what_is_never_to_be_validated_is_not_before_the_first_update(tmp_path):
    regress(tmp_path, schedule=dataclasses.replace(SCHEDULE, evaluate_every=0))
    logged = read_metrics(tmp_path / "metrics.jsonl")
    assert len(logged) == STEPS and not any("distance" in r for r in logged)


def test_a_torn_checkpoint_is_not_restored(whole, tmp_path):
    """orbax writes under another name, and renames when all is written."""
    tmp_path = tmp_path / whole[0].name
    folder = tmp_path / "checkpoints"
    shutil.copytree(whole[0], tmp_path)
    newest, before = sorted((int(p.name) for p in folder.iterdir()), reverse=True)
    assert newest == STEPS
    torn = folder / f"{newest}.orbax-checkpoint-tmp"
    (folder / str(newest)).rename(torn)
    (torn / "commit_success.txt").unlink(missing_ok=True)
    largest = max(torn.rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    taken = []
    state = regress(tmp_path, taken.append)
    assert taken[0] == before
    assert_same_run(tmp_path, state, whole)
    assert regress(tmp_path, taken.append).step == STEPS


def arrays_of(folder: Path) -> Path:
    """The largest file that is read; what each process wrote stays beside it."""
    return max((folder / "state" / "d").iterdir(), key=lambda p: p.stat().st_size)


def flip_a_bit(folder: Path) -> None:
    largest = arrays_of(folder)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def cut_in_half(folder: Path) -> None:
    largest = arrays_of(folder)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def lose_the_metadata(folder: Path) -> None:
    for path in folder.rglob("_METADATA"):
        path.unlink()


def other_numbers(folder: Path) -> None:
    """What no format notices: a whole checkpoint with other weights under its sum."""
    sums = next(p for p in (folder / "sums").iterdir() if p.suffix != ".txt")
    digest = json.loads(sums.read_text(encoding="utf-8"))["sha256"]
    sums.write_text(json.dumps({"sha256": digest[::-1]}), encoding="utf-8")


def of_another_stage(folder: Path) -> None:
    """Sound, but the checkpoint of a stage whose arrays have the same shapes."""
    sums = next(p for p in (folder / "sums").iterdir() if p.suffix != ".txt")
    known = json.loads(sums.read_text(encoding="utf-8"))
    sums.write_text(json.dumps(known | {"stage": "persona"}), encoding="utf-8")


def a_pipe_within(folder: Path) -> None:
    path = next(folder.rglob("_METADATA"))
    path.unlink()
    os.mkfifo(path)


def a_pipe(folder: Path) -> None:
    shutil.rmtree(folder)
    os.mkfifo(folder)


# What orbax leaves behind of a restore that failed complains when it is collected.
LEFT_BEHIND = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@LEFT_BEHIND
@pytest.mark.parametrize(
    "damage",
    [
        *(flip_a_bit, cut_in_half, lose_the_metadata, other_numbers, of_another_stage),
        *(a_pipe_within, a_pipe),
    ],
)
def test_a_damaged_checkpoint_is_moved_aside_for_the_one_before(
    damage, whole, tmp_path, capsys
):
    tmp_path = tmp_path / whole[0].name  # what the stage is called
    shutil.copytree(whole[0], tmp_path)
    damage(tmp_path / "checkpoints" / str(STEPS))
    taken = []
    state = regress(tmp_path, taken.append)
    assert taken[0] == STEPS - 2
    told = capsys.readouterr().err
    assert f"checkpoint {STEPS} is damaged" in told
    assert (tmp_path / f"damaged_checkpoint_{STEPS}").exists()
    assert_same_run(tmp_path, state, whole)
    gc.collect()


@LEFT_BEHIND
def test_no_whole_checkpoint_is_an_error_and_nothing_is_lost(whole, tmp_path):
    tmp_path = tmp_path / whole[0].name
    shutil.copytree(whole[0], tmp_path)
    folder = tmp_path / "checkpoints"
    for step in folder.iterdir():
        lose_the_metadata(step)
    with pytest.raises(UserError, match=f"no checkpoint in .* is whole .*{STEPS}: "):
        regress(tmp_path)
    assert {p.name for p in folder.iterdir()} == {"12", "14"}
    gc.collect()


def test_where_no_folder_of_checkpoints_is_nothing_is_waited_for(whole, tmp_path):
    tmp_path = tmp_path / whole[0].name
    shutil.copytree(whole[0], tmp_path)
    folder = tmp_path / "checkpoints"
    (folder / ".try-it").touch()  # of no use to anybody
    for step in folder.glob("[0-9]*"):
        a_pipe(step)
    with pytest.raises(UserError, match=f"{STEPS}: it is no folder.* start the stage"):
        regress(tmp_path)
    assert {p.name for p in folder.iterdir()} == {"12", "14"}
    for make in (Path.touch, os.mkfifo):
        a_pipe(folder) if folder.is_dir() else None
        folder.unlink()
        make(folder)
        with pytest.raises(UserError, match=r"checkpoints is no folder, .*remove it"):
            regress(tmp_path)


def test_a_checkpoint_holds_its_own_step_though_training_goes_on_in_place(tmp_path):
    """Saving is asynchronous, and the next step overwrites what is being saved."""
    step = jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)
    start = {"step": jnp.zeros((), jnp.int32), "w": jnp.zeros(1_000_000)}
    checkpoints, state = Checkpoints(tmp_path), start
    state = jax.tree.map(jnp.copy, start)
    for number in range(1, 4):
        state = step(state)
        checkpoints.save(number, state)
    for _ in range(20):
        state = step(state)
    checkpoints.close()
    restored = Checkpoints(tmp_path).restore(start)
    assert int(restored["step"]) == 3
    assert (np.asarray(restored["w"]) == 3).all()


def broken_at(step: int):
    """A state whose weights are NaN from this step on; its loss is not."""

    def take_step(state, now):
        w = jnp.where(now + 1 >= step, jnp.nan, state.params["w"])
        state = state.replace(step=state.step + 1, params={"w": w})
        return state, {"loss": 1.0}

    return take_step


@pytest.mark.parametrize("every", [3, 0])
@pytest.mark.parametrize("step", [STEPS, 5])
def test_weights_that_are_no_numbers_are_told_and_never_saved(step, every, tmp_path):
    start = TrainState.create({"w": jnp.zeros(4)}, optimizer())
    schedule = Schedule(STEPS, log_every=100, checkpoint_every=every)
    with pytest.raises(UserError, match=r"'w'.* is not finite at step .*clip_norm"):
        train("test", tmp_path, start, broken_at(step), schedule)
    kept = Checkpoints(tmp_path).restore(start)
    assert np.isfinite(np.asarray(kept.params["w"])).all()


def test_a_metric_that_is_no_number_is_left_out_of_the_curves(tmp_path):
    log = RunLog(tmp_path, "test", 0, 1)
    log.write(1, {"loss": 2.0, "valid_ppl": float("inf"), "valid_nll": float("nan")})
    log.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.0}]


def test_a_damaged_line_of_the_curves_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1}', "[]", '"x"', '{"loss": 1}', '{"step": "2"}', "{", "\udcff"]
    lines += ['{"step": 2, "loss": "high"}', '{"step": 3, "loss": 0.5}']
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    assert read_metrics(path) == [{"step": 1}, {"step": 3, "loss": 0.5}]


def test_a_resumed_run_has_the_programs_of_a_fresh_one(whole):
    """Nothing is compiled again: arrays of a checkpoint are as those of a start."""
    fresh = TrainState.create({"w": jnp.zeros(4)}, optimizer())
    restored = Checkpoints(whole[0]).restore(fresh)
    x, y = np.zeros((8, 4), np.float32), np.zeros(8, np.float32)
    programs = [update.lower(state, x, y).as_text() for state in (fresh, restored)]
    assert programs[0] == programs[1]
    assert [leaf.committed for leaf in jax.tree.leaves(restored)] == [
        leaf.committed for leaf in jax.tree.leaves(fresh)
    ]


def test_a_folder_that_takes_no_checkpoint_is_told_in_one_line(tmp_path, monkeypatch):
    """And at once: orbax would wait for five minutes."""
    state = TrainState.create({"w": jnp.zeros(4)}, optimizer())
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / "checkpoints").rmdir()
    (tmp_path / "checkpoints").write_text("a file in its place")
    with pytest.raises(UserError, match=r"^cannot write .*checkpoints: .*same command"):
        checkpoints.save(1, state)


def test_a_checkpoint_that_is_larger_than_the_room_is_not_begun(tmp_path, monkeypatch):
    state = TrainState.create({"w": jnp.zeros(4)}, optimizer())
    checkpoints = Checkpoints(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"takes \d+ bytes, 10 bytes are free"):
        checkpoints.save(1, state)
    checkpoints.close()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_the_last_two_checkpoints_are_kept(whole):
    names = {p.name for p in (whole[0] / "checkpoints").iterdir()}
    assert names == {"12", "14"}


@dataclasses.dataclass(frozen=True)
class Inner:
    learning_rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = "stage"
    size: int = 3
    log_every: int = 1
    checkpoint_every: int = 1
    source: str = "here"
    optimizer: Inner = Inner()


INPUTS = {"training data": "a" * 64, "tokenizer": "b" * 64}


@pytest.mark.parametrize(
    ("config", "inputs", "told"),
    [
        (Config(size=4), INPUTS, "size was 3, is 4"),
        (
            Config(optimizer=Inner(0.2)),
            INPUTS,
            "optimizer.learning_rate was 0.1, is 0.2",
        ),
        (Config(), INPUTS | {"training data": "c"}, "sha256 of the training data was"),
        (Config(), INPUTS | {"tokenizer": "c"}, "sha256 of the tokenizer was"),
        (Config(), {"tokenizer": "b" * 64}, "sha256 of the training data was"),
        (Config(), INPUTS | {"critic": "c"}, "sha256 of the critic was None"),
    ],
)
def test_a_changed_config_or_input_is_refused_by_name(config, inputs, told, tmp_path):
    folder = tmp_path / "stage"
    claim(folder, Config(), INPUTS)
    before = (folder / "fingerprint.json").read_bytes()
    with pytest.raises(UserError) as error:
        claim(folder, config, inputs)
    message = str(error.value)
    assert told in message and "--workdir" in message and str(folder) in message
    assert len(message.splitlines()) == 1
    assert (folder / "fingerprint.json").read_bytes() == before


def test_how_a_run_is_watched_may_change(tmp_path):
    claim(tmp_path, Config(), INPUTS)
    claim(tmp_path, Config(), INPUTS)
    claim(tmp_path, Config(log_every=5, checkpoint_every=7, source="there"), INPUTS)


@dataclasses.dataclass(frozen=True)
class Trained:
    name: str = "stage"
    epochs: float = 2.0
    evaluate_every: int = 10
    size: int = 3
    optimizer: OptimizerConfig = OptimizerConfig()


def test_what_alters_no_update_that_was_done_may_change_and_is_logged(tmp_path, capsys):
    claim(tmp_path, Trained(), INPUTS)
    claim(tmp_path, Trained(evaluate_every=5), INPUTS)
    assert "evaluate_every was 10, is 5" in capsys.readouterr().out
    claim(tmp_path, Trained(epochs=3.0, evaluate_every=7), INPUTS)
    assert [record for _, record in read_jsonl(tmp_path / "changes.jsonl")] == [
        {"evaluate_every": [10, 5]},
        {"evaluate_every": [5, 7], "epochs": [2.0, 3.0]},
    ]
    claim(tmp_path, Trained(epochs=3.0, evaluate_every=7), INPUTS)
    assert capsys.readouterr().out.count("\n") == 1  # of the second change


@pytest.mark.parametrize(
    "config",
    [
        Trained(epochs=1.0),
        Trained(epochs=3.0, optimizer=OptimizerConfig(schedule="linear")),
        Trained(evaluate_every=5, size=4),
    ],
)
def test_fewer_updates_or_another_rate_of_those_done_are_refused(config, tmp_path):
    began = dataclasses.replace(Trained(), optimizer=config.optimizer)
    claim(tmp_path, began, INPUTS)
    before = (tmp_path / "fingerprint.json").read_bytes()
    with pytest.raises(UserError, match="another setting"):
        claim(tmp_path, config, INPUTS)
    assert (tmp_path / "fingerprint.json").read_bytes() == before
    assert not (tmp_path / "changes.jsonl").exists()


def test_a_finished_stage_goes_on_once_its_result_is_removed(tmp_path):
    def stage(config):
        made = {"params_sha256": "0" * 64, "best_update": 1}
        return once(tmp_path, config, INPUTS, lambda: made, lambda folder: None)

    longer = Trained(epochs=3.0)
    stage(Trained())
    with pytest.raises(UserError, match=r"change epochs, remove .*result.json"):
        stage(longer)
    (tmp_path / "result.json").unlink()
    stage(longer)


def test_an_input_that_may_come_later_may_come_but_not_change(tmp_path):
    claim(tmp_path, Config(), INPUTS)
    more = INPUTS | {"new model": "c"}
    claim(tmp_path, Config(), more, later={"new model"})
    with pytest.raises(UserError, match="new model was 'c', is 'd'"):
        claim(tmp_path, Config(), more | {"new model": "d"}, later={"new model"})


def test_a_stage_made_of_other_data_or_settings_is_refused(tmp_path):
    claim(tmp_path, Config(size=4), INPUTS)
    agree(tmp_path, Config(), INPUTS, "optimizer")
    agree(tmp_path, Config(), INPUTS | {"critic": "c"})
    with pytest.raises(UserError, match=r"learning_rate was 0\.1, is 0\.2"):
        agree(tmp_path, Config(optimizer=Inner(0.2)), {}, "optimizer")
    with pytest.raises(UserError, match=r"training data was 'aa*', is 'c'"):
        agree(tmp_path, Config(), INPUTS | {"training data": "c"})


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path):
    hold = (
        "import sys, pathlib; from ppg_jax import files; "
        "files.hold_folder(pathlib.Path(sys.argv[1])); print('held', flush=True); "
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="in use by another process"):
        claim(tmp_path, Config(), INPUTS)
    other.kill()
    other.communicate()
    claim(tmp_path, Config(), INPUTS)  # the lock ends with the process


def test_a_loss_that_is_no_number_stops_the_run_with_advice(tmp_path):
    def take_step(state, step):
        return state, {"loss": np.float32("nan")}

    start = TrainState.create({"w": jnp.zeros(4)}, optimizer())
    with pytest.raises(UserError, match=r"loss is nan at step 1; .* learning rate"):
        train("nan", tmp_path, start, take_step, SCHEDULE)


def test_a_torn_line_of_metrics_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo', encoding="utf-8")
    assert read_metrics(path) == [{"step": 1}]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3725, "1:02:05"), (90000, "25:00:00")],
)
def test_a_duration_as_people_write_it(seconds, shown):
    assert duration(seconds) == shown


def test_a_progress_line_fits_a_terminal_and_its_rate_counts_no_compilation(
    tmp_path, capsys, monkeypatch
):
    clock = iter([0.0, 100.0, 104.0, 112.0])  # made, first step, two lines
    fake = types.SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("ppg_jax.training.run_log.time", fake)
    log = RunLog(tmp_path, "a_stage_of_a_long_name", 0, 9)
    told = {
        "epoch": 0.5,
        "learning_rate": 1e-3,
        "loss": 2.0,
        "targets": 50,
        "x" * 40: 1,
    }
    log.stepped(1)
    log.stepped(2)
    log.stepped(3)
    log.progress(3, told, every=0)  # two steps in 4 s
    line = "a_stage_of_a_long_name 3/9  ETA 0:12  loss 2  epoch 0.5  25 targets/s"
    line += "  lr 0.001"
    assert len(line) == 79 and capsys.readouterr().err == f"{line}\n"
    log._name = "a"
    log.progress(5, told, every=0)  # four in 12 s
    line = "a 5/9  ETA 0:12  loss 2  epoch 0.5  17 targets/s  lr 0.001  0.333 steps/s"
    assert capsys.readouterr().err == f"{line}\n"
    log.close()


def test_a_schedule_tells_epoch_and_learning_rate_and_the_curves_have_them(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Settings:
        log_every: int = 1
        checkpoint_every: int = 2
        evaluate_every: int = 0
        optimizer: OptimizerConfig = OptimizerConfig(0.1, schedule="linear")

    schedule = Schedule.of(Settings(), 4, epoch=8)
    assert schedule == Schedule(4, 1, 2, 0, 8, schedule.learning_rate)
    rates = [0.1, 0.075, 0.05, 0.025]
    for done, rate in enumerate(rates, 1):
        expected = {"epoch": done / 8, "learning_rate": pytest.approx(rate)}
        assert schedule.at(done) == expected
    start = TrainState.create({"w": jnp.zeros(4)}, optimizer())
    x = np.ones((8, 4), np.float32)
    train("test", tmp_path, start, lambda s, _: update(s, x, x[:, 0]), schedule)
    curves = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["learning_rate"] for r in curves] == pytest.approx(rates)
    assert [r["epoch"] for r in curves] == [1 / 8, 2 / 8, 3 / 8, 4 / 8]


def test_a_full_disk_is_told_by_the_file_and_nothing_waits_for_it(
    tmp_path, monkeypatch
):
    log = RunLog(tmp_path, "test", 0, 2)
    log.write(1, {"loss": 1.0})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log._board._events, "write_event", full)
    with pytest.raises(OSError, match=str(tmp_path / "tensorboard")):
        log.write(2, {"loss": 1.0})
    monkeypatch.undo()
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


def test_a_text_that_could_not_be_written_leaves_nothing(tmp_path):
    def lines():
        yield "a\n"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"a\.txt"):
        write_text(tmp_path / "a.txt", lines())
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_of_a_checkpoint_goes(tmp_path):
    with pytest.raises(SystemExit):
        regress(tmp_path, raises_at(signal.SIGTERM, 4))
    folder = tmp_path / "checkpoints"
    for name in ("7.orbax-checkpoint-tmp", ".try-abc"):
        (folder / name).mkdir()
    regress(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["12", "14"]


def test_the_last_state_is_kept_where_no_other_is(tmp_path):
    schedule = dataclasses.replace(SCHEDULE, checkpoint_every=0)
    regress(tmp_path, schedule=schedule)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["14"]


def test_runs_of_one_form_share_an_optimizer():
    same, other = OptimizerConfig(clip_norm=1.0), OptimizerConfig(clip_norm=2.0)
    first = make_optimizer(same, 20)
    assert first is make_optimizer(OptimizerConfig(clip_norm=1.0), 20)
    assert first is not make_optimizer(other, 20)
