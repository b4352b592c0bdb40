"""From the predictions of an evaluation to its numbers, intervals and tests.

Everything is a function of the files in a run directory; `report.report` words the
result, `report.figures` draws it. A metric is a statistic of summed per-instance
columns, so each gets its interval and its test from the same few lines; Distinct,
which counts types, gets them from the jackknife. Dialogues are what is resampled.

Differs from the paper: nothing is averaged over runs; the interval is of the test set.
Axes: N instances, K columns.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppg_jax import run_dir
from ppg_jax.errors import UserError
from ppg_jax.files import read_jsonl, read_metrics
from ppg_jax.metrics import bleu_rouge, distinct, ppl, significance
from ppg_jax.metrics.significance import Interval

SEED = 0
RESAMPLES = 1000
PERMUTATIONS = 4999  # enough for the smallest p to survive Holm over 30 tests
LEVEL = 0.95
STAGES = (
    "dialogue",
    "persona",
    "response",
    "response_without",
    "critic",
    "reinforce",
)
BEST_CONTROL = "best control"

# --- What the rows are --------------------------------------------------------

RESPONSE_MODELS = {
    "without": "E2E without partner personas",
    "training_only": "E2E, partner personas in training only",
    "full": "E2E, gold partner personas",
    "ours_supervised": "Ours without RL",
    "ours": "Ours with RL",
}
RESPONSE_CONTROLS = {
    "constant": "control: one reply to all",
    "constant_bleu": "control: one reply, for BLEU",
    "constant_f1": "control: one reply, for F1",
    "copy_last": "control: last utterance again",
    "random": "control: a random reply",
    "retrieval": "control: BM25 reply",
}
PERSONA_MODELS = {
    "supervised": "Generator without RL",
    "reinforced": "Generator with RL",
}
PERSONA_CONTROLS = {
    "constant": "control: one persona for all",
    "random": "control: a random persona",
    "retrieval": "control: BM25 persona",
}
GOLD = {"gold": "Gold personas"}

# PAPER.md, Tables 1 and 4; the metric each figure stands beside is the key.
_KEYS = ("ppl_token", "bleu", "rouge_parlai")
_PERSONA_KEYS = _KEYS + ("distinct_1", "distinct_2")
_PAPER_RESPONSES = {
    "original": {
        "without": (14.70, 0.7502, 16.87),
        "training_only": (14.76, 0.7109, 16.56),
        "full": (14.00, 0.8105, 17.52),
        "ours_supervised": (13.91, 0.8068, 17.40),
        "ours": (13.05, 1.0862, 18.11),
    },
    "revised": {
        "without": (14.81, 0.6772, 16.79),
        "training_only": (14.44, 0.7083, 16.43),
        "full": (14.17, 0.6631, 16.64),
        "ours_supervised": (13.88, 0.6583, 17.01),
        "ours": (13.85, 0.7380, 17.47),
    },
}
_PAPER_PERSONAS = {
    "original": {
        "gold": (None, None, None, 0.003, 0.008),
        "supervised": (56.2, 2.99, 22.5, 0.012, 0.042),
    },
    "revised": {
        "gold": (None, None, None, 0.004, 0.009),
        "supervised": (111, 1.34, 20.8, 0.013, 0.042),
    },
}

# --- What is measured ---------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Metric:
    """One column of a table."""

    heading: str
    digits: int
    better: int  # 1: higher is better, -1: lower is better, 0: neither
    definition: str


METRICS = {
    "ppl_token": Metric(
        "PPL",
        2,
        -1,
        "exp(sum of NLL / sum of tokens) of the gold text, end token counted (ParlAI)",
    ),
    "ppl_sequence": Metric(
        "PPL, per sequence",
        2,
        -1,
        "exp(mean over instances of NLL per token) (DialoGPT's repository)",
    ),
    "ppl_word": Metric(
        "PPL, per word",
        1,
        -1,
        "exp(sum of NLL / sum of whitespace words), comparable across vocabularies",
    ),
    "bleu": Metric(
        "BLEU-4",
        3,
        1,
        "ParlAI's bleu-4 x 100, the mean over instances of smoothed sentence BLEU on "
        'normalised text; the paper\'s "weighted BLEU"',
    ),
    "sacrebleu": Metric("sacreBLEU", 2, 1, "corpus BLEU, 0 to 100"),
    "rouge_parlai": Metric(
        "ROUGE-L",
        2,
        1,
        "F1 of the longest common subsequence x 100, Porter stems (py-rouge's words)",
    ),
    "rouge_google": Metric(
        "ROUGE-L, google", 2, 1, "the same without stemming (rouge-score)"
    ),
    "f1": Metric("F1", 2, 1, "F1 of the bags of normalised words x 100 (ParlAI)"),
    "distinct_1": Metric(
        "Distinct-1",
        4,
        0,
        "different words over all words of all instances, punctuation kept; "
        "jackknife interval",
    ),
    "distinct_2": Metric("Distinct-2", 4, 0, "the same for pairs of words"),
    "intra_distinct_2": Metric(
        "Distinct-2 within", 3, 0, "mean of Distinct-2 within each persona"
    ),
    "novelty": Metric(
        "novelty", 3, 0, "share of sentences that no training persona has verbatim"
    ),
    "length": Metric("words", 1, 0, "mean length in words and punctuation marks"),
    "ended": Metric("ended", 3, 0, "share that ended by themselves, not at the limit"),
    "critic": Metric(
        "critic",
        3,
        0,
        "mean P(related) of the response to the partner persona that the system was "
        "told; of the controls, to the gold one",
    ),
}
RESPONSE_TESTED = ("ppl_token", "bleu", "rouge_parlai", "f1")
PERSONA_TESTED = ("ppl_token", "bleu", "rouge_parlai", "distinct_2")
RESPONSE_COMPARISONS = (
    ("ours", "ours_supervised"),
    ("ours_supervised", "without"),
    ("ours_supervised", "training_only"),
    ("full", "without"),
    ("full", "ours_supervised"),
    ("ours_supervised", BEST_CONTROL),
)
PERSONA_COMPARISONS = (("reinforced", "supervised"), ("supervised", BEST_CONTROL))


class Score(NamedTuple):
    """One metric of one system: columns [N, K] or values [N], and what they mean."""

    columns: np.ndarray
    statistic: significance.Statistic = significance.ratio

    def interval(self, groups) -> Interval:
        return significance.bootstrap(
            self.columns,
            self.statistic,
            groups,
            resamples=RESAMPLES,
            seed=SEED,
            level=LEVEL,
        )


class TypeCount(NamedTuple):
    """A metric that counts types: its value, and the values without each dialogue."""

    value: float
    leave_one_out: np.ndarray

    def interval(self, groups) -> Interval:
        del groups  # they are in leave_one_out
        return significance.jackknife(self.value, self.leave_one_out, LEVEL)


Scores = dict[str, Score | TypeCount]


# --- Files --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What `stages.evaluate` left: records in the order of the instances [N]."""

    instances: list[dict]
    responses: dict[str, list[dict]]  # by system, in the order of the table
    personas: dict[str, list[dict]]
    training_sentences: list[str]
    version: str  # of PersonaChat's personas: original or revised

    @property
    def dialogues(self) -> np.ndarray:
        """The dialogue of each instance [N]: what is resampled."""
        return np.array([i["dialogue"] for i in self.instances])


