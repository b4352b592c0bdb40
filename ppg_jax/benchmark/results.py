"""What the races found: one JSON file, from which the table and the figure are made.

A row that is run again against the same peers replaces its old record, so suites can be
run one by one.
"""

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from ppg_jax.benchmark import figures, flops
from ppg_jax.benchmark.race import Result, largest_difference, ratio
from ppg_jax.benchmark.suites import FORMS, LIKE_FOR_LIKE, OURS
from ppg_jax.files import understood, write_json

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "torch",
    "transformers",
    "peft",
    "ctranslate2",
    "llama_cpp_python",
    "openvino",
    "openvino_genai",
    "nncf",
    "numpy",
)


def record(
    name: str,
    results: Mapping[str, Result],
    instances: int,
    settings,
    need: flops.Need | None = None,
) -> dict:
    """One race as plain values.  settings: what a reader needs to repeat it.

    need: what a lap has to compute, where that is known. From it, tokens_per_second: of
    the instances, each with its own prompt, for all contestants alike, however few of
    them one computes; and mfu: the share of the device's peak that goes into what the
    contestant's own form needs (`flops.forward_flops`), shared prefixes once for ours
    and like for like. None where it is not known.
    """
    ours, found, products = results[OURS], machine(), _products(settings)
    contestants, cores = {}, found["cores"]
    for contestant, result in results.items():
        contestants[contestant] = {
            "seconds": [lap.seconds for lap in result.laps],
            "cpu_seconds": [lap.cpu_seconds for lap in result.laps],
            "median_seconds": result.median,
            "instances_per_second": instances / result.median,
            "setup_seconds": result.setup_seconds,
            "check_seconds": result.check_seconds,
            "first_seconds": result.first_lap.seconds,
            "peak_bytes": result.peak_bytes,
            "device_peak_bytes": result.device_peak_bytes,
            **_use(contestant, result, need, flops.peak(found["device"], products)),
        }
        if contestant != OURS:
            contestants[contestant] |= {
                "ratio": ratio(ours, result),
                "cpu_ratio": ratio(ours, result, cpu=True),
                "differences": largest_difference(ours, result),
            }
    return {
        "name": name,
        "instances": instances,
        "settings": settings,
        "products": products,
        "versions": versions(),
        "machine": found | {"cores": min(settings.get("threads") or cores, cores)},
        "contestants": contestants,
    }


def parity_record(name: str, contestants: Mapping[str, dict], settings) -> dict:
    """How far each contestant's results are from ours, as plain values; None of what
    no number says, as of results of another shape."""
    for found in contestants.values():
        far = found["differences"].items()
        found["differences"] = {k: d if math.isfinite(d) else None for k, d in far}
    return {
        "name": name,
        "settings": settings,
        "products": _products(settings),
        "versions": versions(),
        "machine": machine(),
        "contestants": contestants,
    }


def _products(settings: Mapping) -> str:
    kinds = (settings.get(name, "float32") for name in ("dtype", "weights"))
    return flops.products(*kinds)


def _use(name: str, result: Result, need: flops.Need | None, peak) -> dict:
    """What a contestant makes of the device."""
    told = dict.fromkeys(("tokens_per_second", "flops", "flops_per_second", "mfu"))
    if need is None:
        return told
    shared = name == OURS or name.endswith(LIKE_FOR_LIKE)
    count = need.flops[FORMS[LIKE_FOR_LIKE] if shared else "instance"]
    told["tokens_per_second"] = need.tokens / result.median
    told["flops"], told["flops_per_second"] = count, count / result.median
    if peak:
        told["mfu"] = count / result.median / peak
    return told


def versions() -> dict[str, str]:
    """Of Python and of each package that is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict:
    """The processor, the accelerator, and who allocates memory, by its settings."""
    import jax

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    device = jax.devices()[0]
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "platform": device.platform,
        "device": device.device_kind,
        "allocator": {
            name: " ".join(Path(word).name for word in value.split())
            for name, value in sorted(os.environ.items())
            if name in ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_CONF")
            or name.startswith("TCMALLOC_")
        },
    }


def load(file: Path) -> list[dict]:
    """The records so far; UserError where the file holds something else."""
    if not file.exists():
        return []
    with understood(file, "move it away."):
        records = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(records, list) or any("name" not in r for r in records):
            raise ValueError("no list of races")
        return records


def add(file: Path, new: dict) -> list[dict]:
    """Adds a record to a file, or replaces that of the same name and contestants."""

    def same(old: dict) -> bool:
        names = [{*each.get("contestants", ())} for each in (old, new)]
        return old["name"] == new["name"] and names[0] == names[1]

    records = load(file)
    at = [i for i, old in enumerate(records) if same(old)]
    records = [r for i, r in enumerate(records) if i not in at]
    records.insert(at[0] if at else len(records), new)
    write_json(file, records)
    return records


def save(folder: Path, new: dict) -> list[dict]:
    """Adds a race to benchmark.json; writes table and figure beside."""
    records = add(folder / "benchmark.json", new)
    (folder / "benchmark.md").write_text(table(records), encoding="utf-8")
    figures.draw(records, folder / "benchmark.png")
    return records


def table(records: Sequence[dict]) -> str:
    """The records as a Markdown table; ratios with the interval of their median."""
    head = [
        "work",
        "contestant",
        "instances/s",
        "times ours",
        "CPU time",
        "check",
        "first",
        "peak GiB",
        "device",
        "tokens/s",
        "MFU",
    ]
    rows = []
    for entry in records:
        for name, c in entry["contestants"].items():
            versus, cpu = "", ""
            if "ratio" in c:
                value, low, high, confidence = c["ratio"]
                versus = f"{value:.2f} ({low:.2f} to {high:.2f}, {confidence:.0%})"
                cpu = f"{c['cpu_ratio'][0]:.2f}"
            rows.append(
                [
                    entry["name"],
                    name,
                    f"{c['instances_per_second']:.3g}",
                    versus,
                    cpu,
                    _seconds(c.get("check_seconds")),
                    _seconds(c["first_seconds"]),
                    _gib(c["peak_bytes"]),
                    _gib(c.get("device_peak_bytes")),
                    *_use_cells(c),
                ]
            )
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _seconds(taken: float | None) -> str:
    return "" if taken is None else f"{taken:.1f} s"


def _gib(count: int | None) -> str:
    """Empty where there is no device but the CPU."""
    return f"{count / 2**30:.2f}" if count else ""


def _use_cells(contestant: dict) -> tuple[str, str]:
    """Empty where it is not known, as in records of races before it was counted."""
    tokens, mfu = contestant.get("tokens_per_second"), contestant.get("mfu")
    return f"{tokens:,.0f}" if tokens else "", f"{100 * mfu:.1f} %" if mfu else ""
