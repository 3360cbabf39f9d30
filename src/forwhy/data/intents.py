"""Short phrases about people and things: from the intents table, or cut out of prose without a model."""

import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from forwhy.columns import Side
from forwhy.data.dataset import Dataset
from forwhy.options import Options

LONGEST_PROSE = 4_000
"""Characters of a text that are read; shipped profiles have a few hundred."""
LONGEST_PHRASE = 12
"""Words; a longer piece is cut at its connectives, then at its end."""
LONGEST_GIVEN = 200
"""Characters of a phrase that came as a phrase."""

SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+|(?<=\w):\s")
WISH = (
    r"\b(?:would|will|may|might|can)\s+(?:(?:also|likely|probably|especially|greatly|definitely|really)\s+)*"
    r"(?:enjoy|love|appreciate|like|find|buy|visit|appeal to)\b"
)
NAMED = re.compile(
    WISH + r"\s+(?=[\"'“A-Z]|(?:this|the)\s)[^,.;]*?(?=$|[,.;]|\s(?:because|for|due to|with|as|since)\b)"
)
"""The thing itself, by name: its title says nothing about why."""
LISTED = re.compile(
    r",\s+(?:and |or |but |as well as |along with )?|\s+as well as\s+|\s+such as\s+|\s+including\s+"
    r"|\s+with a focus on\s+|\s+because(?: of)?\s+|\s+due to\s+|\s+(?:looking|searching) for\s+"
    r"|\s+(?:who|which) (?:also )?(?:enjoy|appreciate|love|value)s?\s+|\s+for (?:its|their|the|a|an)\s+"
    r"|\s+" + WISH + r"\s+"
)
CONNECTIVE = re.compile(r"\s+(?:and|with|for|that|while|in|from|through|where|when|at)\s+")
PREFACE = re.compile(
    r"^(?:based on [^,]{0,120},\s*|(?:overall|additionally|lastly|in addition|in general),\s*)*"
    r"(?:it (?:can be|is) (?:inferred|concluded|likely|evident|clear) that\s+|it seems (?:that\s+)?)?",
    re.IGNORECASE,
)
END = r"(?![-'’\w])\s*"
SUBJECT = re.compile(
    r"^(?:(?:this|the|a)\s+)?"
    r"(?:users?|readers?|customers?|person|business|book|place|restaurant|they|he|she|it|you)"
    + END
    + r"(?:(?:would|will|may|might|can|could|seems?|appears?|is|are|has|have|also|likely|probably|been)\s+)*"
    r"(?:to\s+)?(?:also\s+)?",
    re.IGNORECASE,
)
VERB = re.compile(
    r"^(?:(?:be|being)\s+(?:interested in|drawn to|a fan of|fond of)"
    r"|(?:enjoy|appreciat|lik|lov|valu|prefer|favou?r|buy|seek|offer|provid|featur|contain|explor|find|look"
    r"|fans? of|visit|involv|creat|includ)(?:e|es|s|ed|ing)?"
    r"(?: (?:for|out))?)" + END,
    re.IGNORECASE,
)
OBJECT = re.compile(
    r"^(?:(?:the|this|any)\s+)?(?:business(?:es)?|books?|places?|restaurants?|establishments|stories|novels|those"
    r"|people|individuals|readers|anyone)\s+(?:that|which|who|with|where|offering|for|interested in)" + END,
    re.IGNORECASE,
)
SMALL = (
    "and|or|but|with|the|a|an|that|which|who|also|especially|particularly|specifically|for|its|their|as|of|in|on|by"
    "|to|it|they|is|are|be|has|have|having|making|make|makes|so|then|such|other|both|where|while|her|his|this"
    "|because|due|not only|would|will|may|might|despite|whether|although"
)
LEADING = re.compile(rf"^(?:(?:{SMALL}){END})+", re.IGNORECASE)
TRAILING = re.compile(rf"(?:\s+(?:{SMALL}))+$", re.IGNORECASE)
EDGES = " \t.,;:!?-*\"'“”’()"
EMPTY = frozenset(
    {
        "user", "users", "business", "businesses", "book", "books", "those", "readers", "reader",
        "individuals", "customers", "novel", "novels", "restaurant", "restaurants", "series",
        "interested", "people", "place", "places", "author", "unique", "fresh", "strong", "anyone",
        "others", "spot", "served", "including", "however", "making", "town",
    }
)  # fmt: skip
"""Words that, alone, describe nobody."""


