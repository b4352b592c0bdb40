"""What is drawn is what was given: points, bars and their names, read from the axes."""

import numpy as np

from ppg_jax.metrics import ppl, significance
from ppg_jax.report import drawing, figures
from ppg_jax.report.results import TURNS
from ppg_jax.report.traits import CURVES, HEARD


def interval(value: float, **more) -> dict:
    return {"value": value, "low": value - 0.5, "high": value + 0.25, **more}


def lines(axes) -> list[tuple[list, list]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def spans(container) -> np.ndarray:
    """The ends (x, y) of each interval of an error bar: float64 [N, 2, 2]."""
    return np.array(container[2][0].get_segments())


BY_TURN = {
    "full": dict(zip(TURNS, (31.0, 17.0, 23.0, 11.0, 19.0), strict=True)),
    "ours": dict(zip(TURNS, (47.0, 41.0, 53.0, 37.0, 43.0), strict=True)),
    "short": {"1": 5.0, "3": 7.0, "all": 6.0},
}


def drawn_by_turn():
    table = {
        name: {
            turn: interval(value, instances=10 + TURNS.index(turn))
            for turn, value in points.items()
        }
        for name, points in BY_TURN.items()
    }
    labels = {n: {"label": f"label of {n}", "control": False} for n in table}
    figure = figures.perplexity_by_turn(
        {"perplexity_by_turn": table, "responses": labels, "turns_in": "ppl_token"}
    )
    return figure.axes[0]


def test_perplexity_by_turn_draws_each_number_at_its_turn():
    axes = drawn_by_turn()
    ticks = [label.get_text().split("\n") for label in axes.get_xticklabels()]
    assert [turn for turn, _ in ticks] == ["1", "2", "3", "4+", "all"]
    counts = [f"({10 + n})" for n in range(len(TURNS))]
    assert [count for _, count in ticks] == counts
    drawn = {c.get_label().removeprefix("label of "): c for c in axes.containers}
    assert drawn.keys() == BY_TURN.keys()
    for name, points in BY_TURN.items():
        x, values = drawn[name][0].get_data()
        seen = {TURNS[round(at)]: v for at, v in zip(x, values, strict=True)}
        assert seen == points
        ends = spans(drawn[name])
        np.testing.assert_allclose(ends[:, 0], np.stack([x, values - 0.5], axis=1))
        np.testing.assert_allclose(ends[:, 1], np.stack([x, values + 0.25], axis=1))


def test_the_course_over_turns_leads_through_the_same_points_but_the_last():
    axes = drawn_by_turn()
    markers = [c[0].get_data() for c in axes.containers]
    for x, values in markers:
        assert (list(x[:-1]), list(values[:-1])) in lines(axes)


def test_the_bars_of_systems_are_as_long_as_their_numbers():
    numbers = {
        "ours": {"ppl_token": 13.0, "bleu": 1.5},
        "full": {"ppl_token": 17.0, "bleu": 0.75},
        "copy_last": {"bleu": 2.5},
    }
    systems = {
        name: {
            "label": f"label of {name}",
            "control": name == "copy_last",
            "metrics": {key: interval(value) for key, value in metrics.items()},
        }
        for name, metrics in numbers.items()
    }
    left, right = figures.systems_bar(systems).axes
    names = [t.get_text().removeprefix("label of ") for t in left.get_yticklabels()]
    assert names == list(numbers)
    for axes, key in [(left, "ppl_token"), (right, "bleu")]:
        expected = {n: m[key] for n, m in numbers.items() if key in m}
        bars = {names[round(p.get_y() + p.get_height() / 2)]: p for p in axes.patches}
        assert {name: bar.get_width() for name, bar in bars.items()} == expected
        ends = np.concatenate([spans(c) for c in axes.containers if len(c) == 3])
        seen = {names[round(y)]: (low, high) for (low, y), (high, _) in ends}
        assert seen == {n: (v - 0.5, v + 0.25) for n, v in expected.items()}
    assert "Perplexity" in left.get_title() and "BLEU" in right.get_title()


def series(start: float, steps=(1, 2, 3)) -> dict[int, float]:
    """Values that no other start has, neither rising nor falling."""
    return {step: start + (step * 2) % 5 for step in steps}


def records(curves: dict[str, dict[int, float]]) -> list[dict]:
    """A metrics.jsonl of {key: {step: value}}."""
    steps = sorted({step for curve in curves.values() for step in curve})
    return [
        {"step": s, **{key: curve[s] for key, curve in curves.items() if s in curve}}
        for s in steps
    ]


def by_title(figure) -> dict[str, object]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}


def points(curve: dict[int, float]) -> tuple[list, list]:
    return list(curve), list(curve.values())


