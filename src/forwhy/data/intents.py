"""Short phrases about people and things: from the intents table and the catalogue, or cut out of prose."""

import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from forwhy.columns import Side
from forwhy.data.dataset import Dataset
from forwhy.options import Options

LONGEST_PROSE = 4_000
"""Characters of a text that are read; shipped profiles have a few hundred."""
LONGEST_PHRASE = 8
"""Words that can be read aloud in one breath; a longer piece is cut at its connectives, then at its end."""
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
    r"(?i)^(?:based on [^,]{0,120},\s*|(?:overall|additionally|lastly|in addition|in general),\s*)*"
    r"(?:it (?:can be|is) (?:inferred|concluded|likely|evident|clear) that\s+|it seems (?:that\s+)?)?"
)
END = r"(?![-'’\w])\s*"
SUBJECT = re.compile(
    r"(?i)^(?:(?:this|the|a)\s+)?"
    r"(?:users?|readers?|customers?|person|business|book|place|restaurant|they|he|she|it|you)"
    + END
    + r"(?:(?:would|will|may|might|can|could|seems?|appears?|is|are|has|have|also|likely|probably|been)\s+)*"
    r"(?:to\s+)?(?:also\s+)?"
)
VERB = re.compile(
    r"(?i)^(?:(?:be|being)\s+(?:interested in|drawn to|a fan of|fond of)"
    r"|(?:enjoy|appreciat|lik|lov|valu|prefer|favou?r|buy|seek|offer|provid|featur|contain|explor|find|look"
    r"|fans? of|visit|involv|creat|includ)(?:e|es|s|ed|ing)?"
    r"(?: (?:for|out))?)" + END
)
OBJECT = re.compile(
    r"(?i)^(?:(?:the|this|any)\s+)?(?:business(?:es)?|books?|places?|restaurants?|establishments|stories|novels|those"
    r"|people|individuals|readers|anyone)\s+(?:that|which|who|with|where|offering|for|interested in)" + END
)
SMALL = (
    "and|or|but|with|the|a|an|that|which|who|also|especially|particularly|specifically|for|its|their|as|of|in|on|by"
    "|to|it|they|is|are|be|has|have|having|making|make|makes|so|then|such|other|both|where|while|her|his|this"
    "|because|due|not only|would|will|may|might|despite|whether|although"
)
LEADING = re.compile(rf"^(?:(?:{SMALL}){END})+", re.IGNORECASE)
TRAILING = re.compile(rf"(?:\s+(?:{SMALL}))+$", re.IGNORECASE)
EDGES = " \t.,;:!?-*\"'“”’()"
MARKUP = re.compile(r"<[^<>]{1,200}>|&[a-zA-Z0-9#]{2,8};|[\[\]]")
CATEGORY = re.compile(r"\s*[,;|>\n\t]\s*")
WORD = re.compile(
    r"[^\W\d_]{3,}|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}"
)
"""A word of at least three letters; in scripts without spaces two signs are enough."""
COMPLAINT = re.compile(
    r"(?i)\b(?:not|never|however|unfortunately|lack(?:s|ed|ing)?|inconsisten\w*|disappoint\w*|frustrat\w*|complain\w*"
    r"|rude|dirty|filthy|awful|horribl[ey]|terribl[ey]|poor(?:ly)?|worse|worst|broken?|refund\w*|overpriced|mediocre"
    r"|bland|stale|wast(?:e|ed|ing)|overrated|avoid(?:ed|ing)?|damaged|defective|cracked|flimsy|regret\w*"
    r"|(?:parts?|pieces?|screws?|pages?) (?:\w+ )?missing|missing (?:parts?|pieces?|screws?|pages?)|fell apart"
    r"|kaputt|defekt\w*|beschädig\w*|enttäusch\w*|leider|schlecht\w*|mangelhaft|fehlt\w*|nie wieder|nicht|keine?[mnrs]?"
    r"|déçu\w*|cassée?s?|abîmée?s?|mauvaise?s?|roto|rota|malo|mala|decepcion\w*)\b|n['’]t\b"
)
"""What a text regrets is no reason to take the thing. English, with the commonest words of a few other languages."""
AVERSE = re.compile(
    r"(?i)^(?:strong(?:ly)? )?(?:dislik\w*|hat(?:es?|red|ing)|avoid(?:s|ing|ance)?|aversion|disappoint\w*|frustrat\w*"
    r"|critici[sz]\w*|critical|disapprov\w*|displeas\w*|(?:dis|un)comfort\w*|disgust\w*|irritat\w*|annoy\w*"
    r"|complaints?|not (?:a (?:big )?fan|fond|interested)|do(?:es)?(?: not|n['’]t) (?:like|enjoy|appreciate|care))"
    r"(?: (?:of|for|with|about|at|in|by|towards?|to))?\s+(?=\w)"
)
FOND = re.compile(
    r"(?i)^(?:enjoy(?:s|ment)?|appreciat(?:es?|ion|ive)|likes?|loves?|values?|prefer(?:s|ence)?|seeks?|fondness|affinity"
    r"|desires?|(?:is )?interest(?:ed)?)(?: (?:of|for|in))?\s+(?!(?:when|that|how|to|it)\b)(?=\w)"
)
_LISTS = tomllib.loads(Path(__file__).with_name("filler.toml").read_text(encoding="utf-8"))
FUNCTION_WORDS = frozenset(_LISTS["function_words"].split())
"""The commonest words of English: they say nothing of anybody."""
FILLER = FUNCTION_WORDS.union(_LISTS["filler"].split())
"""Words that, alone, describe nobody: praise of anything at all, reporting, measures of time; not only English."""
GENERIC = frozenset(_LISTS["generic"].split())
"""Words that have their place in a phrase ("good value") but that nothing is known by."""
OPENINGS = ("Reviews of it mention", "Its description mentions", "Writes about", "Chose items described with")
"""How the profiles begin that `forwhy mine --extractive` writes: of an item and of a user, from reviews or without."""
EXTRACTIVE = "extractive"
"""The model of what was mined without one."""
EVERYWHERE = 0.5
"""Share of the items from which on a category tells none of them from another."""
FEW = 3
"""Phrases cut out of a person's reviews that describe them better than the catalogue's of what they took."""
SHARED = 3
"""Titles that must hold a word before it says what kind of thing they name."""


