"""What is asked of an examination: runs, files, and the options that decide what is measured."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forwhy.errors import UserError
from forwhy.evaluate.registry import METRICS
from forwhy.evaluate.text import Measure

if TYPE_CHECKING:
    from forwhy.evaluate.judge import Judge

SHOWN_TEXT = ("bleu1", "bleu4", "rougeL", "similarity")
SHOWN_LEARNED = ("bertscore_f", "bartscore_f", "bleurt", "gptscore")
"""Shown too where they were asked for."""
SHOWN_RANKING = ("recall@20", "ndcg@20")


@dataclass(frozen=True)
class Request:
    """Runs and files to examine together."""

    runs: Sequence[Path] = ()
    outputs: Sequence[str] = ()
    """Each `NAME=FILE` or `FILE`."""
    references: Path | None = None
    """For the files without a `reference` column, row by row."""
    data: Path | None = None
    """Data set of the files; by default that of the runs, when they have one."""
    metrics: Sequence[str] = ()
    """Text metrics that are shown and compared; by default `SHOWN_TEXT`. The fewer, the more can survive."""
    encoder: str | None = None
    """For similarity and grounding, or "none"; by default that of the first run, else `minilm`."""
    grounding: bool | None = None
    """None: where it is possible."""
    bertscore: str | None = None
    """Encoder of BERTScore."""
    bartscore: str | None = None
    """Language model of BARTScore."""
    bleurt: str | None = None
    """Checkpoint of BLEURT."""
    judge: Judge | None = None
    """For GPTScore."""
    common: bool = False
    """Only pairs that all of them have, and that are held-out pairs of `data` where that was given."""
    seed: int = 0
    """Which pairs are dealt, which constants are tried, which permutations are drawn."""
    again: bool = False
    """Evaluate the runs anew."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done before anything is loaded."""
        if self.references is not None and not self.outputs:
            raise UserError("--references: no outputs that these belong to; give --outputs FILE too")
        if not self.runs and not self.outputs:
            raise UserError("nothing to evaluate: give a run folder, or --outputs FILE")
        for metric in self.metrics:
            if metric not in METRICS:
                near = difflib.get_close_matches(metric, METRICS, n=1, cutoff=0.0)
                raise UserError(f"--metrics: no text metric {metric!r}; did you mean {near[0]!r}?")


def measures(request: Request) -> list[Measure]:
    """Metrics beyond words that were asked for; models are loaded here.

    Raises:
        UserError: a model that cannot be had.
    """
    if not (request.bertscore or request.bartscore or request.bleurt):
        return [] if request.judge is None else [request.judge]
    from forwhy.evaluate.neural import BartScore, BertScore, Bleurt

    asked = ((BertScore, request.bertscore), (BartScore, request.bartscore), (Bleurt, request.bleurt))
    neural: list[Measure] = [kind(model) for kind, model in asked if model]
    return neural if request.judge is None else [*neural, request.judge]


def named(request: Request) -> tuple[dict[str, Path], dict[str, Path]]:
    """Runs and files by name: the folder's, the file's stem, or what stands before `=`.

    Equal names get their folder in front.

    Raises:
        UserError: a name that is empty or given twice, a path given twice.
    """
    chosen, files = {}, []
    for given in request.outputs:
        name, equals, file = given.partition("=")
        if not equals or Path(given).is_file():
            files.append(Path(given))
        elif not name.strip() or not file or name in chosen:
            raise UserError(f"--outputs {given}: give each file a name of its own, as NAME=FILE")
        else:
            chosen[name] = Path(file)
    tails = {path: path.resolve().parts for path in request.runs}
    tails |= {path: path.resolve().with_suffix("").parts for path in files}
    if len(tails) < len(request.runs) + len(files):
        raise UserError("one run or file is given twice; give each once, or a file a name with NAME=FILE")
    names = {path: _shortest(parts, list(tails.values()), set(chosen)) for path, parts in tails.items()}
    return {names[path]: path for path in request.runs}, {names[path]: path for path in files} | chosen


def _shortest(own: tuple[str, ...], all_parts: Sequence[tuple[str, ...]], taken: set[str]) -> str:
    """The fewest last parts of a path that no other one ends with."""
    for length in range(1, len(own) + 1):
        name = "/".join(own[-length:])
        if name not in taken and sum(parts[-length:] == own[-length:] for parts in all_parts) == 1:
            return name
    raise UserError(f"{'/'.join(own)}: stands for two of the runs and files; name one with NAME=FILE")
