"""Partner Personas Generation for Dialogue Response Generation, in JAX.

>>> import ppg_jax
>>> pipeline = ppg_jax.Pipeline.load("runs/quickstart")
>>> reply = pipeline.reply(["i have two dogs."], ["hi ! what do you do for a living ?"])

Nothing heavy is imported until `Pipeline` or `Request` is asked for. Bad input is a
`UserError` of one line.
"""

import sys

from ppg_jax.errors import UserError as UserError

__version__ = "0.1.0"
__all__ = ["Pipeline", "Request", "UserError"]

if sys.argv[:1] == ["-m"]:  # python -m ppg_jax.SOMETHING, which is not found yet
    from ppg_jax.launching import require_program

    require_program(sys.orig_argv)


def __getattr__(name):
    if name in ("Pipeline", "Request"):
        from ppg_jax.inference import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'ppg_jax' has no attribute {name!r}")
