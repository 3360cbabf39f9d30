"""The service as a process of its own, and what a test of its page asks of a browser."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTHS = (1400, 390)
EVIL = "<img src=x onerror=\"document.title='taken'\"> </script><script>document.title='taken'</script>"
ODD = "o'brien & <b>søn</b>"
"""Markup that somebody wrote into a title, a review, a phrase, and their own name."""

Opener = Callable[..., "Page"]
"""Opens a path in a browser: `opener(path, width, scheme, of=served)`."""


class Served:
    """A service over one run, on a port that stays."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = f"sqlite:///{place / 'serve.db'}"
        self.log, self.folder = place / "log", folder
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "forwhy", "serve", str(self.folder), "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--database", self.database], stdout=log, stderr=subprocess.STDOUT
            )
        for _ in range(600):
            if self.process.poll() is not None:
                pytest.fail(f"the service ended {self.process.returncode}: {self.log.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(f"{self.url}/ready", timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        pytest.fail("the service was not ready within a minute")

    def kill(self, how: int = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.wait(20)

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            f"{self.url}{path}", data, {"content-type": "application/json"}, method=method
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def add_key(self) -> str:
        """A key that may read."""
        command = [sys.executable, "-m", "forwhy", "serve", "keys", "add", "eve", "--role", "read"]
        made = subprocess.run(
            [*command, "--database", self.database], capture_output=True, text=True, check=True
        )
        key = re.search(r"fw_\S+", made.stdout + made.stderr)
        assert key is not None
        time.sleep(6)  # for so long the service remembers that there were none
        return key[0]


def someone(served: Served) -> str:
    return next(
        one["id"]
        for one in served.ask("GET", "/v1/users")["users"]
        if one["id"].isascii() and "'" not in one["id"]
    )


def fits(page: Page) -> bool:
    """Whether nothing sticks out to the right."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def reason_ended(page: Page) -> None:
    from playwright.sync_api import expect

    expect(page.locator(".written")).to_be_visible(timeout=60_000)
