"""An explanation as short statements that can be checked one by one, and the known statements they are checked against.

Rules only, the same on every machine. A sentence is cut at clause marks ("despite", "as well as", ";"), each clause
loses its frame ("The user would enjoy the business because") and the name of the thing, and the rest is cut at commas
and at "and" where both sides stand alone: "warm and friendly staff" is one claim, "friendly staff and a cozy patio"
two. The rules are not those of `data.intents`, so that tuning a vocabulary moves no metric. They are English, tuned on
training explanations of XRec-Yelp; other scripts are cut at their own punctuation. Cost: linear in characters.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from copy import copy
from functools import cache
from itertools import chain, islice
from typing import Literal, NamedTuple, Self

import numpy as np
import polars as pl

from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset, Pairs
from forwhy.data.intents import AVERSE, COMPLAINT, FOND, IntentsConfig, disliked_thing, entity_phrases

SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
ABBREVIATION = re.compile(
    r"\b(?:mr|mrs|ms|dr|st|vs|etc|prof|jr|sr|no|e\.g|i\.e|u\.s|a\.m|p\.m|[a-z])\.$", re.IGNORECASE
)
UNPRINTED = re.compile(r"[\"“”\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff]")
CLAUSE = re.compile(
    r"(?:[;!?\u3002\uff01\uff1f\uff1b]|:(?= )|(?<= )[-–—](?= )|[()\[\]])"
    r"|(?:,? |^)(?:despite|although|even though|though|while|whereas|but|as well as|along with|in addition to"
    r"|combined with|coupled with|especially|particularly|such as|including|where|which|with a focus on) "
    r"|,? (?:also )?(?:adds?|adding|contribut(?:es?|ing)) to "
    r"|,? (?=(?:(?:mak|creat|provid|offer|ensur|allow)ing|creates?|makes?|resulting in) )"
    # "dishes like ramen", not "feels like home", "shaped like a boat" or "would like"
    r"|(?<=[sd])(?<!ed)(?<!feels)(?<!tastes)(?<!looks)(?<!seems)(?<!sounds)(?<!would) like (?!to |you |it )"
    r"|, (?=(?:(?:the|this) (?:user|reader|customer)s?|you|they) (?:would|will|may|might|could|can) )"
    r"|(?<!ed)(?<!made)(?<!up)(?<!aligns)(?<!interact) with (?!friends|family)(?=\S+ \S)"
    r"|,? (?:as )?(?:described|mentioned|indicated) in (?:the|their) review",
    re.IGNORECASE,
)
SEPARATOR = re.compile(
    r"(, (?:(?:and|or|plus) )?|[\uff0c\u3001]| and (?!cheese|grits|gravy|pa ))", re.IGNORECASE
)

FRAME = re.compile(
    r"(?:(?:overall|additionally|furthermore|moreover|lastly|also|however|in addition|based on [^,]{1,80}),? ){0,2}"
    r"(?:(?:the|this|a|an|any) )?"
    r"(?:users?|readers?|customers?|guests?|visitors?|diners?|viewers?|listeners?|players?|shoppers?|fans?"
    r"|people|person|you|they|he|she|we|i)"
    r"(?: (?:would|will|may|might|can|could|should|do|does|did|not|also|likely|probably|definitely|really"
    r"|particularly|especially|certainly|greatly|to|is|are|be|seems?|appears?)){0,6}"
    r" (?:enjoy|love|like|appreciate|find|value|prefer|visit|recommend|buy|purchase|choose|read|watch)"
    r"(?:e?s|e?d)?(?: |$)",
    re.IGNORECASE,
)
REASON = re.compile(
    r"([^,]{0,120}?)(?: |^)(?:because of|because|due to|thanks to|for|since|as|if) ", re.IGNORECASE
)
_DOES = (
    r"also|always|often|already|really|is|are|was|were|has|have|had|finds?|found|enjoy(?:s|ed)?"
    r"|love[sd]?|like[sd]?|appreciate[sd]?|value[sd]?|prefer(?:s|red)?"
)
PERSONAL = re.compile(
    r"(?:^|\W)(?:you|(?:the|this) (?:users?|readers?|customers?|guests?|visitors?|viewers?)"
    r"|(?:they|he|she)(?= (?:also |have |has )*(?:enjoy|lov|lik|appreciat|valu|prefer)))"
    rf"(?: (?:{_DOES}))* $",
    re.IGNORECASE,
)
"""What stands before a claim about a person: no "would", since what they would enjoy is the thing's."""
LISTED = re.compile(rf"(?:,|,? (?:and|or|plus))(?: (?:an?|{_DOES}))* ", re.IGNORECASE)
"""What joins the things of a list. No "the" or "its": they begin what is said of the thing."""
NAME_LINKS = frozenset("a an and at by de in la of on the & -".split())
LEADING = frozenset(
    """
    a an the this that these those its their your his her our some any it they you he she we there who i
    them user users reader customer customers and or but because of for with to in at by as due from on so
    if since is are was were has have had be been being having would will may might can could also likely
    then overall additionally furthermore moreover lastly however offer offers offering offered provide
    provides providing provided feature features featuring include includes enjoy enjoys enjoyed enjoying
    appreciate appreciates appreciated love loves loved find finds found making makes make made creating
    creates create giving gives ensuring serving serves it's they're you're perhaps allowing resulting
    mentioned highlighted truly such like
    """.split()
)
TRAILING = frozenset(
    """
    a an the its their and or but because of for with to in at by as from on that which who is are also it
    offered provided too would will may
    """.split()
)
NOTHING = frozenset(
    """
    business businesses place places restaurant restaurants establishment book books product products item
    items spot location user users experience experiences visit review overall etc more others not only all
    here well other
    """.split()
)
"""Words that, alone or together, say nothing that could be checked."""

