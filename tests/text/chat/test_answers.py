"""The file of answers: what was written is found again, whole, by any number of threads and processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from forwhy.errors import UserError
from forwhy.text.chat.answers import KeptAnswers, export_answers, import_answers
from forwhy.text.chat.base import FINAL, Answer, Reason, Tally

USED = Tally(2, 200, 10, estimated=1)
TEXTS = ["", "tea", "дом 日本語 😀", 'a\n"}\u2028\x00\\', "x" * (1 << 20)]


def key(n: int) -> str:
    return f"{n:064x}"


def write(path: Path, *texts: str) -> None:
    with KeptAnswers(path) as kept:
        for n, text in enumerate(texts):
            kept.add(key(n), "m", Answer(text, used=USED), 1.5)


def lines(path: Path, *texts: str) -> bytes:
    """A file of JSON lines with these answers."""
    write(path.with_suffix(".made"), *texts)
    export_answers(path.with_suffix(".made"), path)
    return path.read_bytes()


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.db"
    with KeptAnswers(path) as kept:
        for n, text in enumerate(TEXTS):
            kept.add(key(n), "m", Answer(text, used=USED), 1.5)
            assert kept.get(key(n)) == Answer(text, used=USED)
        kept.add(key(9), "n", Answer(reason="refused", used=USED), 0)
    with KeptAnswers(path) as kept:
        assert [kept.get(key(n)) for n in range(len(TEXTS))] == [Answer(text, used=USED) for text in TEXTS]
        assert kept.get(key(9)) == Answer(reason="refused", used=USED)
        assert kept.get(key(99)) is None
        assert len(kept) == len(TEXTS) + 1
        assert (kept.mean_seconds("m"), kept.mean_seconds("o")) == (1.5, None)


def test_an_answer_is_on_the_disk_before_the_next_is_asked_for(tmp_path: Path) -> None:
    with KeptAnswers(tmp_path / "c") as kept:
        for n in range(3):
            kept.add(key(n), "m", Answer("x"), 0)
            with KeptAnswers(tmp_path / "c") as other:
                assert len(other) == n + 1


def test_without_a_path_answers_last_as_long_as_the_object(tmp_path: Path) -> None:
    with KeptAnswers() as kept:
        kept.add(key(1), "m", Answer("tea", used=USED), 2)
        assert kept.get(key(1)) == Answer("tea", used=USED)
        assert kept.mean_seconds("m") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reason", ["rejected", "timeout", "server", "budget"])
def test_what_may_succeed_later_is_not_kept(tmp_path: Path, reason: Reason) -> None:
    assert reason not in FINAL
    with KeptAnswers(tmp_path / "c") as kept:
        kept.add(key(1), "m", Answer(reason=reason, detail="secret"), 0)
        assert (kept.get(key(1)), len(kept)) == (None, 0)


def test_of_two_answers_to_one_question_the_first_counts(tmp_path: Path) -> None:
    write(tmp_path / "c", "one")
    with KeptAnswers(tmp_path / "c") as kept:
        kept.add(key(0), "m", Answer("three"), 0)
        assert kept.get(key(0)) == Answer("one", used=USED)
        assert len(kept) == 1


def test_threads_share_it(tmp_path: Path) -> None:
    with KeptAnswers(tmp_path / "c") as kept:

        def add(start: int) -> None:
            for n in range(start, start + 40):
                kept.add(key(n), "m", Answer(f"text {n}" * 50), 1)

        threads = [threading.Thread(target=add, args=(start,)) for start in (0, 20, 40, 60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [kept.get(key(n)) for n in range(100)] == [Answer(f"text {n}" * 50) for n in range(100)]
        assert len(kept) == 100


OTHER = """
import sys; from pathlib import Path; from forwhy.text.chat.answers import KeptAnswers
with KeptAnswers(Path(sys.argv[1])) as kept:
    print('up', flush=True)
    with kept.alone(sys.argv[2]): print(len(kept), flush=True)
