"""A model card says what the run's report and config say, and nothing else."""

from ppg_jax.files import read_json, write_json
from ppg_jax.report import cards
from tests import run_for_tests as runs

MODELS = {"persona": "persona/model", "response": "response/model"}
MEASURED = {"value": 12.345, "low": 11.0, "high": 13.5}


def row(label, **metrics):
    return {"label": label, "metrics": metrics}


def write_run(folder):
    stage = {"init": "smollm2", "adapter_rank": 16, "optimizer.learning_rate": 0.002}
    systems = [
        {"name": "ours", "kind": "responses", "label": "Ours", "models": MODELS},
        {
            "name": "other",
            "kind": "personas",
            "label": "O",
            "models": {"persona": "x/y"},
        },
        {
            "name": "mine_contrasted",
            "kind": "personas",
            "label": "Not mine",
            "models": {"persona": "persona/model"},
            "contrast": 1.0,
        },
        {
            "name": "mine",
            "kind": "personas",
            "label": "Mine",
            "models": {"persona": "persona/model"},
        },
    ]
    write_json(
        folder / "experiment.json",
        {
            "stages": [],
            "systems": systems,
            "config": {
                "evaluate": {
                    "title": "A run",
                    "paper": True,
                    "data.source": "data/personachat",
                },
                "persona": stage,
                "response": stage | {"seed": 7},
            },
        },
    )
    numbers = {
        "title": "A run",
        "instances": 31,
        "dialogues": 4,
        "level": 0.95,
        "units": {
            "self": {"name": "dialogue", "count": 4},
            "partner": {"name": "base persona", "count": 3},
        },
        "responses": {"ours": row("Ours", ppl_token=MEASURED)},
        "personas": {"mine": row("Mine", bleu=MEASURED), "other": row("O")},
    }
    write_json(folder / "report.json", numbers)


def test_a_card_has_the_rows_numbers_and_what_the_stages_were_made_with(tmp_path):
    write_run(tmp_path)
    cards.write(tmp_path / "README.md", tmp_path, "ours")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# A run: Ours\n")
    assert "31 instances of 4 dialogues" in text
    assert "12.35 (11.00–13.50)" in text or "12.34 (11.00–13.50)" in text
    assert "| Mine |" in text and "| O |" not in text
    assert "adapter_rank 16" in text and "optimizer.learning_rate 0.002" in text
    assert text.count("seed 7") == 1
    assert "Apache-2.0" in text and "CC BY 4.0" in text
    assert "It learned from small talk, in English" in text
    assert "95 %, over dialogues or base personas." in text


def test_a_card_names_another_base_and_other_data_and_claims_no_licence(tmp_path):
    write_run(tmp_path)
    path = tmp_path / "experiment.json"
    values = read_json(path)
    # Of a preset of PersonaChat's, with other data.
    evaluated = values["config"]["evaluate"]
    values["config"]["evaluate"] = evaluated | {"data.source": "talks/mine"}
    values["config"]["persona"] |= {"init": "", "init_stage": "dialogue"}
    values["config"]["dialogue"] = {"init": "gpt2", "adapter_rank": 4}
    values["config"]["response"] |= {"init": "", "init_stage": "talk"}
    values["config"]["talk"] = {"init": "gpt2", "adapter_rank": 0}
    write_json(path, values)
    text = cards.card(tmp_path, "ours")
    whole = "the model of the stage `talk`, which lies in `base/`"
    assert f"of gpt2 and {whole}: " in text
    assert "Trained on the dialogues of mine." in text
    assert "SmolLM2" not in text and "PersonaChat" not in text
    assert "small talk" not in text and "It learned from the dialogues of this" in text
    assert "init ," not in text
    assert "Trained on the dialogues of mine." in cards.card(
        tmp_path, "ours", adapters=False
    )


