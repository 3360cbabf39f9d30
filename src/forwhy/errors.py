"""The one error that is the caller's: it names the place and the remedy in one line."""

from importlib.util import find_spec


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


def need(module: str, extra: str) -> None:
    """Refuse where an optional library is absent; `extra` of forwhy brings it.

    Raises:
        UserError: It is not installed, with the command that installs it.
    """
    if find_spec(module) is None:
        raise UserError(
            f"{module.replace('_', '-')} is not installed; `pip install 'forwhy[{extra}]'` brings it"
        )
