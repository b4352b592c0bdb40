"""The paper's own numbers, and which rows it shows where, by the names that our configs
give them.

Its Tables 1, 4 and 7 (arXiv 2111.13833); the metric that each number stands beside is
the key.
"""

_RESPONSE_KEYS = ("ppl_token", "bleu", "rouge_parlai")
_PERSONA_KEYS = _RESPONSE_KEYS + ("distinct_1", "distinct_2")

_RESPONSES = {
    "original": {
        "without": (14.70, 0.7502, 16.87),
        "training_only": (14.76, 0.7109, 16.56),
        "full": (14.00, 0.8105, 17.52),
        "gpt2": (17.53, 0.8031, 17.31),
        "transfertransfo": (15.55, 0.7346, 17.02),
        "percvae": (41.43, 0.2400, 13.90),
        "paml": (41.86, 0.4448, 13.83),
        "mtl": (232.1, 0.0570, 9.937),
        "ours_supervised": (13.91, 0.8068, 17.40),
        "ours_persona": (13.80, 0.8293, 17.42),
        "ours_response": (13.17, 0.8391, 17.36),
        "ours": (13.05, 1.0862, 18.11),
    },
    "revised": {
        "without": (14.81, 0.6772, 16.79),
        "training_only": (14.44, 0.7083, 16.43),
        "full": (14.17, 0.6631, 16.64),
        "gpt2": (15.11, 0.6095, 16.59),
        "transfertransfo": (18.32, 0.5534, 16.40),
        "percvae": (42.80, 0.2385, 13.51),
        "mtl": (244.1, 0.0504, 9.916),
        "ours_supervised": (13.88, 0.6583, 17.01),
        "ours": (13.85, 0.7380, 17.47),
    },
}
_PERSONAS = {
    "original": {
        "gold": (None, None, None, 0.003, 0.008),
        "supervised": (56.2, 2.99, 22.5, 0.012, 0.042),
    },
    "revised": {
        "gold": (None, None, None, 0.004, 0.009),
        "supervised": (111, 1.34, 20.8, 0.013, 0.042),
    },
}
_TABLES = {
    "responses": (_RESPONSE_KEYS, _RESPONSES),
    "personas": (_PERSONA_KEYS, _PERSONAS),
}
# Tables 5 and 6: share of votes, in percent, that the second of its rows has won.
VOTES = {
    "table5": {
        "appropriateness": 58,
        "informativeness": 59,
        "engagingness": 60,
        "human-likeness": 58,
    },
    "table6": {
        "coherence": 59,
        "interestingness": 61,
        "engagingness": 56,
        "human-likeness": 53,
    },
}
VOTES_EACH = 600  # 200 instances, three annotators

# What shows which rows, in the paper's order.
SHOWN = {
    "table1": (
        "without",
        "training_only",
        "full",
        "gpt2",
        "transfertransfo",
        "percvae",
        "paml",
        "mtl",
        "mtl_backbone",
        "ours_plain",
        "ours_supervised",
        "ours",
    ),
    "table2": ("full", "ours"),
    "table3": ("supervised",),
    "table4": ("gold", "supervised_plain", "supervised"),
    "table5": ("full", "ours"),
    "table6": ("gold", "supervised"),
    "table7": (
        "ours_supervised",
        "ours_persona",
        "ours_response",
        "ours",
        "ours_last",
        "ours_persona_x10",
        "ours_response_x10",
        "ours_persona_x100",
        "ours_response_x100",
    ),
    "table8": ("supervised",),
    "figure1": ("ours",),
    "figure2": ("ours",),
    "figure3": ("full", "without", "training_only", "ours_supervised", "ours"),
    "figure4": ("ours",),
    # Beyond the paper.
    "exposure": (
        "ours_exposed_gold",
        "ours_exposed_mixed",
        "ours_exposed_generated",
    ),
    "rewards": (
        "ours_supervised",
        "ours_last",
        "ours_no_baseline",
        "ours_no_kl",
        "ours_bare",
        "ours_traits",
    ),
    "traits": ("supervised", "reinforced_last", "reinforced_traits"),
}
# The rows whose personas are decoded as the paper has it, where others are not.
AS_GENERATED = ("ours_plain", "supervised_plain")
# A row whose reward is scaled -> the same row without that (Table 7).
SCALED = {
    f"ours_{policy}_x{factor}": "ours_last"
    for policy in ("persona", "response")
    for factor in (10, 100)
}
# What REINFORCE begins with, and the rows that it made of it.
OF_NO_CRITIC = ("ours_traits",)  # of these, whose reward is none
REINFORCED = tuple(dict.fromkeys((*SHOWN["table7"], *SHOWN["rewards"])))


def numbers(kind: str, version: str, name: str) -> dict[str, float]:
    """{metric: the paper's} of a row; empty where the paper has no such row.

    kind: "responses" or "personas"; version: of the personas, original or revised.
    """
    keys, tables = _TABLES[kind]
    row = tables[version].get(name)
    if row is None:
        return {}
    return {k: v for k, v in zip(keys, row, strict=True) if v is not None}
