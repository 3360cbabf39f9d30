"""What the numbers say, in words: the summary and the headings, from the document alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from forwhy.evaluate.compare import LEVEL, Comparison
from forwhy.evaluate.reading import Examined
from forwhy.report.tables import by_runs, controls_of, is_neutral, judged, measured, standing, text_of
from forwhy.report.wording import (
    counted,
    digits,
    joined,
    metric_list,
    number,
    percent,
    with_interval,
)

NAMED = 3
"""Runs that a heading names one by one."""


Kind = Literal["warning", "sure", "unsure"]
Said = tuple[list[str], str]
"""Names of runs and what is said of them: apart, as a name may be written from right to left."""


@dataclass(frozen=True)
class Finding:
    """One line of the summary."""

    kind: Kind
    about: str
    """A run, or two."""
    text: str


def subject(runs: Sequence[Examined]) -> list[Said]:
    """What was evaluated, on how many pairs of what, under which protocol, once for runs alike."""
    alike: dict[str, list[str]] = {}
    for run in runs:
        alike.setdefault(_subject(run), []).append(run.name)
    return [(names, f"{words}.") for words, names in alike.items()]


def findings(runs: Sequence[Examined], comparisons: Sequence[Comparison]) -> dict[Kind, dict[str, list[str]]]:
    """Where controls win, what is beyond chance and what is not -> what it is about -> lines."""
    found = [finding for run in runs for finding in [*_against_controls(run), *_others(run)]]
    found += [finding for pair, group in by_runs(comparisons).items() for finding in _between(*pair, group)]
    kinds: dict[Kind, dict[str, list[str]]] = {"warning": {}, "sure": {}, "unsure": {}}
    for finding in found:
        kinds[finding.kind].setdefault(finding.about, []).append(finding.text)
    return kinds


def text_heading(runs: Sequence[Examined]) -> str:
    """How many metrics each run wins against its controls."""
    scored = [run for run in runs if controls_of(run)]
    if not scored:
        return "Text metrics, without controls"
    wins = {run.name: (len(_won(run)), len(judged(run))) for run in scored}
    if len(wins) == 1:
        [(won, of)] = wins.values()
        return (
            f"{won or 'None'} of {of} text metrics beat{'s' if won == 1 else ''} every control beyond chance"
        )
    if len(wins) <= NAMED:
        shares = joined([f"{won} of {of} ({name})" for name, (won, of) in wins.items()])
        return f"Text metrics that beat every control beyond chance: {shares}"
    name, (won, of) = max(wins.items(), key=lambda item: item[1][0])
    return f"Of {of} text metrics at most {won} beat every control ({name})"


def ranking_heading(runs: Sequence[Examined], metric: str) -> str:
    """The best run's value beside its best baseline."""
    ranked = {run.name: run.document["ranking"][metric] for run in runs if metric in _ranking(run)}
    if not ranked:
        return "Ranking"
    best = max(ranked, key=lambda name: ranked[name])
    [run] = [run for run in runs if run.name == best]
    beside = [
        f"{name} {number(values[metric], 3)}"
        for name, values in (run.document.get("baselines") or {}).items()
        if metric in values
    ]
    shown = f"Ranking: {metric} {'up to ' if len(ranked) > 1 else ''}{number(ranked[best], 3)}"
    return ", ".join([shown, *beside])


def ranking_note(runs: Sequence[Examined]) -> str:
    """What was ranked, and what was left out of it."""
    protocols = [run.document.get("protocol") or {} for run in runs if _ranking(run)]
    next_item = [protocol.get("task") == "next-item" for protocol in protocols]
    left_out = "training items left out"
    if any(next_item):
        left_out = "nothing left out" + (
            "" if all(next_item) else " (of the next item) or training items left out"
        )
    return f"Every item of the catalogue is ranked for each user, {left_out}, ties counted against the run."


def gain_heading(runs: Sequence[Examined]) -> str:
    """Whose words are read."""
    read = {run.name: _read(run) for run in runs if run.document.get("information_gain")}
    if len(read) == 1:
        return f"Information gain: {next(iter(read.values()))}"
    if len(read) <= NAMED:
        return "Information gain: " + "; ".join(f"{name}: {words}" for name, words in read.items())
    return "Information gain: what the right user and item are worth"


def grounding_heading(runs: Sequence[Examined]) -> str:
    """The share of supported claims beside that of dealt outputs."""
    found = {run.name: run.document["grounding"] for run in runs if run.document.get("grounding")}
    name = max(found, key=lambda name: found[name]["method"].get("precision", 0.0))
    precision = found[name]["method"].get("precision")
    if precision is None:
        return "Grounding: no pair has evidence"
    dealt = (found[name]["controls"].get("dealt") or {}).get("precision")
    beside = "" if dealt is None else f", {percent(dealt)} when dealt to other pairs"
    most = "up to " if len(found) > 1 else ""
    return f"Grounding: {most}{percent(precision)} of claims supported{beside}"


