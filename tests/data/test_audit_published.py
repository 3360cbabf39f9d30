"""What the audit finds in published data equals what others counted there (../shared/reference)."""

import json
import os
from pathlib import Path

import polars as pl
import pytest

from forwhy.data.audit import audit
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.finding import NEAR, Finding, nearest
from forwhy.data.sources import import_lcrec, import_xrec

SHARED = Path(os.environ.get("FORWHY_SHARED", Path(__file__).parents[3] / "shared")) / "data"


def by_id(dataset: Dataset) -> dict[str, Finding]:
    return {finding.id: finding for finding in audit(dataset)}


def real(folder: str) -> Path:
    if not (SHARED / folder).is_dir():
        pytest.skip(f"no {folder} here")
    return SHARED / folder


@pytest.mark.slow
def test_yelp() -> None:
    """reference/beat-and-xrec section 5.1 (81 % of explained pairs are train edges); design section 5."""
    found = by_id(import_xrec(real("xrec-yelp")))
    assert found["heldout-pairs-in-training-graph"].count == 501
    assert "Recall@20 0.0208" in found["popularity-alone"].meaning
    assert not {name for name in found if name.startswith("heldout-text")}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["xrec-yelp", "xrec-amazon"])
def test_independent_texts_stay_far_below_the_threshold(folder: str) -> None:
    """Texts of one template; a copy of one of them with some words changed is far above."""
    dataset = import_xrec(real(folder))
    held, taught = pl.Series(dataset.pairs("test").texts), pl.Series(dataset.pairs("train").texts)
    assert 0 < max(nearest(held, taught)["share"]) < NEAR - 0.2
    words = taught[:100].str.split(" ")
    changed = words.list.head(25).list.join(" ") + " and other things entirely"
    assert min(nearest(changed, taught)["share"]) >= NEAR


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "cold"), [("amazon-beauty", 138), ("amazon-instruments", 35)])
def test_cold_targets_of_sequences(folder: str, cold: int) -> None:
    """reference/generative-recommendation section 3.1: targets absent from all items before the last two."""
    found = by_id(import_lcrec(real(folder)))
    assert found["cold-test-items"].count == cold
    assert "time-follows-ids" not in found


def test_raw_dirt_of_a_catalogue() -> None:
    """What the importer has to clean, as it stands in the file; counts by Python's own means."""
    raw = json.loads((real("amazon-industrial") / "Industrial.item.json").read_text())
    items = {"item_id": list(raw), "description": [str(fields["description"]) for fields in raw.values()]}
    rows = {"user_id": ["u"] * len(raw), "item_id": list(raw), "split": ["train"] * len(raw)}
    found = by_id(make_dataset("raw", {"interactions": pl.DataFrame(rows), "items": pl.DataFrame(items)}))
    lists = [
        text for text in items["description"] if text.strip().startswith("[") and text.strip().endswith("]")
    ]
    assert found["list-in-items"].count == len(lists) > 0
    assert (
        found["html-in-items"].count
        >= sum("<br" in text or "</" in text for text in items["description"])
        > 0
    )
