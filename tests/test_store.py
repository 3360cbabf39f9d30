"""Rows in a file: durable, shared, refused when they are not ours."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from forwhy.errors import UserError
from forwhy.store import Store

COLUMNS = ("key TEXT", "value TEXT")


def store(path: Path | None) -> Store:
    return Store(path, "things", COLUMNS, "kept things")


def rows(path: Path) -> list[tuple[str, str]]:
    with store(path) as things:
        return things.read("SELECT * FROM things ORDER BY rowid")


WRITER = """
import sys; from pathlib import Path; from forwhy.store import Store
name, wanted = sys.argv[2], int(sys.argv[3])
with Store(Path(sys.argv[1]), "things", ("key TEXT", "value TEXT"), "kept things") as things:
    for n in range(wanted):
        things.write([(f"{name} {n}", "x")])
        print(n, flush=True)
"""


def writer(path: Path, name: str, wanted: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(wanted)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_first_of_two_rows_with_one_key_stays(tmp_path: Path) -> None:
    with store(tmp_path / "new" / "s.db") as things:
        things.write([("a", "1"), ("b", "2")])
        things.write([("a", "3"), ("c", "4")])
    assert rows(tmp_path / "new" / "s.db") == [("a", "1"), ("b", "2"), ("c", "4")]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["s.db"]


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with writer(tmp_path / "s.db", "a", 10_000) as victim:
        assert victim.stdout is not None
        told = [int(victim.stdout.readline()) for _ in range(40)]
        victim.send_signal(signal.SIGKILL)
        told += [int(line) for line in victim.stdout]
    kept = [key for key, _ in rows(tmp_path / "s.db")]
    assert kept[: len(told)] == [f"a {n}" for n in told]
    assert len(told) <= len(kept) <= len(told) + 1


def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    running = [writer(tmp_path / "s.db", name, 40) for name in "abcd"]
    assert [process.communicate()[0].count("\n") for process in running] == [40] * 4
    assert {key for key, _ in rows(tmp_path / "s.db")} == {
        f"{name} {n}" for name in "abcd" for n in range(40)
    }


def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with store(tmp_path / "s.db") as things:
        with pytest.raises(sqlite3.ProgrammingError):
            things.write([("a", "1"), ("b", object())])
        assert things.read("SELECT * FROM things") == []


def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path: Path) -> None:
    with store(tmp_path / "s.db") as things:
        things.write([("a", "1")])
        things.read("PRAGMA max_page_count = 1")  # SQLite's own way to be full
        with pytest.raises(UserError, match=r"s\.db: the disk is full; free space"):
            things.write([("b", "x" * 100_000)])
        assert things.read("SELECT * FROM things") == [("a", "1")]
    assert rows(tmp_path / "s.db") == [("a", "1")]


@pytest.mark.parametrize(
    "content", [b"\x00", b"my notes", b"user,item\n1,2\n" * 500, b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_a_file_of_something_else_is_refused_and_left(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(
        UserError, match="notes: no file of kept things, or a damaged one .*; give another file"
    ):
        store(tmp_path / "notes")
    assert (tmp_path / "notes").read_bytes() == content


def test_a_database_of_another_program_is_refused_and_left(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE bookmarks (url)")
    other.close()
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(UserError, match=r"other\.db: .*a database of another program"):
        store(tmp_path / "other.db")
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with store(path) as things:
        things.write((str(n), "x" * 100) for n in range(1000))
    path.write_bytes(path.read_bytes()[:8192])
    with pytest.raises(UserError, match=r"s\.db: no file of kept things, or a damaged one"):
        rows(path)


def test_a_folder_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "s.db"):
        with pytest.raises(UserError, match="choose another place for kept things"):
            store(path)


def test_a_file_that_was_refused_is_free_again(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("x" * 600)
    for _ in range(2):
        with pytest.raises(UserError, match="give another file"):
            store(tmp_path / "s.db")
    (tmp_path / "s.db").unlink()
    assert rows(tmp_path / "s.db") == []
