"""Partner Personas Generation for Dialogue Response Generation, in JAX.

>>> import ppg_jax
>>> pipeline = ppg_jax.Pipeline.load("runs/quickstart")
>>> reply = pipeline.reply(["i have two dogs."], ["hi ! what do you do for a living ?"])

Nothing heavy is imported until `Pipeline` is asked for.
"""

__version__ = "0.1.0"
__all__ = ["Pipeline"]


def __getattr__(name):
    if name == "Pipeline":
        from ppg_jax.inference.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module 'ppg_jax' has no attribute {name!r}")
