"""The picture of what is looked at: its caption adds up, strangers' text is text, and other endings are refused."""

from pathlib import Path
from typing import Any

import pytest

from forwhy.errors import UserError
from forwhy.report.attention import attention_panel, check_picture, said, write_attention

HOSTILE = "<script>alert(1)</script> $x^2$ \x1b[31m \u202e \u4e2d\u6587"


@pytest.fixture
def view() -> dict[str, Any]:
    """As `Attention.document` gives it."""

    def token(name: str, side: str, worth: float) -> dict[str, Any]:
        return {"token": name, "side": side, "gloss": [HOSTILE], "contribution": worth}

    return {
        "user": "ann",
        "item": HOSTILE,
        "words": ["warm", HOSTILE],
        "tokens": [token("<u.micro_1>", "user", 0.5), token("<i.micro_2>", "item", -0.25)],
        "others": ["title", "rest"],
        "shares": [[0.1, 0.2, 0.3, 0.4], [0.2, 0.2, 0.1, 0.5]],
    }


def test_the_caption_says_where_the_attention_goes(view: dict[str, Any]) -> None:
    words = said(view)
    assert (
        "mean over all layers and heads: 15% on the user's tokens, 20% on the item's tokens, 20% on title"
        in words
    )
    assert "Darkest: 20% and 30% of a word's attention" in words


@pytest.mark.parametrize("kind", ["png", "svg", "pdf", "PNG"])
def test_a_picture_is_written_whole(view: dict[str, Any], tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"heat.{kind}"
    write_attention(path, view)
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind.lower()]
    assert path.read_bytes().startswith(begins)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_the_pages_picture_has_its_colours_and_nothing_of_a_strangers(view: dict[str, Any]) -> None:
    panel = attention_panel(view, "A picture")
    assert panel.words == said(view)
    assert panel == attention_panel(view, "A picture")
    assert all(f"fill: var(--run{side})" in panel.svg for side in (0, 1))
    assert "<script" not in panel.svg
    assert "#" not in panel.svg.replace("url(#", ""), "no colour but the page's"


def test_another_ending_is_refused(view: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"heat\.jpeg2: no such kind of picture; end it in \.png, \.svg, \.pdf"
    ):
        check_picture(tmp_path / "heat.jpeg2")
    with pytest.raises(UserError, match="no such kind of picture"):
        write_attention(tmp_path / "heat", view)
    assert list(tmp_path.iterdir()) == []
