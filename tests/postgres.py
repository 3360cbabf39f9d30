"""A PostgreSQL server of the tests' own, on loopback; skipped where there is none."""

import os
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

from ports import free_port


def binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda it: int(it.parts[-3]))
    return found[-1].parent if found else Path(it).parent if (it := shutil.which("initdb")) else None


class Server:
    """Started when it is made; `url` is an empty database whose password is `s3cr3t`."""

    def __init__(self, *options: str) -> None:
        place = binaries()
        if place is None:
            pytest.skip("no PostgreSQL server on this machine (apt-get install postgresql)")
        pytest.importorskip("psycopg")
        self.place, self.options = place, options
        self.port = free_port()
        self.folder = Path("/tmp") / f"forwhy-postgres-{os.getpid()}-{self.port}"
        self.url = f"postgresql+psycopg://shop:s3cr3t@127.0.0.1:{self.port}/postgres"
        self.folder.mkdir(mode=0o700)
        (self.folder / "password").write_text("s3cr3t")
        # The server refuses to run as root; another user must reach its folder.
        self.as_user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        if self.as_user:
            subprocess.run(["chown", "-R", "nobody", self.folder], check=True)
        try:
            data, password = self.folder / "data", self.folder / "password"
            self._call("initdb", "-D", data, "-U", "shop", "--pwfile", password, "-A", "scram-sha-256")
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        self._control("-w", "-l", self.folder / "log", "-o", " ".join([options, *self.options]), "start")

    def stop(self) -> None:
        self._control("-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """As a power cut would: no process of it says goodbye."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for process in (first, *map(int, children)):
            subprocess.run(["kill", "-9", str(process)], stderr=subprocess.DEVNULL)
        # In a container nobody may collect the dead, whose number would then look alive.
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *arguments: str | Path) -> None:
        self._call("pg_ctl", "-D", self.folder / "data", *arguments)

    def _call(self, program: str, *arguments: str | Path) -> None:
        command = [*self.as_user, self.place / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


NUMBERS = count()


def new_url(kind: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables."""
    if kind == "sqlite":
        folder: Path = request.getfixturevalue("tmp_path")
        return f"sqlite:///{folder}/serve-{next(NUMBERS)}.db"
    import psycopg

    url, name = request.getfixturevalue("server").url, f"serve{next(NUMBERS)}"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    return f"{url.rpartition('/')[0]}/{name}"