class IntentsConfig(Options):
    """Which phrases describe a person or a thing, and how many each source may give."""

    source: Literal["auto", "intents", "catalogue", "profiles", "none"] = "auto"
    """`auto`: the intents table, the catalogue, and profiles that `forwhy mine` wrote from training texts. `intents`,
    `catalogue`: that one alone; `profiles`: these alone, shipped ones too; `none`: none of them."""
    shipped_profiles: bool = False
    """`auto` also reads profiles that came with the data; they may leak held-out text, so it must be asked for."""
    heldout_people: bool = False
    """Also read shipped profiles of users that occur in a held-out explained pair; those that we mined from
    training text (`Dataset.vouched`) are always read."""
    heldout_items: bool = True
    """Also read shipped profiles of items that occur in one (nearly all popular items do)."""
    training_explanations: bool = True
    """Also cut the explanations of training pairs into phrases, for both their user and their item."""
    clear_of_interactions: bool = True
    """Not those of pairs that are valid or test interactions: shared phrases would give the pair away."""
    intents: int = Field(default=10, ge=0)
    """Phrases of an entity from the intents table or its profile, first ones kept."""
    catalogue: int = Field(default=4, ge=0)
    """Phrases of an item from its categories (else what its title shares with others) and its description."""
    reviews: int = Field(default=4, ge=0)
    """Phrases of an entity that `forwhy mine --extractive` cut out of reviews: fewer, because without a language
    model many of them are about the day and not about the thing."""
    limit: int = Field(default=10, ge=1)
    """Phrases for each entity from all sources, first ones kept."""

    @property
    def reads_shipped(self) -> bool:
        """Whether profiles are read that may have been written from held-out text."""
        return self.source == "profiles" or (self.source == "auto" and self.shipped_profiles)


def entity_phrases(dataset: Dataset, side: Side, config: IntentsConfig | None = None) -> dict[int, list[str]]:
    """Phrases by internal number, best first, each once; entities without any are absent.

    Intents and profiles come first, then the catalogue, what was mined without a language model, training explanations.
    Never reads the text of a held-out pair, nor takes for a reason what somebody dislikes or rated low. O(characters).
    """
    config = config or IntentsConfig()
    found: defaultdict[int, list[str]] = defaultdict(list)
    for phrases in _sources(dataset, side, config):
        for entity, told in phrases.items():
            found[entity] += told
    titles = dataset.titles() if side == "item" else [""] * len(dataset.users)
    spelt = _spellings(phrase for told in found.values() for phrase in told)
    distinct = {}
    for entity, told in sorted(found.items()):
        fit = dict.fromkeys(spelt[phrase.casefold()] for phrase in told)
        distinct[entity] = [it for it in fit if not _says_name(it, titles[entity])][: config.limit]
    return {entity: phrases for entity, phrases in distinct.items() if phrases}


