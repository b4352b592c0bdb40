"""Which of PEFT's adapters are read here: plain LoRA, and what to do with the others.

Adapters of a classifier (`models.classifier`) are of the task SEQ_CLS, or of a class of
transformers that says so.
"""

from pathlib import Path

from ppg_jax.errors import UserError
from ppg_jax.models import adapters
from ppg_jax.models.weight_map import Family

CLASSIFIES = "SEQ_CLS"  # the task_type of a classifier's adapters
_HEADS = ("classifier", adapters.HEAD)  # PEFT names both, whichever a model has
_TEXTS = "ForSequenceClassification"  # ends the name of a classifier in transformers
TABLES = ("embed_tokens", "wte", "lm_head")
MERGE = "merge it into its base with PEFT"
# What an adapter of ours has not, and the value that says so; absent is as good.
PLAIN = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "layer_replication": None,
    "trainable_token_indices": None,
    "lora_bias": False,
    "use_qalora": False,
    "target_parameters": None,
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "kasa_config": None,
    "monteclora_config": None,
    "velora_config": None,
    "use_bdlora": None,
}
# What PEFT cannot merge into a base, or transformers cannot save thereafter.
_UNMERGED = {
    "alora_invocation_tokens",
    "arrow_config",
    "layer_replication",
    "use_qalora",
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "ADAPTION_PROMPT",
    "CPT",
    "CARTRIDGE",
    "XLORA",
}
# Beginnings that change the base, too: the folder's adapters do not fit it as it was.
_OF_ANOTHER_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def _made_in(values: dict) -> str:
    """The class that adapters without a task_type were trained in, "" if not said."""
    mapping = values.get("auto_mapping")
    made = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    return made if isinstance(made, str) else ""


def labels_texts(values: dict) -> bool:
    """Whether a head may belong to the adapters: a classifier's of whole texts."""
    task, made = values.get("task_type"), _made_in(values)
    unknown = task is None and not made
    return unknown or task == CLASSIFIES or (task is None and made.endswith(_TEXTS))


def of_other_task(values: dict, name: str) -> str:
    """Why a head has no place; "" where a head may be, or of another tensor."""
    task, module = values.get("task_type") or _made_in(values), name.split(".")[2:3]
    told = f": they are of {task}, and a classifier here is one of {CLASSIFIES}"
    other = {*module} & {*_HEADS} and not labels_texts(values)
    return told if other else ""


def require_plain(values: dict, path: Path, family: Family) -> None:
    """UserError for what an adapter of ours has not."""
    saved = values.get("modules_to_save")
    if isinstance(saved, list):
        values = values | {"modules_to_save": [m for m in saved if m not in _HEADS]}
    for name, plain in PLAIN.items():
        if ((value := values.get(name)) or plain) != plain:
            raise UserError(
                f"{path}: {name!r} is {value!r}, and only plain LoRA is known "
                f"({plain!r}); {_remedy(name, value, family)}."
            )
    if str(values.get("init_lora_weights")).lower().startswith(_OF_ANOTHER_BASE):
        raise UserError(
            f"{path}: 'init_lora_weights' is {values['init_lora_weights']!r}, which "
            f"changes the base; {MERGE}."
        )


def _remedy(name: str, value, family: Family) -> str:
    """What to do with adapters of another kind: merge them, where that can be."""
    has_biases = any(m.kind == "conv1d" for m in family.modules)
    if name == "lora_bias" and not has_biases:
        return "train without it, for this base has no biases to merge it into"
    if {name, str(value)} & _UNMERGED:
        return "train plain LoRA in its place, for PEFT does not merge this"
    saved = value if name == "modules_to_save" and isinstance(value, list) else []
    if not family.head and any(str(module).endswith(TABLES) for module in saved):
        return (
            "train without these, for merged it would have a head of its own beside "
            "its token table, which a GPT-2 here has not"
        )
    return MERGE
