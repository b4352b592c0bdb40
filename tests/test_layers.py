"""The tree's promises: who may import whom, where a package is used, how large."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Folders and files in the order in which text flows. A file imports only from places
# above its own; inside a folder there is no circle. A new file needs no entry.
PLACES = (
    "ppg_jax.errors",
    "ppg_jax.losses",
    "ppg_jax.metrics",
    "ppg_jax.files",
    "ppg_jax.config",
    "ppg_jax.assets",
    "ppg_jax.launching",
    "ppg_jax.presets",
    "ppg_jax.data",
    "ppg_jax.training",
    "ppg_jax.run_dir",
    "ppg_jax.models",
    "ppg_jax.inference",
    "ppg_jax.report",
    "ppg_jax.rl",
    "ppg_jax.systems",
    "ppg_jax.serve",
    "ppg_jax.stages",
    "ppg_jax.experiment",
    "ppg_jax.benchmark",
    "ppg_jax.command",
    "ppg_jax.__main__",
    "configs",
    "launch",
)

# What must have one address: packages whose changes break us, and files whose form one
# module knows.
ADDRESSES = {
    "flax.linen": ("ppg_jax.models.",),
    "gguf": ("ppg_jax.models.gguf", "ppg_jax.benchmark.llama_cpp_gguf"),
    "orbax": ("ppg_jax.training.checkpoint",),
    "transformers": (
        "ppg_jax.data.tokenization",
        "ppg_jax.benchmark.pytorch",
        "ppg_jax.benchmark.openvino_ir",
    ),
    "torch": (
        "ppg_jax.benchmark.pytorch",
        "ppg_jax.benchmark.products",
        "ppg_jax.benchmark.openvino_ir",
    ),
    "peft": ("ppg_jax.benchmark.pytorch",),
    "ctranslate2": ("ppg_jax.benchmark.ctranslate2",),
    "llama_cpp": ("ppg_jax.benchmark.llama_cpp",),
    "openvino": ("ppg_jax.benchmark.openvino",),
    "openvino_genai": ("ppg_jax.benchmark.openvino",),
    "nncf": ("ppg_jax.benchmark.openvino_ir",),
    "absl.flags": (
        "launch.",
        "ppg_jax.launching",
        "ppg_jax.presets",
    )
    + ("ppg_jax.serve.flags",),
}
TEXTS = {
    "result.json": "ppg_jax.run_dir",
    "fingerprint.json": "ppg_jax.run_dir",
}

# Names of stages and rows stand where they are made, and where the paper's numbers of
# them are; nobody else may know them.
NAMES = {
    "response_without": {"ppg_jax.experiment"},
    "response_top3": set(),
    "dialogue_without": set(),
    "ours_supervised": {"ppg_jax.experiment", "ppg_jax.report.paper"},
    "training_only": {"ppg_jax.experiment", "ppg_jax.report.paper"},
    "model_persona": set(),
    "critic_scratch": set(),
    "critic_backbone": set(),
}

# Lines. These lists may only shrink.
LONGEST_FUNCTION, LONGEST_FILE = 60, 350
LONG_FILES = {
    "ppg_jax.data.persona_world": 484,
    "ppg_jax.data.persona_world_traits": 1262,  # data
}


def modules() -> dict[str, ast.Module]:
    """Module name -> syntax tree, for each file with code in it."""
    trees = {}
    for folder in ("ppg_jax", "configs", "launch"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if tree.body and name != "ppg_jax.__init__":
                trees[name] = tree
    return trees


def imported(tree: ast.AST) -> set[str]:
    """All dotted names that are imported, inside functions too.

    `from a import b` gives both a and a.b: b may be a module.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides what is imported"
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return names


def place(name: str) -> str | None:
    """The place of a module, or None for a package that is not ours."""
    top = ".".join(name.split(".")[:2]) if name.startswith("ppg_jax.") else name
    top = top if top.startswith("ppg_jax.") else top.split(".")[0]
    return top if top in PLACES or top.startswith("ppg_jax.") else None


