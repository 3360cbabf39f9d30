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
from typing import TYPE_CHECKING, Any

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


# --- artifacts ------------------------------------------------------------------------------------------


def artifact_laws(make: Callable[[], Saved], folder: Path) -> None:
    """An artifact loads alone, whole, or not at all.

    Saving what was loaded gives the same bytes; saving over it works; nothing in it is executable; moved elsewhere it
    still loads; missing, or with any file removed, truncated or altered, it is refused with that file's name.
    ``folder`` is an empty place to work in. Cost: a load per file, thrice, each refused early.
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
    _assert_refused("nowhere", load, folder / "nowhere")
    for name, content in files.items():
        path, middle = moved / name, len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else b"x"
        path.unlink()
        _assert_refused(path.name, load, moved)
        for damaged in {content[:middle], flipped} - {content}:
            path.write_bytes(damaged)
            _assert_refused(path.name, load, moved)
        path.write_bytes(content)
    load(moved)
    shutil.rmtree(moved)
    moved.mkdir()
    _assert_refused("moved", load, moved)


def forge(folder: Path, **changes: object) -> None:
    """Change entries of an artifact's config.json and sign its files, as one who knows how would; to test checks."""
    document = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    write_signed(folder, CONFIG, document | {"files": stamps(folder, CONFIG)} | changes)


def _assert_refused(name: str, call: Callable[..., object], *given: object, **named: object) -> None:
    """The call raises the caller's error, in one line that contains ``name``."""
    message = ""
    try:
        call(*given, **named)
    except UserError as error:
        message = str(error)
    assert message, f"{name}: must be refused with a UserError"
    assert name in message, f"the refusal must name {name}: {message}"
    assert "\n" not in message, "a refusal is one line"


def _contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# --- quantizers -----------------------------------------------------------------------------------------


def quantizer_laws(quantizer: Any, x: "Tensor") -> None:  # noqa: ANN401 - what it must have is said below
    """A quantizer's codes name the nearest codewords, and its vectors are those codewords.

    ``quantizer`` has a `codebook` [K, M] (leading axes of size 1 are allowed) and the method `eval`; called with
    vectors [B, M] it returns vectors [B, M], codes [B] and anything else. ``x`` [B, M] with B >= 2. Checked against
    brute force over all codewords: O(B·K·M). Evaluation mode only.
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

    def said(asked: Sequence[tuple[Id, Id]], by: "Explainer[Any, Any]" = explainer) -> list[str]:
        return [explanation.text for explanation in by.explain(list(asked))]

    texts = said(pairs)
    assert len(texts) == len(pairs), "one explanation per pair"
    assert all(isinstance(text, str) and text.strip() for text in texts), "an explanation says something"
    assert [explainer.explain(pair).text for pair in pairs] == texts, "a pair alone equals it in a batch"
    assert said(pairs[::-1]) == texts[::-1], "the order of a batch must not matter"
    repeated = said([pairs[position % len(pairs)] for position in range(8)])
    assert repeated == [texts[position % len(pairs)] for position in range(8)], "batch of 1 equals batch of 8"
    assert "".join(explainer.stream(pairs[0])) == texts[0], "the streamed pieces make up the text"
    if hasattr(explainer, "flow"):
        _flows(explainer, pairs, texts, unknown)
    assert list(explainer.explain([])) == [], "no pairs, no explanations"
    _assert_refused(str(unknown), explainer.explain, [(unknown, pairs[0][1])])
    with TemporaryDirectory() as folder:
        explainer.save_pretrained(Path(folder) / "explainer")
        loaded = type(explainer).from_pretrained(Path(folder) / "explainer")
        assert said(pairs, loaded) == texts, "save, load: same text"


def _flows(explainer: Any, pairs: Sequence[tuple[Id, Id]], texts: list[str], unknown: Id) -> None:  # noqa: ANN401
    """What is written side by side is what is written alone, also of questions that come later."""
    from forwhy.explain.asking import Question

    known = [
        Question({"user": user, "item": item}, watched=bool(row % 2))
        for row, (user, item) in enumerate(pairs)
    ]
    wrong = Question({"user": unknown, "item": pairs[0][1]})
    asked = [known[0], None, wrong, *known[1:]]
    answers: dict[Question, Any] = {}
    said: dict[Question, str] = {}
    come = iter(asked)
    while len(answers) < len(known) + 1:  # it ends when nothing is there; more comes later
        for question, answer in explainer.flow(come, 2):
            if isinstance(answer, str):
                assert answer.startswith(said.get(question, "")), "nothing that was said is taken back"
                said[question] = answer
            else:
                answers[question] = answer
    assert isinstance(answers.pop(wrong), UserError), "who cannot be answered is told so"
    assert [answers[question].text for question in known] == texts, "side by side equals alone"
    assert all(answers[question].text.startswith(text) for question, text in said.items()), (
        "words stay as they came"
    )


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
    everything = recommender.recommend(list(users), k=10**9, filter_seen=False)
    assert table.columns[:4] == ["user_id", "item_id", "score", "rank"], table.columns
    people = table["user_id"].unique(maintain_order=True).to_list()
    assert people == list(users), "people in the order asked for"
    for user in users:
        rows, taken = table.filter(pl.col("user_id") == user), set((seen or {}).get(user, ()))
        items, scores = rows["item_id"].to_list(), rows["score"].to_numpy()
        assert len(set(items)) == len(items) <= k, f"{user!r} gets an item twice, or too many"
        assert rows["rank"].to_list() == list(range(1, len(items) + 1)), f"ranks of {user!r}"
        assert np.isfinite(scores).all(), f"a score of {user!r} is not a number"
        assert rows["score"].is_sorted(descending=True), f"scores of {user!r} must fall"
        assert not taken & set(items), f"{user!r} is shown an item seen in training"
        assert taken <= set(everything.filter(pl.col("user_id") == user)["item_id"]), "filter_seen=False"
        for asked in (user, [user]):
            alone = recommender.recommend(asked, k=k, filter_seen=True)
            assert alone["item_id"].to_list() == items, f"{user!r} alone is not as in a batch"
            np.testing.assert_allclose(alone["score"].to_numpy(), scores, rtol=1e-5, atol=1e-6)
        head = recommender.recommend([user], k=max(k // 2, 1), filter_seen=True)
        assert head["item_id"].to_list() == items[: head.height], "a short list is the head of a long one"
        again = recommender.score([user] * len(items), items)
        np.testing.assert_allclose(np.asarray(again), scores, rtol=1e-4, atol=1e-5)
        for item, score in zip(items[:2], scores, strict=False):
            because = recommender.because(user, item)
            np.testing.assert_allclose(because.score, score, rtol=1e-4, atol=1e-5)
            behind = {one.item_id for one in because.items}
            assert seen is None or behind <= taken, f"{user!r} never took what is said to be behind {item!r}"
    _assert_refused(str(unknown), recommender.recommend, [unknown], k=k)
    _assert_refused(str(unknown), recommender.score, [unknown], [table["item_id"][0]])
