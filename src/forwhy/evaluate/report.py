"""What the numbers of an evaluation are about, in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from forwhy.evaluate.controls import TextTable
from forwhy.evaluate.gain import LEAST, Gain, TextGroup
from forwhy.evaluate.overlap import SACREBLEU_SIGNATURE
from forwhy.evaluate.ranking import RankingResult
from forwhy.evaluate.registry import NEUTRAL
from forwhy.evaluate.significance import flatten
from forwhy.evaluate.text import TextScores

REMOVED = {
    "train_explanations": "training explanations",
    "valid_explanations": "validation explanations",
    "reviews": "reviews",
    "profiles": "profiles",
    "intents": "intents",
}


def protocol_in_words(protocol: Mapping[str, Any]) -> list[str]:
    """Sentences for the `protocol` of an evaluation document; what it does not say is left out.

    Names come from data and recipes: characters that a terminal would obey are replaced by spaces. They are
    no markup and no HTML, so escape them where they are shown as one.
    """
    sentences = (
        *_data(protocol),
        *_graph(protocol),
        *_next_item(protocol),
        *_drawn(protocol.get("zero_shot") or {}),
        *_leaks(protocol),
        *_reading(protocol),
    )
    return ["".join(letter if letter.isprintable() else " " for letter in line) for line in sentences]


def _data(protocol: Mapping[str, Any]) -> Iterator[str]:
    if "dataset" in protocol:
        fingerprint = protocol.get("fingerprint")
        yield f"Data set {protocol['dataset']}{f', fingerprint {fingerprint[:12]}' if fingerprint else ''}."
    split = protocol.get("split") or {}
    parts = [f"{part} {split[part]}" for part in ("interactions", "explanations") if split.get(part)]
    if parts:
        yield f"Split: {'; '.join(parts)}."
    counts = protocol.get("explanations")
    if counts:
        listed = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        yield f"Explained pairs: {listed}."


def _graph(protocol: Mapping[str, Any]) -> Iterator[str]:
    """The protocol by name; older documents have only the `graph`."""
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
    yield (
        f"Next item: the {held} of each of {protocol['users']:,} users among all {protocol['items']:,}{window}; "
        f"{protocol['users_without']:,} users have too few to leave one out."
    )
    if protocol.get("index"):
        levels = ", ".join(
            f"{source} {size}"
            for source, size in zip(protocol["index"]["sources"], protocol["index"]["sizes"], strict=True)
        )
        yield (
            f"Index {protocol['index']['fingerprint'][:12]}: {levels}; beams of {protocol['beam']}; the "
            f"log-probability of an item of the history gains {protocol.get('repeat_gain', 0.0):+.1f}."
        )
    yield f"Training: {protocol['budget']}."


def _drawn(draw: Mapping[str, Any]) -> Iterator[str]:
    if not draw:
        return
    who = " and ".join(
        f"{draw[f'{side}s_drawn']:,} of {draw[f'{side}s_among']:,} {side}s"
        for side in ("user", "item")
        if draw[f"{side}s_drawn"]
    )
    yield f"Zero-shot: {who} that are tested and have text lost all of it (seed {draw['settings']['seed']})."
    removed = [f"{count:,} {REMOVED[table]}" for table, count in draw["removed"].items() if count]
    yield f"Removed: {', '.join(removed)}. Titles, and profiles of others, stay."
    yield f"Tested on their {draw['test_pairs']:,} pairs; {draw['warm_pairs']:,} test pairs are warm."


def _leaks(protocol: Mapping[str, Any]) -> Iterator[str]:
    leaks = protocol.get("leaks")
    if leaks:
        inside, held = leaks["heldout_pairs_in_train_graph"], leaks["heldout_pairs"]
        share = f"{leaks['heldout_pairs_in_train_graph_share']:.0%}"
        if inside and protocol.get("graph") == "as-published":
            yield f"LEAK: {inside:,} of {held:,} held-out explained pairs ({share}) are edges of the graph."
        elif inside:
            yield f"Cut from the graph: {inside:,} of {held:,} held-out explained pairs ({share})."
        if leaks["explanations_in_train_and_heldout"]:
            yield f"LEAK: {leaks['explanations_in_train_and_heldout']:,} pairs are explained in train and held out."
        told = leaks["train_explanations_in_heldout_interactions"]
        if told:
            read = protocol.get("interaction_texts_read")
            about = f"{told:,} training explanations are about interactions that the ranking is tested on"
            yield f"LEAK: {about}, and were read." if read else f"{about}; the vocabulary did not read them."
    if protocol.get("profiles_read") and (leaks or {}).get("profiles_possibly_leaking", True):
        yield "Shipped profiles were read; they may have been written from held-out text."
    if protocol.get("profiles_shown"):
        whose = "Profiles of the tested people and items stand in the prompts"
        leaking = leaks.get("profiles_possibly_leaking", True) if leaks else True
        yield f"{whose}{'; they may have been written from held-out text' if leaking else ''}."


def _reading(protocol: Mapping[str, Any]) -> Iterator[str]:
    if protocol.get("model"):
        length = protocol.get("prompt_tokens")
        yield f"Texts by {protocol['model']}{f', prompts of {length:g} tokens on average' if length else ''}."
    if protocol.get("encoder"):
        yield f"Vectors of texts by {protocol['encoder']}."
    seeds = {"seed": "training", "evaluation_seed": "evaluation"}
    known = [f"{name} {protocol[key]}" for key, name in seeds.items() if protocol.get(key) is not None]
    if known:
        yield f"Seeds: {', '.join(known)}."


# --- One JSON document of all that was measured, and its tables for a terminal.


Document = dict[str, Any]

SHOWN_RANKING = ("recall@20", "ndcg@20", "hr@20", "recall@50")
SHOWN_TEXT = ("bleu1", "bleu4", "rougeL", "similarity", "distinct2", "length")
SHOWN_NEXT_ITEM = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")
"""Of systems of the next item, as their papers have it."""
RANKED = {"beat": "behaviour tokens", "xrec": "graph vectors"}
"""System -> what ranks the catalogue, where it is a part of the system."""
SIGNATURES = {"sacrebleu": SACREBLEU_SIGNATURE}


def evaluation_document(
    *,
    ranking: RankingResult | None = None,
    baselines: Mapping[str, RankingResult] | None = None,
    health: Mapping[str, Mapping[str, float]] | None = None,
    text: TextTable | None = None,
    gain: Gain | None = None,
    retrieval: Mapping[str, object] | None = None,
    groups: Mapping[str, TextGroup] | None = None,
    variants: Mapping[str, RankingResult] | None = None,
    order: Mapping[str, RankingResult] | None = None,
    costs: Mapping[str, object] | None = None,
    protocol: Mapping[str, object] | None = None,
) -> Document:
    """Everything measured, as plain JSON values; what was not measured is null.

    Keys: `ranking` and each of `baselines` (metric@k, `intervals`, `users`, `dropped`); `health` (book ->
    perplexity, used); `text` (the method's metrics, all of `registry.METRICS` that apply, `intervals`, `std`
    over pairs, `pairs`, and `signatures`); `controls` (name -> the same without `signatures`, with `sentence`
    where it is a constant, `fallbacks` where it may lack a text (pairs that got the constant) and `margin`,
    the method minus the control on the same pairs);
    `information_gain` (user, item, both: nats per token, `intervals`); `nll` with `nll_interval`;
    `text_retrieval` (of `text_retrieval`); `groups` (name -> `pairs`, `users`, `training_texts` [fewest,
    most], and, of `groups.LEAST` pairs or more, the metrics as in `text`); `variants` (name -> ranking
    of the same model asked otherwise); `order` (of systems of the next item: `given` and `shuffled`, a ranking of
    the same users after their histories in either order); `costs` (whatever was given); `protocol` (fingerprint,
    split, seed: whatever was given; `protocol_in_words` reads it).
    Every interval is a bootstrap 95% interval `[low, high]` under the value's name.
    """
    return {
        "ranking": None if ranking is None else _ranking(ranking),
        "baselines": {name: _ranking(result) for name, result in (baselines or {}).items()},
        "health": None if health is None else {book: dict(health[book]) for book in health},
        "text": None if text is None else {**_text(text.method), "signatures": SIGNATURES},
        "controls": None if text is None else _controls(text),
        "information_gain": None if gain is None else {**flatten(gain.gain), "pairs": gain.pairs},
        "nll": None if gain is None else gain.nll.mean,
        "nll_interval": None if gain is None else [gain.nll.low, gain.nll.high],
        "text_retrieval": None if retrieval is None else dict(retrieval),
        "groups": None if groups is None else {name: _group(group) for name, group in groups.items()},
        "variants": {name: _ranking(result) for name, result in (variants or {}).items()},
        "order": None if order is None else {name: _ranking(order[name]) for name in order},
        "costs": None if costs is None else dict(costs),
        "protocol": dict(protocol or {}),
    }


def render(document: Mapping[str, Any]) -> list[RenderableType]:
    """Tables of a document for a rich console; parts that were not measured are left out."""
    parts = (
        _ranking_table(document),
        _order_table(document),
        _health_table(document),
        _text_table(document),
        _groups_table(document),
        _gain_table(document),
        _retrieval_table(document),
        _protocol_lines(document),
    )
    return [part for part in parts if part is not None]


def _ranking(result: RankingResult) -> Document:
    counted = {**result.coverage, "users": len(result.users), "dropped": result.dropped}
    return {**flatten(result.intervals()), **counted}


def _text(scores: TextScores) -> Document:
    measured = flatten(scores.intervals())
    counted = {metric: value for metric, value in scores.corpus.items() if metric not in measured}
    return {**measured, **counted, "std": scores.stds(), "pairs": len(scores)}


def _group(group: TextGroup) -> Document:
    counted = {"pairs": group.pairs, "users": group.users, "training_texts": list(group.training_texts)}
    return counted if group.scores is None else {**_text(group.scores), **counted}


def _controls(table: TextTable) -> Document:
    controls: Document = {}
    for name, control in table.controls.items():
        controls[name] = {**_text(control.scores), "margin": flatten(table.method.margins(control.scores))}
        if control.sentence is not None:
            controls[name]["sentence"] = control.sentence
        if control.fallbacks is not None:
            controls[name]["fallbacks"] = control.fallbacks
    return controls


def _ranking_table(document: Mapping[str, Any]) -> Table | None:
    if not document.get("ranking"):
        return None
    protocol = document.get("protocol", {})
    system = protocol.get("system", "beat")
    rows = {RANKED.get(system, system): document["ranking"], **variants_named(document)}
    rows |= document.get("baselines", {})
    metrics = [metric for metric in shown_ranking([document]) if metric in document["ranking"]]
    split = protocol.get("evaluated", "test")
    table = titled(f"Full ranking on {split}, {document['ranking']['users']} users", *metrics)
    for name, values in rows.items():
        table.add_row(name, *(cell(values, metric) for metric in metrics))
    return table


def shown_ranking(
    documents: Sequence[Mapping[str, Any]], usual: tuple[str, ...] = SHOWN_RANKING
) -> tuple[str, ...]:
    """Ranking metrics to show: those of the next item where all these evaluations are about it."""
    ranked = [document for document in documents if document.get("ranking")]
    next_item = [document.get("protocol", {}).get("task") == "next-item" for document in ranked]
    return SHOWN_NEXT_ITEM if ranked and all(next_item) else usual


def variants_named(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Variants as rows below their run."""
    return {f"  {name}": values for name, values in (document.get("variants") or {}).items()}


