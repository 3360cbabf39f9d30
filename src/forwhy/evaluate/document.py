"""The evaluation of a run as one JSON document, and its protocol in sentences."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from forwhy.errors import plain
from forwhy.evaluate.controls import Control, TextTable
from forwhy.evaluate.gain import TextGroup, chance
from forwhy.evaluate.grounding import GroundingTable
from forwhy.evaluate.overlap import SACREBLEU_SIGNATURE
from forwhy.evaluate.ranking import RankingResult
from forwhy.evaluate.reading import Pair
from forwhy.evaluate.significance import flatten
from forwhy.evaluate.text import OWN, TextScores

T = TypeVar("T")
Document = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One pair as a reader of the report sees it: the text beside those of controls, each with its metrics."""

    pair: Pair
    reference: str
    prediction: str
    controls: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    unsupported: Sequence[str] = ()
    """Claims of the prediction that nothing known supports."""
    control_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Examined:
    """A run, or a file of outputs from elsewhere, with everything that was measured of it."""

    name: str
    document: Mapping[str, Any]
    """As `evaluation_document` makes it."""
    samples: Sequence[Sample] = ()
    history: Sequence[Mapping[str, Any]] = ()
    """Lines of the run's metrics.jsonl: `stage`, `step`, and what was measured then."""
    usage: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Codebook -> how often each of its words is used, over all users or items."""

    def part(self, key: str) -> Mapping[str, Any]:
        """A part of the document; empty where it was not measured."""
        return self.document.get(key) or {}

    @property
    def text(self) -> Mapping[str, Any]:
        """The run's text metrics."""
        return self.part("text")

    @property
    def controls(self) -> Mapping[str, Mapping[str, Any]]:
        """Control -> its text metrics."""
        return self.part("controls")

    @property
    def ranking(self) -> Mapping[str, Any]:
        """The run's ranking metrics."""
        return self.part("ranking")

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What the numbers are about."""
        return self.part("protocol")


def ranked_as(document: Mapping[str, Any]) -> tuple[object, ...]:
    """Of which data, how, and on which items: the lists of two runs can be compared where these are equal."""
    protocol = document.get("protocol") or {}
    data = protocol.get("interactions", protocol.get("fingerprint"))
    return data, protocol.get("asked", protocol.get("task")), protocol.get("evaluated", "test")


def apart(runs: Iterable[Examined]) -> str:
    """Why the lists of these runs cannot be compared, in a sentence; "" where they can."""
    ways = {run.name: ranked_as(run.document) for run in runs if run.ranking}
    why = [said for said, *parts in zip(_APART, *ways.values(), strict=True) if len(set(parts)) > 1]
    return f"The lists of {', '.join(ways)} cannot be compared: they were measured {why[0]}." if why else ""


_APART = ("on different data", "after different histories", "on different held-out items")
WAYS = {"unseen": "seen items left out", "repeats": "repeats learned"}
"""Part of an evaluation -> how its ranking is called."""


def evaluation_document(
    *,
    ranking: RankingResult | None = None,
    baselines: Mapping[str, RankingResult] | None = None,
    health: Mapping[str, Mapping[str, float]] | None = None,
    text: TextTable | None = None,
    grounding: GroundingTable | None = None,
    two_choice: Mapping[str, object] | None = None,
    gain: Mapping[str, object] | None = None,
    retrieval: Mapping[str, object] | None = None,
    explained: Mapping[str, object] | None = None,
    groups: Mapping[str, TextGroup] | None = None,
    unseen: RankingResult | None = None,
    repeats: RankingResult | None = None,
    variants: Mapping[str, RankingResult] | None = None,
    order: Mapping[str, RankingResult] | None = None,
    costs: Mapping[str, object] | None = None,
    protocol: Mapping[str, object] | None = None,
) -> Document:
    """Everything measured, as plain JSON values under the keys of docs/formats.md; what was not measured is null.

    Beside them: of each ranking `users` and `dropped`; of a control `sentence` (a constant's) and `fallbacks` (pairs
    that got the constant). Every interval is a bootstrap 95% interval `[low, high]` under the value's name.
    """

    def each(found: Mapping[str, T] | None, document: Callable[[T], Document]) -> Document | None:
        return None if found is None else {name: document(it) for name, it in found.items()}

    return {
        "ranking": None if ranking is None else _ranking(ranking),
        "baselines": each(baselines or {}, _ranking),
        "health": each(health, dict),
        **(dict.fromkeys(("text", "controls", "specificity")) if text is None else _texts(text)),
        "grounding": None if grounding is None else grounding.document(),
        "two_choice": two_choice,
        **(gain or dict.fromkeys(("information_gain", "nll", "nll_interval"))),
        "text_retrieval": retrieval,
        "words": None if explained is None else {"explained_variance": explained},
        "groups": each(groups, _group),
        "unseen": None if unseen is None else _ranking(unseen),
        "repeats": None if repeats is None else _ranking(repeats),
        "variants": each(variants or {}, _ranking),
        "order": each(order, _ranking),
        "costs": costs,
        "protocol": dict(protocol or {}),
    }


def _ranking(result: RankingResult) -> Document:
    counted = {**result.coverage, "users": len(result.users), "dropped": result.dropped}
    return {**flatten(result.intervals()), **counted}


def _text(scores: TextScores) -> Document:
    measured = flatten(scores.intervals())
    counted = {metric: value for metric, value in scores.corpus.items() if metric not in measured}
    return {**measured, **counted, "std": scores.stds(), "pairs": len(scores)}


def _texts(table: TextTable) -> Document:
    return {
        "text": {**_text(table.method), "signatures": {"sacrebleu": SACREBLEU_SIGNATURE}},
        "controls": {name: _control(table.method, it) for name, it in table.controls.items()},
        "specificity": _specificity(table.method),
    }


def _specificity(scores: TextScores) -> Document | None:
    """The metrics of `evaluate.specificity` by their short names; null without titles."""
    found = {metric.removeprefix("own_"): it for metric, it in scores.intervals().items() if metric in OWN}
    if not found:
        return None
    among = scores.of_all.get("own_among")
    counted = {"pairs": int(scores.counts["own_tfidf"][:, 1].sum()), "among": among}
    return {**flatten(found), **counted, "chance": chance(int(among)) if among else None}


def _group(group: TextGroup) -> Document:
    counted = {"pairs": group.pairs, "users": group.users, "training_texts": list(group.training_texts)}
    return counted if group.scores is None else {**_text(group.scores), **counted}


def _control(method: TextScores, control: Control) -> Document:
    found = {**_text(control.scores), "margin": flatten(method.margins(control.scores))}
    known = {"sentence": control.sentence, "fallbacks": control.fallbacks}
    return found | {name: value for name, value in known.items() if value is not None}


# --- what the numbers are about, in sentences

REMOVED = {"train_explanations": "training explanations", "valid_explanations": "validation explanations"}
"""Table of a zero-shot draw -> its name, where that is another."""


def protocol_in_words(protocol: Mapping[str, Any]) -> list[str]:
    """Sentences for the `protocol` of an evaluation document, without characters that a terminal would obey.

    Names in them come from data and recipes: escape them in markup and HTML.
    """
    parts = (_data, _graph, _next_item, _drawn, _leaks, _reading)
    sentences = chain.from_iterable(part(protocol) for part in parts)
    return [plain(line).replace("\n", " ") for line in sentences]


def _data(protocol: Mapping[str, Any]) -> Iterator[str]:
    if "dataset" in protocol:
        fingerprint = protocol.get("fingerprint")
        yield f"Data set {protocol['dataset']}{f', fingerprint {fingerprint[:12]}' if fingerprint else ''}."
    split = protocol.get("split") or {}
    parts = [f"{part} {split[part]}" for part in ("interactions", "explanations") if split.get(part)]
    if parts:
        yield f"Split: {'; '.join(parts)}."
    if counts := protocol.get("explanations"):
        yield f"Explained pairs: {', '.join(f'{count:,} {split}' for split, count in counts.items())}."


def _graph(protocol: Mapping[str, Any]) -> Iterator[str]:
    """The protocol by name; documents of older versions have only the `graph`."""
    name = protocol.get("protocol", protocol.get("graph"))
    edges = f" ({protocol['training_edges']:,} edges)" if "training_edges" in protocol else ""
    if name == "as-published":
        yield f"Protocol as-published: the graph holds all training interactions{edges}, as the papers do."
    elif name is not None:
        kept = "training interactions without pairs whose explanation is held out"
        yield f"Protocol {name}: the graph holds {kept}{edges}."
    if "masked" in protocol:
        yield f"Never offered in the ranking: {protocol['masked']}."


def _next_item(protocol: Mapping[str, Any]) -> Iterator[str]:
    if protocol.get("task") != "next-item":
        return
    held = "last item" if protocol["evaluated"] == "test" else "last item but one"
    window = f" after at most {protocol['window']} items" if protocol.get("window") else ""
    asked = f"the {held} of each of {protocol['users']:,} users among all {protocol['items']:,}{window}"
    yield f"Next item: {asked}; {protocol['users_without']:,} users have too few to leave one out."
    if index := protocol.get("index"):
        levels = ", ".join(map("{} {}".format, index["sources"], index["sizes"]))
        yield f"Index {index['fingerprint'][:12]}: {levels}; beams of {protocol['beam']}."
    if gain := protocol.get("repeat_gain"):
        yield f"With repeats learned, the log-probability of an item of the history gains {gain:+.1f}."
    yield f"Training: {protocol['budget']}."


def _drawn(protocol: Mapping[str, Any]) -> Iterator[str]:
    if not (draw := protocol.get("zero_shot")):
        return
    sides = [(draw[f"{side}s_drawn"], draw[f"{side}s_among"], f"{side}s") for side in ("user", "item")]
    who = " and ".join(f"{drawn:,} of {among:,} {side}" for drawn, among, side in sides if drawn)
    yield f"Zero-shot: {who} that are tested and have text lost all of it (seed {draw['settings']['seed']})."
    removed = [f"{count:,} {REMOVED.get(table, table)}" for table, count in draw["removed"].items() if count]
    yield f"Removed: {', '.join(removed)}. Titles, and profiles of others, stay."
    yield f"Tested on their {draw['test_pairs']:,} pairs; {draw['warm_pairs']:,} test pairs are warm."


def _leaks(protocol: Mapping[str, Any]) -> Iterator[str]:
    if leaks := protocol.get("leaks"):
        inside, held = leaks["heldout_pairs_in_train_graph"], leaks["heldout_pairs"]
        share = f"{leaks['heldout_pairs_in_train_graph_share']:.0%}"
        if inside and protocol.get("graph") == "as-published":
            yield f"LEAK: {inside:,} of {held:,} held-out explained pairs ({share}) are edges of the graph."
        elif inside:
            yield f"Cut from the graph: {inside:,} of {held:,} held-out explained pairs ({share})."
        if leaks["explanations_in_train_and_heldout"]:
            yield f"LEAK: {leaks['explanations_in_train_and_heldout']:,} pairs are explained in train and held out."
        if told := leaks["train_explanations_in_heldout_interactions"]:
            about = f"{told:,} training explanations are about interactions that the ranking is tested on"
            read = protocol.get("interaction_texts_read")
            yield f"LEAK: {about}, and were read." if read else f"{about}; the vocabulary did not read them."
    leaking = (leaks or {}).get("profiles_possibly_leaking", True)
    if protocol.get("profiles_read") and leaking:
        yield "Shipped profiles were read; they may have been written from held-out text."
    if protocol.get("profiles_shown"):
        whose = "Profiles of the tested people and items stand in the prompts"
        yield f"{whose}{'; they may have been written from held-out text' if leaking else ''}."


def _reading(protocol: Mapping[str, Any]) -> Iterator[str]:
    if model := protocol.get("model"):
        length = protocol.get("prompt_tokens")
        how = f" in {protocol['engine']}" if protocol.get("engine") else ""
        yield f"Texts by {model}{how}{f', prompts of {length:g} tokens on average' if length else ''}."
    if encoder := protocol.get("encoder"):
        yield f"Vectors of texts by {encoder}."
    seeds = {"training": protocol.get("seed"), "evaluation": protocol.get("evaluation_seed")}
    if known := [f"{name} {seed}" for name, seed in seeds.items() if seed is not None]:
        yield f"Seeds: {', '.join(known)}."
