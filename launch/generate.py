"""Answers JSON lines, in order; a killed run goes on where it was.

python -m launch.generate --workdir=RUN --input=in.jsonl --output=out.jsonl
... | python -m launch.generate --workdir=RUN --input=- --output=- --chunk=1 | ...

A line {"id": .., "self_persona": [..], "context": [..]} comes back with the inferred
`partner_persona`, the `response` and their log-probabilities (the details are in
ppg_jax/serve/generate.py). Exit code 1: all is written, some lines are error records.
"""

from absl import flags

from ppg_jax.launching import main
from ppg_jax.serve import flags as serve_flags
from ppg_jax.serve import generate

_INPUT = flags.DEFINE_string("input", None, "JSON lines; - is stdin.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON lines; - is stdout.")
_CHUNK = flags.DEFINE_integer(
    "chunk",
    None,
    "Lines to answer before writing; by default 8 batches, 64 or more.",
    1,
)


def program() -> int:
    config, workdir = serve_flags.parsed()
    asked = generate.Config(_INPUT.value, _OUTPUT.value, config, _CHUNK.value)
    return 1 if generate.run(asked, workdir).errors else 0


if __name__ == "__main__":
    serve_flags.define()
    flags.mark_flags_as_required(["input", "output"])
    main(program)
