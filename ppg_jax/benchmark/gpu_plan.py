"""What is measured on a GPU, as programs for `ppg_jax.benchmark.plan`.

These are the programs of `launch/`, called from the repository's root.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence

from ppg_jax.benchmark import plan, suites

# Instances of a lap, then how many at once: dialogues, contexts or pairs, and instances
# of PyTorch. Few shapes, for XLA compiles a program for each.
LAPS = {
    "train": (448, 64, 64),
    "score": (448, 64, 64),
    "generate": (512, 512, 512),
    "reinforce": (64, 64, 64),
    "critic": (512, 256, 256),
}
TRIAL_LAP = (8, 4, 4)
DTYPES = ("bfloat16", "float32")
# One of each suite, and then what is left of the suites.
FIRST = (
    "train response",
    "generate, greedy",
    "reinforce",
    "score response",
    "train critic",
)
REST = tuple(row.name for row in suites.ROWS if row.name not in FIRST)
# float32 in full: the GPU would otherwise round its factors to ten bits.
FULL = {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "NVIDIA_TF32_OVERRIDE": "0"}


@dataclasses.dataclass(frozen=True)
class GpuPlan:
    """What is to be measured, in order; the programs write into the folder `output`.

    torch: whether PyTorch is there to race. trial: the same in a size for a CPU.
    """

    source: str
    gpt2_tokenizer: str
    bert_tokenizer: str
    output: str
    models: str
    torch: bool
    trial: bool

    def entries(self) -> Iterator[plan.Entry]:
        """What compiles for the others, then the most telling first."""
        sizes = ("tiny", "tiny") if self.trial else ("small", "medium")
        first, rest = DTYPES
        yield from self._alone(FIRST, sizes[0], first)
        yield from self._races(FIRST, sizes[0], first, "torch_eager")
        yield self._attention(first)
        yield from self._parity()
        yield from self._races(REST, sizes[0], first, "torch_eager")
        yield from self._races(FIRST, sizes[0], rest, "torch_eager")
        yield self._attention(rest)
        if self.torch:
            yield from self._races(FIRST[:2], sizes[0], first, "torch_compile")
        yield from self._races(REST, sizes[0], rest, "torch_eager")
        if not self.trial:
            yield from self._races(FIRST[:3], sizes[1], first, "torch_eager")
        if self.torch:
            yield from self._races(FIRST[2:], sizes[0], first, "torch_compile")

    def _program(self, name: str, *options) -> list[str]:
        return [
            sys.executable,
            "-m",
            f"launch.{name}",
            f"--output={self.output}",
            *options,
        ]

    def _benchmark(self, *options) -> list[str]:
        return self._program(
            "benchmark",
            f"--source={self.source}",
            f"--gpt2_tokenizer={self.gpt2_tokenizer}",
            f"--bert_tokenizer={self.bert_tokenizer}",
            f"--models={self.models}",
            "--threads=0",
            *options,
        )

    def _parity(self) -> Iterator[plan.Entry]:
        """All rows in float32, a small model, nothing timed."""
        options = [f"--model={'tiny' if self.trial else 'mini'}", *_lap(*TRIAL_LAP)]
        peer = "torch_eager" if self.torch else "none"
        for suite in suites.SUITES:
            command = self._benchmark(
                f"--suite={suite}", "--rounds=0", f"--peer={peer}", *options
            )
            name = "parity" if self.torch else "once, with nothing to compare"
            yield plan.Entry(f"{suite}, {name}", command, FULL)

    def _alone(
        self, names: Sequence[str], size: str, dtype: str
    ) -> Iterator[plan.Entry]:
        """Ours without a peer: what it compiles stays in the compile cache."""
        for row in names:
            folder = f"--output={self.output}/alone/{row.replace(', ', '_')}"
            command = [
                *self._row(row, size, dtype),
                "--peer=none",
                "--rounds=1",
                folder,
            ]
            yield plan.Entry(f"{row}, {size}, {dtype}, alone", command, together=True)

    def _races(
        self, names: Sequence[str], size: str, dtype: str, peer: str
    ) -> Iterator[plan.Entry]:
        compiled = peer == "torch_compile"
        label = f"{size}, {dtype}" + (", compiled" if compiled else "")
        # PyTorch's compiler takes a minute where ours takes seconds.
        least, most = (60, 240) if compiled else (30, 150)
        for row in names:
            options = [
                f"--peer={peer if self.torch else 'none'}",
                f"--label={label}",
                f"--rounds={1 if self.trial else 7}",
            ]
            command = [*self._row(row, size, dtype), *options]
            yield plan.Entry(f"{row}, {label}", command, least=least, most=most)

    def _row(self, name: str, size: str, dtype: str) -> list[str]:
        suite = next(row.suite for row in suites.ROWS if row.name == name)
        return self._benchmark(
            f"--suite={suite}",
            f"--row={name}",
            f"--model={size}",
            f"--dtype={dtype}",
            # As one loads a model to generate with it.
            *([f"--weights={dtype}"] if suite == "generate" and not self.trial else []),
            *_lap(*TRIAL_LAP if self.trial else LAPS[suite]),
        )

    def _attention(self, dtype: str) -> plan.Entry:
        options = ["--trial"] if self.trial else []
        command = self._program("benchmark_attention", f"--dtype={dtype}", *options)
        return plan.Entry(f"attention, {dtype}", command)


def _lap(instances: int, at_once: int, micro_batch: int) -> list[str]:
    return [
        f"--instances={instances}",
        f"--batch_size={at_once}",
        f"--micro_batch={micro_batch}",
    ]