def read(workdir: Path) -> Predictions:
    """Raises UserError if the folder holds no evaluation, or one that does not fit."""
    folder = Path(workdir) / "evaluate"
    if not (folder / "instances.jsonl").exists():
        raise UserError(
            f"{folder} holds no evaluation; run `python -m launch.evaluate "
            f"--config=CONFIG --workdir={workdir}` first."
        )
    instances = _read_jsonl(folder / "instances.jsonl")
    responses = RESPONSE_MODELS | RESPONSE_CONTROLS
    personas = GOLD | PERSONA_MODELS | PERSONA_CONTROLS
    return Predictions(
        instances,
        _systems(folder / "responses", responses, instances),
        _systems(folder / "personas", personas, instances),
        _read_json(folder / "training_sentences.json", []),
        _version(folder),
    )


def _version(folder: Path) -> str:
    known = (folder / run_dir.FINGERPRINT).exists()
    settings = run_dir.settings_of(folder) if known else {}
    return settings.get("data.version", "original")


def _systems(folder: Path, known, instances) -> dict[str, list[dict]]:
    """Records by system: known models first, then unknown ones, then controls."""
    order = list(known)
    first_control = next(i for i, n in enumerate(order) if is_control(n))
    place = {n: i if i < first_control else i + 1 for i, n in enumerate(order)}
    names = sorted(path.stem for path in folder.glob("*.jsonl"))
    names.sort(key=lambda name: place.get(name, first_control))
    ids = [i["id"] for i in instances]
    systems = {}
    for name in names:
        records = _read_jsonl(folder / f"{name}.jsonl")
        if [r.get("id") for r in records] != ids:
            raise UserError(
                f"{folder / name}.jsonl: its ids are not those of instances.jsonl; "
                "write one line per instance, in the same order."
            )
        systems[name] = records
    return systems


def is_control(name: str) -> bool:
    return name in RESPONSE_CONTROLS or name in PERSONA_CONTROLS


def _read_jsonl(path: Path) -> list[dict]:
    records = []
    for number, record in read_jsonl(path):
        if record.get("nll") is not None and not record.get("tokens"):
            raise UserError(
                f"{path}:{number}: nll without tokens; give the number of tokens that "
                "it counts, or null for both."
            )
        records.append(record)
    return records


