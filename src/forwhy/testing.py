"""The laws that every artifact, quantizer, explainer and recommender obeys, for this library and for yours.

Plain functions with plain asserts: call them from any test, with an object small enough to be fast.

    def test_my_recommender() -> None:
        recommender_laws(MyRecommender().fit(data), users=["ann", "ben"], seen={"ann": {"i1"}})
"""

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from forwhy.artifact import CONFIG, Saved
from forwhy.atomic import stamps, write_signed
from forwhy.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from forwhy.explain.base import Explainer
    from forwhy.recommend.base import Recommender

Id = str | int

SAFE_SUFFIXES = {".json", ".safetensors", ".parquet", ".md", ".toml", ".jsonl", ".txt"}
"""Files that can be read without running anything of theirs."""


class Quantizes(Protocol):
    """A quantizer of vectors [B, M] with a codebook of K codewords."""

    @property
    def codebook(self) -> "Tensor":
        """[K, M] codewords (leading axes of size 1 are allowed)."""
        ...

    def __call__(self, x: "Tensor", /) -> Any:  # noqa: ANN401 - a tuple that may hold more
        """Vectors [B, M], codes [B], and anything else."""

    def eval(self) -> object:
        """Stop learning."""


# --- artifacts ------------------------------------------------------------------------------------------


def artifact_laws(make: Callable[[], Saved], folder: Path) -> None:
    """An artifact loads alone, whole, or not at all.

    Saving what was loaded gives the same bytes; saving over it works; nothing in it is executable; moved
    elsewhere it still loads; missing, or with any file removed, truncated or altered, it is refused with that
    file's name. ``folder`` is an empty place to work in. Cost: a load per file, thrice, each refused early.
    """
    made = make()
    load = type(made).from_pretrained
    first, second = folder / "first", folder / "second"
    made.save_pretrained(first)
    load(first).save_pretrained(second)
    files = _contents(first)
    assert files, "an artifact has files"
    assert _contents(second) == files, "save, load, save must give the same bytes"
    made.save_pretrained(first)
    assert _contents(first) == files, "saving over an artifact must give the same bytes"
    assert {Path(name).suffix for name in files} <= SAFE_SUFFIXES, "only formats that execute nothing"
    assert sorted(path.name for path in folder.iterdir()) == ["first", "second"], "no temporary files stay"
    moved = folder / "moved"
    second.rename(moved)
    load(moved)
    _assert_refused(load, folder / "nowhere", "nowhere")
    for name, content in files.items():
        _damage_laws(load, moved, name, content)
    load(moved)
    shutil.rmtree(moved)
    moved.mkdir()
    _assert_refused(load, moved, "moved")


def forge(folder: Path, **changes: object) -> None:
    """Change entries of an artifact's config.json and sign all of its files, as somebody who knows how would.

    For tests that what an artifact says is checked where its hashes cannot tell.
    """
    document = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    write_signed(folder, CONFIG, document | {"files": stamps(folder, CONFIG)} | changes)


def _damage_laws(load: Callable[[Path], object], folder: Path, name: str, content: bytes) -> None:
    """Without, with half of, and with one bit flipped in a file, the folder is refused."""
    path = folder / name
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else b"x"
    path.unlink()
    _assert_refused(load, folder, path.name)
    for damaged in (content[:middle], flipped) if content else (flipped,):
        path.write_bytes(damaged)
        _assert_refused(load, folder, path.name)
    path.write_bytes(content)


def _assert_refused(load: Callable[[Path], object], folder: Path, name: str) -> None:
    _assert_user_error(lambda: load(folder), name)


def _assert_user_error(call: Callable[[], object], name: str) -> None:
    """The call raises the caller's error, in one line that contains ``name``."""
    message = ""
    try:
        call()
    except UserError as error:
        message = str(error)
    assert message, f"{name}: must be refused with a UserError"
    assert name in message, f"the refusal must name {name}: {message}"
    assert "\n" not in message, "a refusal is one line"


