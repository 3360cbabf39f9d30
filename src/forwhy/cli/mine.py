"""`forwhy mine intents|profiles|explanations DATASET`: texts for training out of raw reviews."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from forwhy.cli.console import JsonFlag, emit, log, one_line, show

if TYPE_CHECKING:
    from rich.table import Table

    from forwhy.data.dataset import Dataset
    from forwhy.text.chat.base import ChatConfig
    from forwhy.text.mining.mine import Mining
    from forwhy.text.mining.stage import MiningConfig

NOBODY_ASKED = "No language model was asked: phrases and sentences were cut out of the texts."
EXAMPLES = 5
"""Failures named on a terminal; `--json` has 20 of each stage."""


def mine(
    kind: Annotated[
        Literal["intents", "profiles", "explanations"],
        typer.Argument(
            help="Ranked phrases, or one text, of users and items; or one text of reviewed pairs."
        ),
    ],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Dataset folder.")],
    llm: Annotated[
        str | None,
        typer.Option("--llm", metavar="MODEL", help="Model on a server, or local: Hub id, folder, packaged."),
    ] = None,
    llm_url: Annotated[
        str | None,
        typer.Option("--llm-url", help="OpenAI-compatible server, or FORWHY_LLM_URL; key in FORWHY_LLM_KEY."),
    ] = None,
    extractive: Annotated[
        bool, typer.Option("--extractive", help="Ask no model: cut phrases and sentences out of the texts.")
    ] = False,
    side: Annotated[
        Literal["user", "item", "both"], typer.Option(help="Whose intents or profiles; items come first.")
    ] = "both",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Entities of each side, or pairs, at most; drawn by seed.")
    ] = None,
    reviews: Annotated[
        int | None, typer.Option(min=1, help="Reviews read of one entity at most; 20 if not given.")
    ] = None,
    use_profiles: Annotated[
        bool, typer.Option("--use-profiles", help="User profiles also read shipped item profiles.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    prompt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead of ours; see docs/formats.md.")
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens, read and written, of this run.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Calls under way at once.")] = None,
    requests_per_minute: Annotated[float | None, typer.Option(min=0, help="Most calls in a minute.")] = None,
    prices: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="Of a million tokens, for costs.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keeps each answer; if not given, OUT.replies.db beside OUT."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Questions, tokens, cost and time; asks nothing.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; if not given, DATASET itself.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Mine intents, profiles or explanations from training reviews, and write where each came from.

    An explanation is read from its own pair's review alone; nothing else reads a held-out review. A killed
    run goes on from its kept answers.
    """
    from forwhy.atomic import refuse_foreign
    from forwhy.data.dataset import Dataset
    from forwhy.data.folder import MARKER
    from forwhy.text.mining.stage import MiningConfig

    asking = {
        "--llm-url": llm_url,
        "--budget-tokens": budget_tokens,
        "--concurrency": concurrency,
        "--requests-per-minute": requests_per_minute,
        "--prices": prices,
    }
    _refuse_nobody(llm, extractive)
    if llm is None:
        _refuse_idle({**asking, "--prompt": prompt, "--cache": cache, "--dry-run": dry_run or None})
    read = {} if reviews is None else {"reviews": reviews}
    config = MiningConfig(kind=kind, side=side, limit=limit, seed=seed, use_profiles=use_profiles, **read)
    _refuse_two_sides(config, prompt)
    place = (out or dataset).absolute()
    refuse_foreign(place, MARKER)
    loaded = Dataset.load(dataset)
    if llm is None:
        mining = _extract(loaded, config)
    else:
        chat = _config(llm, asking)
        kept = cache or _beside(place)
        if dry_run:
            _estimate(loaded, config, chat, kept, prompt, as_json)
            return
        mining = _ask(loaded, config, chat, kept, prompt)
    mining.dataset.save(place)
    _show(mining, out or dataset, as_json)


def _beside(place: Path) -> Path:
    """Where answers are kept: in a database, or in the JSON lines of an earlier version, which it takes over."""
    lines = place.with_name(f"{place.name}.replies.jsonl")
    return lines if lines.exists() else lines.with_suffix(".db")


def _refuse_nobody(llm: str | None, extractive: bool) -> None:
    from forwhy.errors import UserError

    if extractive == (llm is not None):
        raise UserError(
            "mine: give --llm MODEL to ask a language model, or --extractive to do without; one of them"
        )