def _order_table(document: Mapping[str, Any]) -> Table | None:
    order = document.get("order")
    if not order:
        return None
    metrics = [metric for metric in SHOWN_NEXT_ITEM if metric in order["given"]]
    table = titled(f"What order is worth, {order['given']['users']} of these users", *metrics)
    for name, label in (("given", "histories as they are"), ("shuffled", "in random order")):
        table.add_row(label, *(cell(order[name], metric) for metric in metrics))
    return table


def _health_table(document: Mapping[str, Any]) -> Table | None:
    if not document.get("health"):
        return None
    table = titled("Codebooks", "perplexity", "words in use")
    for book, health in document["health"].items():
        table.add_row(book, f"{health['perplexity']:.0f}", f"{health['used']:.0f}")
    return table


def _text_table(document: Mapping[str, Any]) -> RenderableType | None:
    if not document.get("text"):
        return None
    method, controls = document["text"], document.get("controls") or {}
    metrics = [metric for metric in SHOWN_TEXT if metric in method]
    table = titled(f"Explanations, {method['pairs']} held-out pairs", *metrics)
    table.add_row("forwhy", *(cell(method, metric) for metric in metrics))
    for name, control in controls.items():
        marks = ["*" if control_wins(method, control, metric) else "" for metric in metrics]
        table.add_row(name, *(cell(control, m, mark) for m, mark in zip(metrics, marks, strict=True)))
    sentences = [f"{name}: {it['sentence']}" for name, it in controls.items() if "sentence" in it]
    # Text, not a markup string: these sentences are strangers' words.
    return Group(table, Text("* the control is at least as good\n" + "\n".join(sentences), style="dim"))


