"""Words of a text as nltk's `word_tokenize` gives them, on lower-cased text: the unit of BLEU.

The rules are those of `nltk.tokenize.NLTKWordTokenizer` (Apache-2.0; after Robert MacIntyre's treebank
script), restated because nltk takes seconds to import and five packages to install. Equality with nltk is
a test. Its sentence splitter is a download (punkt): here a sentence ends at `.!?` before a space, except
after a common abbreviation or an initial.
"""

import re
from functools import lru_cache

SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
ABBREVIATION = re.compile(
    r"\b(?:mr|mrs|ms|dr|st|vs|etc|prof|jr|sr|no|e\.g|i\.e|u\.s|a\.m|p\.m|[a-z])\.$", re.IGNORECASE
)

# The lookahead ties each second half to its first: one pass instead of eight.
CONTRACTIONS = (
    r"\b(can(?=not)|d(?='ye)|gim(?=me)|gon(?=na)|got(?=ta)|lem(?=me)|more(?='n)|wan(?=na\s))"
    r"(not|'ye|me|na|ta|'n)\b"
)

Rule = tuple[re.Pattern[str], str]


def _rules(*pairs: tuple[str, str]) -> list[Rule]:
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


MARKS = _rules(
    # Opening quotes.
    (r"([«“‘„]|`+)", r" \1 "),
    (r'^"', r"``"),
    (r"(``)", r" \1 "),
    (r"([ (\[{<])(\"|'{2})", r"\1 `` "),
    (r"(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"\1 "),
    # Punctuation; a period only at the end, where possessive runs keep hostile text linear.
    (r"([^.])(\.)([\])}>\"' »”’]*+)\s*$", r"\1 \2 \3 "),
    (r"([:,])([^\d])", r" \1 \2"),
    (r"([:,])$", r" \1 "),
    (r"\.{2,}", r" \g<0> "),
    (r"[;@#$%&]", r" \g<0> "),
    (r"[\u2012-\u2015]", r" \g<0> "),
    (r"([^.])(\.)([\])}>\"']*+)\s*$", r"\1 \2\3 "),
    (r"[?!]", r" \g<0> "),
    (r"([^'])' ", r"\1 ' "),
    (r"[*]", r" \g<0> "),
    (r"[\]\[(){}<>]", r" \g<0> "),
    (r"--", r" -- "),
)

ENDINGS = _rules(
    # Closing quotes and contractions, on text with a space at both ends.
    (r"([»”’])", r" \1 "),
    (r"''", r" '' "),
    (r'"', r" '' "),
    (r"\s+", r" "),
    (r"([^' ])('[smd]|') ", r"\1 \2 "),
    (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
    (CONTRACTIONS, r" \1 \2 "),
    (r" ('t)(is)\b", r" \1 \2 "),
    (r" ('t)(was)\b", r" \1 \2 "),
)


@lru_cache(maxsize=8192)  # a method and its controls ask for the same texts; some 20 MiB when full
def words(text: str) -> tuple[str, ...]:
    """Lower-cased words and punctuation marks of a text, sentence by sentence. Cost: linear."""
    return tuple(word for sentence in sentences(text.lower()) for word in split_words(sentence))


def split_words(sentence: str) -> list[str]:
    """Words of one lower-case sentence: equal to `NLTKWordTokenizer().tokenize`."""
    return _apply(ENDINGS, f" {_apply(MARKS, sentence)} ").split()


def sentences(text: str) -> list[str]:
    """A text cut after `.!?` and a space; abbreviations and initials do not end one."""
    pieces: list[str] = []
    for piece in _after_marks(text):
        if pieces and ABBREVIATION.search(pieces[-1][-8:]):
            pieces[-1] += " " + piece
        else:
            pieces.append(piece)
    return pieces


def _after_marks(text: str) -> list[str]:
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    cuts = [text[a:b].strip() for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [cut for cut in cuts if cut]


def _apply(rules: list[Rule], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text
