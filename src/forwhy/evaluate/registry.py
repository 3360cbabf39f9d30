"""Every metric and control in words; of text metrics also by whose convention, how far they go, whether more is better.

METEOR is not here: it needs WordNet, which no library that we keep has offline.
"""

from typing import Literal, NamedTuple

from forwhy.evaluate.overlap import SACREBLEU_SIGNATURE

BEAT = "BEAT's code: nltk, lower-cased treebank words, method 1"
PETER = "PETER's code: first 15 words between spaces, case kept"
ROUGE_SCORE = "rouge-score, no stemmer (Lin 2004)"
OWN = "forwhy.evaluate.specificity; vectors by the text encoder of the run"
NETE = "Li et al. 2020 (NETE), PETER's code"
GPTSCORE = "the judge and wording named beside it, after XRec's GPTScore (Ma et al. 2024)"


class Metric(NamedTuple):
    """One metric in words; `source`: the convention, paper or package that it equals."""

    meaning: str
    source: str
    top: float | None
    """The most it can be; none for counts and unbounded scores. The least is 0; -1 of `similarity` and `bertscore_*`
    (less when rescaled); none of `bartscore_*` and `bleurt`."""
    better: Literal["higher", "neutral"] = "higher"
    """"neutral": says nothing of the references (dealt outputs score the same), so no control wins by it;
    the papers want `usr`, `fcr` and `distinct` high and `div` low."""


def _bleu(order: int) -> str:
    runs = "words" if order == 1 else f"runs of 1 to {order} words"
    return f"share of the {runs} that the reference has too, less when shorter than it; of the whole set"


def _cut(name: str) -> Metric:
    return Metric(f"pairs with a text longer than the model reads, cut for {name}", "count", None, "neutral")


BERTSCORE = "Zhang et al. 2020; equal to bert-score 0.3.13 on the same encoder and layer"
BARTSCORE = "Yuan et al. 2021 (section 3.3), under the language model named"
BLEURT = "Sellam et al. 2020, the checkpoint named"

NEURAL: dict[str, Metric] = {
    "bertscore_p": Metric("best cosine of each of its tokens with one of the reference, mean", BERTSCORE, 1),
    "bertscore_r": Metric("best cosine of each token of the reference with one of it, mean", BERTSCORE, 1),
    "bertscore_f": Metric("harmonic mean of bertscore_p and bertscore_r", BERTSCORE, 1),
    "bertscore_cut": _cut("BERTScore"),
    "bartscore_p": Metric("log p(text | reference), nats per token", BARTSCORE, 0),
    "bartscore_r": Metric("log p(reference | text), nats per token; what XRec and BEAT report", BARTSCORE, 0),
    "bartscore_f": Metric("mean of bartscore_p and bartscore_r", BARTSCORE, 0),
    "bartscore_cut": _cut("BARTScore"),
    "bleurt": Metric("people's rating of it beside the reference, as a model predicts it", BLEURT, None),
    "bleurt_cut": _cut("BLEURT"),
}
"""What BERTScore, BARTScore and BLEURT give."""

METRICS: dict[str, Metric] = {
    **{f"bleu{order}": Metric(_bleu(order), BEAT, 1) for order in (1, 2, 3, 4)},
    **{
        f"peter_bleu{order}": Metric(_bleu(order), f"{PETER}; unsmoothed (tensorflow/nmt)", 100)
        for order in (1, 4)
    },
    "sacrebleu": Metric(_bleu(4), f"sacrebleu (Post 2018), {SACREBLEU_SIGNATURE}", 100),
    "rouge1": Metric("words shared with the reference, F of precision and recall", ROUGE_SCORE, 1),
    "rouge2": Metric("runs of two words shared with the reference, F", ROUGE_SCORE, 1),
    "rougeL": Metric("longest common subsequence of words with the reference, F", ROUGE_SCORE, 1),
    "peter_rouge1_f": Metric("different words shared with the reference, F", PETER, 100),
    "peter_rouge2_f": Metric("different runs of two words shared with the reference, F", PETER, 100),
    "similarity": Metric("cosine of the two texts' vectors", "the text encoder of the run", 1),
    "own_mrr": Metric(
        "1 over the rank of the own reference among 100, the item's name taken out of all; mean", OWN, 1
    ),
    "own_hit@10": Metric("share of texts whose own reference is among the first ten of these", OWN, 1),
    "own_tfidf": Metric("tf-idf cosine with the own reference, the item's name taken out of both", OWN, 1),
    "own_among": Metric("references that the own one is ranked among", "count", None, "neutral"),
    "fmr": Metric(
        "feature matching ratio: share of the pairs with features whose text names one of them", NETE, 1
    ),
    "gptscore": Metric(
        "how much of the reference's meaning the text has, graded by a language model", GPTSCORE, 100
    ),
    "fcr": Metric("feature coverage ratio: share of all features that some text names", NETE, 1, "neutral"),
    "div": Metric("features that two texts share, mean over all pairs of texts", NETE, None, "neutral"),
    "usr": Metric("unique sentence ratio: different texts over all texts", NETE, 1, "neutral"),
    "distinct1": Metric("different words over all words", "Li et al. 2016", 1, "neutral"),
    "distinct2": Metric("different runs of two words over all of them", "Li et al. 2016", 1, "neutral"),
    "length": Metric("words and punctuation marks of a text", "treebank words", None, "neutral"),
    "empty": Metric("texts without a word; they score 0", "count", None, "neutral"),
    "without_features": Metric("pairs without features, left out of fmr", "count", None, "neutral"),
    "unjudged": Metric("pairs without a grade, left out of gptscore", "count", None, "neutral"),
    **NEURAL,
}

