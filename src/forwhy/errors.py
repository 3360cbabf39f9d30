"""The one error that is the caller's: it names the place and the remedy in one line."""

import re
from importlib.util import find_spec

QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\S+")
LONGEST_WORD = 48
"""Letters of a word or quote that is left whole in a message that has to be cut."""


class UserError(Exception):
    """A mistake in what the caller gave: a file, a column, an id, an option.

    The message is one line: ``PLACE: what is wrong; what to do``. The command line prints it and exits
    with status 2; everything else is our own fault and keeps its traceback.
    """

    def __str__(self) -> str:
        """The message on one line, whatever a quoted value contained."""
        return " ".join(super().__str__().split())


class Unknown(UserError):
    """An id, a word or a name that is not there."""


class NoAnswer(UserError):
    """Nobody answers, whoever is asked about: a server that is away, a key that it does not know."""


def plain(text: object) -> str:
    """Anybody's text for a terminal or a log: any space is a space, other unseen letters are written as escapes.

    Raw, they could move the cursor, turn a line round or break it. Line breaks stay.
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_seen, text))


def _seen(letter: str) -> str:
    if letter.isprintable() or letter in "\n\u200c\u200d":  # joiners, of Persian and of emoji
        return letter
    return " " if letter.isspace() else ascii(letter)[1:-1]


def shortened(text: str, most: int) -> str:
    """A message of at most `most` letters, cut in the middle of its parts.

    What is to be done, behind the last semicolon, may be a command to paste: it is cut only where it is most of it.
    """
    at = max(text.rfind("; "), 0)
    remedy = _cut(text[at:], 2 * most // 3) if len(text) > most else text[at:]
    return _cut(text[:at], most - len(remedy)) + remedy


def _cut(text: str, most: int) -> str:
    """Long words and quotes first, then the text itself."""
    while len(text) > most:
        longest = max(QUOTED.findall(text), key=len, default="")
        if len(longest) <= LONGEST_WORD:
            return f"{text[: most - 1 - most // 2]}…{text[len(text) - most // 2 :]}"
        room = max(LONGEST_WORD, len(longest) - len(text) + most)
        text = text.replace(longest, f"{longest[: room - 1 - room // 2]}…{longest[-(room // 2) :]}")
    return text


def need(module: str, extra: str) -> None:
    """Refuse where an optional library is absent; `extra` of forwhy brings it.

    Raises:
        UserError: It is not installed, with the command that installs it.
    """
    if find_spec(module) is None:
        raise UserError(
            f"{module.replace('_', '-')} is not installed; `pip install 'forwhy[{extra}]'` brings it"
        )
