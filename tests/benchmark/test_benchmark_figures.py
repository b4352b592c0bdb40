"""The pictures of races say who raced, at what, and where, in words."""

import pytest
from matplotlib.figure import Figure

from ppg_jax.benchmark import figures

MACHINE = {"platform": "cpu", "cores": 2, "cpu": "Some Processor", "device": "cpu"}


def texts(records, path, monkeypatch) -> list[str]:
    """All that is written in the picture."""
    made = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: made.append(self))
    figures.draw(records, path)
    (figure,) = made
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    points = [text.get_text() for text in axes.texts]
    return [figure.get_suptitle(), *labels, *points, *legend]


def test_a_race_is_drawn_in_words_with_its_number(tmp_path, monkeypatch):
    peers = {
        "ppg_jax": {},
        "llama_cpp_q8_0, user's work": {"ratio": (1.25, 1.2, 1.3, 0.97)},
        "torch_eager, user's work": {"ratio": (0.5, 0.4, 0.6, 0.97)},
    }
    race = {"name": "generate, greedy, bfloat16 weights", "machine": MACHINE}
    told = texts([race | {"contestants": peers}], tmp_path / "x.png", monkeypatch)
    work = "answer (persona, response), greedy, bfloat16 weights\n"
    assert told == [
        "How many times as fast as others, on 2 cores, Some Processor",
        work + "llama.cpp Q8_0, user's work",
        work + "transformers, user's work",
        "1.25",
        "0.50",
        "ppg_jax is faster",
        "the peer is faster",
    ]


def test_a_ratio_of_any_size_is_inside_the_picture(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: made.append(self))
    peers = {"ppg_jax": {}, "torch_eager": {"ratio": (90.0, 0.01, 95.0, 0.97)}}
    race = {"name": "reinforce", "machine": MACHINE, "contestants": peers}
    figures.draw([race], tmp_path / "x.png")
    low, high = made[0].axes[0].get_xlim()
    assert low < 0.01 and high > 95 * 1.2


@pytest.mark.parametrize(
    "name, words",
    [
        ("train response [tiny]", "train the response generator [tiny]"),
        ("train responses", "train responses"),
        ("score with the critic", "score with the critic"),
    ],
)
def test_what_has_no_words_of_its_own_keeps_its_name(name, words):
    assert figures._work(name) == words
    assert figures._peer("someone, user's work") == "someone, user's work"