"""


def test_a_question_that_another_process_asks_is_waited_for(tmp_path: Path) -> None:
    with KeptAnswers(tmp_path / "c") as kept:

        def other(asked: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", OTHER, str(tmp_path / "c"), asked]
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        with ExitStack() as stack:
            stack.enter_context(kept.alone(key(1)))
            with other(f"{2:0<64}") as free, other(key(1)) as waits:
                assert free.stdout is not None
                assert waits.stdout is not None
                assert free.stdout.read() == "up\n0\n"
                assert waits.stdout.readline() == "up\n"
                with kept.alone(f"{3:0<64}"):  # the end of another question sets nobody free
                    pass
                time.sleep(0.2)
                assert waits.poll() is None
                kept.add(key(1), "m", Answer("x"), 0)
                stack.close()
                assert waits.stdout.read() == "1\n"


# ---- JSON lines


def test_export_and_import_lose_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.db", *TEXTS)
    with KeptAnswers(tmp_path / "a.db") as kept:
        kept.add(key(9), "n", Answer(reason="truncated", used=USED), 0.25)
    assert export_answers(tmp_path / "a.db", tmp_path / "out" / "a.jsonl") == len(TEXTS) + 1
    content = (tmp_path / "out" / "a.jsonl").read_text(encoding="utf-8")
    first = json.loads(content.split("\n")[1])
    assert first == {
        "key": key(1),
        "model": "m",
        "text": "tea",
        "reason": None,
        "used": vars(USED),
        "seconds": 1.5,
    }
    assert import_answers(tmp_path / "out" / "a.jsonl", tmp_path / "b.db") == len(TEXTS) + 1
    assert import_answers(tmp_path / "out" / "a.jsonl", tmp_path / "b.db") == 0
    export_answers(tmp_path / "b.db", tmp_path / "b.jsonl")
    assert (tmp_path / "b.jsonl").read_text(encoding="utf-8") == content


def test_a_file_of_lines_is_taken_over_and_left(tmp_path: Path) -> None:
    path = tmp_path / "mined.replies.jsonl"
    content = lines(path, "one", "two")
    for _ in range(2):
        with KeptAnswers(path) as kept:
            assert kept.path == tmp_path / "mined.replies.db"
            assert kept.get(key(1)) == Answer("two", used=USED)
            kept.add(key(5), "m", Answer("three"), 0)
            assert len(kept) == 3
    assert path.read_bytes() == content


def test_any_cut_of_the_last_line_costs_at_most_that_line(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    whole = lines(path, "one", "two")
    end = whole.index(b"\n") + 1
    for size in [*range(end, len(whole), 17), len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        (tmp_path / "c.db").unlink(missing_ok=True)
        with KeptAnswers(path) as kept:
            assert kept.get(key(0)) == Answer("one", used=USED)
            assert (kept.get(key(1)) is not None) == (size == len(whole) - 1)


def test_foreign_lines_are_named_and_left(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    one, two = lines(path, "one", "two").splitlines()
    content = b"\n".join([one, b"{}", two, two.replace(b'"m"', b"3"), one, b"\xff"]) + b"\n"
    path.write_bytes(content)
    message = "c.jsonl, line 2, 4, 6: not a kept answer; delete it, so that its question"
    with pytest.raises(UserError, match=message):
        KeptAnswers(path)
    with pytest.raises(UserError, match=message):
        import_answers(path, tmp_path / "d.db")
    assert path.read_bytes() == content


VOTE = {"key": key(1), "model": "m", "prompt": "p", "used": vars(USED)}


@pytest.mark.parametrize("ending", [{}, {"score": 170}, {"score": 7, "reason": "prose"}, {"score": "7"}])
def test_votes_that_are_none_are_refused(tmp_path: Path, ending: dict[str, object]) -> None:
    (tmp_path / "v").write_text(json.dumps({**VOTE, **ending}, separators=(",", ":")) + "\n")
    with pytest.raises(UserError, match="v, line 1: not a kept answer"):
        KeptAnswers(tmp_path / "v")


@pytest.mark.parametrize("content", [b"my notes", b"user,item\n1,2\n", b'{"key":"tea"}', b"\x00"])
def test_somebody_elses_file_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(UserError, match="give another file|no file of answers as JSON lines"):
        import_answers(tmp_path / "notes", tmp_path / "d.db")
    with pytest.raises(UserError, match="give another file"):
        KeptAnswers(tmp_path / "notes")
    assert (tmp_path / "notes").read_bytes() == content


def test_nothing_to_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.db: no such file"):
        export_answers(tmp_path / "none.db", tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []
