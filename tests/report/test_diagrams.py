"""Figures 1 and 2 say what the run and the code are, and can be read."""

import csv
import importlib

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ppg_jax.config import flatten
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.report import diagrams
from ppg_jax.report.predictions import read
from ppg_jax.stages import reinforce
from tests.report.test_report import make_run

PARAMETERS = {"persona": 363_648, "response": 354_823_168, "critic": 66_955_010}


def settings(**changed) -> dict:
    prompts = PromptConfig(max_persona_tokens=72, max_response_tokens=30)
    return flatten(reinforce.Config(prompts=prompts, **changed))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Every persona is long, as people's may be."""
    folder = make_run(tmp_path_factory.mktemp("run"))
    predictions = read(folder)
    for record in predictions.records["responses"]["ours"]:
        record["partner_persona"] = "i have $5 and two dogs, and i sing all day. " * 5
    return folder, predictions


def parts_of(path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            part, text = row.values()
            found.setdefault(part, []).append(text)
    return found


def overlaps(figure, boxes) -> list[str]:
    """Texts that leave the figure, or lie upon one another or a box's edge."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    (axes,) = figure.axes
    whole = axes.bbox
    frames = [patch.get_window_extent(renderer) for patch in axes.patches]
    texts = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in axes.texts
        if text.get_text()
    ]
    found = [told for told, at in texts if not whole.containsx(at.x1)]
    for told, at in texts:
        for frame in frames:
            inside = frame.x0 < at.x0 and at.x1 < frame.x1
            inside &= frame.y0 < at.y0 and at.y1 < frame.y1
            found += [told] if at.overlaps(frame) and not inside else []
    for i, (told, at) in enumerate(texts):
        # Lines of one box stand close: a pixel of their boxes is no letter.
        found += [told for _, other in texts[:i] if at.padded(-2).overlaps(other)]
    for i, frame in enumerate(frames):
        found += ["a box"] * sum(frame.overlaps(other) for other in frames[:i])
    assert len(frames) == boxes
    return found


def test_figure_1_is_one_instance_as_it_was_answered(run, tmp_path):
    _, predictions = run
    png, svg, markdown, lines = diagrams.figure1(tmp_path, predictions, seed=0)
    assert png.stat().st_size > 20_000 and svg.read_text("utf-8").startswith("<?xml")
    found, number = parts_of(lines), diagrams._drawn(predictions, 0)
    instance = predictions.instances[number]
    answer = predictions.records["responses"]["ours"][number]
    assert 3 <= len(instance["context"]) <= 5
    said = [line.partition(": ")[2] for line in found["dialogue context"]]
    speakers = [line.partition(":")[0] for line in found["dialogue context"]]
    assert said == instance["context"] and speakers[-2:] == ["self", "partner"]
    assert found["gold partner persona"] == instance["partner_persona"]
    assert found["generated partner persona"] == [answer["partner_persona"]]
    assert found["generated response"] == [answer["response"]]
    assert found["gold response"] == [instance["response"]]
    assert instance["id"] in markdown.read_text("utf-8")


def test_which_instance_is_drawn_is_a_seeds_choice(run):
    drawn = [diagrams._drawn(run[1], seed) for seed in range(5)]
    assert drawn == [diagrams._drawn(run[1], seed) for seed in range(5)]
    assert len({*drawn}) > 2


def test_figure_1_of_a_run_without_ours_is_not_drawn(tmp_path):
    folder = make_run(tmp_path / "run")
    predictions = read(folder)
    del predictions.records["responses"]["ours"]
    assert diagrams.figure1(tmp_path, predictions, seed=0) == []


def test_nothing_in_figure_1_lies_upon_another(run):
    long = ["w" * 9 + " i am a very tall person who sings " * 3] * 5
    parts = ["dialogue context", "self persona", "persona generator"]
    parts += ["generated partner persona", "gold partner persona"]
    parts += ["response generator", "generated response", "gold response"]
    figure = diagrams._flow(dict.fromkeys(parts, long))
    assert overlaps(figure, boxes=8) == []


@pytest.mark.parametrize("changed", [{}, {"kl_coefficient": 0.05, "reward": "soft"}])
def test_nothing_in_figure_2_lies_upon_another(changed):
    known = settings(entropy_coefficient=0.01, baseline="leave_one_out", **changed)
    figure = diagrams._cycle(diagrams._loop(known, PARAMETERS), known)
    assert overlaps(figure, boxes=7) == []


def test_figure_2_names_code_that_there_is_and_the_shapes_that_are_set(tmp_path):
    lines = diagrams.figure2(tmp_path, settings(), PARAMETERS)[-1]
    found = parts_of(lines)
    named = [t for texts in found.values() for t in texts if t[:3] in ("rl.", "inf")]
    named += [t for t in found["batch"] if t.startswith("data.")]
    assert len({*named}) == 5
    for name in named:
        module, _, part = name.rpartition(".")
        assert hasattr(importlib.import_module(f"ppg_jax.{module}"), part), name
    assert diagrams.shapes(settings())["persona"] == (20, 72)
    assert diagrams.shapes(settings())["response"] == (20, 30)
    assert "354,823,168 parameters" in found["response policy"]
    assert found["persona update"][0] == "−A ∇ log P(p̂ | s, c)"
    assert "R: +1 if P ≥ 0.5, else −1" in found["reward"]
    assert not any("KL" in line for line in found["persona update"])


def test_figure_2_tells_what_is_frozen_and_what_is_scaled(tmp_path):
    known = settings(train_persona=False, response_reward_scale=10.0)
    found = parts_of(diagrams.figure2(tmp_path, known, PARAMETERS)[-1])
    assert found["persona update"] == ["none: this policy is frozen"]
    assert found["response update"][0] == "10 × −A ∇ log P(r̂ | s, p̂, c)"
    heads = [
        len(
            [
                t
                for t in diagrams._cycle(diagrams._loop(k, PARAMETERS), k).axes[0].texts
                if not t.get_text()
            ]
        )
        for k in (settings(), known)
    ]
    assert heads[0] - heads[1] == 2  # no arrow to a frozen policy, nor from one