def _sources(dataset: Dataset, side: Side, config: IntentsConfig) -> Iterator[dict[int, list[str]]]:
    """What each source says of the entities, within its budget, best source first."""
    read = config.source
    cut: dict[int, list[str]] = {}
    if read in ("auto", "intents"):
        table = {number: list(map(_intent, said)) for number, said in dataset.phrases(side).items()}
        mined = _extracted(dataset, "intents", side)
        ranked = {number: said for number, said in table.items() if number not in mined}
        yield {number: distinct_phrases(said, config.intents) for number, said in ranked.items()}
        cut = {number: said for number, said in table.items() if number in mined}
    if read in ("auto", "profiles"):
        readable = readable_profiles(dataset, side, config)
        prose = {number: phrases_from_profile(text) for number, text in readable.items()}
        mined = _extracted(dataset, "profiles", side)
        yield {number: said[: config.intents] for number, said in prose.items() if number not in mined}
        cut |= {number: cut.get(number, []) + said for number, said in prose.items() if number in mined}
    if read in ("auto", "catalogue") and side == "item" and config.catalogue:
        yield _catalogue(dataset, config.catalogue)
    least = min(FEW, config.reviews) if side == "user" and config.catalogue and dataset.described() else 0
    short = {number: distinct_phrases(said, config.reviews) for number, said in cut.items()}
    yield {number: said for number, said in short.items() if len(said) >= least}
    if config.training_explanations:
        yield _explained(dataset, side, config)


def _intent(phrase: str) -> str:
    """A phrase that came as one, short enough to be read aloud; empty where it says what somebody dislikes."""
    text = clean_phrase(phrase)
    if AVERSE.match(text):
        return ""
    if len(text.split()) <= LONGEST_PHRASE:
        return text
    # What is wanted, not that it is; a lone word is seldom what a sentence is about.
    pieces = [short for piece in LISTED.split(FOND.sub("", text)) for short in _short(piece.strip(EDGES))]
    return max(filter(telling_words, pieces), key=lambda piece: " " in piece, default="")


def _extracted(dataset: Dataset, kind: Literal["intents", "profiles"], side: Side) -> set[int]:
    """Those whose rows of this kind were mined without a language model."""
    rows = dataset.table("mined").filter(table=kind, side=side, model=EXTRACTIVE)
    return set(dataset.ids(side).numbers(rows["entity_id"]).tolist())


def readable_profiles(dataset: Dataset, side: Side, config: IntentsConfig) -> dict[int, str]:
    """Profiles by internal number: those that we mined from training text and the shipped ones that `config` reads."""
    profiles, readable = dataset.profiles(side), dataset.vouched("profiles", side)
    if config.reads_shipped:
        read_all = config.heldout_people if side == "user" else config.heldout_items
        heldout = set() if read_all else set(dataset.heldout_entities(side).tolist())
        readable = readable | (profiles.keys() - heldout)
    return {entity: text for entity, text in profiles.items() if entity in readable}


def _explained(dataset: Dataset, side: Side, config: IntentsConfig) -> dict[int, list[str]]:
    """Phrases of the training explanations of pairs that are held out nowhere and were not rated low."""
    pairs = dataset.pairs("train", clear_of_interactions=config.clear_of_interactions)
    unread = dataset.is_heldout(pairs.users, pairs.items) | dataset.is_disliked(pairs.users, pairs.items)
    read = pairs.select(np.flatnonzero(~unread)).by(side)
    return {entity: [*chain(*map(phrases_from_profile, texts))] for entity, texts in read.items()}


def _catalogue(dataset: Dataset, limit: int) -> dict[int, list[str]]:
    """Categories as they stand, or what the title shares with others where there is none; then the description."""
    kinds, texts = _categories(dataset), dataset.item_column("description")
    titles, found = dataset.titles(), {}
    spread = Counter(word for title in titles for word in telling_words(title))
    for number, (names, text) in enumerate(zip(kinds, texts, strict=True)):
        named = names or distinct_phrases(_kinds(titles[number], spread), limit)
        found[number] = [*named, *(it for it in phrases_from_profile(text) if " " in it or not named)][:limit]
    return found


def _categories(dataset: Dataset) -> list[list[str]]:
    """The categories of each item, without those that most items have."""
    told = dataset.item_column("categories")
    split = ((part.strip(" []'\"") for part in CATEGORY.split(text)) for text in told)
    rows = [list(dict.fromkeys(filter(None, parts))) for parts in split]
    counts = Counter(name for row in rows for name in row)
    most = EVERYWHERE * len(rows) if len(counts) > 1 else len(rows)
    return [[name for name in row if counts[name] <= most] for row in rows]


