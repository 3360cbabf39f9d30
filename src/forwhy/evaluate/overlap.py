"""Words of a text, one function per convention, and what two texts share of them: n-grams, BLEU, ROUGE.

`words`: as nltk's `word_tokenize` gives them, on lower-cased text; the unit of BEAT's BLEU. The rules are those of
`nltk.tokenize.NLTKWordTokenizer` (Apache-2.0; after Robert MacIntyre's treebank script), restated because nltk takes
seconds to import; equality is a test. nltk's sentence splitter is a download (punkt): ours is `text.statements`.
`mteval_words`: as the WMT script mteval-v13a and sacrebleu's `13a` split; `rouge_words`: as rouge-score
without a stemmer; `peter_words`: as PETER's code cuts its text.

Shapes: n pairs; w words of all texts, predictions and references; words are numbers (`Splitter`).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.significance import Floats, Ints
from forwhy.text.statements import sentences

# The lookahead ties each second half to its first: one pass instead of eight.
CONTRACTIONS = (
    r"\b(can(?=not)|d(?='ye)|gim(?=me)|gon(?=na)|got(?=ta)|lem(?=me)|more(?='n)|wan(?=na\s))"
    r"(not|'ye|me|na|ta|'n)\b"
)

Split = Callable[[str], Sequence[str]]
"""A convention: a text -> its words."""
Rule = tuple[str, str, str]
"""Characters of which a text needs one for the rule to change it, the pattern, what it becomes."""

MARKS: tuple[Rule, ...] = (
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

ENDINGS: tuple[Rule, ...] = (
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

MTEVAL: tuple[Rule, ...] = (
    # ASCII marks but the apostrophe, comma, hyphen and period.
    (r"""!"#$%&()*+/:;<=>?@[\]^_`{|}~""", r"([!-&(-+:-@/\[-`{-~])", r" \1 "),
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


def _apply(rules: tuple[Rule, ...], text: str) -> str:
    present = set(text)  # most rules concern rare marks: a look is cheaper than a search
    for needs, pattern, becomes in rules:
        if not present.isdisjoint(needs):
            text = re.sub(pattern, becomes, text)
    return text


# --- N-grams that the two texts of a pair share, counted for all pairs at once

Text = Sequence[int]
Word = TypeVar("Word")


def matches(ours: Sequence[Text], theirs: Sequence[Text], orders: int) -> Ints:
    """[n, orders] n-grams of `ours[k]` found in `theirs[k]`, each as often as it is in both (clipped).

    Cost: one sort of w numbers for order 1; higher orders sort only what can still match.
    """
    n, texts = len(ours), [*ours, *theirs]
    length_t = lengths(texts)
    word_w = np.fromiter(chain.from_iterable(texts), np.int64, int(length_t.sum()))
    text_w = np.repeat(np.arange(2 * n), length_t)
    left_w = np.repeat(np.cumsum(length_t), length_t) - np.arange(len(word_w))
    base, at = int(word_w.max(initial=0)) + 1, np.arange(len(word_w))
    gram = text_w % n  # the empty n-gram of a pair: longer ones are numbered within their pair
    found = np.zeros((n, orders), dtype=np.int64)
    for order in range(orders):
        fits = left_w[at] > order
        at, gram = at[fits], gram[fits]
        gram, both_g = _clip(gram * base + word_w[at + order], text_w[at] < n)
        pair_g = np.empty(len(both_g), dtype=np.int64)
        pair_g[gram] = text_w[at] % n
        found[:, order] = np.bincount(pair_g, both_g, minlength=n)
        shared = both_g[gram] > 0  # only these can start a longer match
        at, gram = at[shared], gram[shared]
    return found


def lengths(texts: Sequence[Text]) -> Ints:
    """Words of each text."""
    return np.fromiter(map(len, texts), np.int64, len(texts))


def grams(text: Sequence[Word], order: int) -> Iterable[tuple[Word, ...]]:
    """N-grams of one text, in order."""
    return zip(*(text[start:] for start in range(order)), strict=False)


def _clip(keys: Ints, is_ours: NDArray[np.bool_]) -> tuple[Ints, Floats]:
    """Keys as numbers from 0, and how often each is on both sides."""
    kinds, gram = np.unique(keys, return_inverse=True)
    counts = [np.bincount(gram[side], minlength=len(kinds)) for side in (is_ours, ~is_ours)]
    return gram, np.minimum(*counts).astype(np.float64)


# --- Three BLEUs: one formula (Papineni et al. 2002) on counts that add up over pairs.
#
# `nltk_bleu` (BEAT): treebank words, method 1, 0 to 1. `peter_bleu` (PETER, PEPLER, NRT, Att2Seq as their authors run
# them: tensorflow/nmt's): 15 words, no smoothing, 0 to 100. `sacrebleu` (Post 2018): 13a words, exponential smoothing,
# 0 to 100.
# Shapes: n pairs; counts [..., 10] = matches of order 1..4 | n-grams of order 1..4 | words | reference's words.