def _read_json(path: Path, default):
    if not path.exists():
        return default
    return json.loads(path.read_text(encoding="utf-8"))


# --- Scores -------------------------------------------------------------------


def response_scores(predictions: Predictions, name: str) -> Scores:
    """Every metric that the system's records allow."""
    records = predictions.responses[name]
    gold = [i["response"] for i in predictions.instances]
    scores = _perplexities(records, gold)
    texts = _column(records, "response")
    if texts:
        scores |= _overlap(texts, gold)
        scores["f1"] = Score(bleu_rouge.token_f1(texts, gold))
        scores |= _variety(texts, predictions.dialogues)
    critic = _column(records, "critic_score")
    if critic:
        scores["critic"] = Score(np.array(critic, np.float64))
    return scores


def persona_scores(predictions: Predictions, name: str) -> Scores:
    """Every metric that the system's records allow; gold ones are not compared."""
    records = predictions.personas[name]
    gold = [" ".join(i["partner_persona"]) for i in predictions.instances]
    scores = _perplexities(records, gold)
    texts = _column(records, "persona")
    if texts:
        if name not in GOLD:
            scores |= _overlap(texts, gold)
        scores |= _variety(texts, predictions.dialogues)
        scores["intra_distinct_2"] = Score(distinct.intra_distinct(texts, 2))
        novelty = distinct.novelty_columns(texts, predictions.training_sentences)
        scores["novelty"] = Score(novelty)
    ended = _column(records, "ended")
    if ended:
        scores["ended"] = Score(np.array(ended, np.float64))
    return scores


def _column(records, field) -> list | None:
    """One field of all records; None where any record lacks it."""
    values = [record.get(field) for record in records]
    return None if any(value is None for value in values) else values


def _perplexities(records, gold) -> Scores:
    nll, tokens = _column(records, "nll"), _column(records, "tokens")
    if not nll or not tokens:
        return {}
    words = [len(text.split()) for text in gold]
    columns = ppl.columns(nll, tokens, words)
    return {f"ppl_{d}": Score(columns[d], ppl.perplexity) for d in ppl.DEFINITIONS}


def _overlap(texts, gold) -> Scores:
    def score(metric: Callable, *arguments) -> np.ndarray:
        """`metric` of each pair; a pair that recurs (a profile does) is scored once."""
        pairs = list(zip(texts, gold, strict=True))
        rows = {pair: row for row, pair in enumerate(dict.fromkeys(pairs))}
        scored = metric(*zip(*rows, strict=True), *arguments)
        return scored[[rows[pair] for pair in pairs]]

    return {
        "bleu": Score(score(bleu_rouge.parlai_bleu)),
        "sacrebleu": Score(
            score(bleu_rouge.sacre_bleu_columns), bleu_rouge.sacre_bleu_of
        ),
        "rouge_parlai": Score(score(bleu_rouge.rouge_l, "parlai-f")),
        "rouge_google": Score(score(bleu_rouge.rouge_l, "google")),
    }


def _variety(texts, dialogues) -> Scores:
    scores: Scores = {"length": Score(distinct.lengths(texts))}
    for n in (1, 2):
        without = distinct.distinct_leave_one_out(texts, n, dialogues)
        scores[f"distinct_{n}"] = TypeCount(distinct.distinct(texts, n), without)
    return scores


# --- Tests --------------------------------------------------------------------


def compare(
    scores: Mapping[str, Scores],
    comparisons: Sequence[tuple[str, str]],
    metrics: Sequence[str],
    dialogues,
) -> list[dict]:
    """Every planned test that the systems at hand allow, Holm-corrected together."""
    tests = []
    for a, planned in comparisons:
        for metric in metrics:
            b = planned
            if b == BEST_CONTROL:
                b = best_control(scores, metric)
            if metric in scores.get(a, {}) and metric in scores.get(b, {}):
                test = _test(scores[a][metric], scores[b][metric], dialogues)
                tests.append({"a": a, "b": b, "metric": metric, **test})
    adjusted = significance.holm([test["p"] for test in tests])
    for test, p in zip(tests, adjusted, strict=True):
        test["p_holm"] = p
        test["significant"] = p < 1 - LEVEL
        test["better"] = _better(test)
    return tests


def best_control(scores: Mapping[str, Scores], metric: str) -> str | None:
    """The control that scores highest, which speaks against the system compared."""
    if METRICS[metric].better != 1:
        return None
    values = {
        name: float(s[metric].statistic(_sums(s[metric].columns)))
        for name, s in scores.items()
        if is_control(name) and metric in s
    }
    return max(values, key=values.__getitem__, default=None)


def _sums(columns: np.ndarray) -> np.ndarray:
    if columns.ndim == 1:
        return np.array([columns.sum(), len(columns)])
    return columns.sum(axis=0)