def comparison_heading(comparisons: Sequence[Comparison]) -> str:
    """How many differences survive."""
    sure = sum(one.p_holm <= LEVEL for one in comparisons)
    verb = "is" if sure <= 1 else "are"
    return f"{sure or 'None'} of {counted(len(comparisons), 'difference')} between runs {verb} beyond chance"


def grounding_words(runs: Sequence[Examined]) -> list[Said]:
    """The threshold, its errors and what follows from them, once for runs alike."""
    alike: dict[str, list[str]] = {}
    for run in runs:
        if run.document.get("grounding"):
            for words in _grounding_words(run.document["grounding"]):
                alike.setdefault(words, []).append(run.name)
    return [(names, words) for words, names in alike.items()]


def distribution_heading(runs: Sequence[Examined], metric: str) -> str:
    """Where the middle half of the first scored run lies."""
    for run in runs:
        values = [sample.scores[metric] for sample in run.samples if metric in sample.scores]
        if values:
            low, high = np.nanquantile(values, [0.25, 0.75]).tolist()
            decimals = digits([low, high])
            return (
                f"Scores over pairs: the middle half of {run.name} is at {number(low, decimals)} to "
                f"{number(high, decimals)} {metric}"
            )
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
    return f"Training: lowest validation NLL {number(value, 3)} nats per token{_of(name, runs)}"


def usage_heading(runs: Sequence[Examined]) -> str:
    """The book with the least share of words in use."""
    share, book, name = min(
        (sum(count > 0 for count in counts) / len(counts), book, run.name)
        for run in runs
        for book, counts in run.usage.items()
    )
    if share == 1:
        return "Codebooks: every word is in use"
    return f"Codebooks: at least {percent(share)} of the words are in use ({book.replace('_', ' ')}{_of(name, runs)})"


def _of(name: str, runs: Sequence[Examined]) -> str:
    return f", {name}" if len(runs) > 1 else ""


def _grounding_words(grounding: Mapping[str, Any]) -> list[str]:
    calibration = grounding["calibration"]
    missed, accepted = calibration["missed"]["either"], calibration["accepted"]["either"]
    words = [
        f"a claim counts as supported from a score of {number(calibration['threshold'], 3)} on. Fitted on "
        f"{counted(calibration['claims']['either'], 'claim')} of training texts, this misses {percent(missed)} of the "
        f"claims that are right and accepts {percent(accepted)} of claims beside another pair's evidence, so a "
        "precision is read by its margin over the dealt row, not by itself."
    ]
    excluded = {reason: n for reason, n in grounding["method"].get("excluded", {}).items() if n}
    if excluded:
        words.append(f"pairs that do not count: {_counts(excluded)}.")
    return words


def _counts(by_reason: Mapping[str, int]) -> str:
    return joined([f"{n:,} ({reason.replace('_', ' ')})" for reason, n in by_reason.items()])


def _subject(run: Examined) -> str:
    protocol = run.document.get("protocol") or {}
    parts = []
    if text_of(run):
        parts.append(f"{counted(text_of(run)['pairs'], 'text')} against references")
    if _ranking(run):
        parts.append(f"full ranking for {counted(_ranking(run)['users'], 'user')}")
    measured_on = joined(parts) or "nothing measured"
    if protocol.get("dataset"):
        measured_on += f" of {protocol['dataset']}"
    kept = protocol.get("protocol") or protocol.get("graph")
    return ", ".join(
        filter(
            None, [measured_on, f"protocol {kept}" if kept else "", _fingerprint(protocol), _excluded(run)]
        )
    )


def _fingerprint(protocol: Mapping[str, Any]) -> str:
    found = protocol.get("fingerprint")
    return f"fingerprint {str(found)[:12]}" if found else ""


def _excluded(run: Examined) -> str:
    counts = {reason: n for reason, n in (run.document.get("exclusions") or {}).items() if n}
    if not counts:
        return ""
    return f"left out: {_counts(counts)}"