def _groups_table(document: Mapping[str, Any]) -> RenderableType | None:
    groups = document.get("groups")
    if not groups:
        return None
    metrics = [m for m in SHOWN_TEXT if any(m in group for group in groups.values())]
    table = titled("Explanations by users' training texts", "texts", "users", "pairs", *metrics)
    for name, group in groups.items():
        few, most = group["training_texts"]
        texts = str(few) if few == most else f"{few} to {most}"
        cells = [cell(group, metric) if metric in group else Text("-") for metric in metrics]
        table.add_row(name, texts, str(group["users"]), str(group["pairs"]), *cells)
    return Group(table, Text(f"- fewer than {LEAST} pairs", style="dim"))


def _protocol_lines(document: Mapping[str, Any]) -> Text | None:
    lines = protocol_in_words(document.get("protocol") or {})
    return Text("\n".join(lines), style="dim") if lines else None


def _gain_table(document: Mapping[str, Any]) -> Table | None:
    gain = document.get("information_gain")
    if not gain:
        return None
    nll, (low, high) = document["nll"], document["nll_interval"]
    table = titled(f"Language model, {gain['pairs']} held-out pairs", "nats per token")
    table.add_row("NLL", f"{nll:.3f} [{low:.3f}, {high:.3f}]")
    for side in ("user", "item", "both"):
        table.add_row(f"gain over shuffled {side}", cell(gain, side))
    return table