def _test(a: Score | TypeCount, b: Score | TypeCount, dialogues) -> dict:
    if isinstance(a, TypeCount):
        value, without = a.value - b.value, a.leave_one_out - b.leave_one_out
        difference = significance.jackknife(value, without, LEVEL)
        p = significance.jackknife_p(value, without)
    else:
        arguments = (a.columns, b.columns, a.statistic, dialogues)
        difference = significance.paired_bootstrap(
            *arguments, resamples=RESAMPLES, seed=SEED, level=LEVEL
        )
        p = significance.paired_permutation(
            *arguments, resamples=PERMUTATIONS, seed=SEED
        )
    return {"difference": difference._asdict(), "p": p}


def _better(test: dict) -> str | None:
    """Which of the two is significantly better; None where that cannot be said."""
    direction = METRICS[test["metric"]].better * test["difference"]["value"]
    if not test["significant"] or direction == 0:
        return None
    return test["a"] if direction > 0 else test["b"]


# --- Cold start ---------------------------------------------------------------

TURNS = ("1", "2", "3", "4 or more", "all")


def perplexity_by_turn(
    predictions: Predictions, scores: Mapping[str, Scores]
) -> dict[str, dict]:
    """Token PPL when the partner has said N things so far (the paper's Figure 3).

    {system: {"1": {value, low, high, instances}, ..., "all": ...}}
    """
    said = np.array([(len(i["context"]) + 1) // 2 for i in predictions.instances])
    chosen = [said == 1, said == 2, said == 3, said > 3, said >= 0]
    dialogues = predictions.dialogues
    table = {}
    for name, metrics in scores.items():
        if "ppl_token" not in metrics:
            continue
        score = metrics["ppl_token"]
        table[name] = {
            turn: {
                **score._replace(columns=score.columns[rows])
                .interval(dialogues[rows])
                ._asdict(),
                "instances": int(rows.sum()),
            }
            for turn, rows in zip(TURNS, chosen, strict=True)
            if len(np.unique(dialogues[rows])) > 1  # an interval needs two
        }
    return table


# --- All of it ----------------------------------------------------------------


def compute(workdir: Path, paper: bool) -> dict:
    """All numbers of a run directory, ready for JSON (report.json).

    paper: whether the paper's own figures stand beside them.
    """
    workdir = Path(workdir)
    predictions = read(workdir)
    dialogues = predictions.dialogues
    responses = {n: response_scores(predictions, n) for n in predictions.responses}
    personas = {n: persona_scores(predictions, n) for n in predictions.personas}
    version = predictions.version
    return {
        "instances": len(predictions.instances),
        "dialogues": len(set(dialogues.tolist())),
        "level": LEVEL,
        "resamples": RESAMPLES,
        "permutations": PERMUTATIONS,
        "sacrebleu_signature": bleu_rouge.sacre_bleu(["a"], ["a"]).signature,
        "paper": version if paper else None,
        "responses": _table(
            responses,
            RESPONSE_MODELS | RESPONSE_CONTROLS,
            dialogues,
            _paper(_PAPER_RESPONSES[version], _KEYS) if paper else {},
        ),
        "personas": _table(
            personas,
            GOLD | PERSONA_MODELS | PERSONA_CONTROLS,
            dialogues,
            _paper(_PAPER_PERSONAS[version], _PERSONA_KEYS) if paper else {},
        ),
        "response_tests": compare(
            responses, RESPONSE_COMPARISONS, RESPONSE_TESTED, dialogues
        ),
        "persona_tests": compare(
            personas, PERSONA_COMPARISONS, PERSONA_TESTED, dialogues
        ),
        "perplexity_by_turn": perplexity_by_turn(predictions, responses),
        "stages": {
            stage: run_dir.result_of(workdir / stage)
            for stage in STAGES
            if run_dir.finished(workdir, stage)
        },
        "reinforce_validation": [
            record
            for record in read_metrics(workdir / "reinforce" / "metrics.jsonl")
            if "valid_response_ppl" in record
        ],
    }


def _table(scores: Mapping[str, Scores], labels, dialogues, paper) -> dict[str, dict]:
    """{system: {label, control, metrics: {metric: {value, low, high}}, paper}}."""
    return {
        name: {
            "label": labels.get(name, name),
            "control": is_control(name),
            "metrics": {
                key: metrics[key].interval(dialogues)._asdict()
                for key in METRICS
                if key in metrics
            },
            "paper": paper.get(name, {}),
        }
        for name, metrics in scores.items()
    }


def _paper(rows: Mapping[str, tuple], keys: Sequence[str]) -> dict[str, dict]:
    return {
        name: {k: v for k, v in zip(keys, row, strict=True) if v is not None}
        for name, row in rows.items()
    }