def _kinds(title: str, spread: Counter[str]) -> Iterator[str]:
    """Runs of a title's words that several titles hold: what kind of thing it is, without its name."""
    run: list[str] = []
    for word in [*re.findall(r"[\w'’-]+", title), ""]:
        telling = telling_words(word)
        if word.lower() in FUNCTION_WORDS or (telling and all(spread[part] >= SHARED for part in telling)):
            run.append(word)
        else:
            # One word of a title may be anything: "The Blue Castle".
            if len(telling_words(" ".join(run))) > 1:
                yield _bare(" ".join(run[:LONGEST_PHRASE]))
            run = []


def _says_name(phrase: str, title: str) -> bool:
    """Whether a phrase says an item's name: its title up to the first bracket or colon."""
    name = " ".join(re.split(r"\s*[(:\[]", title, maxsplit=1)[0].split())
    if not telling_words(name) or name.casefold() not in phrase.casefold():
        return False
    # A name of one word may be an ordinary word, so its capital must stand there too.
    flags = re.IGNORECASE if " " in name else re.NOFLAG
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", phrase, flags) is not None


def _spellings(phrases: Iterable[str]) -> dict[str, str]:
    """Case-folded phrase -> its most frequent spelling; among equals the one with fewest capitals."""
    counts = Counter(phrases)
    best = sorted(counts, key=lambda it: (-counts[it], sum(map(str.isupper, it)), it), reverse=True)
    return {phrase.casefold(): phrase for phrase in best}  # the last of a spelling stays


def telling_words(phrase: str) -> set[str]:
    """The words of a phrase that describe somebody or something, in small letters."""
    return {word for word in WORD.findall(phrase.lower()) if word not in FILLER}


def disliked_thing(phrase: str) -> str:
    """What a phrase of dislike is about; empty where it says a liking ("Values …").

    >>> disliked_thing("Dislikes films with messy timelines.")
    'films with messy timelines'
    """
    text = clean_phrase(phrase)
    thing = AVERSE.sub("", text)
    return "" if thing == text and FOND.match(text) else thing


def phrases_from_profile(text: str, limit: int = 10) -> list[str]:
    """Cut prose into short noun-like phrases, in order; deterministic, no model.

    >>> phrases_from_profile("The user enjoys quiet cafés, live jazz, and friendly service.")
    ['quiet cafés', 'live jazz', 'friendly service']
    """
    phrases: list[str] = []
    opening, _, rest = text.partition(": ")
    plain_text = MARKUP.sub("\n", (rest if opening in OPENINGS else text)[:LONGEST_PROSE])
    for sentence in SENTENCE.split(plain_text):
        plain = NAMED.sub(", ", PREFACE.sub("", sentence.strip(), count=1))
        for piece in LISTED.split(plain):
            phrases.extend(short for short in _short(_bare(piece)) if not COMPLAINT.search(short))
    return distinct_phrases(phrases, limit)


def clean_phrase(phrase: str) -> str:
    """One line, at most 200 characters, no final stop; placeholders such as ``[Like]`` become empty."""
    text = " ".join(phrase[: 2 * LONGEST_GIVEN].split())[:LONGEST_GIVEN].strip(" .;,-*\"'")
    return "" if text.startswith("[") and text.endswith("]") else text


def _bare(piece: str) -> str:
    """The piece without who enjoys it and how that is said."""
    before, piece = "", piece.strip(EDGES)
    while piece != before:
        before = piece
        for pattern in (LEADING, SUBJECT, VERB, OBJECT):
            piece = pattern.sub("", piece, count=1)
    return TRAILING.sub("", piece).strip(EDGES)


def _short(piece: str) -> list[str]:
    """The piece, or where it is too long its parts that are not; the beginning where all are."""
    if len(piece.split()) <= LONGEST_PHRASE:
        return [piece]
    parts = [_bare(part) for part in CONNECTIVE.split(piece)]
    short = [part for part in parts if len(part.split()) <= LONGEST_PHRASE]
    return short or [" ".join(parts[0].split()[:LONGEST_PHRASE])]


def distinct_phrases(phrases: Iterable[str], limit: int) -> list[str]:
    """The first `limit` that say something and have not been said."""
    kept: dict[str, str] = {}
    for phrase in phrases:
        if len(kept) == limit:
            break
        if telling_words(phrase):
            kept.setdefault(phrase.casefold(), phrase)
    return list(kept.values())