def _retrieval_table(document: Mapping[str, Any]) -> Table | None:
    found = document.get("text_retrieval")
    if not found:
        return None
    table = titled(f"Own text among {found['pairs']} held-out texts", "median_rank", "mrr", "hit@10")
    table.add_row("macro words", *(cell(found, name) for name in ("median_rank", "mrr", "hit@10")))
    table.add_row("chance", *(number(found["chance"][name]) for name in ("median_rank", "mrr", "hit@10")))
    return table


def titled(title: str, *columns: str) -> Table:
    """An empty table whose first column holds names."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def control_wins(method: Mapping[str, Any], control: Mapping[str, Any], metric: str) -> bool:
    """Whether the control is at least as good by a metric of which more is better."""
    return metric not in NEUTRAL and bool(control[metric] >= method[metric])


def cell(values: Mapping[str, Any], metric: str, mark: str = "") -> Text:
    """A value above its interval; `Text`, as the interval's bracket would open a markup tag in a string."""
    shown = f"{number(values[metric])}{mark}"
    if metric not in values.get("intervals", {}):
        return Text(shown)
    low, high = values["intervals"][metric]
    return Text(f"{shown}\n[{number(low, 3)}, {number(high, 3)}]")


def number(value: float, digits: int = 4) -> str:
    """Shares with their digits, larger numbers with one."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.{digits}f}"