def edges(trees: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """(module, module) of ours that it imports."""
    return {(a, b) for a, tree in trees.items() for b in imported(tree) & trees.keys()}


def upward(name: str, tree: ast.Module) -> list[str]:
    """The imports that go to a place below, or beside, in the list."""
    own, found = PLACES.index(place(name)), []
    for target in sorted(imported(tree)):
        there = place(target)
        if there in PLACES and there != place(name) and PLACES.index(there) > own:
            found.append(f"{name} -> {target}")
    return found


def strays(name: str, tree: ast.Module) -> list[str]:
    found = []
    for package, homes in ADDRESSES.items():
        uses = any(f"{n}.".startswith(f"{package}.") for n in imported(tree))
        if uses and not name.startswith(homes):
            found.append(f"{name} -> {package}")
    return found


def circles(trees: dict[str, ast.Module]) -> list[str]:
    """Modules that can be reached from themselves."""
    after: dict[str, set[str]] = {}
    for a, b in edges(trees):
        after.setdefault(a, set()).add(b)

    def reached(start: str) -> set[str]:
        seen, ahead = set(), [start]
        while ahead:
            new = after.get(ahead.pop(), set()) - seen
            seen |= new
            ahead += new
        return seen

    return sorted(name for name in trees if name in reached(name))


def strings(tree: ast.AST) -> Iterator[str]:
    """The string literals of code; docstrings are prose."""
    bodies = (getattr(node, "body", None) for node in ast.walk(tree))
    first = [b[0] for b in bodies if isinstance(b, list) and b]
    prose = {id(e.value) for e in first if isinstance(e, ast.Expr)}
    for node in ast.walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text and id(node) not in prose:
            yield node.value


def lines(name: str) -> int:
    path = ROOT / Path(*name.split(".")).with_suffix(".py")
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_module_has_a_place():
    assert sorted(n for n in modules() if place(n) not in PLACES) == []
    assert len(PLACES) <= 24


def test_a_module_imports_only_from_places_above_its_own():
    found = modules().items()
    assert [pair for name, tree in found for pair in upward(name, tree)] == []


def test_there_is_no_circle():
    assert circles(modules()) == []


def test_few_imports_join_the_places():
    joined = {(place(a), place(b)) for a, b in edges(modules())}
    assert len({(a, b) for a, b in joined if a != b}) <= 100


@pytest.mark.parametrize("folder", ["stages", "systems"])
def test_a_stage_imports_no_stage_and_a_system_no_system(folder):
    inside = {n for n in modules() if n.startswith(f"ppg_jax.{folder}.")}
    shared = {"ppg_jax.systems.system"}  # the protocol
    pairs = [(a, b) for a, b in edges(modules()) if {a, b} <= inside]
    assert [pair for pair in pairs if pair[1] not in shared] == []


def test_an_api_break_of_a_package_has_one_address():
    found = modules().items()
    assert [pair for name, tree in found for pair in strays(name, tree)] == []


@pytest.mark.parametrize("text", TEXTS)
def test_a_file_that_many_read_is_named_in_one_module(text):
    using = {n for n, tree in modules().items() if text in strings(tree)}
    assert using == {TEXTS[text]}


@pytest.mark.parametrize("text", NAMES)
def test_a_stage_or_row_is_named_by_configs_alone(text):
    trees = {n: t for n, t in modules().items() if n.startswith("ppg_jax.")}
    assert {n for n, tree in trees.items() if text in strings(tree)} == NAMES[text]


def test_functions_and_files_stay_small():
    for name, tree in modules().items():
        assert lines(name) <= LONG_FILES.get(name, LONGEST_FILE), name
        for node in ast.walk(tree):
            # A config is a list of settings.
            if isinstance(node, ast.FunctionDef) and node.name != "get_config":
                length = node.end_lineno - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{name}.{node.name}: {length}"


@pytest.mark.parametrize(
    "code",
    [
        "import ppg_jax.stages.supervised",
        "from ppg_jax.stages import supervised",
        "from ppg_jax.stages.supervised import run",
        "def f():\n    from ppg_jax.stages import supervised",
    ],
)
def test_the_pair_that_breaks_the_law_is_named(code):
    found = upward("ppg_jax.losses", ast.parse(code))
    assert found and all(
        pair.startswith("ppg_jax.losses -> ppg_jax.stages") for pair in found
    )
    assert upward("ppg_jax.experiment", ast.parse(code)) == []


def test_a_circle_is_named():
    trees = {"a": ast.parse("import b"), "b": ast.parse("import c, d")}
    trees |= {"c": ast.parse("from a import x"), "d": ast.parse("import e")}
    assert circles(trees) == ["a", "b", "c"]


def test_a_package_outside_its_address_is_named():
    tree = ast.parse("from flax import linen as nn, struct\nimport orbax.checkpoint")
    assert strays("ppg_jax.losses", tree) == [
        "ppg_jax.losses -> flax.linen",
        "ppg_jax.losses -> orbax",
    ]
    assert strays("ppg_jax.models.gpt2", ast.parse("import flax.linen as nn")) == []
    assert strays("ppg_jax.losses", ast.parse("import flax.struct")) == []


def in_a_fresh_process(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_importing_the_package_is_quick_and_starts_no_jax():
    in_a_fresh_process(
        "import sys, time; began = time.process_time(); import ppg_jax; "
        "seconds = time.process_time() - began; "
        "heavy = {'jax', 'flax', 'numpy', 'transformers'} & sys.modules.keys(); "
        "assert not heavy, heavy; assert seconds < 0.5, seconds"
    )


def test_a_report_needs_no_jax():
    in_a_fresh_process(
        "import sys, ppg_jax.report.report; "
        "heavy = {'jax', 'orbax', 'tensorboardX', 'torch'} & sys.modules.keys(); "
        "assert not heavy, heavy"
    )


def test_importing_every_module_starts_no_backend():
    """Once it has started, nobody can say how many devices it has."""
    names = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "ppg_jax").rglob("*.py")
        if path.name != "__main__.py" and "benchmark" not in path.parts
    )
    in_a_fresh_process(
        f"import importlib\nfor name in {names}: importlib.import_module(name)\n"
        "import jax; jax.config.update('jax_num_cpu_devices', 3); "
        "assert jax.local_device_count() == 3"
    )
