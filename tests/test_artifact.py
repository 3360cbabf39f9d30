"""Artifacts: what is saved comes back, anything else is refused by name, and no write is ever half done."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forwhy import artifact, atomic
from forwhy.artifact import CONFIG as CONFIG_FILE
from forwhy.artifact import Artifact, Content, Saved, card, load, save
from forwhy.atomic import atomic_file, atomic_folder, recover, refuse_foreign, refuse_other, write_signed
from forwhy.errors import UserError
from forwhy.testing import forge

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "codes": np.array([3, 1], np.int32)}
TABLES = {"words": pl.DataFrame({"token": ["<u.macro_1>"], "gloss": [["cosy", "naïve ☕"]]})}
CONFIG = {"alpha": 0.2, "slots": [1, 5], "nested": {"none": None}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "saved", "vocabulary", Content(CONFIG, TENSORS, TABLES, "# Card\n"))
    return tmp_path / "saved"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_saved_comes_back(folder: Path) -> None:
    loaded = load(folder, "vocabulary")
    assert (loaded.kind, loaded.config) == ("vocabulary", CONFIG)
    assert loaded.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(loaded.tensors[name], tensor, strict=True)
    assert loaded.tables["words"].equals(TABLES["words"])
    assert (folder / "README.md").read_text() == "# Card\n"


def test_views_and_numpy_scalars_are_saved_by_value(tmp_path: Path) -> None:
    view = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    config = {"n": np.int64(3), "lost": float("nan"), "t": (1, 2)}
    save(tmp_path / "a", "k", Content(config, {"v": view}))
    loaded = load(tmp_path / "a", "k")
    np.testing.assert_array_equal(loaded.tensors["v"], view)
    assert loaded.config == {"n": 3, "lost": None, "t": [1, 2]}


def test_parts_travel_inside_and_are_checked(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "outer", "explainer", Content(parts={"vocabulary": folder}))
    outer = load(tmp_path / "outer", "explainer")
    assert load(outer.part("vocabulary"), "vocabulary").config == CONFIG
    assert outer.tables == {}
    (tmp_path / "outer" / "vocabulary" / "words.parquet").unlink()
    with pytest.raises(UserError, match=r"vocabulary/words\.parquet: missing"):
        load(tmp_path / "outer", "explainer")
    with pytest.raises(ValueError, match="part name"):
        save(tmp_path / "bad", "explainer", Content(parts={"../up": folder}))
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "words.parquet", "README.md"])
def test_every_damage_is_refused_with_the_files_name(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for damaged, reason in [
        (None, "missing"),
        (content[:-3], "truncated|altered"),
        (content + b" x", "altered|truncated or not JSON"),
        (content.replace(b"0", b"1", 1) if b"0" in content else content[:-1] + b"!", "altered"),
    ]:
        (folder / name).unlink(missing_ok=True)
        if damaged is not None:
            (folder / name).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{name}: .*({reason})") as error:
            load(folder, "vocabulary")
        assert "\n" not in str(error.value)


def test_foreign_newer_and_wrong_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="kind 'vocabulary', but 'explainer' was asked for"):
        load(folder, "explainer")
    with pytest.raises(UserError, match="no such folder"):
        load(tmp_path / "nowhere", "vocabulary")
    forge(folder, format=99)
    with pytest.raises(UserError, match="format 99 .*upgrade forwhy"):
        load(folder, "vocabulary")
    for foreign in ('{"model_type": "llama"}', "[]", '{"forwhy": "1", "format": true, "kind": {}}'):
        (folder / "config.json").write_text(foreign)
        with pytest.raises(UserError, match=r"config\.json"):
            load(folder, "vocabulary")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", ""])
def test_a_config_cant_name_files_outside_its_folder(folder: Path, name: str) -> None:
    forge(folder, files={name: {"bytes": 1, "sha256": ""}})
    with pytest.raises(UserError, match="outside its folder"):
        load(folder, "vocabulary")


@pytest.mark.parametrize("files", [None, [], {"model.safetensors": 3}, {"model.safetensors": {}}])
def test_a_malformed_file_list_is_refused(folder: Path, files: object) -> None:
    forge(folder, files=files)
    with pytest.raises(UserError, match=r"config\.json"):
        load(folder, "vocabulary")


def test_a_folder_changed_on_purpose_can_be_signed_again(folder: Path) -> None:
    (folder / "README.md").write_text("# Other\n")
    (folder / "words.parquet").unlink()
    forge(folder)
    loaded = load(folder, "vocabulary")
    assert (loaded.config, loaded.tables) == (CONFIG, {})


def test_a_card_has_a_table_of_what_was_measured() -> None:
    head = "---\nlibrary_name: forwhy\ntags: [recommendation, words]\n---\n# T\n\nSays.\n\n"
    assert card("T", "Says.", {}, "words") == head
    numbers = card("T", "Says.", {"loss": 1, "full": {"epoch": 2}}, "words")
    assert numbers == head + "| measured in training |  |\n| --- | --- |\n| loss | 1 |\n| full epoch | 2 |\n"
    assert card("T", "Says.", [{"a": 1, "b": 2}], "words") == head + "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_saving_over_replaces_the_whole_folder(folder: Path) -> None:
    save(folder, "vocabulary", Content())
    assert sorted(tree(folder)) == ["README.md", "config.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_what_forwhy_did_not_write_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years")
    (tmp_path / "file").write_text("x")
    for place in ("thesis", "file"):
        with pytest.raises(UserError, match=place):
            save(tmp_path / place, "vocabulary", Content())
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years"
    (tmp_path / "empty").mkdir()
    refuse_foreign(tmp_path / "empty", "config.json")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(*_: object) -> None:
        raise OSError(code, "full")

    before = tree(folder)
    monkeypatch.setattr(artifact, "save_file", full)
    with pytest.raises(UserError, match="saved: the disk is full"):
        save(folder, "vocabulary", Content({}, TENSORS))
    assert tree(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_really_full_device_is_recognised(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="disk is full"),
        atomic.full_disk(tmp_path),
        open("/dev/full", "wb", buffering=0) as stream,
    ):
        stream.write(b"x")


def test_a_full_disk_under_safetensors_or_polars_is_recognised(tmp_path: Path) -> None:
    """A file-size limit makes real writes fail inside both libraries; the text of their errors is theirs."""
    program = """
