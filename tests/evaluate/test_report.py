"""The document is plain JSON with the promised keys; its tables show hostile text as it is."""

import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from forwhy.evaluate.controls import text_table
from forwhy.evaluate.gain import Gain, text_retrieval
from forwhy.evaluate.ranking import rank_all
from forwhy.evaluate.report import evaluation_document, render
from forwhy.evaluate.significance import Interval

HOSTILE = "[bold]the user[/nonsense] likes <|im_end|> tea"


@pytest.fixture(scope="module")
def document() -> dict:
    generator = np.random.default_rng(0)
    users, items = generator.normal(size=(30, 4)), generator.normal(size=(40, 4))
    none = np.empty((0, 2), dtype=np.int64)
    test = np.stack([np.arange(30), np.arange(30)], axis=1)
    gain = Interval(0.1, 0.05, 0.15)
    return evaluation_document(
        ranking=rank_all(users, items, none, test),
        baselines={"popularity": rank_all(np.ones((30, 1)), generator.normal(size=(40, 1)), none, test)},
        health={"user_macro": {"perplexity": 301.5, "used": 400}},
        text=text_table(
            [HOSTILE, "good cake", "a bar"], ["tea", "good cake", "a quiet bar"], [HOSTILE, HOSTILE + "!"]
        ),
        gain=Gain(Interval(2.8, 2.7, 2.9), {"user": gain, "item": gain, "both": gain}, 30),
        retrieval=text_retrieval(users, users),
        protocol={"fingerprint": "abc"},
    )


def test_keys_of_the_issue(document: dict) -> None:
    plain = json.loads(json.dumps(document, allow_nan=False))
    assert plain == document
    assert {"recall@20", "ndcg@20", "hr@20", "intervals", "users"} <= set(plain["ranking"])
    assert plain["health"] == {"user_macro": {"perplexity": 301.5, "used": 400}}
    assert {"bleu1", "bleu4", "rougeL", "distinct1", "length", "pairs"} <= set(plain["text"])
    assert {"sacrebleu", "peter_bleu4", "rouge2", "usr"} <= set(plain["text"])
    assert plain["text"]["signatures"]["sacrebleu"].startswith("nrefs:1|case:mixed")
    assert set(plain["text"]["std"]) <= set(plain["text"]["intervals"]) <= set(plain["text"])
    assert plain["controls"]["dealt"]["std"]["length"] == pytest.approx(plain["text"]["std"]["length"])
    assert set(plain["controls"]) == {"constant", "dealt"}
    assert plain["controls"]["constant"]["sentence"].startswith("[bold]")
    assert "bleu1" in plain["controls"]["dealt"]["margin"]["intervals"]
    assert plain["information_gain"]["both"] == 0.1
    assert plain["information_gain"]["intervals"]["user"] == [0.05, 0.15]
    assert plain["nll"] == 2.8
    assert plain["nll_interval"] == [2.7, 2.9]
    assert plain["text_retrieval"]["median_rank"] == 1
    assert plain["baselines"]["popularity"]["hr@20"] >= 0


def test_margin_is_method_minus_control(document: dict) -> None:
    control = document["controls"]["constant"]
    assert control["margin"]["bleu1"] == pytest.approx(document["text"]["bleu1"] - control["bleu1"])


def test_rendered_tables_show_values_and_hostile_text(document: dict) -> None:
    console = Console(record=True, width=160, file=StringIO())
    for part in render(document):
        console.print(part)
    shown = console.export_text()
    for piece in (
        "recall@20",
        "popularity",
        "user_macro",
        "dealt",
        "gain over shuffled both",
        "chance",
        "[2.700, 2.900]",
    ):
        assert piece in shown
    assert HOSTILE in shown


def test_what_was_not_measured_is_null_and_not_shown() -> None:
    empty = evaluation_document()
    assert empty["ranking"] is empty["text"] is empty["nll"] is None
    assert set(empty) == {
        "ranking", "baselines", "health", "text", "controls", "information_gain", "nll", "nll_interval",
        "text_retrieval", "groups", "variants", "order", "costs", "protocol",
    }  # fmt: skip
    assert render(empty) == []
