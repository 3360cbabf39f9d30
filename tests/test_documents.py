"""What comes in as a document or a file is read within bounds, or refused in a line that names it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forwhy import documents
from forwhy.documents import NotToml, parse_json, parse_toml, read_json, read_lines, read_toml, require_file
from forwhy.errors import UserError, plain, shortened
from forwhy.frames import read_parquet

BYTES = st.binary(max_size=200) | st.text(max_size=80).map(str.encode)


def told(read: Callable[[], object]) -> tuple[object, str]:
    """What is read, or the line that says why not."""
    try:
        return read(), ""
    except UserError as error:
        return None, str(error)


@settings(derandomize=True, max_examples=300)
@given(BYTES)
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 5000)
@example(b'["\\ud800"]')
@example(b'{"\\udc00": 1}')
def test_any_bytes_are_json_or_a_line(content: bytes) -> None:
    value, said = told(lambda: parse_json(content, "x.json"))
    assert said.startswith("x.json: ") == (";" in said)
    assert said or json.dumps(value, ensure_ascii=False).encode() is not None


@settings(derandomize=True, max_examples=300)
@given(st.text(max_size=80))
@example("a = " + "[" * 5000 + "]" * 5000)
@example("a = " + "[" * 100 + "]" * 100)
@example("a = " + "9" * 5000)
@example("a = 2020-13-45")
def test_any_text_is_toml_or_a_line(text: str) -> None:
    value, said = told(lambda: parse_toml(text, "x.toml"))
    assert isinstance(value, dict) or (said.startswith("x.toml: ") and ";" in said)


def test_what_is_no_toml_is_told_from_what_is_too_much() -> None:
    with pytest.raises(NotToml):
        parse_toml("a = out/yelp", "x")
    with pytest.raises(UserError, match="too many digits") as told:
        parse_toml("a = " + "9" * 5000, "x")
    assert not isinstance(told.value, NotToml)


@pytest.mark.parametrize(
    "bomb", [b"[" + b"[]," * 1000 + b"[]]", b"[" + b"{}," * 400 + b"{}]", b'"' + b"a" * 30_000 + b'"']
)
def test_a_bomb_is_refused_before_it_unfolds(monkeypatch: pytest.MonkeyPatch, bomb: bytes) -> None:
    monkeypatch.setattr(documents, "UNFOLDED", 100_000)
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(UserError, match="MiB when read"):
        parse_json(bomb, "x.json")


def test_only_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    wrong = {"loop": "check the path", "pipe": "a pipe or a device", "empty": "empty file", ".": "is a folder",
             "x" * 300: "check the path", "none": "no such file",
             "empty/x": "no such file", "a\0b": "check the path"}  # fmt: skip
    for name, said in wrong.items():
        for read in (require_file, read_json):
            with pytest.raises(UserError, match=said):
                read(tmp_path / name)
    with pytest.raises(UserError, match="a pipe or a device"):
        require_file(Path("/dev/zero"))


def test_lines_are_objects(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n[2]\n')
    with pytest.raises(UserError, match=r"metrics.jsonl: row 2: not a JSON object; copy"):
        read_lines(path)
    path.write_text("")
    assert read_lines(path) == []


def test_toml_has_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("a = 1\n#" + "x" * documents.LARGEST)
    with pytest.raises(UserError, match="and TOML may have"):
        read_toml(path)


def test_parquet_is_read_by_its_name_and_not_out_of_nothing(tmp_path: Path) -> None:
    for name, value in (("r[1].parquet", 1), ("r1.parquet", 2)):
        pl.DataFrame({"a": [value]}).write_parquet(tmp_path / name)
    assert read_parquet(tmp_path / "r[1].parquet")["a"].to_list() == [1]
    pl.select(pl.repeat(7, 8_000_000).alias("a")).write_parquet(tmp_path / "bomb.parquet")
    with pytest.raises(UserError, match="8,000,000 rows in"):
        read_parquet(tmp_path / "bomb.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="truncated or not parquet"):
        read_parquet(tmp_path / "cut.parquet")


@settings(derandomize=True)
@given(st.text())
@example("\x1b[2J\x9b31m\u202e\u2066\x00\x07\ud800")
def test_unseen_letters_are_written_out(text: str) -> None:
    shown = plain(text)
    assert all(letter.isprintable() or letter in "\n\u200c\u200d" for letter in shown)
    assert plain(shown) == shown
    assert shown.count("\n") == text.count("\n")


@settings(derandomize=True)
@given(
    st.lists(st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=400), max_size=12),
    st.integers(60, 400),
)
@example(["x" * 10_000, "a" * 5000], 290)
def test_messages_are_cut_in_the_middle(words: list[str], most: int) -> None:
    message = " ".join([*words, "; remedy"])
    cut = shortened(message, most)
    assert len(cut) <= most
    assert cut == message or "…" in cut
    assert cut.endswith("remedy")
