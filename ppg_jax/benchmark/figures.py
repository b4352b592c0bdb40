"""Pictures of what the races found, in words and with numbers at the points."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

OURS_FASTER, PEER_FASTER = "#0072b2", "#d55e00"
WORK = {
    "train response": "train the response generator",
    "train persona": "train the persona generator",
    "score response": "score responses",
    "score persona": "score personas",
    "generate, greedy": "answer (persona, response), greedy",
    "generate, nucleus": "answer (persona, response), nucleus",
    "reinforce": "update both generators by REINFORCE",
}
PEERS = {
    "torch_eager": "transformers",
    "torch_compile": "torch.compile",
    "ctranslate2": "CTranslate2",
    "llama_cpp": "llama.cpp",
    "openvino": "OpenVINO",
}


def draw(records: Sequence[dict], path: Path) -> None:
    """Each peer's time over ours, a dot and its interval; right of 1 we are faster."""
    bars = [
        (_work(r["name"]) + "\n" + _peer(name), c["ratio"])
        for r in records
        for name, c in r["contestants"].items()
        if "ratio" in c
    ]
    if not bars:
        return
    height = 1.8 + 0.5 * len(bars)
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    for at, (_, (ratio, low, high, _)) in enumerate(bars):
        axes.errorbar(
            ratio,
            at,
            xerr=[[ratio - low], [high - ratio]],
            fmt="o",
            color=OURS_FASTER if ratio >= 1 else PEER_FASTER,
            capsize=3,
        )
        told = f"{ratio:.2f}"
        axes.annotate(told, (high, at), (6, 0), textcoords="offset points", va="center")
    axes.axvline(1, color="#999999", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.5, 1, 2, 4, 8, 16], ["0.5", "1", "2", "4", "8", "16"])
    lowest, highest = (f(b[i] for _, b in bars) for f, i in ((min, 1), (max, 2)))
    axes.set_xlim(0.5 * min(1.0, lowest), 1.6 * max(15.0, highest))  # room for numbers
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_yticks(range(len(bars)), [label for label, _ in bars])
    axes.set_xlabel("time of the peer / time of ppg_jax, median and its interval")
    axes.grid(axis="x", color="#e4e4e4")
    figure.suptitle(
        "How many times as fast as others, on " + _machines(records), fontsize=11
    )
    for color, told in (
        (OURS_FASTER, "ppg_jax is faster"),
        (PEER_FASTER, "the peer is faster"),
    ):
        axes.plot([], [], "o", color=color, label=told)
    figure.legend(frameon=False, ncols=2, loc="outside lower center")
    figure.savefig(path, dpi=150)


def _work(name: str) -> str:
    """As a record calls it, in words; what follows the name stays."""
    for known, words in WORK.items():
        if name == known or name.startswith((f"{known},", f"{known} ")):
            return words + name.removeprefix(known)
    return name


def _peer(name: str) -> str:
    """llama_cpp_q8_0, user's work -> llama.cpp Q8_0, user's work."""
    peer, comma, form = name.partition(", ")
    for known, words in PEERS.items():
        if peer == known or peer.startswith(f"{known}_"):
            kind = peer.removeprefix(known).removeprefix("_")
            kind = kind.upper() if kind.startswith("q") else kind
            return f"{words} {kind}".rstrip() + comma + form
    return name


def _machines(records: Sequence[dict]) -> str:
    """The processors that the records are of."""
    found = []
    for machine in (r["machine"] for r in records):
        on_cpu = machine["platform"] == "cpu"
        cores = f"{machine['cores']} cores, {machine['cpu']}"
        found.append(cores if on_cpu else machine["device"])
    return " and ".join(dict.fromkeys(found))


def draw_curve(records: Sequence[dict], field: str, path: Path) -> None:
    """Milliseconds per instance against a swept setting, one line a contestant."""
    names = list(dict.fromkeys(n for r in records for n in r["contestants"]))
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for marker, name in zip("os^Dv<>P*X", names, strict=False):
        points = [
            (r["settings"][field], 1e3 / r["contestants"][name]["instances_per_second"])
            for r in records
            if name in r["contestants"]
        ]
        axes.plot(*zip(*points, strict=True), marker=marker, label=name)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if all(isinstance(r["settings"][field], int) for r in records):
        axes.set_xscale("log", base=2)
        values = [r["settings"][field] for r in records]
        axes.set_xticks(values, [str(v) for v in values])
    axes.set_xlabel(field)
    axes.set_ylabel("milliseconds per instance")
    axes.set_title(records[0]["name"].split(" [")[0], loc="left")
    axes.grid(color="#e4e4e4")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
