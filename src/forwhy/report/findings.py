"""What the numbers say, in words: the summary and the headings, from the documents alone."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from forwhy.evaluate.compare import LEVEL, Comparison
from forwhy.evaluate.document import Examined
from forwhy.evaluate.registry import NEUTRAL, is_neutral
from forwhy.report.tables import Said, alike, by_reason, measured, standing
from forwhy.report.writing import counted, digits, grouped, joined, number, percent, with_interval

NAMED = 3
"""Runs that a heading names one by one."""

Kind = Literal["warning", "sure", "unsure"]
KINDS: tuple[Kind, ...] = ("warning", "sure", "unsure")
Remark = tuple[Kind, str, str]
"""How sure it is, which run or runs it is about, and the line of the summary."""


def judged(run: Examined) -> list[str]:
    """Text metrics of a run by which a control can win."""
    return [metric for metric in measured([run.text]) if metric not in NEUTRAL]


def metric_list(metrics: Sequence[str], of: Sequence[str]) -> str:
    """Some of these metrics, the short way: "all 13 metrics", "all but similarity"."""
    left = [metric for metric in of if metric not in metrics]
    if len(metrics) > 2 and not left:
        return f"all {len(of)} metrics"
    if len(metrics) > 4 and len(left) <= 2:
        return f"{len(metrics)} of {len(of)} metrics, all but {joined(left)}"
    return joined(metrics)


# --- headings: one line above each section


def text_heading(runs: Sequence[Examined]) -> str:
    """How many metrics each run wins against its controls."""
    wins = {run.name: (len(_won(run)), len(judged(run))) for run in runs if run.controls}
    if not wins:
        return "Text metrics, without controls"
    name, (won, of) = max(wins.items(), key=lambda item: item[1][0])
    if len(wins) == 1:
        return (
            f"{won or 'None'} of {of} text metrics beat{'s' if won == 1 else ''} every control beyond chance"
        )
    if len(wins) <= NAMED:
        shares = joined([f"{won} of {of} ({name})" for name, (won, of) in wins.items()])
        return f"Text metrics that beat every control beyond chance: {shares}"
    return f"Of {of} text metrics at most {won} beat every control ({name})"


def ranking_heading(runs: Sequence[Examined], metric: str) -> str:
    """The best run's value beside its baselines'."""
    ranked = [run for run in runs if metric in run.ranking]
    if not ranked:
        return "Ranking"
    best = max(ranked, key=lambda run: run.ranking[metric])
    baselines = best.part("baselines")
    beside = [f"{name} {number(it[metric], 3)}" for name, it in baselines.items() if metric in it]
    shown = f"Ranking: {metric} {'up to ' * (len(ranked) > 1)}{number(best.ranking[metric], 3)}"
    return ", ".join([shown, *beside])


def ranking_note(runs: Sequence[Examined]) -> str:
    """What was ranked, and what was left out of it."""
    next_item = {run.protocol.get("task") == "next-item" for run in runs if run.ranking}
    left_out = "nothing left out" if True in next_item else "training items left out"
    if len(next_item) > 1:
        left_out += " (of the next item) or training items left out"
    return f"Every item of the catalogue is ranked for each user, {left_out}, ties counted against the run."


def gain_heading(runs: Sequence[Examined]) -> str:
    """Whose words are read."""
    read = {run.name: _read(run) for run in runs if run.part("information_gain")}
    if len(read) > NAMED:
        return "Information gain: what the right user and item are worth"
    said = [f"{name}: {words}" if len(read) > 1 else words for name, words in read.items()]
    return f"Information gain: {'; '.join(said)}"


def grounding_heading(runs: Sequence[Examined]) -> str:
    """The largest share of supported claims beside that of dealt outputs."""
    found = [run.part("grounding") for run in runs if run.part("grounding")]
    best = max(found, key=lambda grounding: grounding["method"].get("precision", 0.0))
    precision = best["method"].get("precision")
    dealt = (best["controls"].get("dealt") or {}).get("precision")
    if precision is None:
        return "Grounding: no pair has evidence"
    beside = "" if dealt is None else f", {percent(dealt)} when dealt to other pairs"
    return f"Grounding: {'up to ' * (len(found) > 1)}{percent(precision)} of claims supported{beside}"


def choice_heading(runs: Sequence[Examined]) -> str:
    """The best share of right choices that a system made."""
    made = [
        (share, name)
        for run in runs
        for name, share in run.part("two_choice").items()
        if name in ("text by model", "like by history")
    ]
    if not made:
        return "Whose is it, of two people"
    share, name = max(made)
    return f"Whose is it, of two people: {percent(share)} right ({name}; by chance 50%)"


def comparison_heading(comparisons: Sequence[Comparison]) -> str:
    """How many differences survive."""
    sure = sum(one.p_holm <= LEVEL for one in comparisons)
    verb = "is" if sure <= 1 else "are"
    return f"{sure or 'None'} of {counted(len(comparisons), 'difference')} between runs {verb} beyond chance"


def distribution_heading(runs: Sequence[Examined], metric: str) -> str:
    """Where the middle half of the first scored run lies."""
    for run in runs:
        values = [sample.scores[metric] for sample in run.samples if metric in sample.scores]
        if values:
            low, high = np.nanquantile(values, [0.25, 0.75]).tolist()
            ends = " to ".join(number(end, digits([low, high])) for end in (low, high))
            return f"Scores over pairs: the middle half of {run.name} is at {ends} {metric}"
    return "Scores over pairs"


def training_heading(runs: Sequence[Examined]) -> str:
    """The lowest validation NLL."""
    found = [
        (line["valid"]["nll"], run.name)
        for run in runs
        for line in run.history
        if line.get("stage") == "explainer" and (line.get("valid") or {}).get("nll") is not None
    ]
    if not found:
        return "Training"
    value, name = min(found)
    return f"Training: lowest validation NLL {number(value, 3)} nats per token{f', {name}' * (len(runs) > 1)}"


def usage_heading(runs: Sequence[Examined]) -> str:
    """The book with the least share of words in use."""
    shares = [
        (sum(count > 0 for count in counts) / len(counts), book, run.name)
        for run in runs
        for book, counts in run.usage.items()
    ]
    if not shares:
        return "Codebooks"
    share, book, name = min(shares)
    if share == 1:
        return "Codebooks: every word is in use"
    which = f"{book.replace('_', ' ')}{f', {name}' * (len(runs) > 1)}"
    return f"Codebooks: at least {percent(share)} of the words are in use ({which})"


# --- the summary


def subject(runs: Sequence[Examined]) -> list[Said]:
    """What was evaluated, on how many pairs of what, under which protocol, once for runs alike."""
    return alike([(run.name, f"{', '.join(filter(None, _subject(run)))}.") for run in runs])


def _subject(run: Examined) -> Iterator[str]:
    text, ranking, protocol = run.text, run.ranking, run.protocol
    on = [f"{counted(text['pairs'], 'text')} against references"] if text else []
    on += [f"full ranking for {counted(ranking['users'], 'user')}"] if ranking else []
    data, kept = protocol.get("dataset"), protocol.get("protocol") or protocol.get("graph")
    yield f"{joined(on) or 'nothing measured'}{f' of {data}' if data else ''}"
    yield f"protocol {kept}" if kept else ""
    yield f"fingerprint {str(protocol['fingerprint'])[:12]}" if protocol.get("fingerprint") else ""
    left_out = by_reason(run.part("exclusions"))
    yield f"left out: {left_out}" if left_out else ""


def findings(runs: Sequence[Examined], comparisons: Sequence[Comparison]) -> dict[Kind, dict[str, list[str]]]:
    """Where controls win, what is beyond chance and what is not -> what it is about -> lines."""
    remarks = grouped((kind, (about, words)) for kind, about, words in _remarks(runs, comparisons))
    return {kind: grouped(remarks.get(kind, [])) for kind in KINDS}


def _remarks(runs: Sequence[Examined], comparisons: Sequence[Comparison]) -> Iterator[Remark]:
    for run in runs:
        for said in (
            _against_controls(run),
            _specific(run),
            _ranked(run),
            _gained(run),
            _grounded(run),
            _chose(run),
        ):
            yield from ((kind, run.name, words) for kind, words in said)
    for (a, b), together in grouped(((one.a, one.b), one) for one in comparisons).items():
        yield from _between(a, b, together)


def _standings(run: Examined) -> dict[str, dict[str, list[str]]]:
    """Control -> standing -> metrics."""
    return {
        name: grouped((standing(run.text, control, it), it) for it in judged(run) if it in control)
        for name, control in run.controls.items()
    }


def _won(run: Examined) -> list[str]:
    """Metrics by which every control is below beyond chance."""
    standings = [found for found in _standings(run).values() if found]
    return [metric for metric in judged(run) if all(metric in it.get("below", []) for it in standings)]


def _against_controls(run: Examined) -> Iterator[tuple[Kind, str]]:
    of = judged(run)
    verdicts = {"above": "is better by", "level": "cannot be told from it by"}
    for name, stands in _standings(run).items():
        said = [f"{verdicts[kind]} {metric_list(stands[kind], of)}" for kind in verdicts if kind in stands]
        if said:
            yield "warning", f"{name} {'; it '.join(said)}."
    if run.controls and (won := _won(run)):
        yield "sure", f"It beats every control by {metric_list(won, of)}."


def _specific(run: Examined) -> Iterator[tuple[Kind, str]]:
    """Whether a text points to its own reference when it may not name the item."""
    found = run.part("specificity")
    if "mrr" not in found:
        return
    value, chance = with_interval(found["mrr"], found["intervals"]["mrr"]), found["chance"]["mrr"]
    among = f"mean of 1 / rank among {found['among']:.0f} references {value}, {number(chance, 3)} by chance"
    if found["intervals"]["mrr"][0] > chance:
        yield "sure", f"Its texts say what is particular even with the item's name taken out: {among}."
    else:
        yield "warning", f"With the item's name taken out its texts say nothing particular: {among}."


def _ranked(run: Examined) -> Iterator[tuple[Kind, str]]:
    """Baselines that are at least as good, and those whose interval lies below."""
    own = run.ranking
    for name, baseline in run.part("baselines").items():
        metrics = [metric for metric in measured([own]) if metric in baseline and not is_neutral(metric)]
        lost = [metric for metric in metrics if baseline[metric] >= own[metric]]
        if lost:
            yield "warning", f"{name} ranks at least as well by {metric_list(lost, metrics)}."
        ends, theirs = own.get("intervals") or {}, baseline.get("intervals") or {}
        apart = [
            metric
            for metric in metrics
            if metric not in lost
            and metric in ends
            and metric in theirs
            and ends[metric][0] > theirs[metric][1]
        ]
        if apart:
            yield (
                "sure",
                f"It ranks above {name} by {metric_list(apart, metrics)}: the intervals do not touch.",
            )


def _gained(run: Examined) -> Iterator[tuple[Kind, str]]:
    gain = run.part("information_gain")
    for side in ("item", "user"):
        if side not in gain:
            continue
        value = with_interval(gain[side], gain["intervals"][side])
        if gain["intervals"][side][0] > 0:
            yield "sure", f"It reads the {side}: the right one is worth {value} nats per token."
        else:
            yield "unsure", f"No gain from the right {side} can be shown: {value} nats per token."


def _read(run: Examined) -> str:
    gain = run.part("information_gain")
    item, user = (gain["intervals"][side][0] > 0 for side in ("item", "user"))
    if item == user:
        return "both the user and the item are read" if item else "neither the user nor the item is read"
    return "the item is read, the user is not" if item else "the user is read, the item is not"


def _grounded(run: Examined) -> Iterator[tuple[Kind, str]]:
    for name, control in run.part("grounding").get("controls", {}).items():
        ends = control.get("margin", {}).get("intervals", {}).get("precision")
        if name == "reference" or ends is None:
            continue
        margin = with_interval(control["margin"]["precision"], ends, sign=True)
        kind: Kind = "sure" if ends[0] > 0 else "warning"
        better = "better" if kind == "sure" else "no better"
        yield kind, f"Its claims are {better} supported than those of {name}: {margin} of precision."
    shown = run.part("grounding").get("supported")
    if shown is not None:
        ends = run.part("grounding")["intervals"]["supported"]
        dealt = run.part("grounding")["controls"]["dealt"]["supported"]
        said = f"The evidence shown beside a text supports {percent(shown)} of its claims"
        yield (
            "sure" if ends[0] > dealt else "warning",
            f"{said} ({percent(dealt)} of those of another pair's text), judged by words.",
        )


def _chose(run: Examined) -> Iterator[tuple[Kind, str]]:
    """Whether people can be told apart, and whether the data lets anybody do it."""
    found = run.part("two_choice")
    for name, ends in found.get("intervals", {}).items():
        share = f"{with_interval(found[name], ends)} of {counted(found['choices'][name], 'choice')}"
        if ends[0] > 0.5:
            yield "sure", f"Whose is it, of two people ({name}): right in {share}; by chance .5."
        else:
            yield (
                "unsure",
                f"Whose is it, of two people ({name}), cannot be told beyond chance: right in {share}.",
            )


def _between(a: str, b: str, together: Sequence[Comparison]) -> Iterator[Remark]:
    told = [one for one in together if not is_neutral(one.metric)]
    for better, worse, sign in ((a, b, 1), (b, a, -1)):
        sizes = {
            one.metric: abs(one.difference.mean)
            for one in told
            if one.p_holm <= LEVEL and sign * one.difference.mean > 0
        }
        won = [f"{metric} ({number(size, digits([size]), sign=True)})" for metric, size in sizes.items()]
        if won:
            yield "sure", f"{better} above {worse}", f"By {joined(won)}."
    unsure = [one.metric for one in told if one.p_holm > LEVEL]
    if unsure:
        yield "unsure", f"{a} and {b}", f"No difference can be shown by {joined(unsure)}."