def _contents(folder: Path) -> dict[str, bytes]:
    """Relative name and bytes of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# --- quantizers -----------------------------------------------------------------------------------------


def quantizer_laws(quantizer: Quantizes, x: "Tensor") -> None:
    """A quantizer's codes name the nearest codewords, and its vectors are those codewords.

    ``x`` [B, M] with B >= 2. Checked against brute force over all codewords: O(B·K·M). Evaluation mode only.
    """
    import torch

    quantizer.eval()
    with torch.no_grad():
        codebook = quantizer.codebook.detach().double().reshape(-1, x.shape[-1])
        vectors, codes, *_ = quantizer(x)
        distances = ((x.double()[:, None, :] - codebook[None]) ** 2).sum(-1)
        chosen = distances.gather(1, codes.reshape(-1, 1).long())[:, 0]
        nearest = distances.min(1).values
        torch.testing.assert_close(chosen, nearest, msg=lambda text: f"not the nearest code: {text}")
        torch.testing.assert_close(vectors.double(), codebook[codes], rtol=1e-5, atol=1e-6)
        again, same, *_ = quantizer(codebook[codes].to(x))
        torch.testing.assert_close(again.double(), codebook[codes], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(codebook[same], codebook[codes])
        alone, code, *_ = quantizer(x[:1])
        assert int(code[0]) == int(codes[0]), "a vector's code must not depend on its batch"
        torch.testing.assert_close(alone[0], vectors[0])
        torch.testing.assert_close(quantizer.codebook.detach().double().reshape(codebook.shape), codebook)


# --- explainers -----------------------------------------------------------------------------------------


def explainer_laws(
    explainer: "Explainer[Any, Any]", pairs: Sequence[tuple[Id, Id]], unknown: Id = "nobody-at-all"
) -> None:
    """An explanation depends on its pair alone: not on its batch, its order, streaming, or saving.

    ``pairs``: at least two (user, item) of external ids. Cost: about four explanations per pair.
    """
    texts = _texts(explainer, pairs)
    assert len(texts) == len(pairs), "one explanation per pair"
    assert all(isinstance(text, str) and text.strip() for text in texts), "an explanation says something"
    assert [explainer.explain(pair).text for pair in pairs] == texts, "a pair alone equals it in a batch"
    assert _texts(explainer, pairs[::-1]) == texts[::-1], "the order of a batch must not matter"
    eight = [position % len(pairs) for position in range(8)]
    repeated = _texts(explainer, [pairs[position] for position in eight])
    assert repeated == [texts[position] for position in eight], "batch of 1 equals batch of 8"
    assert "".join(explainer.stream(pairs[0])) == texts[0], "the streamed pieces make up the text"
    assert list(explainer.explain([])) == [], "no pairs, no explanations"
    _assert_user_error(lambda: explainer.explain([(unknown, pairs[0][1])]), str(unknown))
    with TemporaryDirectory() as folder:
        explainer.save_pretrained(Path(folder) / "explainer")
        loaded = type(explainer).from_pretrained(Path(folder) / "explainer")
        assert _texts(loaded, pairs) == texts, "save, load: same text"


def _texts(explainer: "Explainer[Any, Any]", pairs: Sequence[tuple[Id, Id]]) -> list[str]:
    return [explanation.text for explanation in explainer.explain(list(pairs))]


# --- recommenders ---------------------------------------------------------------------------------------


def recommender_laws(
    recommender: "Recommender",
    users: Sequence[Id],
    seen: Mapping[Any, Collection[Id]] | None = None,  # keyed by user id
    k: int = 5,
    unknown: Id = "nobody-at-all",
) -> None:
    """A list is ranked, complete, free of what was seen, and the same whoever else is asked for.

    ``users``: distinct external ids; ``seen``: what each of them took in training.
    """
    table = recommender.recommend(list(users), k=k, filter_seen=True)
    _table_laws(table, users, k)
    for user in users:
        _person_laws(recommender, table.filter(pl.col("user_id") == user), user, k)
        listed = set(table.filter(pl.col("user_id") == user)["item_id"])
        assert not listed & set((seen or {}).get(user, ())), f"{user!r} is shown an item seen in training"
    everything = recommender.recommend(list(users), k=10**9, filter_seen=False)
    for user, items in (seen or {}).items():
        assert set(items) <= set(everything.filter(pl.col("user_id") == user)["item_id"]), "filter_seen=False"
    _assert_user_error(lambda: recommender.recommend([unknown], k=k), str(unknown))
    _assert_user_error(lambda: recommender.score([unknown], [table["item_id"][0]]), str(unknown))


def _table_laws(table: pl.DataFrame, users: Sequence[Id], k: int) -> None:
    """Columns, people in the order asked for, ranks from 1 without gaps, scores falling, items once."""
    assert table.columns[:4] == ["user_id", "item_id", "score", "rank"], table.columns
    people = table["user_id"].unique(maintain_order=True).to_list()
    assert people == list(users), "people in the order asked for"
    for (user,), rows in table.group_by("user_id", maintain_order=True):
        assert rows["rank"].to_list() == list(range(1, rows.height + 1)), f"ranks of {user!r}"
        assert rows.height <= k
        assert rows["score"].is_finite().all(), f"a score of {user!r} is not a number"
        assert rows["score"].is_sorted(descending=True), f"scores of {user!r} must fall"
        assert rows["item_id"].is_unique().all(), f"{user!r} gets an item twice"


def _person_laws(recommender: "Recommender", rows: pl.DataFrame, user: Id, k: int) -> None:
    """Alone as in a batch; a shorter list is the head of a longer one; scores agree with `score`."""
    for asked in (user, [user]):
        alone = recommender.recommend(asked, k=k, filter_seen=True)
        assert alone["item_id"].to_list() == rows["item_id"].to_list(), f"{user!r} alone is not as in a batch"
        np.testing.assert_allclose(alone["score"].to_numpy(), rows["score"].to_numpy(), rtol=1e-5, atol=1e-6)
    head = recommender.recommend([user], k=max(k // 2, 1), filter_seen=True)
    assert head["item_id"].to_list() == rows["item_id"].to_list()[: head.height], "short lists head long ones"
    scores = recommender.score([user] * rows.height, rows["item_id"].to_list())
    np.testing.assert_allclose(np.asarray(scores), rows["score"].to_numpy(), rtol=1e-4, atol=1e-5)