import resource, signal, sys, numpy, polars
from pathlib import Path
from forwhy.artifact import Content, save
from forwhy.errors import UserError
from forwhy.testing import forge
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
big = numpy.random.default_rng(0).random(100_000)
for tensors, tables in (({"x": big}, {}), ({}, {"t": polars.DataFrame({"x": big})})):
    try:
        save(Path(sys.argv[1]), "k", Content({}, tensors, tables))
    except UserError as error:
        print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "full")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("full: the disk is full") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_kill_between_the_two_renames_loses_nothing(folder: Path) -> None:
    before = tree(folder)
    folder.rename(folder.with_name(".saved.previous"))
    assert load(folder, "vocabulary").config == CONFIG
    assert tree(folder) == before
    (folder.with_name(".saved.previous")).mkdir()
    recover(folder)
    assert tree(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_a_kill_while_writing_leaves_the_old_and_is_cleaned_up(folder: Path) -> None:
    before = tree(folder)
    program = """
import os, signal, sys
from pathlib import Path
from forwhy.atomic import atomic_folder
with atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program, str(folder)], check=False).returncode == -9
    assert tree(folder) == before
    assert list(folder.parent.glob(".saved.*.partial"))
    save(folder, "vocabulary", Content())
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_atomic_writes_are_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.json"
    with atomic_file(target) as temporary:
        temporary.write_text("one")
        assert not target.exists()
    with pytest.raises(KeyError), atomic_file(target) as temporary:  # noqa: PT012
        temporary.write_text("two")
        raise KeyError
    assert target.read_text() == "one"
    assert [path.name for path in target.parent.iterdir()] == ["file.json"]
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode, "readable by whom other files are"


def test_a_link_to_a_folder_stays_a_link(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    save(link, "vocabulary", Content({"new": 1}))
    assert link.is_symlink()
    assert load(folder, "vocabulary").config == {"new": 1}
    with atomic_folder(folder.parent / "fresh") as temporary:
        (temporary / "x").write_text("")
    assert (folder.parent / "fresh" / "x").exists()


def test_a_folder_of_an_older_format_names_the_command_that_makes_it_again(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "stage"
    artifact.save(folder, "thing", artifact.Content())
    forge(folder, format=1)
    with pytest.raises(
        UserError, match=r"format 1 of forwhy .* reads format 2; .* with the command that made it"
    ):
        artifact.load(folder, "thing")
    (tmp_path / "run" / "recipe.toml").touch()
    with pytest.raises(UserError, match=r"again with `forwhy run .*/run/recipe.toml --out .*/run`"):
        artifact.load(folder, "thing")


def test_a_run_is_the_folder_of_what_its_stages_made(folder: Path, tmp_path: Path) -> None:
    """A stage is found by what it holds; one that is not made yet is asked for by a command."""

    class Words(Saved):
        kind = "vocabulary"

        def content(self) -> Content:
            return Content()

        @classmethod
        def restore(cls, stored: Artifact, **where: object) -> "Words":
            assert stored.config == CONFIG
            return cls()

    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text("")
    with pytest.raises(
        UserError, match=r"run: a run without a finished vocabulary; go on with: forwhy run .*/recipe.toml"
    ):
        Words.from_pretrained(run)
    save(run / "a-stage", "explainer", Content())
    (run / "broken").mkdir()
    (run / "broken" / "config.json").write_text("[")
    folder.rename(run / "stage")
    assert isinstance(Words.from_pretrained(run), Words)
    assert isinstance(Words.from_pretrained(run / "stage"), Words)


WRITE = """
import sys, time
from pathlib import Path
from forwhy.atomic import atomic_folder
with atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "who").write_text(sys.argv[2])
    print("writing", flush=True)
    sys.stdin.readline()
    (temporary / "also").write_text(sys.argv[2])