class IntentsConfig(Options):
    """Which phrases describe a person or a thing."""

    source: Literal["auto", "intents", "profiles", "none"] = "auto"
    """`intents`: the table; `profiles`: shipped prose, which may leak held-out text, so it must be asked
    for; `auto`: the table if there is one, otherwise neither."""
    heldout_people: bool = False
    """Also read shipped profiles of users that occur in a held-out explained pair; those that we mined from
    training text (`Dataset.vouched`) are always read."""
    heldout_items: bool = True
    """Also read shipped profiles of items that occur in one (nearly all popular items do)."""
    training_explanations: bool = True
    """Also cut the explanations of training pairs into phrases, for both their user and their item."""
    clear_of_interactions: bool = True
    """Not those of pairs that are valid or test interactions: shared phrases would give the pair away."""
    limit: int = Field(default=10, ge=1)
    """Phrases for each entity, first ones kept."""


def entity_phrases(dataset: Dataset, side: Side, config: IntentsConfig | None = None) -> dict[int, list[str]]:
    """Phrases by internal number, best first, each once; entities without any are absent.

    Never reads the text of a held-out pair. O(characters).
    """
    config = config or IntentsConfig()
    table = dataset.phrases(side) if config.source in ("auto", "intents") else {}
    found = {entity: [clean_phrase(phrase) for phrase in phrases] for entity, phrases in table.items()}
    if config.source == "profiles":
        found = _from_profiles(dataset, side, config)
    if config.training_explanations:
        pairs = dataset.pairs("train", clear_of_interactions=config.clear_of_interactions)
        pairs = pairs.select(np.flatnonzero(~dataset.is_heldout(pairs.users, pairs.items)))
        entities = pairs.users if side == "user" else pairs.items
        for entity, text in zip(entities.tolist(), pairs.texts, strict=True):
            found.setdefault(entity, []).extend(phrases_from_profile(text, config.limit))
    distinct = {entity: _distinct(phrases, config.limit) for entity, phrases in sorted(found.items())}
    return {entity: phrases for entity, phrases in distinct.items() if phrases}


def phrases_from_profile(text: str, limit: int = 10) -> list[str]:
    """Cut prose into short noun-like phrases, in order; deterministic, no model.

    >>> phrases_from_profile("The user enjoys quiet cafés, live jazz, and friendly service.")
    ['quiet cafés', 'live jazz', 'friendly service']
    """
    phrases: list[str] = []
    for sentence in SENTENCE.split(text[:LONGEST_PROSE]):
        plain = NAMED.sub(", ", PREFACE.sub("", sentence.strip(), count=1))
        for piece in LISTED.split(plain):
            phrases.extend(_short(_bare(piece)))
    return _distinct(phrases, limit)


def clean_phrase(phrase: str) -> str:
    """One line, at most 200 characters, no final stop; placeholders such as ``[Like]`` become empty."""
    text = " ".join(phrase[: 2 * LONGEST_GIVEN].split())[:LONGEST_GIVEN].strip(" .;,-*\"'")
    return "" if text.startswith("[") and text.endswith("]") else text


def _from_profiles(dataset: Dataset, side: Side, config: IntentsConfig) -> dict[int, list[str]]:
    read_all = config.heldout_people if side == "user" else config.heldout_items
    unknown = set(dataset.heldout_entities(side).tolist()) - dataset.vouched("profiles", side)
    skipped = set() if read_all else unknown
    return {
        entity: phrases_from_profile(text, config.limit)
        for entity, text in dataset.profiles(side).items()
        if entity not in skipped
    }


def _bare(piece: str) -> str:
    """The piece without who enjoys it and how that is said."""
    before = None
    piece = piece.strip(EDGES)
    while piece != before:
        before = piece
        for pattern in (LEADING, SUBJECT, VERB, OBJECT):
            piece = pattern.sub("", piece, count=1)
    return TRAILING.sub("", piece).strip(EDGES)


def _short(piece: str) -> list[str]:
    if len(piece.split()) <= LONGEST_PHRASE:
        return [piece]
    return [" ".join(_bare(part).split()[:LONGEST_PHRASE]) for part in CONNECTIVE.split(piece)]


def _distinct(phrases: Iterable[str], limit: int) -> list[str]:
    """The first `limit` that say something and have not been said."""
    kept: dict[str, str] = {}
    for phrase in phrases:
        if len(phrase) >= 4 and phrase.casefold() not in EMPTY:
            kept.setdefault(phrase.casefold(), phrase)
        if len(kept) == limit:
            break
    return list(kept.values())