OF_LISTS = frozenset({"novelty", "popularity", "coverage"})
"""What recommended lists are like; said in `ranking.list_metrics`."""
NEUTRAL = OF_LISTS | {name for name, metric in METRICS.items() if metric.better == "neutral"}
"""Metrics, without their "@k", of which more is not better: no control wins by them."""

RANKING = {
    "recall": "share of a user's held-out items among the first k",
    "ndcg": "the same, discounted by place",
    "hr": "share of users with a held-out item among the first k",
    "mrr": "1 over the place of the first held-out item, 0 beyond k",
    "map": "mean precision at the places of held-out items",
    "coverage": "share of the catalogue in somebody's list",
    "novelty": "mean self-information of the listed items, bits",
    "popularity": "share of places that go to the 20% most popular items",
}
"""Ranking metric, without its "@k", in words."""

CHOICES = {
    "text by model": "of two people's texts on one item, the right one by the language model's likelihoods",
    "text by profile": "the same by likeness to both people's profiles: what the data holds, whatever the system",
    "like by history": "of two people's likes, which were not read, the right one by the words of their histories",
    "like by items": "the same by the items of their histories: what the data holds, whatever the system",
}
"""Two-choice accuracy -> what is chosen, by what."""
OTHERS = {
    "perplexity": "how many words of a book are in even use",
    "words in use": "words of a book that some user or item has",
    "NLL": "negative log-likelihood of the reference, nats per token",
    "gain: item": "nats per token lost with another pair's item",
    "gain: user": "nats per token lost with another pair's user",
    "gain: both": "nats per token lost with another pair's both, its title kept where one is shown",
    "gain: everything": "nats per token lost with another pair's both and its title",
    "precision": "share of the text's claims that evidence of the item or the user supports",
    "precision_item": "the same by evidence of the item alone",
    "precision_user": "the same by evidence of the user alone",
    "recall": "share of the reference's claims that the text supports",
    "supported": "share of the text's claims whose words one statement of the evidence shown beside it has",
    **CHOICES,
    "claims": "claims in a text",
    "median_rank": "rank of a pair's own text: less is better",
    "mrr": "mean of 1 over the rank",
    "hit@10": "share ranked in the first ten",
    "difference": "the first run minus the second, with its paired bootstrap 95% interval",
    "effect": "Cohen's d: the mean difference in units of its own deviation over pairs",
    "p": "two-sided, by paired permutation",
    "Holm p": "p corrected for all comparisons in this table",
    "pairs": "pairs that were measured; a control has a text of its own for so many, the others get the constant",
    "shared": "pairs, or users, that both have",
    "users": "users that were measured",
    "texts": "held-out texts that are ranked, or training texts of each user of a group",
}
"""Column -> its meaning, of those that are no text or ranking metric."""
GREY = {"claims", "pairs", "shared", "users", "texts", "NLL"}
"""Of these columns more is not better."""


def is_neutral(metric: str) -> bool:
    """Whether more of it is not better, whatever its "@k"."""
    return metric in GREY or metric.partition("@")[0] in NEUTRAL


def is_overlap(metric: str) -> bool:
    """Whether it is BLEU or ROUGE by some convention (BLEURT is neither)."""
    return metric.startswith(("bleu", "rouge", "peter_", "sacrebleu")) and not metric.startswith("bleurt")


def hint(name: str) -> str:
    """What a metric means and by whose convention; "" for one that nobody described."""
    known = METRICS.get(name)
    if known:
        return f"{known.meaning} ({known.source})"
    return OTHERS.get(name) or RANKING.get(name.partition("@")[0], "")


CONTROLS = {
    "constant": "one training sentence for all, best by BLEU-1",
    "constant_similar": "one training sentence for all, best by similarity",
    "constant_halves": "for each half of the pairs the sentence best by BLEU-1 on the other half's references",
    "dealt": "the run's own outputs, each given to another pair",
    "nearest_item": "what the most similar user was told of the same item in training, else the constant",
    "nearest_user": "what the same user was told of the most similar item in training, else the constant",
    "profile": "the item's profile or description, else the constant",
    "lookup": "the training text nearest to what a linear map expects from the item's title; no language model",
    "reference": "the pair's own text: what a perfect writer reaches under this matcher",
}
"""What a control is, where the name does not say it."""
