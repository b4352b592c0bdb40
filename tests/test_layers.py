"""The tree's promises: who may import whom, and how soon `import ppg_jax` is done."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module imports only from lines above its own. A new module needs a place here.
LAYERS = (
    "errors models.product",
    "files",
    "assets config data.dialogue data.persona_world_traits launching "
    "losses metrics.bleu_rouge metrics.distinct metrics.overlap metrics.ppl "
    "metrics.significance data.retrieval models.quantize models.weight_map rewards run_log sampling "
    "train_state",
    "data.audit data.persona_world data.personachat data.prompts "
    "models.attention models.dense models.hub",
    "models.distilbert models.gpt2",
    "checkpoint controls data.batching data.corpus generation",
    "data.tokenization data.pairs run_dir",
    "models.pretrained",
    "judge rollouts scoring results training",
    "figures pipeline",
    "report serve.flags",
    "chat critic evaluate export generate reinforce supervised",  # the stages
    "experiment benchmark.attention benchmark.plan benchmark.products benchmark.race "
    "benchmark.workload",
    "benchmark.flops benchmark.ours",
    "benchmark.ctranslate2 benchmark.pytorch",
    "benchmark.suites",
    "benchmark.parity benchmark.results",
    "benchmark.gpu_plan benchmark.measure",
)
LEVELS = {
    f"ppg_jax.{name}": level
    for level, names in enumerate(LAYERS)
    for name in names.split()
}

# Third-party packages whose changes must have one address.
ADDRESSES = {
    "flax.linen": ("ppg_jax.models.",),
    "orbax": ("ppg_jax.checkpoint",),
    "transformers": ("ppg_jax.data.tokenization", "ppg_jax.benchmark.pytorch"),
    "torch": ("ppg_jax.benchmark.pytorch", "ppg_jax.benchmark.products"),
    "ctranslate2": ("ppg_jax.benchmark.ctranslate2",),
}


def modules() -> dict[str, ast.Module]:
    """Module name -> syntax tree, for each file with code in it."""
    trees = {}
    for path in sorted((ROOT / "ppg_jax").rglob("*.py")):
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


def upward(name: str, tree: ast.Module) -> list[str]:
    targets = sorted(imported(tree) & LEVELS.keys())
    return [f"{name} -> {t}" for t in targets if LEVELS[t] >= LEVELS[name]]


def strays(name: str, tree: ast.Module) -> list[str]:
    found = []
    for package, homes in ADDRESSES.items():
        uses = any(f"{n}.".startswith(f"{package}.") for n in imported(tree))
        if uses and not name.startswith(homes):
            found.append(f"{name} -> {package}")
    return found


def test_every_module_has_a_layer():
    assert sorted(modules().keys() - LEVELS.keys()) == []


def test_a_module_imports_only_from_strictly_lower_layers():
    known = {name: tree for name, tree in modules().items() if name in LEVELS}
    assert [pair for name, tree in known.items() for pair in upward(name, tree)] == []


def test_an_api_break_of_a_package_has_one_address():
    found = modules().items()
    assert [pair for name, tree in found for pair in strays(name, tree)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import ppg_jax.supervised",
        "from ppg_jax import supervised",
        "from ppg_jax.supervised import run",
        "def f():\n    from ppg_jax import supervised",
    ],
)
def test_the_pair_that_breaks_the_law_is_named(code):
    pair = "ppg_jax.losses -> ppg_jax.supervised"
    assert upward("ppg_jax.losses", ast.parse(code)) == [pair]
    assert upward("ppg_jax.experiment", ast.parse(code)) == []


def test_a_package_outside_its_address_is_named():
    tree = ast.parse("from flax import linen as nn, struct\nimport orbax.checkpoint")
    assert strays("ppg_jax.losses", tree) == [
        "ppg_jax.losses -> flax.linen",
        "ppg_jax.losses -> orbax",
    ]
    assert strays("ppg_jax.models.gpt2", ast.parse("import flax.linen as nn")) == []
    assert strays("ppg_jax.losses", ast.parse("import flax.struct")) == []


def test_importing_the_package_is_quick_and_starts_no_jax():
    code = (
        "import sys, time; began = time.process_time(); import ppg_jax; "
        "seconds = time.process_time() - began; "
        "heavy = {'jax', 'flax', 'numpy', 'transformers'} & sys.modules.keys(); "
        "assert not heavy, heavy; assert seconds < 0.5, seconds"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
