"""Models in the cache that somebody altered, folders that are verified, and packages of others that do not load."""

from __future__ import annotations

import json
import os
import shutil
import threading
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from forwhy import systems, wheels
from forwhy.atomic import file_sha256
from forwhy.cli import main
from forwhy.data.dataset import Dataset
from forwhy.doctor import verify
from forwhy.errors import UserError
from forwhy.wheels import MANIFEST, PackagedModel, Wheel, ensure, state

MODEL = PackagedModel(
    "toy", "Toy", "MIT", 1, (Wheel("toy", "1.0", "0" * 64),), ("config.json", "model.safetensors")
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as it is unpacked."""
    folder = MODEL.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"hidden_size": 4}')
    (folder / "model.safetensors").write_bytes(bytes(4000))
    wheels._write_manifest(MODEL, folder)
    assert state(MODEL, tmp_path) == "ready"
    return folder


def alter(path: Path, hide: bool = False) -> None:
    """Other bytes of the same length; hidden: the time of the last change is put back."""
    before = path.stat()
    path.write_bytes(bytes([1]) * before.st_size)
    if hide:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def exchanged(folder: Path) -> None:
    """Another file in its place."""
    other = folder / "other"
    shutil.copy2(folder / "model.safetensors", other)
    alter(other, hide=True)
    other.replace(folder / "model.safetensors")


def manifest(folder: Path, **changes: Any) -> None:  # noqa: ANN401
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**document, **changes}))


SPOILED = {
    "of equal size": lambda it: alter(it / "model.safetensors"),
    "of equal size and time": lambda it: alter(it / "model.safetensors", hide=True),
    "exchanged": exchanged,
    "cut": lambda it: (it / "model.safetensors").write_bytes(b""),
    "gone": lambda it: (it / "config.json").unlink(),
    "a file more": lambda it: (it / "generation_config.json").write_text("{}"),
    "nothing listed": lambda it: manifest(it, bytes={}, sha256={}),
    "no hashes": lambda it: manifest(it, sha256={}),
    "weights not listed": lambda it: manifest(it, sha256={"config.json": file_sha256(it / "config.json")}),
    "others' files listed": lambda it: manifest(it, sha256={"../../x": "0" * 64}, bytes={"../../x": 1}),
    "sizes in words": lambda it: manifest(it, bytes={"config.json": "x", "model.safetensors": None}),
    "brackets": lambda it: (it / MANIFEST).write_text("[" * 100_000),
    "a list": lambda it: (it / MANIFEST).write_text("[]"),
    "no text": lambda it: (it / MANIFEST).write_bytes(b"\xff"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_an_altered_model_is_found(name: str, folder: Path, tmp_path: Path) -> None:
    SPOILED[name](folder)
    assert state(MODEL, tmp_path) == "damaged"
    assert state(MODEL, tmp_path) == "damaged"  # not only the first time


def test_a_start_costs_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(wheels, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    assert state(MODEL, tmp_path) == "ready"
    assert not read
    (folder / "config.json").touch()
    assert state(MODEL, tmp_path) == "ready"
    assert len(read) == 2
    assert state(MODEL, tmp_path) == "ready"
    assert len(read) == 2
    assert state(MODEL, tmp_path, again=True) == "ready"
    assert len(read) == 4
    next(folder.parent.glob(".*.seen.json")).write_text("[" * 100_000)
    assert state(MODEL, tmp_path) == "ready"
    assert len(read) == 6


def test_a_cache_that_cannot_be_written_is_compared_each_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(wheels, "write_text", refuse)
    (folder / "config.json").touch()
    assert state(MODEL, tmp_path) == "ready"
    alter(folder / "config.json")
    assert state(MODEL, tmp_path) == "damaged"


def test_two_fetches_at_once_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def build(model: PackagedModel, cache: Path) -> None:
        built.append(1)
        place = model.folder(cache)
        place.mkdir(parents=True)
        (place / "config.json").write_text("{}")
        (place / "model.safetensors").write_bytes(bytes(10))
        wheels._write_manifest(model, place)

    monkeypatch.setattr(wheels, "_build", build)
    threads = [threading.Thread(target=ensure, args=(MODEL, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert built == [1]
    assert state(MODEL, tmp_path, again=True) == "ready"


def test_folders_are_verified(
    tiny_town: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORWHY_CACHE", str(tmp_path / "cache"))
    town = tmp_path / "data" / "town"
    tiny_town.save(town)
    assert verify([tmp_path / "data"]) == {str(town): "whole"}
    assert verify([tmp_path / "none"]) == {str(tmp_path / "none"): "holds no artifact and no data set"}
    table = town / "interactions.parquet"
    content = bytearray(table.read_bytes())
    content[100] ^= 1
    table.write_bytes(content)
    assert "altered" in verify([tmp_path / "data"])[str(town)]
    with pytest.raises(SystemExit) as leaving:
        main(["doctor", "--verify", str(tmp_path / "data"), "--json"])
    assert leaving.value.code == 2
    printed = capsys.readouterr()
    assert "altered" in json.loads(printed.out)["folders"][str(town)]
    assert len(printed.err.splitlines()) == 1
    (town / "dataset.json").write_text("[" * 100_000)
    assert verify([town])[str(town)] != "whole"


# --- Packages of others


BROKEN = {
    "not_there": "no_such_module_of_anybody:System",
    "leaves": "leaving_module:System",
    "fails": "failing_module:System",
    "nothing": "json:nothing",
    "no_system": "json:JSONDecoder",
    "no_name": "..:",
}


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_module.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "failing_module.py").write_text("raise RuntimeError('x' * 10_000 + chr(10) + chr(27))\n")
    monkeypatch.syspath_prepend(tmp_path)
    others = {name: EntryPoint(name, value, systems.GROUP) for name, value in BROKEN.items()}
    others["beat"] = EntryPoint("beat", "failing_module:System", systems.GROUP)
    monkeypatch.setattr(systems, "_others", lambda: others)


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize("name", BROKEN)
def test_a_package_that_does_not_load_is_named(name: str) -> None:
    assert name in systems.names()
    with pytest.raises(UserError, match=f"^system '{name}': ") as told:
        systems.find_system(name)
    assert len(str(told.value)) <= 300


@pytest.mark.usefixtures("plugged")
def test_the_others_are_still_there() -> None:
    assert systems.find_system("popularity").model_fields["system"].default == "popularity"
    assert systems.names().count("beat") == 1
    assert systems.find_system("beat").__module__ == "forwhy.systems.beat"  # not somebody's of the same name
