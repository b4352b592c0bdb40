"""Talks with a finished run: python -m launch.chat --workdir=RUN [--temperature=0.8]"""

from absl import flags

from ppg_jax.launching import main
from ppg_jax.serve import chat
from ppg_jax.serve import flags as serve_flags

_PERSONA = flags.DEFINE_string(
    "self_persona", chat.Config.self_persona, "Who the model is; | between sentences."
)


def program() -> None:
    config, workdir = serve_flags.parsed()
    chat.run(chat.Config(_PERSONA.value, config), workdir)


if __name__ == "__main__":
    serve_flags.define()
    main(program)