NAMELESS = NAME_LINKS | NOTHING
"""Words that no name consists of."""
DETERMINERS = ("a ", "an ", "the ", "its ", "their ", "your ", "overall ")
ADJECTIVE = re.compile(
    r"(?:.* (?:a|an|the|its|their|of|to|for|more) )?(?:\w+ly |very |super |so )?"
    r"(?:[\w-]+(?:ous|ful|ive|onal|ical|ual|able|ible|less|ish|ic|ed|ly)|amazing|welcoming|inviting|charming|relaxing|outstanding"
    r"|interesting|exciting|caring|refreshing|satisfying|good|great|best|nice|fresh|warm|cozy|clean|fun|unique|simple"
    r"|quick|kind|fast|cool|hot|cold|crispy|tender|juicy|sweet|tasty|spicy|savory|hearty|healthy|big|large|huge|small"
    r"|quiet|cheap|bright|modern|quaint|rich|light|smooth|creamy|casual|professional|efficient|excellent|decent|fair"
    r"|honest|prompt|polite|easy|convenient|trendy|elegant|diverse|local|exceptional|authentic|wide|safe|funny|dark)",
    re.IGNORECASE,
)
"""An adjective at the end, alone or after "a", perhaps with its adverb: it waits for its noun."""


def sentences(text: str) -> list[str]:
    """A text cut after `.!?` and a space; abbreviations and initials do not end one."""
    pieces: list[str] = []
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    cuts = (text[a:b].strip() for a, b in zip([0, *ends], [*ends, len(text)], strict=True))
    for piece in filter(None, cuts):
        if pieces and ABBREVIATION.search(pieces[-1][-8:]):
            pieces[-1] += " " + piece
        else:
            pieces.append(piece)
    return pieces


def claims(text: str) -> list[str]:
    """Statements of a text in order, each once, in its own words and case; none for a text without letters.

    >>> claims("You would enjoy Lola because of its friendly service, tasty tacos and a cozy patio.")
    ['friendly service', 'tasty tacos', 'cozy patio']
    """
    found: dict[str, str] = {}
    for sentence in sentences(UNPRINTED.sub(" ", text)):
        for clause in CLAUSE.split(" ".join(sentence.split())):
            parts = chain(*map(_parts, _unframed(clause.strip(" ,"))))
            for claim in filter(None, map(_bare, parts)):
                found.setdefault(claim.casefold(), claim)
    return list(found.values())


