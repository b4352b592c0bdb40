"""Evaluates all finished stages: python -m launch.evaluate --config=... --workdir=...

Writes report.md, report.json and figures/ into the --workdir.
"""

from absl import flags

from ppg_jax import experiment, presets
from ppg_jax.launching import main
from ppg_jax.report import report, reproduced, words
from ppg_jax.stages import evaluate

CONVERSATIONS = flags.DEFINE_integer(
    "conversations", 0, "Print so many unselected conversations at the end.", 0
)


def program():
    config, workdir = experiment.from_flags()
    experiment.require_finished(config, workdir)
    reproduced.tell_as_made(config.stages, workdir)
    with experiment.written(config, workdir):
        evaluate.run(config.evaluate, workdir, config.systems)
    print(report.write_report(workdir, config.evaluate.title, config.evaluate.paper))
    if CONVERSATIONS.value:
        print(words.conversations(workdir, CONVERSATIONS.value, config.evaluate.seed))


if __name__ == "__main__":
    presets.define_flags()
    main(program)