def _standings(run: Examined) -> dict[str, dict[str, list[str]]]:
    """Control -> standing -> metrics."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, control in controls_of(run).items():
        for metric in judged(run):
            if metric in control:
                stands = standing(text_of(run), control, metric)
                found.setdefault(name, {}).setdefault(stands, []).append(metric)
    return found


def _won(run: Examined) -> list[str]:
    """Metrics by which every control is below beyond chance."""
    standings = _standings(run).values()
    return [metric for metric in judged(run) if all(metric in it.get("below", []) for it in standings)]


def _against_controls(run: Examined) -> list[Finding]:
    found = []
    of = judged(run)
    verdicts = {"above": "is better by", "level": "cannot be told from it by"}
    for name, stands in _standings(run).items():
        said = [
            f"{verdict} {metric_list(stands[kind], of)}"
            for kind, verdict in verdicts.items()
            if stands.get(kind)
        ]
        if said:
            found.append(Finding("warning", run.name, f"{name} {'; it '.join(said)}."))
    if won := _won(run) if controls_of(run) else []:
        found.append(Finding("sure", run.name, f"It beats every control by {metric_list(won, of)}."))
    return found


def _others(run: Examined) -> list[Finding]:
    return [*_ranked(run), *_gained(run), *_grounded(run)]


def _ranked(run: Examined) -> list[Finding]:
    """Baselines that are at least as good, and those whose interval lies below."""
    found = []
    for name, baseline in (run.document.get("baselines") or {}).items():
        metrics = [m for m in measured([_ranking(run)]) if m in baseline and not is_neutral(m)]
        lost = [metric for metric in metrics if baseline[metric] >= _ranking(run)[metric]]
        if lost:
            found.append(
                Finding(
                    "warning", run.name, f"{name} ranks at least as well by {metric_list(lost, metrics)}."
                )
            )
        apart = [m for m in metrics if m not in lost and _ends(_ranking(run), m, 0) > _ends(baseline, m, 1)]
        if apart:
            words = f"It ranks above {name} by {metric_list(apart, metrics)}: the intervals do not touch."
            found.append(Finding("sure", run.name, words))
    return found


def _gained(run: Examined) -> list[Finding]:
    gain = run.document.get("information_gain")
    if not gain:
        return []
    found = []
    for side in ("item", "user"):
        low, high = gain["intervals"][side]
        value = with_interval(gain[side], (low, high))
        if low > 0:
            words = f"It reads the {side}: the right one is worth {value} nats per token."
            found.append(Finding("sure", run.name, words))
        else:
            words = f"No gain from the right {side} can be shown: {value} nats per token."
            found.append(Finding("unsure", run.name, words))
    return found


def _grounded(run: Examined) -> list[Finding]:
    grounding = run.document.get("grounding")
    found = []
    for name, control in (grounding["controls"] if grounding else {}).items():
        ends = control.get("margin", {}).get("intervals", {}).get("precision")
        if name == "reference" or ends is None:
            continue
        margin = with_interval(control["margin"]["precision"], ends, sign=True)
        if ends[0] > 0:
            words = f"Its claims are better supported than those of {name}: {margin} of precision."
            found.append(Finding("sure", run.name, words))
        else:
            words = f"Its claims are no better supported than those of {name}: {margin} of precision."
            found.append(Finding("warning", run.name, words))
    return found


def _between(a: str, b: str, group: Sequence[Comparison]) -> list[Finding]:
    sure = [one for one in group if one.p_holm <= LEVEL and not is_neutral(one.metric)]
    unsure = [one.metric for one in group if one.p_holm > LEVEL and not is_neutral(one.metric)]
    found = []
    for better, worse, sign in ((a, b, 1), (b, a, -1)):
        won = [_difference(one) for one in sure if sign * one.difference.mean > 0]
        if won:
            found.append(Finding("sure", f"{better} above {worse}", f"By {joined(won)}."))
    if unsure:
        found.append(Finding("unsure", f"{a} and {b}", f"No difference can be shown by {joined(unsure)}."))
    return found


def _difference(one: Comparison) -> str:
    size = abs(one.difference.mean)
    return f"{one.metric} ({number(size, digits([size]), sign=True)})"


def _read(run: Examined) -> str:
    gain = run.document["information_gain"]
    read = [side for side in ("item", "user") if gain["intervals"][side][0] > 0]
    if len(read) == 2:
        return "both the user and the item are read"
    if not read:
        return "neither the user nor the item is read"
    other = "user" if read == ["item"] else "item"
    return f"the {read[0]} is read, the {other} is not"


def _ranking(run: Examined) -> Mapping[str, Any]:
    return run.document.get("ranking") or {}


def _ends(values: Mapping[str, Any], metric: str, end: int) -> float:
    """An end of the interval; one that never counts as apart where there is no interval."""
    ends = (values.get("intervals") or {}).get(metric)
    return float(ends[end]) if ends else (float("-inf"), float("inf"))[end]
