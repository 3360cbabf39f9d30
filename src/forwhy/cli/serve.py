"""`forwhy serve`: finished runs over HTTP, their keys and backups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from forwhy.cli import Group, JsonFlag, app_of, emit, show
from forwhy.errors import UserError, need

if TYPE_CHECKING:
    from forwhy.serve.database import Database

DatabaseUrl = Annotated[
    str | None,
    Option("--database", help="sqlite:///FILE or postgresql://USER@HOST/NAME; serve.db if left out."),
]
DEFAULT = "sqlite:///serve.db"


class _Serve(Group):
    def parse_args(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401
        """`forwhy serve runs/a` is `forwhy serve run runs/a`; options before any folder are those of `run`, too."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["run", *args]
        return super().parse_args(ctx, args)


serve_app = app_of(cls=_Serve)
keys_app = app_of(help="Who may ask: keys are shown once and kept hashed.")
serve_app.add_typer(keys_app, name="keys")

Demo = Annotated[bool, Option("--demo", help="Serve the run of `forwhy demo`, made first if need be.")]
Workers = Annotated[int, Option(min=1, max=64, help="Processes; more than one needs PostgreSQL or patience.")]


@serve_app.command("run")
def serve(
    runs: Annotated[list[Path] | None, Argument(help="Run folders; the first answers by default.")] = None,
    demo: Demo = False,
    host: Annotated[str, Option(help="Address to listen on; off this machine only with keys.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535)] = 8000,
    database: DatabaseUrl = None,
    workers: Workers = 1,
    per_minute: Annotated[int, Option(min=1, help="Requests a minute of one key.")] = 6_000,
) -> None:
    """Serve finished runs: API at /v1, its description at /docs, a page at /."""
    need("fastapi", "serve")
    need("sqlalchemy", "serve")
    from forwhy.serve.server import listen

    folders = [*(runs or []), *([_demo()] if demo else [])]
    if not folders:
        raise UserError("serve: name a run folder, as in `forwhy serve runs/mine`, or give --demo")
    listen(folders, database or DEFAULT, host, port, workers, per_minute)


def _demo() -> Path:
    from forwhy.cli.run import demo

    folder = Path("demo/run")
    if not (folder / "evaluation.json").is_file():  # what is there of it is not made again
        demo(folder.parent)
    return folder


def _database(url: str | None, upgraded: bool = True) -> Database:
    need("sqlalchemy", "serve")
    from forwhy.serve.database import Database

    found = Database(url or DEFAULT)
    if upgraded:
        found.upgrade()
    return found


@keys_app.command("add")
def add_key(
    name: Annotated[str, Argument(help="Who will use it.")],
    role: Annotated[str, Option(help="read, write or admin; each may do what those before may.")] = "read",
    database: DatabaseUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and show it: it is not shown again."""
    with _database(database) as opened:
        from forwhy.serve import keys

        key = keys.add_key(opened, name, role)
    emit({"name": name, "role": role, "key": key}) if as_json else show(key)


@keys_app.command("list")
def list_keys(database: DatabaseUrl = None, as_json: JsonFlag = False) -> None:
    """Names and roles of all keys."""
    with _database(database) as opened:
        keys = opened.keys()
    said = [f"{one['name']}  {'revoked' if one['revoked'] else one['role']}  {one['at']}" for one in keys]
    emit(keys) if as_json else show(*said or ["no keys"])


@keys_app.command("revoke")
def revoke_key(name: str, database: DatabaseUrl = None) -> None:
    """Let a key in no more."""
    with _database(database) as opened:
        opened.revoke_key(name)
    show(f"{name}: let in no more")


@serve_app.command("backup")
def backup(
    file: Annotated[Path, Argument(help="File to write, .jsonl.gz.")], database: DatabaseUrl = None
) -> None:
    """Write all that the database holds into one file, while it is in use."""
    try:
        with _database(database) as opened:
            from forwhy.serve.backup import backup as write

            rows = write(opened, file)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; name a file that can be written") from None
    show(f"{file}: {rows:,} rows")


@serve_app.command("restore")
def restore(
    file: Annotated[Path, Argument(help="File that `backup` wrote.")], database: DatabaseUrl = None
) -> None:
    """Read a backup into an empty database."""
    with _database(database, upgraded=False) as opened:
        from forwhy.serve.backup import restore as read

        rows = read(opened, file)
    show(f"{file}: {rows:,} rows are back")
