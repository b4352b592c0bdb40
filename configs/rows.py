"""The paper's rows, for the configs whose stages have the names used here."""

from ppg_jax.systems.generators import Generators, PersonaGenerator
from ppg_jax.systems.system import BEST_CONTROL, System


def paper_rows() -> dict[str, System]:
    """E2E three times, ours with and without RL (Table 1), the generator (Table 4)."""
    return {
        "without": Generators("E2E without partner personas", "response_without"),
        "training_only": Generators(
            "E2E, partner personas in training only", "response", told="none"
        ),
        "full": Generators(
            "E2E, gold partner personas",
            "response",
            against=("without", "ours_supervised"),
        ),
        "ours_supervised": Generators(
            "Ours without RL",
            "response",
            persona="persona",
            against=("without", "training_only", BEST_CONTROL),
        ),
        "ours": Generators(
            "Ours with RL",
            "reinforce/model_response",
            persona="reinforce/model_persona",
            against=("ours_supervised",),
        ),
        "supervised": PersonaGenerator(
            "Generator without RL", "persona", against=(BEST_CONTROL,)
        ),
        "reinforced": PersonaGenerator(
            "Generator with RL", "reinforce/model_persona", against=("supervised",)
        ),
    }
