"""What the numbers say, in at most five sentences that name no metric, from the documents alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from forwhy.evaluate.compare import LEVEL, Comparison
from forwhy.evaluate.document import Examined, apart, ranked_as
from forwhy.evaluate.registry import is_neutral
from forwhy.report.tables import Said, alike, by_reason, standing
from forwhy.report.writing import counted, grouped, joined, number

MOST, NAMED = 5, 3
"""Findings on a page, and runs that a sentence names one by one."""
FEW = 30
"""Steps of a training, or measured texts, below which a run is called a trial: of it nothing good is claimed."""
TRICKS = {
    **dict.fromkeys(("constant", "constant_similar", "constant_halves"), "one sentence for everybody"),
    "dealt": "the same texts dealt to other people",
    "nearest_item": "repeating what others were told about the same thing",
    "nearest_user": "repeating what the same person was told before",
    "profile": "the catalogue's description",
    "lookup": "looking up an old text by the title",
}
"""Control -> what it does, in words."""

CLOSENESS = ("similarity", "rougeL")
"""How near a text is to what people wrote: the first that all have."""
DEPEND = {
    (True, True): "on the thing and on the person",
    (True, False): "on the thing, not measurably on the person",
    (False, True): "on the person, not measurably on the thing",
    (False, False): "measurably on neither the thing nor the person",
}
"""Whether the thing and the person are read -> in words."""

Tone = Literal["good", "bad", "open"]


class Finding(NamedTuple):
    """A sentence, and whether it is good news beyond chance, bad news, or neither."""

    tone: Tone
    words: str


def subject(runs: Sequence[Examined]) -> list[Said]:
    """What was measured, once for runs alike."""
    return alike((run.name, f"{'; '.join(_subject(run))}.") for run in runs)


def _subject(run: Examined) -> Iterator[str]:
    text, ranking, data = run.text, run.ranking, run.protocol.get("dataset")
    on = [counted(text["pairs"], "text")] if text else []
    on += [f"lists for {counted(ranking['users'], 'user')}"] if ranking else []
    yield f"{joined(on) or 'nothing'} measured{f' on {data}' if data else ''}"
    if left_out := by_reason(run.part("exclusions")):
        yield f"left out: {left_out}"


def findings(runs: Sequence[Examined], comparisons: Sequence[Comparison]) -> list[Finding]:
    """The most important first; what was not measured is not spoken of."""
    about = [_trial(runs), _lists(runs), _between(comparisons), _supported(runs), _read(runs), _close(runs)]
    said = [one for one in about if one][:MOST]
    return [one._replace(tone="open") if about[0] and one.tone == "good" else one for one in said]


def _trial(runs: Sequence[Examined]) -> Finding | None:
    found = {run.name: joined(list(_little(run))) for run in runs}
    few = [f"{words} ({name})" if len(runs) > 1 else words for name, words in found.items() if words]
    if len(few) > NAMED:
        few = [*few[:NAMED], f"{len(few) - NAMED} further runs alike"]
    said = f"A trial, which shows that all works and not how well: {'; '.join(few)}."
    return Finding("bad", said) if few else None


def _little(run: Examined) -> Iterator[str]:
    steps = grouped((line.get("stage"), line["step"]) for line in run.history if "step" in line)
    least = min((max(of) for of in steps.values()), default=FEW)
    if least < FEW:
        yield f"a training of {counted(least, 'step')}"
    if run.text and run.text["pairs"] < FEW:
        yield counted(run.text["pairs"], "measured text")


def _lists(runs: Sequence[Examined]) -> Finding | None:
    if why := apart(runs):
        return Finding("open", why)
    next_item = [ranked_as(run.document)[1] == "next-item" for run in runs if run.ranking]
    k, what = 10 if any(next_item) else 20, "next things" if all(next_item) else "things"
    metric = f"recall@{k}"
    found = {run.name: run.ranking for run in runs if metric in run.ranking}
    if not found:
        return None
    share = _each(found, metric, len(runs))
    said = f"Of 100 {what} that people took and the system had not seen, {share} are among the first {k} of their lists"
    simple = {name: it for run in runs for name, it in run.part("baselines").items() if metric in it}
    if not simple:
        return Finding("open", f"{said}.")
    name, best = max(simple.items(), key=lambda item: float(item[1][metric]))
    called = "one list of favourites for everybody" if name == "popularity" else name
    most = best.get("intervals", {}).get(metric, [0.0, best[metric]])[1]
    ahead = [name for name, it in found.items() if _low(it, metric) > most]
    behind = all(it[metric] <= best[metric] for it in found.values())
    tone: Tone = "good" if len(ahead) == len(found) else "bad" if behind else "open"
    doubt = "the difference may be chance" if len(found) == 1 else f"surely better: {_some(ahead) or 'none'}"
    doubt = f" ({doubt})" if tone == "open" else ""
    return Finding(tone, f"{said}; {called} has {_hundred(best[metric])}{doubt}.")


def _supported(runs: Sequence[Examined]) -> Finding | None:
    shown = any("supported" in run.part("grounding").get("method", {}) for run in runs)
    key = "supported" if shown else "precision"
    grounded = {run.name: run.part("grounding") for run in runs}
    found = {name: it["method"] for name, it in grounded.items() if key in it.get("method", {})}
    if not found:
        return None
    dealt = [grounded[name]["controls"].get("dealt", {}).get(key, 0.0) for name in found]
    beside, known = "are backed by what is shown beside them", "fit what is known of the person and the thing"
    backed = beside if shown else known
    sure = all(_low(it, key) > other for it, other in zip(found.values(), dealt, strict=True))
    others = f"dealt to other people, {_hundred(max(dealt))} would"
    words = f"Of 100 claims in the texts, {_each(found, key, len(runs))} {backed}; {others}."
    return Finding("good" if sure else "bad", words)


def _read(runs: Sequence[Examined]) -> Finding | None:
    gains = {run.name: run.part("information_gain") for run in runs if run.part("information_gain")}
    read = grouped(((_low(it, "item") > 0, _low(it, "user") > 0), name) for name, it in gains.items())
    if not read:
        return None
    whose = {sides: f" ({_some(names)})" if len(runs) > 1 else "" for sides, names in read.items()}
    said = joined([f"{DEPEND[sides]}{names}" for sides, names in whose.items()])
    tone: Tone = "good" if list(read) == [(True, True)] else "open"
    return Finding(tone, f"What the model writes depends {said}.")


def _close(runs: Sequence[Examined]) -> Finding | None:
    held = [run for run in runs if run.text and set(run.controls) & set(TRICKS)]
    metric = next((name for name in CLOSENESS if all(name in run.text for run in held)), None)
    if not held or metric is None:
        return None
    best = max(held, key=lambda run: float(run.text[metric]))
    values = {name: it for name, it in best.controls.items() if name in TRICKS and metric in it}
    stands = grouped((standing(best.text, it, metric), name) for name, it in values.items())
    rivals = stands.get("above", stands.get("level", list(values)))
    rival = max(rivals, key=lambda name: float(values[name][metric]))
    whose, trick = f"texts of {best.name}" if len(held) > 1 else "texts", TRICKS[rival]
    if "above" in stands:
        return Finding("bad", f"What people wrote themselves is met better by {trick} than by the {whose}.")
    if "level" in stands:
        return Finding("open", f"The {whose} are not provably nearer to what people wrote than {trick}.")
    words = f"The {whose} are nearer to what people wrote than any simple trick, such as {trick}."
    return Finding("good", words)


def _between(comparisons: Sequence[Comparison]) -> Finding | None:
    told = [one for one in comparisons if not is_neutral(one.metric)]
    if not told:
        return None
    ahead = grouped((one.a if one.difference.mean > 0 else one.b, one) for one in told if one.p_holm <= LEVEL)
    said = [f"{name} is ahead in {len(won)}" for name, won in list(ahead.items())[:NAMED]]
    found = f"{joined(said)}, beyond chance" if said else "none is beyond chance"
    return Finding("open", f"Of {counted(len(told), 'comparison')} between the runs, {found}.")


# --- numbers in sentences


def _low(values: Mapping[str, Any], key: str) -> float:
    """The lower end of the interval, or the value where there is none."""
    return float((values.get("intervals") or {}).get(key, [values[key]])[0])


def _hundred(share: float) -> str:
    return number(100 * share, 0 if share >= 0.01 or not share else 1)


def _each(found: Mapping[str, Mapping[str, Any]], key: str, of: int) -> str:
    """As in "27", of several runs "58 (xrec) and 27 (town)", the most first, of many the most and the least."""
    ranked = sorted(((float(it[key]), name) for name, it in found.items()), key=lambda one: -one[0])
    some = ranked if len(ranked) <= NAMED else [ranked[0], ranked[-1]]
    said = joined([_hundred(value) + (f" ({name})" if of > 1 else "") for value, name in some])
    return said if some == ranked else f"between {said}"


def _some(names: Sequence[str]) -> str:
    return joined(names) if len(names) <= NAMED else f"{len(names)} runs"
