"""Words of a text, one function per convention.

`words`: as nltk's `word_tokenize` gives them, on lower-cased text; the unit of BEAT's BLEU. The rules are those of
`nltk.tokenize.NLTKWordTokenizer` (Apache-2.0; after Robert MacIntyre's treebank script), restated because nltk takes
seconds to import; equality is a test. nltk's sentence splitter is a download (punkt): here a sentence ends at `.!?`
before a space, except after a common abbreviation or an initial.

`mteval_words`: as the WMT script mteval-v13a and sacrebleu's `13a` split; `rouge_words`: as rouge-score
without a stemmer; `peter_words`: as PETER's code cuts its text.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from string import punctuation

SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
ABBREVIATION = re.compile(
    r"\b(?:mr|mrs|ms|dr|st|vs|etc|prof|jr|sr|no|e\.g|i\.e|u\.s|a\.m|p\.m|[a-z])\.$", re.IGNORECASE
)

# The lookahead ties each second half to its first: one pass instead of eight.
CONTRACTIONS = (
    r"\b(can(?=not)|d(?='ye)|gim(?=me)|gon(?=na)|got(?=ta)|lem(?=me)|more(?='n)|wan(?=na\s))"
    r"(not|'ye|me|na|ta|'n)\b"
)

Split = Callable[[str], Sequence[str]]
"""A convention: a text -> its words."""
Rule = tuple[frozenset[str], re.Pattern[str], str]


def _rules(*rules: tuple[str, str, str]) -> list[Rule]:
    """Characters of which a text needs one for the rule to change it, the pattern, what it becomes."""
    return [(frozenset(needs), re.compile(pattern), becomes) for needs, pattern, becomes in rules]


MARKS = _rules(
    # Opening quotes.
    ("«“‘„`", r"([«“‘„]|`+)", r" \1 "),
    ('"', r'^"', r"``"),
    ('`"', r"(``)", r" \1 "),
    ("\"'", r"([ (\[{<])(\"|'{2})", r"\1 `` "),
    ("'", r"(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"\1 "),
    # Punctuation; a period only at the end, where possessive runs keep hostile text linear.
    (".", r"([^.])(\.)([\])}>\"' »”’]*+)\s*$", r"\1 \2 \3 "),
    (":,", r"([:,])([^\d])", r" \1 \2"),
    (":,", r"([:,])$", r" \1 "),
    (".", r"\.{2,}", r" \g<0> "),
    (";@#$%&", r"[;@#$%&]", r" \g<0> "),
    ("\u2012\u2013\u2014\u2015", r"[\u2012-\u2015]", r" \g<0> "),
    (".", r"([^.])(\.)([\])}>\"']*+)\s*$", r"\1 \2\3 "),
    ("?!", r"[?!]", r" \g<0> "),
    ("'", r"([^'])' ", r"\1 ' "),
    ("*", r"[*]", r" \g<0> "),
    ("][(){}<>", r"[\]\[(){}<>]", r" \g<0> "),
    ("-", r"--", r" -- "),
)

ENDINGS = _rules(
    # Closing quotes and contractions, on text with a space at both ends: what needs a space always runs.
    ("»”’", r"([»”’])", r" \1 "),
    ("'", r"''", r" '' "),
    ('"', r'"', r" '' "),
    (" ", r"\s+", r" "),
    ("'\"", r"([^' ])('[smd]|') ", r"\1 \2 "),
    ("'", r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
    (" ", CONTRACTIONS, r" \1 \2 "),
    ("'", r" ('t)(is)\b", r" \1 \2 "),
    ("'", r" ('t)(was)\b", r" \1 \2 "),
)

MTEVAL = _rules(
    # ASCII marks but the apostrophe, comma, hyphen and period.
    ("".join(set(punctuation) - set("',-.")), r"([!-&(-+:-@/\[-`{-~])", r" \1 "),
    (".,", r"([^0-9])([.,])", r"\1 \2 "),
    (".,", r"([.,])([^0-9])", r" \1 \2"),
    ("-", r"([0-9])(-)", r"\1 \2 "),
)
ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))

ROUGE_WORD = re.compile(r"[a-z0-9]+")
PETER_LENGTH = 15
"""Words of a sentence in PETER's data (its option `--words`)."""


def words(text: str) -> tuple[str, ...]:
    """Lower-cased words and punctuation marks of a text, sentence by sentence. Cost: linear."""
    return tuple(word for sentence in sentences(text.lower()) for word in split_words(sentence))


def mteval_words(text: str) -> tuple[str, ...]:
    """Words and punctuation marks, case kept; a period or comma between digits stays. Cost: linear."""
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, mark in ENTITIES:
        line = line.replace(entity, mark)
    return tuple(_apply(MTEVAL, f" {line} ").split())


def rouge_words(text: str) -> tuple[str, ...]:
    """Runs of the letters a to z and digits, of lower-cased text; anything else only separates."""
    return tuple(ROUGE_WORD.findall(text.lower()))


def peter_words(text: str) -> tuple[str, ...]:
    """The first 15 words between spaces, case kept: PETER cuts references, and generates no more."""
    return tuple(text.split()[:PETER_LENGTH])


class Splitter:
    """Words of texts as numbers; each distinct text is split once by each convention."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._texts: dict[Split, dict[str, tuple[int, ...]]] = {}
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__

    def read(self, split: Split, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The words of each text as `split` gives them; equal numbers are equal words."""
        known = self._texts.setdefault(split, {})
        for text in texts:
            if text not in known:
                known[text] = tuple(map(self._numbers.__getitem__, split(text)))
        return [known[text] for text in texts]


def split_words(sentence: str) -> list[str]:
    """Words of one lower-case sentence: equal to `NLTKWordTokenizer().tokenize`."""
    return _apply(ENDINGS, f" {_apply(MARKS, sentence)} ").split()


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


def _apply(rules: list[Rule], text: str) -> str:
    present = set(text)  # most rules concern rare marks: a look is cheaper than a search
    for needs, pattern, becomes in rules:
        if not needs.isdisjoint(present):
            text = pattern.sub(becomes, text)
    return text
