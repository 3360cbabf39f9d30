"""The one error that is the caller's: it names the place and the remedy in one line."""

__all__ = ["UserError"]


class UserError(Exception):
    """A mistake in what the caller gave: a file, a column, an id, an option.

    The message is one line: ``PLACE: what is wrong; what to do``. The command line prints it and exits
    with status 2; everything else is our own fault and keeps its traceback.
    """

    def __str__(self) -> str:
        """The message on one line, whatever a quoted value contained."""
        return " ".join(super().__str__().split())
