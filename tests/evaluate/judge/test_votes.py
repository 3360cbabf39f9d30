"""The file of votes: what was written is found again, and nothing else is touched."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from forwhy.errors import UserError
from forwhy.evaluate.judge.judge import FINAL, Reason, Vote, VoteFile
from forwhy.text.chat.base import Tally


def vote(letter: str, score: int | None = 7, reason: Reason | None = None) -> Vote:
    return Vote(
        key=letter * 64,
        model="m",
        prompt="p",
        score=score,
        reason=reason,
        used=Tally(1, 200, 10, estimated=1),
    )


def write(path: Path, *votes: Vote) -> bytes:
    with VoteFile(path) as file:
        for one in votes:
            file.add(one)
    return path.read_bytes()


def read(path: Path) -> list[Vote]:
    with VoteFile(path) as file:
        return list(file.votes.values())


def test_votes_come_back_as_they_were(tmp_path: Path) -> None:
    votes = [vote("a", 0), vote("b", 100), vote("c", None, "refused"), vote("d", None, "prose")]
    write(tmp_path / "new" / "votes.jsonl", *votes)
    assert read(tmp_path / "new" / "votes.jsonl") == votes


def test_a_vote_is_on_the_disk_before_the_next_is_asked_for(tmp_path: Path) -> None:
    with VoteFile(tmp_path / "v") as file:
        for n, letter in enumerate("abc", 1):
            file.add(vote(letter))
            assert (tmp_path / "v").read_bytes().count(b"\n") == n


def test_what_may_succeed_later_is_not_kept(tmp_path: Path) -> None:
    passing: list[Reason] = ["timeout", "server", "rejected", "budget"]
    assert not FINAL & set(passing)
    assert write(tmp_path / "v", *(vote("a", None, reason) for reason in passing)) == b""


def test_any_cut_of_the_last_line_costs_at_most_that_line(tmp_path: Path) -> None:
    path = tmp_path / "v"
    whole = write(path, vote("a"), vote("b"))
    end = whole.index(b"\n") + 1
    for size in [*range(end, len(whole), 23), len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        kept = [vote("a"), vote("b")] if size == len(whole) - 1 else [vote("a")]
        assert read(path) == kept
        assert write(path, vote("c")).endswith(b"}\n")
        assert read(path) == [*kept, vote("c")]


def test_lines_that_are_no_votes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "v"
    lines = write(path, vote("a"), vote("b")).splitlines()
    both = json.loads(lines[0]) | {"reason": "prose"}
    bad = [b"", b"{}", lines[0].replace(b":7", b":170"), json.dumps(both).encode(), b"\xff", b"[1]"]
    content = b"\n".join([lines[0], bad[0], lines[1], *bad[1:]]) + b"\n"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"v, line 2, 4, 5, 6, 7 and 1 more: .*delete it"):
        read(path)
    assert path.read_bytes() == content
    path.write_bytes(lines[0] + b"\n")
    assert read(path) == [vote("a")]


@pytest.mark.parametrize(
    "content", [b"my notes", b'{"user_id": 1', b"user,item\n1,2\n", b"\x00\x00", b'{"key":"tea"}']
)
def test_somebody_elses_file_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(UserError, match="give another file"):
        read(tmp_path / "notes")
    assert (tmp_path / "notes").read_bytes() == content


def test_of_two_votes_with_one_key_the_first_counts(tmp_path: Path) -> None:
    write(tmp_path / "v", vote("a", 1), vote("a", 2))
    assert read(tmp_path / "v") == [vote("a", 1)]


def test_no_path_keeps_nothing() -> None:
    with VoteFile(None) as file:
        file.add(vote("a"))
        assert file.votes == {}


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v"
    before = write(path, vote("a"))
    path.write_bytes(before + before[:50])  # a kill's leftover, cut off before the disk is full

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with VoteFile(path) as file:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="v: the disk is full"):
            file.add(vote("b"))
        monkeypatch.undo()
        assert path.read_bytes() == before
        file.add(vote("c"))
    assert read(path) == [vote("a"), vote("c")]


def test_a_folder_is_no_place_for_votes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another place"):
        read(tmp_path / "file" / "v")
    with pytest.raises(UserError, match="choose another place"):
        read(tmp_path)


def test_a_second_process_waits_and_finds_the_votes_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "v"
    code = (
        "import sys; from pathlib import Path; from forwhy.evaluate.judge.judge import VoteFile\n"
        "file = VoteFile(Path(sys.argv[1])); print('up', flush=True)\n"
        "with file: print(len(file.votes))"
    )
    with VoteFile(path) as file:
        other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        with other:
            assert other.stdout is not None
            assert other.stdout.readline() == "up\n"
            threading.Event().wait(0.2)
            assert other.poll() is None
            file.add(vote("a"))
            file.__exit__()
            assert other.stdout.read() == "1\n"


def test_a_file_that_was_refused_is_free_again(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("x\n")
    for _ in range(2):
        with pytest.raises(UserError, match="line 1"):
            read(tmp_path / "v")
