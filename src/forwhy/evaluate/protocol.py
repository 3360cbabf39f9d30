"""What the numbers of an evaluation are about, in sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["protocol_in_words"]

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