def _refuse_idle(given: dict[str, object]) -> None:
    from forwhy.errors import UserError

    idle = [name for name, value in given.items() if value is not None]
    if idle:
        raise UserError(f"{', '.join(idle)}: no model is asked with --extractive; leave out one or the other")


def _refuse_two_sides(config: MiningConfig, prompt: Path | None) -> None:
    from forwhy.errors import UserError

    if prompt is not None and config.kind != "explanations" and config.side == "both":
        raise UserError(
            f"--prompt {prompt}: users and items have prompts of their own; add --side user or item"
        )


def _config(model: str, asking: dict[str, Any]) -> ChatConfig:
    from forwhy.errors import UserError
    from forwhy.text.chat.base import ChatConfig

    given = {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in asking.items()
        if value is not None
    }
    if "llm_url" in given:
        given["url"] = given.pop("llm_url")
    read, comma, written = str(given.pop("prices", ",")).partition(",")
    if not comma:
        raise UserError(f"--prices {read}: expected IN,OUT per million tokens, e.g. 0.15,0.60")
    paid = {"input_price": read, "output_price": written}
    return ChatConfig.of(model=model, **given, **{name: price for name, price in paid.items() if price})


def _extract(dataset: Dataset, config: MiningConfig) -> Mining:
    from forwhy.text.mining.extractive import ExtractiveMiner
    from forwhy.text.mining.mine import mine

    return mine(dataset, config, ExtractiveMiner())


def _ask(dataset: Dataset, config: MiningConfig, chat: ChatConfig, kept: Path, prompt: Path | None) -> Mining:
    from forwhy.text.chat.answers import KeptAnswers
    from forwhy.text.chat.opening import open_chat
    from forwhy.text.mining.language import LanguageMiner, MiningPrompt
    from forwhy.text.mining.mine import mine

    for side in config.sides:
        MiningPrompt(config, side, prompt)  # a broken prompt is told before a model is loaded
    log.info("answers are kept in %s", kept)
    with KeptAnswers(kept) as cache, open_chat(chat) as asked:
        return mine(dataset, config, LanguageMiner(asked, cache, chat.asks, prompt, chat.prices))


def _estimate(
    dataset: Dataset, config: MiningConfig, chat: ChatConfig, kept: Path, prompt: Path | None, as_json: bool
) -> None:
    """What asking would take; no file is made."""
    from forwhy.text.chat.answers import KeptAnswers
    from forwhy.text.mining.language import estimates

    with KeptAnswers(kept if kept.exists() else None) as cache:
        found = estimates(dataset, config, chat, cache, prompt)
    if as_json:
        emit({"dry_run": True, "model": chat.model, "stages": found})
        return
    from rich.table import Table

    table = Table("questions of", "kept", "left", "tokens in", "tokens out", "cost", "time", title=chat.model)
    for stage in found:
        table.add_row(*(one_line(cell) for cell in _row(stage)))
    show(table, *(f"{stage['about']}: {stage['pace']}" for stage in found))
    show("Tokens are upper bounds. User profiles are counted with the item profiles there are by now.")


def _row(stage: dict[str, Any]) -> list[str]:
    from forwhy.progress import clock

    left = stage["questions"] - stage["cached"]
    cost = "?" if stage["cost"] is None else f"{stage['cost']:.2f}"
    counts = (stage["cached"], left, stage["input_tokens"], stage["output_tokens"])
    return [stage["about"], *(f"{count:,}" for count in counts), cost, clock(stage["seconds"])]


def _show(mining: Mining, place: Path, as_json: bool) -> None:
    note = NOBODY_ASKED if mining.model == "extractive" else None
    if as_json:
        emit({"out": str(place), **mining.document(), "note": note})
        return
    show(_table(mining), *_examples(mining), f"Written to {place}.")
    if note:
        show(note)


def _table(mining: Mining) -> Table:
    from rich.table import Table

    table = Table(
        "of", "could be read", "mined", "nothing to read", "left out", "failed", title=one_line(mining.model)
    )
    for stage in mining.stages:
        cells = (stage.subjects, stage.mined, stage.nothing)
        table.add_row(
            stage.about, *(f"{count:,}" for count in cells), _listed(stage.skipped), _listed(stage.failed)
        )
    return table


def _listed(counts: Any) -> str:  # noqa: ANN401
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "0"


def _examples(mining: Mining) -> list[str]:
    cases = [case for stage in mining.stages for case in stage.examples]
    return [
        one_line(", ".join(f"{name} {value}" for name, value in case.items())) for case in cases[:EXAMPLES]
    ]