"""


def test_two_writers_of_one_folder_each_have_their_own(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE, str(tmp_path / "new" / "set[1]")]
    two = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    for writer in two:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"  # both are in the middle of it
    for writer in two:
        writer.communicate("\n")
        assert writer.returncode == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"set[1]"}
    assert [(tmp_path / "new" / "set[1]" / name).read_text() for name in ("who", "also")] == ["b", "b"]


def test_a_refusal_leaves_no_folder_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(UserError), atomic_folder(tmp_path / "a" / "b" / "c"):  # noqa: PT012
        assert (tmp_path / "a" / "b").is_dir()
        raise UserError("no")
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_ours_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "theirs.csv").write_text("a,b\n")
    (tmp_path / "ours").write_text("ours")
    (tmp_path / "none").touch()
    for name in ("theirs.csv", "pipe", "."):
        with pytest.raises(UserError):
            refuse_other(tmp_path / name, lambda begin: begin == b"ours")
    for name in ("ours", "none", "new"):
        refuse_other(tmp_path / name, lambda begin: begin == b"ours")
    for name in ("pipe", "."):
        with pytest.raises(UserError, match="choose another place"), atomic_file(tmp_path / name):
            pass


def test_a_right_digest_is_no_sense(folder: Path) -> None:
    """Anybody can compute a digest: what does not fit together is a line all the same."""
    document = json.loads((folder / CONFIG_FILE).read_text())
    for change in (
        {"files": 3},
        {"format": "2"},
        {"kind": None},
        {"config": []},
        {"files": {"a": {"bytes": -1}}},
    ):
        altered = {key: value for key, value in (document | change).items() if key != "digest"}
        write_signed(folder, CONFIG_FILE, altered)
        with pytest.raises(UserError, match=rf"{CONFIG_FILE}: .*;"):
            load(folder, "vocabulary")
