"""Talks with a finished run: python -m launch.chat --workdir=RUN [--temperature=0.8]"""

from absl import flags

from ppg_jax import chat, pipeline
from ppg_jax.launching import main

_PERSONA = flags.DEFINE_string(
    "self_persona", chat.Config.self_persona, "Who the model is; | between sentences."
)
_AS_TYPED = flags.DEFINE_bool("as_typed", False, "Not turned into PersonaChat's form.")


def program() -> None:
    config, workdir = pipeline.from_flags()
    chat.run(chat.Config(_PERSONA.value, _AS_TYPED.value, config), workdir)


if __name__ == "__main__":
    pipeline.define_flags()
    main(program)
