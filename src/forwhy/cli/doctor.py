"""`forwhy doctor`: what this machine has and what a run would miss."""

from __future__ import annotations

from forwhy.cli.console import JsonFlag, emit, show


def doctor(as_json: JsonFlag = False) -> None:
    """Versions, cores, memory, devices, models at hand: the first thing to put into a report."""
    from forwhy import doctor as examine

    findings = examine.examine()
    if as_json:
        emit(findings)
    else:
        show(examine.render(findings))
