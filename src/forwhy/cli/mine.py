"""`forwhy mine`: texts for training out of raw reviews; `forwhy answers`: a model's kept answers, out and in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from typer import Argument, Option

from forwhy.atomic import refuse_foreign, refuse_other
from forwhy.cli import JsonFlag, app_of, emit, log, one_line, show
from forwhy.cli.options import Given, prices, takes
from forwhy.data.dataset import MARKER, Dataset
from forwhy.errors import UserError
from forwhy.progress import clock
from forwhy.text.chat import client as opening
from forwhy.text.chat.answers import KeptAnswers, export_answers, import_answers
from forwhy.text.chat.base import ChatConfig
from forwhy.text.mining.extractive import ExtractiveMiner
from forwhy.text.mining.language import LanguageMiner, MiningPrompt, estimates
from forwhy.text.mining.mine import Mining
from forwhy.text.mining.mine import mine as mine_texts
from forwhy.text.mining.stage import Kind, MiningConfig

NOBODY_ASKED = "No language model was asked: phrases and sentences were cut out of the texts."
EXAMPLES = 5
"""Failures named on a terminal; `--json` has 20 of each stage."""
Prompt = Annotated[Path | None, Option(metavar="FILE", help="Instead of ours; see docs/formats.md.")]
DryRun = Annotated[bool, Option("--dry-run", help="Questions, tokens, cost and time; asks nothing.")]
Out = Annotated[Path | None, Option("--out", "-o", help="Folder to write; if not given, DATASET itself.")]


@takes(MiningConfig, without={"kind"})
@takes(ChatConfig, {"model": "llm", "url": "llm_url"}, without={"input_price", "output_price"})
def mine(
    kind: Annotated[
        Kind, Argument(help="Ranked phrases, or one text, of users and items; or one text of reviewed pairs.")
    ],
    dataset: Annotated[Path, Argument(metavar="DATASET", help="Dataset folder.")],
    mining: Given[MiningConfig],
    chat: Given[ChatConfig],
    extractive: Annotated[
        bool, Option("--extractive", help="Ask no model: cut phrases and sentences out of the texts.")
    ] = False,
    prompt: Prompt = None,
    of_tokens: Annotated[
        str | None,
        Option("--prices", metavar="IN,OUT", help="Of a million tokens, read and written, for costs."),
    ] = None,
    cache: Annotated[
        Path | None,
        Option(metavar="FILE", help="Keeps each answer; if not given, OUT.replies.db beside OUT."),
    ] = None,
    dry_run: DryRun = False,
    out: Out = None,
    as_json: JsonFlag = False,
) -> None:
    """Mine intents, profiles or explanations from training reviews, and write where each came from.

    --llm names a language model: on a server (--llm-url or FORWHY_LLM_URL, key in FORWHY_LLM_KEY), else a local one
    by Hub id, folder or packaged name. With --extractive nobody is asked. An explanation is read from its own pair's
    review alone; nothing else reads a held-out review. A killed run goes on from its kept answers.
    """
    if extractive == ("--llm" in chat.names):
        raise UserError(
            "mine: give --llm MODEL to ask a language model, or --extractive to do without; one of them"
        )
    given = {"--prices": of_tokens, "--prompt": prompt, "--cache": cache, "--dry-run": dry_run}
    idle = [*chat.names, *(name for name, value in given.items() if value)]
    if extractive and idle:
        raise UserError(f"{', '.join(idle)}: no model is asked with --extractive; leave out one or the other")
    config = mining.model(kind=kind)
    if prompt is not None and config.kind != "explanations" and config.side == "both":
        raise UserError(
            f"--prompt {prompt}: users and items have prompts of their own; add --side user or item"
        )
    place = (out or dataset).absolute()
    refuse_foreign(place, MARKER)
    data = Dataset.load(dataset)
    if extractive:
        found = mine_texts(data, config, ExtractiveMiner())
    else:
        asked = chat.model(**prices("--prices", of_tokens)).typed()
        lines = place.with_name(
            f"{place.name}.replies.jsonl"
        )  # of an earlier version, or a database beside it
        kept = cache or (lines if lines.exists() else lines.with_suffix(".db"))
        if dry_run:
            _estimate(data, config, asked, kept, prompt, as_json)
            return
        found = _ask(data, config, asked, kept, prompt)
    found.dataset.save(place)
    _show(found, out or dataset, as_json)


def _ask(dataset: Dataset, config: MiningConfig, chat: ChatConfig, kept: Path, prompt: Path | None) -> Mining:
    for side in config.sides:
        MiningPrompt(config, side, prompt)  # a broken prompt is told before a model is loaded
    log.info("answers are kept in %s", kept)
    with KeptAnswers(kept) as cache, opening.open_chat(chat) as asked:
        return mine_texts(dataset, config, LanguageMiner(asked, cache, chat.asks, prompt, chat.cost))


def _estimate(
    dataset: Dataset, config: MiningConfig, chat: ChatConfig, kept: Path, prompt: Path | None, as_json: bool
) -> None:
    with KeptAnswers(kept if kept.exists() else None) as cache:
        found = estimates(dataset, config, chat, cache, prompt)
    if as_json:
        emit({"dry_run": True, "model": chat.model, "stages": found})
        return
    table = Table("questions of", "kept", "left", "tokens in", "tokens out", "cost", "time", title=chat.model)
    for stage in found:
        shown = {**stage, "left": stage["questions"] - stage["cached"]}
        counts = (f"{shown[name]:,}" for name in ("cached", "left", "input_tokens", "output_tokens"))
        cost = "?" if stage["cost"] is None else f"{stage['cost']:.2f}"
        table.add_row(stage["about"], *counts, cost, clock(stage["seconds"]))
    show(table, *(f"{stage['about']}: {stage['pace']}" for stage in found))
    show("Tokens are upper bounds. User profiles are counted with the item profiles there are by now.")


def _show(mining: Mining, place: Path, as_json: bool) -> None:
    note = NOBODY_ASKED if mining.model == "extractive" else None
    if as_json:
        emit({"out": str(place), **mining.document(), "note": note})
        return
    table = Table(
        "of", "could be read", "mined", "nothing to read", "left out", "failed", title=one_line(mining.model)
    )
    for stage in mining.stages:
        cells = (f"{stage[count]:,}" for count in ("subjects", "mined", "nothing"))
        table.add_row(stage["about"], *cells, _listed(stage["skipped"]), _listed(stage["failed"]))
    cases = [case for stage in mining.stages for case in stage["examples"]][:EXAMPLES]
    examples = (one_line(", ".join(f"{name} {value}" for name, value in case.items())) for case in cases)
    show(table, *examples, f"Written to {place}.", *([note] if note else []))


def _listed(counts: Any) -> str:  # noqa: ANN401
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "0"


answers_app = app_of()
Database = Annotated[Path, Argument(metavar="FILE.db", help="As given to --cache or --judge-votes.")]
Lines = Annotated[Path, Argument(metavar="FILE.jsonl", help="One JSON object per line; see docs/formats.md.")]


@answers_app.command("export")
def export(database: Database, lines: Lines) -> None:
    """Write all kept answers as JSON lines."""
    refuse_other(lines, lambda begin: begin.startswith(b'{"'))
    show(f"{export_answers(database, lines):,} answers written to {lines}.")


@answers_app.command("import")
def take_in(lines: Lines, database: Database) -> None:
    """Add the answers of a file of JSON lines; those that are kept already stay."""
    show(f"{import_answers(lines, database):,} new answers in {database}.")
