"""Options become an index that tells all items apart, is saved and read back, and says how healthy it is."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from forwhy.data.dataset import Dataset, Ids, make_dataset
from forwhy.errors import UserError
from forwhy.testing import artifact_laws
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.index import IndexConfig, ItemIndex
from forwhy.vocabulary.indexing import (
    attribute_vectors,
    build_index,
    health,
    read_vectors,
    semantic_vectors,
    spectral_vectors,
)

ITEMS = Ids(tuple(range(10, 510)), "item")
SEMANTIC = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float32)
BEHAVIOUR = np.random.default_rng(1).standard_normal((500, 4)).astype(np.float32)


def build(**options: object) -> ItemIndex:
    return build_index(ITEMS, IndexConfig.model_validate({"width": 32, **options}), SEMANTIC, BEHAVIOUR)


def small(codes: list[list[int]], sizes: tuple[int, ...] = (3, 2)) -> ItemIndex:
    names = Ids(tuple("pqrs"[: len(codes)]), "item")
    return ItemIndex(np.array(codes, np.int32), sizes, ("semantic",) * len(sizes), names)


def test_unit_is_semantic_then_behaviour_each_telling_all_items_apart() -> None:
    unit, semantic, behaviour = build(), build(source="semantic"), build(source="behaviour")
    assert unit.sources == ("semantic", "semantic", "behaviour", "behaviour")
    assert np.array_equal(unit.codes, np.column_stack([semantic.codes, behaviour.codes]))
    for half in (unit.codes[:, :2], unit.codes[:, 2:]):
        assert len(np.unique(half, axis=0)) == 500


def test_orders_hold_the_same_levels() -> None:
    unit = build().codes
    assert np.array_equal(build(order="behaviour_first").codes, unit[:, [2, 3, 0, 1]])
    mixed = build(order="interleave")
    assert np.array_equal(mixed.codes, unit[:, [0, 2, 1, 3]])
    assert mixed.sources == ("semantic", "behaviour", "semantic", "behaviour")


def test_options_reach_the_tree() -> None:
    assert build(width="auto").sizes == (23, 23, 23, 23)
    assert build(source="semantic", width="auto", depth=4).sizes == (5, 5, 5, 5)
    assert build(source="random", depth=4).codes.shape == (500, 4)
    others = [
        build(source="semantic", **changed)
        for changed in ({"leaf_order": "distance"}, {"seed": 1}, {"iterations": 1})
    ]
    first = build(source="semantic").codes
    assert all(not np.array_equal(first, other.codes) for other in others)
    assert np.array_equal(first[:, 0], others[0].codes[:, 0])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("source", ["unit", "semantic", "behaviour", "random"])
@pytest.mark.parametrize("width", ["auto", 256])
def test_tiny_catalogues(count: int, source: str, width: object) -> None:
    config = IndexConfig.model_validate({"source": source, "width": width})
    index = build_index(Ids(tuple(range(count))), config, SEMANTIC[:count], BEHAVIOUR[:count])
    assert len(index) == count
    assert index.metrics["levels"][0]["used"] == count


def test_artifact_laws_and_equal_bytes(tmp_path: Path) -> None:
    artifact_laws(build, tmp_path / "laws")
    index = build()
    index.save_pretrained(tmp_path / "saved")
    again = ItemIndex.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again.codes, index.codes)
    assert (again.sizes, again.sources, again.items.values) == (
        index.sizes,
        index.sources,
        index.items.values,
    )
    assert (again.config, again.metrics) == (index.config, index.metrics)
    assert again.fingerprint == index.fingerprint != build(seed=1).fingerprint
    assert "| c | behaviour | 32 | 32 |" in (tmp_path / "saved" / "README.md").read_text()


def test_bad_vectors_name_their_source() -> None:
    with pytest.raises(UserError, match="needs behaviour vectors"):
        build_index(ITEMS, IndexConfig(), SEMANTIC)
    with pytest.raises(UserError, match="behaviour vectors: 499 rows for 500 items"):
        build_index(ITEMS, IndexConfig(), SEMANTIC, BEHAVIOUR[1:])
    broken = SEMANTIC.copy()
    broken[7, 2] = np.nan
    with pytest.raises(UserError, match="semantic vectors: row 7"):
        build_index(ITEMS, IndexConfig(), broken, BEHAVIOUR)
    with pytest.raises(UserError, match="32 codes for 500 items; use depth 2 or width 500"):
        build(depth=1)
    with pytest.raises(UserError, match="no items"):
        build_index(Ids(()), IndexConfig(), SEMANTIC[:0], BEHAVIOUR[:0])


@pytest.mark.parametrize(
    "options",
    [
        {"source": "file"},
        {"file": "x.json"},
        {"width": 1},
        {"depth": 0},
        {"source": "random", "method": "rqvae"},
        {"k": 3},
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IndexConfig.model_validate(options)


def test_health_counts_by_hand() -> None:
    report = health(small([[0, 0], [0, 1], [1, 0], [2, 1]], (4, 2)))
    first, second = report["levels"]
    assert (first["used"], first["nodes"], first["branching"], first["forced"]) == (3, 3, 3.0, 0.0)
    assert first["perplexity"] == pytest.approx(2**1.5)
    assert (second["used"], second["nodes"], second["branching"]) == (2, 4, pytest.approx(4 / 3))
    assert second["forced"] == pytest.approx(2 / 3)


def test_purity_is_high_in_its_own_vectors_and_chance_in_strangers() -> None:
    centres = np.random.default_rng(0).standard_normal((20, 6))
    clustered = centres[np.arange(500) % 20] + 0.05 * SEMANTIC
    index = build_index(ITEMS, IndexConfig(width=32), clustered, BEHAVIOUR)
    purity = index.metrics["purity"]
    assert purity["semantic"]["semantic"]["neighbours"] > 0.3
    assert purity["behaviour"]["behaviour"]["neighbours"] > 0.15
    assert purity["semantic"]["behaviour"]["neighbours"] == pytest.approx(1 / 32, abs=0.02)


def test_items_without_text_get_the_mean(tiny_town: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    whole = semantic_vectors(tiny_town, text_encoder("hash"))
    assert "no text" not in caplog.text
    assert whole.shape == (30, 128)
    items = tiny_town.tables["items"]
    dumb = items.with_columns(
        items[column].scatter([0, 4], "")
        for column in ("title", "categories", "description")
        if column in items.columns
    )
    silent = semantic_vectors(tiny_town.derive({**tiny_town.tables, "items": dumb}, {}), text_encoder("hash"))
    assert "2 of 30 items have no text" in caplog.text
    kept = [n for n in range(30) if n not in tiny_town.items.numbers(items["item_id"][[0, 4]])]
    assert np.array_equal(silent[kept], whole[kept])
    np.testing.assert_allclose(
        np.delete(silent, kept, axis=0), np.tile(silent[kept].mean(0), (2, 1)), atol=1e-6
    )
    with pytest.raises(UserError, match="no item has any text"):
        semantic_vectors(
            tiny_town.derive({"interactions": tiny_town.tables["interactions"]}, {}), text_encoder("hash")
        )


def test_spectral_vectors_are_rows_of_items(tiny_town: Dataset) -> None:
    assert spectral_vectors(tiny_town, 8).shape == (30, 8)


def test_rare_attributes_bring_items_near_and_common_ones_do_not() -> None:
    terms = ["sweet, all", "sweet, all", "bitter, all", "bitter, all", "all", ""]
    names = [f"i{number}" for number in range(6)]
    taken = pl.DataFrame({"user_id": ["u"] * 6, "item_id": names, "split": ["train"] * 6})
    tables = {"interactions": taken, "items": pl.DataFrame({"item_id": names, "attributes": terms})}
    found = attribute_vectors(make_dataset("tastes", tables), 3)
    near = found @ found.T
    assert near[0, 1] == pytest.approx(1.0, abs=1e-5)
    assert near[0, 2] < 0.6 < near[2, 3]
    assert not found[5].any()
    assert attribute_vectors(make_dataset("bare", {"interactions": taken})).shape == (6, 0)


def test_vector_files(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", SEMANTIC)
    assert np.array_equal(read_vectors(tmp_path / "good.npy"), SEMANTIC)
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "line.npy", SEMANTIC[0])
    (tmp_path / "text.npy").write_text("1 2 3")
    for name, complaint in [
        ("objects", "not a .npy table"),
        ("line", "not a .npy table"),
        ("text", "not a .npy table"),
        ("none", "no such file"),
    ]:
        with pytest.raises(UserError, match=complaint):
            read_vectors(tmp_path / f"{name}.npy")