Counts = NDArray[np.floating] | NDArray[np.integer]

ORDERS = (1, 2, 3, 4)
METHOD1 = 0.1
"""nltk's `SmoothingFunction().method1`: matches of an order that has none."""
SACREBLEU_SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
"""Of the package's release whose values ours equal (tests/evaluate/test_overlap_bleu.py)."""


def bleu_counts(ours: Sequence[Text], theirs: Sequence[Text], least: int = 0) -> Ints:
    """[n, 10] counts behind BLEU. `least`: n-grams of a text too short for any; nltk counts 1."""
    our_n, their_n = lengths(ours), lengths(theirs)
    totals = np.maximum(least, our_n[:, None] - np.array(ORDERS) + 1)
    return np.column_stack([matches(ours, theirs, len(ORDERS)), totals, our_n, their_n])


def nltk_bleu(counts: Counts, order: int) -> Floats:
    """[...] BLEU with uniform weights up to `order`, smoothing method 1, `least` 1; 0 without a match."""
    found, total, brevity = _parts(counts, order)
    score = brevity * _geometric_mean(np.where(found > 0, found, METHOD1) / total)
    return np.asarray(np.where(found[..., 0] > 0, score, 0.0))


def peter_bleu(counts: Counts, order: int) -> Floats:
    """[...] 100 x BLEU with uniform weights up to `order`; 0 when an order has no match."""
    found, total, brevity = _parts(counts, order)
    return 100 * brevity * _geometric_mean(found / np.maximum(total, 1))


def sacrebleu(counts: Counts) -> Floats:
    """[...] 100 x BLEU-4; the k-th order without a match counts 1 / 2^k matches, one without n-grams 0."""
    found, total, brevity = _parts(counts, len(ORDERS))
    halves = 0.5 ** np.cumsum(found == 0, axis=-1)
    smooth = np.where(found > 0, found, np.where(total > 0, halves, 0.0))
    score = 100 * brevity * _geometric_mean(smooth / np.maximum(total, 1))
    return np.asarray(np.where(found.any(axis=-1), score, 0.0))


def _parts(counts: Counts, order: int) -> tuple[Floats, Floats, Floats]:
    """Matches and n-grams up to `order`, and the brevity penalty."""
    wide = np.asarray(counts, dtype=np.float64)
    brevity = np.exp(np.minimum(0.0, 1 - wide[..., 9] / np.maximum(wide[..., 8], 1)))
    return wide[..., :order], wide[..., 4 : 4 + order], brevity


def _geometric_mean(precision: Floats) -> Floats:
    some = precision > 0
    mean = np.exp(np.log(np.where(some, precision, 1.0)).mean(axis=-1))
    return np.asarray(np.where(some.all(axis=-1), mean, 0.0))


# --- ROUGE of each pair: rouge-score's F-measures (Lin 2004), and PETER's, which counts an n-gram once.


def rouge_n(ours: Sequence[Text], theirs: Sequence[Text], orders: int = 2) -> Floats:
    """[n, orders] ROUGE-1, ROUGE-2, ...: F of clipped n-gram matches, 0 to 1."""
    order = np.arange(orders)
    totals = sum(np.maximum(0, lengths(side)[:, None] - order) for side in (ours, theirs))
    return np.asarray(2 * matches(ours, theirs, orders) / np.maximum(1, totals))


def rouge_l(ours: Text, theirs: Text) -> float:
    """ROUGE-L F of one pair: longest common subsequence of words. Cost: product of lengths over 64."""
    return 2 * _common_subsequence(ours, theirs) / max(1, len(ours) + len(theirs))


def peter_rouge(ours: Text, theirs: Text, order: int) -> float:
    """100 x F of the sets of n-grams of one pair, with PETER's 1e-8 against division by zero."""
    our, their = set(grams(ours, order)), set(grams(theirs, order))
    both = len(our & their)
    precision, recall = both / max(1, len(our)), both / max(1, len(their))
    return 100 * 2 * precision * recall / (precision + recall + 1e-8)


def _common_subsequence(ours: Text, theirs: Text) -> int:
    """Length of it, a row of the table at a time as the bits of one integer (Hyyro 2004)."""
    places: dict[int, int] = {}
    for position, word in enumerate(ours):
        places[word] = places.get(word, 0) | 1 << position
    full = (1 << len(ours)) - 1
    row = full
    for word in theirs:
        if word in places:  # any other leaves the row as it is
            match = row & places[word]
            row = ((row + match) | (row - match)) & full
    return len(ours) - row.bit_count()
