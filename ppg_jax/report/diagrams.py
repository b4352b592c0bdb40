"""The paper's Figures 1 and 2, of what a run is: one instance on its way through both
generators, and the loop of REINFORCE with the shapes and settings of its stage.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ppg_jax.errors import printable
from ppg_jax.files import write_text
from ppg_jax.report import paper
from ppg_jax.report.boxes import Box, arrow, canvas
from ppg_jax.report.drawing import BLUE, DPI, GREEN, GREY, ORANGE, save
from ppg_jax.report.predictions import Predictions
from ppg_jax.report.tables import comma_separated, table

_FEWEST, _MOST = 3, 5  # utterances of the context that Figure 1 has room for


# --- Figure 1 -----------------------------------------------------------------


def figure1(folder: Path, predictions: Predictions, seed: int) -> list[Path]:
    """One instance, from its context to the response, with the gold answers beside.

    It is drawn by the seed, among those with three to five utterances of context if
    there are any; nothing where the row was not evaluated.
    """
    (row,) = paper.SHOWN["figure1"]
    if row not in predictions.records["responses"]:
        return []
    number = _drawn(predictions, seed)
    instance = predictions.instances[number]
    answer = predictions.records["responses"][row][number]
    response, persona = predictions.rows["responses"][row].models or ("", "")
    speakers = ("partner", "self")
    said = [
        f"{speakers[turn % 2]}: {utterance}"
        for turn, utterance in enumerate(reversed(instance["context"]))
    ][::-1]
    parts = {
        "dialogue context": said,
        "self persona": list(instance["self_persona"]),
        "persona generator": [persona],
        "generated partner persona": [answer["partner_persona"] or ""],
        "gold partner persona": list(instance["partner_persona"]),
        "response generator": [response],
        "generated response": [answer["response"]],
        "gold response": [instance["response"]],
    }
    among = ""
    if _fits(instance):
        among = f" among those with {_FEWEST} to {_MOST} utterances of context"
    told = (
        f"Instance {instance['id']}, drawn by seed {seed}{among}; "
        f"{predictions.rows['responses'][row].label}."
    )
    lines = [[part, line] for part, texts in parts.items() for line in texts]
    return _written(folder, "figure1", _flow(parts), told, ["part", "text"], lines)


def _drawn(predictions: Predictions, seed: int) -> int:
    order = np.random.default_rng(seed).permutation(len(predictions.instances))
    fits = [row for row in map(int, order) if _fits(predictions.instances[row])]
    return fits[0] if fits else int(order[0])


def _fits(instance: Mapping) -> bool:
    heard = len(instance["context"])
    return bool(instance["partner_persona"]) and _FEWEST <= heard <= _MOST


def _flow(parts: Mapping[str, Sequence[str]]) -> Figure:
    """The instance from top to bottom; what is gold stands on the right."""
    wide, narrow, left, right, gap = 5.6, 4.4, 0.7, 6.7, 0.5

    def box(part, at, width, top, color, dashed=False, sign=""):
        title = f"{part[0].upper()}{part[1:]}  {sign}"
        return Box(title, parts[part], at, top, width, color, dashed)

    context = box("dialogue context", left, wide, 0, BLUE, sign="$c$")
    own = box("self persona", right, narrow, 0, BLUE, sign="$s$")
    top = min(context.bottom, own.bottom) - gap
    ppg = box("persona generator", left, wide, top, GREEN, sign="$P(p\\,|\\,s, c)$")
    top = ppg.bottom - gap
    persona = box(
        "generated partner persona", left, wide, top, GREEN, sign="$\\hat{p}$"
    )
    gold = box("gold partner persona", right, narrow, top, GREY, True, "$p$")
    top = min(persona.bottom, gold.bottom) - gap
    likely = "$P(r\\,|\\,s, \\hat{p}, c)$"
    drg = box("response generator", left, wide, top, ORANGE, sign=likely)
    top = drg.bottom - gap
    response = box("generated response", left, wide, top, ORANGE, sign="$\\hat{r}$")
    true = box("gold response", right, narrow, top, GREY, True, "$r$")
    boxes = [context, own, ppg, persona, gold, drg, response, true]
    figure, axes = canvas(11.5, boxes)
    for above, below in [(context, ppg), (ppg, persona), (persona, drg)]:
        arrow(axes, [(above.middle, above.bottom), (below.middle, below.top)])
    arrow(axes, [(drg.middle, drg.bottom), (response.middle, response.top)])
    # Both generators read the self persona, and the response generator the context.
    aside, level = own.left + 0.4, ppg.top - ppg.height / 2
    arrow(axes, [(aside, own.bottom), (aside, level), (ppg.right, level)])
    edge, level = left - 0.35, drg.top - drg.height / 2
    reads = context.top - context.height / 2
    arrow(axes, [(left, reads), (edge, reads), (edge, level), (left, level)])
    edge, reads = right + narrow + 0.2, own.top - own.height / 2
    path = [(own.right, reads), (edge, reads), (edge, level), (drg.right, level)]
    arrow(axes, path)
    return figure


# --- Figure 2 -----------------------------------------------------------------


def figure2(folder: Path, settings: Mapping, parameters: Mapping) -> list[Path]:
    """The loop of REINFORCE: who says what to whom, and which gradient pays for it.

    settings: of the stage, as its fingerprint has them. parameters: how many the
    persona generator, the response generator and the critic have, by these fields of
    the settings. Code is named as it is below `ppg_jax`.
    """
    boxes = _loop(settings, parameters)
    lines = [[part, line] for part, box in boxes.items() for line in box.lines]
    told = (
        f"One update of the stage `{settings['name']}`, as it was set; B is "
        f"{settings['batch_size']} instances."
    )
    figure = _cycle(boxes, settings)
    return _written(folder, "figure2", figure, told, ["part", "what"], lines)


def shapes(settings: Mapping) -> dict[str, tuple[int, ...]]:
    """What passes from part to part in an update, by its name."""
    many = settings["batch_size"]
    return {
        "persona": (many, settings["prompts.max_persona_tokens"]),
        "response": (many, settings["prompts.max_response_tokens"]),
        "score": (many,),
        "reward": (many,),
    }


_BASELINES = {"none": "R", "leave_one_out": "R − mean R of the others"}


def _loop(settings: Mapping, parameters: Mapping) -> dict[str, Box]:
    """The parts, top row and bottom row."""
    wide, step, top, low = 2.75, 4.0, 0.0, -2.0
    paid = {
        kind: _gradient(kind, settings, of)
        for kind, of in [("persona", "p̂ | s, c"), ("response", "r̂ | s, p̂, c")]
    }
    size = {kind: f"{count:,} parameters" for kind, count in parameters.items()}
    batch = [
        f"{settings['batch_size']} instances, drawn by {settings['batching']}",
        "s: self persona",
        "c: dialogue context",
        "data.batching.InstanceBatches",
    ]
    policies = {
        kind: [f"stage {settings[kind]}", size[kind], "rl.rollouts.make_sampler"]
        for kind in ("persona", "response")
    }
    judge = [
        f"stage {settings['critic']}, frozen",
        size["critic"],
        "P(related) of (p̂, r̂)",
        "inference.critic.Critic",
    ]
    pay = [
        f"R: {_rewards(settings['reward'])}",
        f"A = {_BASELINES[settings['baseline']]}",
        f"float32 [{settings['batch_size']}]",
        "rl.rewards.advantages_of",
    ]
    down = "Gradient, descended"
    place = [0.25 + step * n for n in range(4)]
    return {
        "batch": Box("Batch", batch, place[0], top, wide, BLUE),
        "persona policy": Box(
            "Persona policy", policies["persona"], place[1], top, wide, GREEN
        ),
        "response policy": Box(
            "Response policy", policies["response"], place[2], top, wide, ORANGE
        ),
        "critic": Box("Critic", judge, place[3], top, wide, GREY),
        "persona update": Box(down, paid["persona"], place[1], low, wide, GREEN, True),
        "response update": Box(
            down, paid["response"], place[2], low, wide, ORANGE, True
        ),
        "reward": Box("Reward and advantage", pay, place[3], low, wide, GREY),
    }


def _rewards(kind: str) -> str:
    told = {"sign": "+1 if P ≥ 0.5, else −1", "soft": "2 P − 1"}
    return told.get(kind, kind)


def _gradient(kind: str, settings: Mapping, of: str) -> list[str]:
    """What one policy's update descends, in words of the settings."""
    if not settings[f"train_{kind}"]:
        return ["none: this policy is frozen"]
    scale = settings[f"{kind}_reward_scale"]
    lines = [f"{'' if scale == 1 else f'{scale:g} × '}−A ∇ log P({of})"]
    if settings["kl_coefficient"]:
        lines.append(f"+ {settings['kl_coefficient']:g} ∇ KL to the start")
    if settings["entropy_coefficient"]:
        lines.append(f"− {settings['entropy_coefficient']:g} ∇ entropy")
    clip = settings["optimizer.clip_norm"]
    lines.append(
        f"Adam, rate {settings['optimizer.learning_rate']:g}"
        + (f", clip {clip:g}" if clip else "")
    )
    return [*lines, "rl.update.make_update"]


