"""The file of answers: what was written is found again, whole, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from forwhy.errors import UserError
from forwhy.text.chat.base import Answer, Reason, Tally
from forwhy.text.chat.cache import ReplyCache

USED = Tally(2, 200, 10, estimated=1)
TEXTS = ["", "tea", "дом 日本語 😀", 'a\n"}\u2028\x00\\', "x" * (1 << 20)]


def key(n: int) -> str:
    return f"{n:064x}"


def write(path: Path, *texts: str) -> bytes:
    with ReplyCache(path) as cache:
        for n, text in enumerate(texts):
            cache.add(key(n), "m", Answer(text, used=USED), 1.5)
    return path.read_bytes()


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    with ReplyCache(path) as cache:
        for n, text in enumerate(TEXTS):
            cache.add(key(n), "m", Answer(text, used=USED), 1.5)
            assert cache.get(key(n)) == Answer(text, used=USED)
        cache.add(key(9), "n", Answer(reason="refused", used=USED), 0)
    with ReplyCache(path) as cache:
        assert [cache.get(key(n)) for n in range(len(TEXTS))] == [Answer(text, used=USED) for text in TEXTS]
        assert cache.get(key(9)) == Answer(reason="refused", used=USED)
        assert cache.get(key(99)) is None
        assert len(cache) == len(TEXTS) + 1
        assert (cache.mean_seconds("m"), cache.mean_seconds("o")) == (1.5, None)


def test_an_answer_is_on_the_disk_before_the_next_is_asked_for(tmp_path: Path) -> None:
    with ReplyCache(tmp_path / "c") as cache:
        for n in range(3):
            cache.add(key(n), "m", Answer("x"), 0)
            assert (tmp_path / "c").read_bytes().count(b"\n") == n + 1


def test_without_a_path_answers_last_as_long_as_the_object(tmp_path: Path) -> None:
    with ReplyCache() as cache:
        cache.add(key(1), "m", Answer("tea", used=USED), 2)
        assert cache.get(key(1)) == Answer("tea", used=USED)
        assert cache.mean_seconds("m") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reason", ["rejected", "timeout", "server", "budget"])
def test_what_may_succeed_later_is_not_kept(tmp_path: Path, reason: Reason) -> None:
    with ReplyCache(tmp_path / "c") as cache:
        cache.add(key(1), "m", Answer(reason=reason, detail="secret"), 0)
        assert cache.get(key(1)) is None
    assert (tmp_path / "c").read_bytes() == b""


def test_any_cut_of_the_last_line_costs_at_most_that_line(tmp_path: Path) -> None:
    path = tmp_path / "c"
    whole = write(path, "one", "two")
    end = whole.index(b"\n") + 1
    for size in [*range(end, len(whole), 17), len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with ReplyCache(path) as cache:
            assert cache.get(key(0)) == Answer("one", used=USED)
            assert (cache.get(key(1)) is not None) == (size == len(whole) - 1)
            cache.add(key(5), "m", Answer("three"), 0)
        with ReplyCache(path) as cache:
            assert cache.get(key(5)) == Answer("three")
            assert (cache.get(key(1)) == Answer("two", used=USED)) == (size == len(whole) - 1)


def test_foreign_lines_are_named_and_left(tmp_path: Path) -> None:
    path = tmp_path / "c"
    one, two = write(path, "one", "two").splitlines()
    content = b"\n".join([one, b"{}", two, two.replace(b'"m"', b"3")]) + b"\n"
    path.write_bytes(content)
    with (
        pytest.raises(UserError, match="c, line 2, 4: not a kept answer; delete it, so that its question"),
        ReplyCache(path),
    ):
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"my notes", b"user,item\n1,2\n", b'{"key":"tea"}', b"\x00"])
def test_somebody_elses_file_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(UserError, match="give another file"), ReplyCache(tmp_path / "notes"):
        pass
    assert (tmp_path / "notes").read_bytes() == content


def test_of_two_answers_to_one_question_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "c"
    first = write(path, "one")
    path.write_bytes(first + first.replace(b"one", b"two"))
    with ReplyCache(path) as cache:
        assert cache.get(key(0)) == Answer("one", used=USED)
        cache.add(key(0), "m", Answer("three"), 0)
    assert path.read_bytes().count(b"\n") == 2


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    with ReplyCache(tmp_path / "c") as cache:

        def add(start: int) -> None:
            for n in range(start, start + 40):
                cache.add(key(n), "m", Answer(f"text {n}" * 50), 1)

        threads = [threading.Thread(target=add, args=(start,)) for start in (0, 20, 40, 60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [cache.get(key(n)) for n in range(100)] == [Answer(f"text {n}" * 50) for n in range(100)]
    assert (tmp_path / "c").read_bytes().count(b"\n") == 100


def test_a_second_process_waits_and_finds_the_answers_of_the_first(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from forwhy.text.chat.cache import ReplyCache\n"
        "print('up', flush=True)\n"
        "with ReplyCache(Path(sys.argv[1])) as cache: print(len(cache))"
    )
    with ReplyCache(tmp_path / "c") as cache:
        command = [sys.executable, "-c", code, str(tmp_path / "c")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "up\n"
            threading.Event().wait(0.2)
            assert other.poll() is None
            cache.add(key(1), "m", Answer("x"), 0)
            cache.__exit__()
            assert other.stdout.read() == "1\n"


def test_a_full_disk_is_said_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write(tmp_path / "c", "one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with ReplyCache(tmp_path / "c") as cache:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="c: the disk is full"):
            cache.add(key(5), "m", Answer("x"), 0)
        monkeypatch.undo()
        assert cache.get(key(5)) is None
    assert (tmp_path / "c").read_bytes() == before