def of_person(text: str, said: list[str]) -> list[bool]:
    """Whether each claim of a text (`claims(text)`) says what somebody does, is or likes, not what a thing is.

    A list goes on: what follows such a claim after a comma or "and" is of the person too.

    >>> text = "You love quiet bars and long walks, and you would enjoy its live music."
    >>> [*zip(claims(text), of_person(text, claims(text)))]
    [('quiet bars', True), ('long walks', True), ('live music', False)]
    """
    plain, found, end = " ".join(UNPRINTED.sub(" ", text).split()), list[bool](), None
    for claim in said:
        at = plain.find(claim)
        goes_on = end is not None and LISTED.fullmatch(plain, end, max(at, end))
        found.append(at >= 0 and bool(goes_on or PERSONAL.search(plain[:at])))
        end = at + len(claim) if found[-1] else None
    return found


def _unframed(clause: str) -> list[str]:
    """What is liked, unless it is only the thing's name, and why."""
    frame = FRAME.match(clause)
    if not frame:
        return [clause]
    rest = clause[frame.end() :]
    reason = REASON.match(rest)
    if not reason:
        return [] if _is_name(rest, alone=True) else [rest]
    liked = reason.group(1)
    return [rest[reason.end() :]] if _is_name(liked) else [liked, rest[reason.end() :]]


def _is_name(liked: str, alone: bool = False) -> bool:
    """Whether the words name something: all capitalised, or (before a reason) no "the" and a capital."""
    first, *others = liked.strip(" \"'“”").split() or [""]
    if not alone and not first[:1].islower():
        return True
    kept = [word for word in (first, *others) if word.lower() not in NAMELESS]
    return bool(kept) and not any(word[:1].islower() for word in kept)


def _parts(clause: str) -> list[str]:
    """A clause cut at commas and at "and"; adjectives stay with their noun, single words with each other."""
    pieces = SEPARATOR.split(clause)
    parts: list[str] = []
    waiting: list[str] = []
    for position in range(0, len(pieces), 2):
        piece, before = pieces[position], pieces[position - 1] if position else ""
        waits = ADJECTIVE.fullmatch(" ".join(_bare(piece).split()[-4:])) is not None
        if position + 1 < len(pieces) and waits:
            waiting += [piece, pieces[position + 1]]
        elif before == " and " and not waiting and _belongs(parts[-1] if parts else "", piece):
            parts[-1] += before + piece
        else:
            parts.append("".join([*waiting, piece]))
            waiting = []
    return parts


def _belongs(left: str, right: str) -> bool:
    """Whether "left and right" is one thing: a side of one word, as in "ribs and sauce"."""
    if not left or right.lower().startswith(DETERMINERS):
        return False
    return " " not in right or " " not in _bare(left)


def _bare(part: str) -> str:
    """The part without words that only link; empty when nothing is left to check."""
    words = part.strip(" .,;:!?*\"'“”‘’").split()
    start, end = 0, len(words)
    while start < end and words[start].lower() in LEADING:
        start += 1
    while end > start and words[end - 1].lower() in TRAILING:
        end -= 1
    kept = words[start:end]
    says = any(word.lower() not in NOTHING and any(c.isalpha() for c in word) for word in kept)
    return " ".join(kept).strip(" .,;:!?*\"'“”‘’") if says else ""


# --- Known statements, about the item and by or about the user. Only training text is read, and never that of the
# pair itself: training and held-out pairs are judged alike.

Source = Literal["title", "brand", "kind", "item", "phrase", "explanation", "review", "nearby", "dislike"]

MOST_SAID = 4000
"""Characters of a text about somebody new that are cut into claims."""
BACKGROUND = 2000
MOST_TEXTS = 50
"""Texts read for one user or item, explanations first: the more are read, the more claims match by chance."""


class Statement(NamedTuple):
    """Something known, and where it was said."""

    text: str
    source: Source
    """`kind`: category or attribute; `item`: description; `phrase`: intents or profile; `nearby`: said of a like item;
    `explanation` and `review`: training texts; `dislike`: a disliked thing."""
    pair: tuple[int, int] | None = None
    """Internal user and item of the training text."""


class PairStatements(NamedTuple):
    """What is known of the two sides of a pair; a title, and each other statement, once."""

    item: list[Statement]
    user: list[Statement]

    def has(self, side: Literal["item", "user", "either"]) -> bool:
        """Whether more than an item's title is known of that side."""
        known = {"item": self.item, "user": self.user, "either": self.item + self.user}[side]
        return any(statement.source != "title" for statement in known)