def _cycle(boxes: Mapping[str, Box], settings: Mapping) -> Figure:
    figure, axes = canvas(15.3, boxes.values(), above=0.65, below=0.55)
    level = -0.62
    sizes = {name: ", ".join(map(str, s)) for name, s in shapes(settings).items()}
    batch, persona, response, judge = (
        boxes[n] for n in ("batch", "persona policy", "response policy", "critic")
    )
    pay, *paid = (boxes[n] for n in ("reward", "persona update", "response update"))
    for a, b, sign, told in [
        (batch, persona, "$s, c$", "tokens"),
        (persona, response, "$\\hat{p}$", f"int32\n[{sizes['persona']}]"),
        (response, judge, "$\\hat{r}$", f"int32\n[{sizes['response']}]"),
    ]:
        arrow(axes, [(a.right, level), (b.left, level)])
        middle = (a.right + b.left) / 2
        axes.text(middle, level + 0.07, sign, ha="center", va="bottom", fontsize=12)
        axes.text(middle, level - 0.07, told, ha="center", va="top", fontsize=9)
    over = 0.32
    path = [(persona.middle, 0), (persona.middle, over), (judge.middle, over)]
    arrow(axes, [*path, (judge.middle, 0)])
    told = "the critic reads the pair $(\\hat{p}, \\hat{r})$"
    axes.text(response.middle, over + 0.06, told, ha="center", va="bottom", fontsize=9)
    arrow(axes, [(judge.middle, judge.bottom), (pay.middle, pay.top)])
    told = f"P, float32 [{sizes['score']}]"
    between = (judge.bottom + pay.top) / 2
    axes.text(pay.middle + 0.1, between, told, va="center", fontsize=9)
    under = min(box.bottom for box in boxes.values()) - 0.3
    for box, policy, kind in zip(
        paid, (persona, response), ("persona", "response"), strict=True
    ):
        if settings[f"train_{kind}"]:
            path = [(pay.middle, pay.bottom), (pay.middle, under), (box.middle, under)]
            arrow(axes, [*path, (box.middle, box.bottom)])
            arrow(axes, [(box.middle, box.top), (policy.middle, policy.bottom)])
    told = "the same advantage $A$ to whoever learns"
    axes.text(response.right + 0.1, under - 0.06, told, va="top", fontsize=9)
    return figure


def _written(folder: Path, name: str, figure: Figure, told: str, head, lines):
    """NAME.png, NAME.svg, and what stands in it as NAME.md and NAME.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg, markdown, numbers = (
        folder / f"{name}.{ending}" for ending in ("png", "svg", "md", "csv")
    )
    save(figure, png, dpi=DPI)
    save(figure, svg)
    title = f"# Figure {name[-1]}"
    parts = [title, told, f"![{told}]({png.name})", table(head, lines, texts=2)]
    write_text(markdown, printable("\n\n".join(parts)) + "\n")
    write_text(numbers, comma_separated([head, *lines]))
    return [png, svg, markdown, numbers]
