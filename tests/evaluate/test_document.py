"""The document is plain JSON with the promised keys; its protocol in sentences says what was recorded, and no more."""

import json
from typing import Any

import numpy as np
import pytest

from forwhy.data.sample import little_town
from forwhy.data.split import ProtocolConfig, apply_protocol
from forwhy.evaluate.controls import text_table
from forwhy.evaluate.document import evaluation_document, protocol_in_words
from forwhy.evaluate.gain import text_retrieval
from forwhy.evaluate.ranking import rank_all
from forwhy.evaluate.significance import Interval, flatten

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
        gain={
            "information_gain": flatten({"user": gain, "item": gain, "both": gain}),
            "nll": 2.8,
            "nll_interval": [2.7, 2.9],
        },
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


def test_what_was_not_measured_is_null_and_not_shown() -> None:
    empty = evaluation_document()
    assert empty["ranking"] is empty["text"] is empty["nll"] is None
    assert set(empty) == {
        "ranking", "baselines", "health", "text", "controls", "specificity", "grounding", "two_choice",
        "information_gain", "nll", "nll_interval", "text_retrieval", "words", "groups", "unseen", "repeats", "variants",
        "order", "costs", "protocol",
    }  # fmt: skip


# --- the protocol in sentences


LEAKS = {
    "heldout_pairs": 600,
    "heldout_pairs_in_train_graph": 501,
    "heldout_pairs_in_train_graph_share": 0.835,
    "explanations_in_train_and_heldout": 0,
    "train_explanations_in_heldout_interactions": 467,
}


def protocol(**changes: object) -> dict[str, Any]:
    whole = {
        "dataset": "xrec-yelp",
        "fingerprint": "19421b2bb728a5a2",
        "split": {"interactions": "published", "explanations": "split 80/10/10", "seed": 0},
        "explanations": {"train": 2400, "valid": 300, "test": 300},
        "protocol": "leak-free",
        "graph": "leak-free",
        "zero_shot": None,
        "leaks": LEAKS,
        "profiles_read": False,
        "interaction_texts_read": False,
        "masked": "all training interactions",
        "training_edges": 314443,
        "model": "smollm2-135m",
        "encoder": "minilm",
        "seed": 3,
        "evaluation_seed": 4,
    }
    return whole | changes


def test_leak_free_in_words() -> None:
    assert protocol_in_words(protocol()) == [
        "Data set xrec-yelp, fingerprint 19421b2bb728.",
        "Split: interactions published; explanations split 80/10/10.",
        "Explained pairs: 2,400 train, 300 valid, 300 test.",
        "Protocol leak-free: the graph holds training interactions without pairs whose explanation is held out "
        "(314,443 edges).",
        "Never offered in the ranking: all training interactions.",
        "Cut from the graph: 501 of 600 held-out explained pairs (84%).",
        "467 training explanations are about interactions that the ranking is tested on; the vocabulary did not "
        "read them.",
        "Texts by smollm2-135m.",
        "Vectors of texts by minilm.",
        "Seeds: training 3, evaluation 4.",
    ]


def test_as_published_says_what_leaks() -> None:
    leaks = LEAKS | {"explanations_in_train_and_heldout": 7}
    said = protocol_in_words(
        protocol(
            protocol="as-published",
            graph="as-published",
            profiles_read=True,
            interaction_texts_read=True,
            leaks=leaks,
        )
    )
    assert "LEAK: 501 of 600 held-out explained pairs (84%) are edges of the graph." in said
    assert "LEAK: 7 pairs are explained in train and held out." in said
    about = "467 training explanations are about interactions that the ranking is tested on"
    assert f"LEAK: {about}, and were read." in said
    assert "Shipped profiles were read; they may have been written from held-out text." in said
    assert any("as-published: the graph holds all training interactions (314,443 edges)" in it for it in said)
    assert not any(it.startswith("Cut") for it in said)


def test_profiles_that_cannot_leak_are_no_leak() -> None:
    said = protocol_in_words(protocol(profiles_read=True, leaks=LEAKS | {"profiles_possibly_leaking": False}))
    assert said == protocol_in_words(protocol())


def test_zero_shot_says_who_was_drawn_and_what_went() -> None:
    town = little_town(users=60, items=40, visits=8, explanations=(60, 20, 20))
    config = ProtocolConfig(protocol="zero-shot", zero_shot_users=0.5, zero_shot_items=0.2, seed=5)
    record = apply_protocol(town, config).source["protocol"]
    said = "\n".join(protocol_in_words(protocol(protocol="zero-shot", zero_shot=record)))
    users, items = (
        f"{record[f'{side}_drawn']} of {record[f'{side}_among']} {side}" for side in ("users", "items")
    )
    assert f"Zero-shot: {users} and {items} that are tested and have text lost all of it (seed 5)." in said
    assert f"{record['removed']['train_explanations']} training explanations" in said
    assert f"{record['removed']['intents']} intents" in said
    assert (
        f"Tested on their {record['test_pairs']} pairs; {record['warm_pairs']} test pairs are warm." in said
    )
    only = apply_protocol(town, config.model_copy(update={"zero_shot_items": 0.0})).source["protocol"]
    assert " and 0 of" not in "\n".join(protocol_in_words({"zero_shot": only}))


@pytest.mark.parametrize("missing", sorted(protocol()))
def test_what_was_not_recorded_is_left_out(missing: str) -> None:
    rest = {key: value for key, value in protocol().items() if key != missing}
    said, whole = protocol_in_words(rest), protocol_in_words(protocol())
    assert 0 <= len(whole) - len(said) <= 2
    assert not any("None" in line for line in said)


def test_older_documents_name_the_graph_only() -> None:
    said = protocol_in_words({"dataset": "x", "graph": "as-published", "seed": 0, "model": None})
    assert said == [
        "Data set x.",
        "Protocol as-published: the graph holds all training interactions, as the papers do.",
        "Seeds: training 0.",
    ]
    assert protocol_in_words({}) == []


def test_hostile_names_stay_one_line_of_text() -> None:
    said = protocol_in_words({"dataset": "a\x1b[2Jb\nLEAK: none", "model": "[bold]m[/bold]"})
    assert said == ["Data set a\\x1b[2Jb LEAK: none.", "Texts by [bold]m[/bold]."]