STATEMENTS = {
    "side": pl.String, "entity": pl.Int64, "text": pl.String, "source": pl.String, "user": pl.Int64, "item": pl.Int64,
}  # fmt: skip
"""Columns of `KnownStatements.table`."""

_NEGATED = re.compile(
    r"\b(?:(?:i|you|he|she|we|they|user|customer|reader)(?:['’]m| am| is| are)? )?(?:"
    r"(?:(?:do|does|did|would|will|can|could)(?: not|n['’]t)|cannot|can['’]t|never) (?:\w+ly |much )?"
    r"(?:like|love|enjoy|want|need|care for|stand|bear|appreciate|eat|drink|read|watch|buy|likes|loves|enjoys|wants)"
    r"|not (?:really )?(?:a (?:big )?fan of|fond of|interested in|keen on|into)|no fan of|hates?|(?:ich )?hasse"
    r"|(?:ich )?mag (?:gar )?(?:kein(?:e[mnrs]?)?|nicht(?: gern)?)|je n['’]aime pas|no me gustan?) ",
    re.IGNORECASE,
)
_TURN = re.compile(r"[.;!?\n]+\s*|,? (?:but|however|aber|sondern|mais|pero),? ", re.IGNORECASE)
_OWN = re.compile(r"\b(?:ich (?:mag|liebe)(?: gern)?|j['’]aime|me gustan?) ", re.IGNORECASE)


def likes_and_dislikes(about: str) -> tuple[list[str], list[str]]:
    """What a text about somebody says that they like, and the things that they dislike.

    Where a list goes on after a dislike it is not clear which it is, so it is neither; a new sentence, or "but", begins
    anew. English, with the plainest words of German, French and Spanish.

    >>> likes_and_dislikes("likes slow novels, dislikes gore")
    (['likes slow novels'], ['gore'])
    >>> likes_and_dislikes("I don't like garden furniture. I like seeds.")
    (['seeds'], ['garden furniture'])
    """
    likes, dislikes = list[str](), list[str]()
    for part in _TURN.split(about[:MOST_SAID]):
        averse = False
        for claim in claims(_OWN.sub("likes ", _NEGATED.sub(", dislikes ", part))):
            averse = not FOND.match(claim) and (averse or bool(AVERSE.match(claim)))
            if AVERSE.match(claim):
                dislikes.append(disliked_thing(claim))
            elif not averse:
                likes.append(claim)
    return likes, dislikes


def _of_catalogue(dataset: Dataset) -> Iterator[tuple[int, str, Source]]:
    """Each item's number with a claim of its title, its brand, a term (both whole) or a claim of its description."""
    brands, descriptions = dataset.item_column("brand"), dataset.item_column("description")
    columns = zip(dataset.titles(), brands, dataset.item_attributes(), descriptions, strict=True)
    for number, (title, brand, terms, description) in enumerate(columns):
        yield from ((number, claim, "title") for claim in claims(title))
        for term in filter(claims, terms):
            plain = " ".join(UNPRINTED.sub(" ", term).split())
            yield number, plain, "brand" if term == brand.strip() else "kind"
        yield from ((number, claim, "item") for claim in claims(description))