def test_the_training_curves_of_a_stage_are_those_of_its_records():
    titles = ["dialogue", "persona", "mine", "critic"]
    curves = {
        stage: {
            "loss": series(100 * n),
            "valid_nll": series(100 * n + 30, steps=(0, 2)),
            "accuracy": series(100 * n + 60),
            "valid_accuracy": series(100 * n + 80, steps=(0, 3)),
        }
        for n, stage in enumerate(titles, 1)
    }
    del curves["mine"]["accuracy"], curves["mine"]["valid_accuracy"]
    logs = {stage: records(c) for stage, c in curves.items()}
    figure = figures.training_curves(logs, {"mine": 2, "critic": None})
    panels = by_title(figure)
    shown = {f"{s}: loss" for s in titles} | {f"{s}: accuracy" for s in titles}
    assert panels.keys() == shown - {"mine: accuracy"}
    for stage in titles:
        drawn = lines(panels[f"{stage}: loss"])
        expected = [points(curves[stage][key]) for key in ("loss", "valid_nll")]
        assert drawn[:2] == expected
        marked = drawn[2:]
        assert [x for x, _ in marked] == ([[2, 2]] if stage == "mine" else [])
    expected = [points(curves["critic"][k]) for k in ("accuracy", "valid_accuracy")]
    assert lines(panels["critic: accuracy"]) == expected


REINFORCE_PANELS = {
    "Reward": ["reward"],
    "Critic score": ["critic_score"],
    "KL to the supervised model": ["persona_kl", "response_kl"],
    "Validation PPL: response": ["valid_response_ppl"],
    "Validation PPL: persona": ["valid_persona_ppl"],
    "Entropy": ["persona_entropy", "response_entropy"],
    "Length": ["persona_length", "response_length"],
    "Distinct-2 within a batch": ["persona_distinct_2", "response_distinct_2"],
    "Ended by themselves": ["persona_ended", "response_ended"],
}


def test_the_curves_of_reinforce_are_those_of_its_records():
    keys = [key for keys in REINFORCE_PANELS.values() for key in keys]
    curves = {key: series(10 * n) for n, key in enumerate(keys, 1)}
    panels = by_title(figures.reinforce_curves(records(curves), kept=2))
    assert panels.keys() == REINFORCE_PANELS.keys()
    for title, keys in REINFORCE_PANELS.items():
        *drawn, kept = lines(panels[title])
        assert drawn == [points(curves[key]) for key in keys]
        assert kept[0] == [2, 2]
        if len(keys) > 1:
            _, labels = panels[title].get_legend_handles_labels()
            assert labels == ["persona", "response"]


def test_a_long_curve_is_drawn_as_it_is_and_smoothed():
    curve = {step: float(step % 3) for step in range(1, 31)}
    panels = by_title(figures.reinforce_curves(records({"reward": curve}), None))
    raw, (steps, smooth) = lines(panels["Reward"])
    assert raw == points(curve) and steps == list(curve)
    np.testing.assert_allclose(smooth[1:-1], 1.0)
    np.testing.assert_allclose([smooth[0], smooth[-1]], [1.5, 1.0])


def test_models_differ_by_colour_or_marker_and_controls_are_grey():
    systems = {f"row {n}": {"control": n >= 20} for n in range(24)}
    looks = list(drawing.looks(systems).values())
    assert len(set(looks)) == 24
    greys = {color for color, _ in looks[20:]}
    assert len(greys) == 1 and not greys & {color for color, _ in looks[:20]}


def test_the_axis_of_the_reward_says_what_is_paid():
    log = records({"reward": series(1)})
    for reward, told in [("sign", "mean of +1 and -1"), ("soft", "soft")]:
        axes = by_title(figures.reinforce_curves(log, None, reward))["Reward"]
        assert told in axes.get_ylabel()


def test_no_label_is_cut_off(tmp_path, monkeypatch):
    """Also of twenty rows with long names."""
    points = dict.fromkeys(TURNS, interval(2.0, instances=1_000))
    systems = {
        f"row {n}": {
            "label": f"A row of which a long name says what it is, number {n}",
            "control": False,
            "metrics": {"ppl_token": interval(2.0 + n), "bleu": interval(1.0)},
        }
        for n in range(20)
    }
    by_turn = dict.fromkeys(HEARD, interval(0.5))
    swapped = {"by_turn": {t: {"difference": interval(0.5)} for t in HEARD}}
    kinds = ("personas", "responses")
    numbers = {
        **dict.fromkeys(kinds, systems),
        "turns_in": "ppl_token",
        "perplexity_by_turn": dict.fromkeys(systems, points),
        "traits": {"by_turn": dict.fromkeys(CURVES, dict.fromkeys(systems, by_turn))},
        "swapped": dict.fromkeys(kinds, dict.fromkeys(systems, swapped)),
        "stages": {},
        "reinforced": {},
    }
    made = []
    monkeypatch.setattr(figures, "_written", lambda folder, drawn: made.append(drawn))
    figures.draw(tmp_path, numbers)
    for figure in made[0].values():
        if figure is not None:
            figure.draw_without_rendering()
            inside = figure.bbox.padded(1)
            box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1
            assert inside.y0 <= box.y0 and box.y1 <= inside.y1


def test_a_row_that_is_as_good_everywhere_is_drawn():
    """Its resamples are one number, rounded in another way."""
    tokens = np.arange(1, 91)
    for size in (50257, 32000, 1000):
        columns = ppl.columns(tokens * np.log(size), tokens, tokens)["token"]
        groups = np.arange(90) // 3
        found = significance.bootstrap([columns], ppl.perplexity, groups)
        assert found.low <= found.value <= found.high