def test_without_a_report_the_card_says_so_and_what_validation_gave(tmp_path):
    write_run(tmp_path)
    (tmp_path / "report.json").unlink()
    for stage, ppl in [("persona", 9.5), ("response", 13.7)]:
        result = runs.FINISHED | {"valid_ppl": ppl}
        write_json(tmp_path / stage / "result.json", result)
    text = cards.card(tmp_path, "ours")
    assert "not yet on the test split" in text and "| Mine |" not in text
    assert "`persona`: perplexity 9.50" in text
    assert "`response`: perplexity 13.70" in text


def test_a_card_of_whole_models_says_that_and_how_they_are_asked(tmp_path):
    write_run(tmp_path)
    text = cards.card(tmp_path, "ours", {"persona": "your persona: a.END"}, False)
    assert "Whole models" in text and "Low-rank" not in text
    assert "\n```\npersona: your persona: a.END\n```\n" in text


def test_a_run_that_says_little_of_itself_has_a_card(tmp_path):
    write_run(tmp_path)
    (tmp_path / "report.json").unlink()
    experiment = read_json(tmp_path / "experiment.json")
    write_json(tmp_path / "experiment.json", experiment | {"config": {}})
    for stage in MODELS:
        made = runs.FINISHED | {"valid_response_ppl": 2.0}  # as of REINFORCE
        write_json(tmp_path / stage / "result.json", made)
    assert "`persona`: perplexity 2.00" in cards.card(tmp_path, "ours")
    assert cards.card(tmp_path, "ours").startswith(f"# {tmp_path}: Ours\n")


def test_a_card_says_where_reinforce_has_changed_nothing(tmp_path):
    write_run(tmp_path)
    experiment = read_json(tmp_path / "experiment.json")
    experiment["systems"][0]["models"] = {
        name: f"reinforce/model_{name}" for name in MODELS
    }
    write_json(tmp_path / "experiment.json", experiment)
    for best, changed in [(0, False), (5, True)]:
        made = runs.FINISHED | {"best_update": best}
        write_json(tmp_path / "reinforce" / "result.json", made)
        text = cards.card(tmp_path, "ours")
        assert ("`reinforce` has kept update 0" in text) != changed


def test_a_card_has_no_numbers_of_other_weights(tmp_path, capsys):
    write_run(tmp_path)
    tested = read_json(tmp_path / "report.json")
    sums = {f"sha256 of the {stage} model": "a" * 64 for stage in MODELS}
    write_json(tmp_path / "report.json", tested | {"made_of": {"sums": sums}})
    for now, kept in (("a", True), ("b", False)):
        for stage in MODELS:
            result = runs.FINISHED | {"params_sha256": now * 64, "valid_ppl": 9.5}
            write_json(tmp_path / stage / "result.json", result)
        text = cards.card(tmp_path, "ours")
        assert ("31 instances" in text) is kept
        assert ("perplexity 9.50" in text) is not kept
    assert "report.json is of an earlier " in capsys.readouterr().out


def test_a_cards_persona_row_is_decoded_as_its_responses_are(tmp_path):
    write_run(tmp_path)
    systems = read_json(tmp_path / "experiment.json")["systems"]
    rows = {row["name"]: row for row in systems}
    rows["mine_contrasted"].pop("contrast")
    rows["mine_contrasted"]["grounded"] = True
    assert cards._persona_row(rows, "ours") == "mine"


def test_a_card_tells_no_path_of_a_machine(tmp_path):
    write_run(tmp_path)
    values = read_json(tmp_path / "experiment.json")
    for stage in MODELS:
        values["config"][stage]["init"] = "/home/somebody/models/mine"
    write_json(tmp_path / "experiment.json", values)
    text = cards.card(tmp_path, "ours")
    assert "of mine: " in text and "somebody" not in text


def test_a_card_names_the_split_that_was_asked(tmp_path):
    write_run(tmp_path)
    made = {"made_of": {"settings": {"split": "valid"}}}
    write_json(tmp_path / "report.json", read_json(tmp_path / "report.json") | made)
    assert "## On the valid split: 31 instances" in cards.card(tmp_path, "ours")