class KnownStatements:
    """Statements by user and by item; training texts are cut into claims when first asked for."""

    def __init__(self, table: pl.DataFrame) -> None:
        """`table`: `STATEMENTS`; `user` and `item` are the pair that a training text was said of, else null."""
        if table.schema != pl.Schema(STATEMENTS) or any(
            table[it].has_nulls() for it in ("side", "entity", "text")
        ):
            raise ValueError("statements with gaps, or with other columns than ours")
        self.table = table
        self._claims = cache(claims)
        self._met: list[Statement] = []
        """Of somebody new; see `meeting`."""
        self._of: defaultdict[tuple[str, int], list[Statement]] = defaultdict(list)
        for side, entity, text, source, user, item in table.iter_rows():
            self._of[side, entity].append(Statement(text, source, None if user is None else (user, item)))

    @classmethod
    def read(
        cls, dataset: Dataset, phrases: IntentsConfig | None = None, people: IntentsConfig | None = None
    ) -> Self:
        """Item texts, phrases, and training texts of pairs held out nowhere and not rated low. Cost: linear.

        `phrases`: which intents or profiles may be read, by default none that may leak; `people`: where users' differ.
        """
        rows: list[tuple[object, ...]] = [
            ("item", number, text, source, None, None) for number, text, source in _of_catalogue(dataset)
        ]
        chosen = {"item": phrases or IntentsConfig(), "user": people or phrases or IntentsConfig()}
        for side in SIDES:
            config = chosen[side].model_copy(update={"training_explanations": False, "catalogue": 0})
            for number, said in entity_phrases(dataset, side, config).items():
                rows += [(side, number, phrase, "phrase", None, None) for phrase in said]
            for number, said in dataset.phrases(side, "dislike").items():
                things = filter(None, map(disliked_thing, said))
                rows += [(side, number, thing, "dislike", None, None) for thing in things]
        told = dataset.pairs("train")
        told = told.select(np.flatnonzero(~dataset.is_heldout(told.users, told.items)))
        for source, every in (("explanation", told), ("review", dataset.training_reviews())):
            pairs = every.select(np.flatnonzero(~dataset.is_disliked(every.users, every.items)))
            for user, item, text in zip(pairs.users.tolist(), pairs.items.tolist(), pairs.texts, strict=True):
                rows += [("item", item, text, source, user, item), ("user", user, text, source, user, item)]
        return cls(pl.DataFrame(rows, STATEMENTS, orient="row"))

    def of(self, user: int | None, item: int) -> PairStatements:
        """What is known of a pair (internal numbers), without what was said about this very pair."""
        own = user, item
        likes = [one for one in self._met if one.source != "dislike"]
        of_user = likes if user is None else self._side("user", user, own)
        return PairStatements(self._side("item", item, own), of_user)

    def meeting(self, about: str) -> Self:
        """Also with what a text says that somebody new, who has no number, likes and dislikes."""
        found, (likes, dislikes) = copy(self), likes_and_dislikes(about)
        found._met = [Statement(like, "phrase") for like in likes]
        found._met += [Statement(thing, "dislike") for thing in dislikes]
        return found

    def told_of(self, item: int, title: str, text: str) -> Self:
        """Also with an item of which only its title and a text are known."""
        found, said = copy(self), [Statement(claim, "title") for claim in self._claims(title)]
        said += [Statement(claim, "item") for claim in self._claims(text)]
        found._of = defaultdict(list, {**self._of, ("item", item): said})
        return found

    def dislikes(self, side: Side, entity: int | None) -> list[str]:
        """What a user dislikes, or what people dislike in an item; `of` never tells it."""
        own = self._met if entity is None else self._of.get((side, entity), [])
        return [statement.text for statement in own if statement.source == "dislike"]

    def of_pairs(self, pairs: Pairs) -> list[PairStatements]:
        """What is known of each pair."""
        return [*map(self.of, pairs.users.tolist(), pairs.items.tolist())]

    def background(self, pairs: Pairs, size: int = BACKGROUND, seed: int = 0) -> list[str]:
        """At most `size` statements of random pairs, each as often as it is said. Pass training pairs."""
        order = np.random.default_rng(seed).permutation(len(pairs))
        drawn = map(self.of, pairs.users[order].tolist(), pairs.items[order].tolist())
        return list(islice((statement.text for pair in drawn for side in pair for statement in side), size))

    def _side(self, side: Side, entity: int, pair: tuple[int | None, int]) -> list[Statement]:
        own = self._of.get((side, entity), [])
        facts = (statement for statement in own if statement.pair is None and statement.source != "dislike")
        others = [text for text in own if text.pair not in (None, pair)][:MOST_TEXTS]
        cut = (text._replace(text=claim) for text in others for claim in self._claims(text.text))
        said = (it for it in cut if it.source != "review" or not COMPLAINT.search(it.text))
        found: dict[tuple[str, bool], Statement] = {}
        for statement in chain(facts, said):  # a title that begins with the brand hides none
            found.setdefault((statement.text.casefold(), statement.source == "title"), statement)
        return list(found.values())
