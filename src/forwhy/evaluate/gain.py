"""What conditioning is worth: information gain, texts by how well the user is known, and retrieval of texts.

Information gain is the mean NLL per target token with another pair's user (item, both) shown, minus with the right
one, in nats per token. Zero: the explainer ignores who it talks about, whatever its BLEU.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import Side
from forwhy.data.dataset import Dataset, Pairs
from forwhy.evaluate import significance
from forwhy.evaluate.controls import LOOKUP_PAIRS, deal
from forwhy.evaluate.overlap import words
from forwhy.evaluate.reading import Outputs
from forwhy.evaluate.significance import Floats, Interval, Ints, bootstrap_means, flatten
from forwhy.evaluate.text import Encoder, TextScores, score_texts, variety
from forwhy.progress import track
from forwhy.ridge import ridge

Vectors = NDArray[np.float32]


class Nll(Protocol):
    """Negative log-likelihood of each pair's explanation, as an explainer's `nll` returns it."""

    @property
    def sum(self) -> NDArray[np.floating]:
        """[n] nats, summed over the target tokens."""

    @property
    def tokens(self) -> NDArray[np.integer]:
        """[n] target tokens, end token included."""


class Scorer(Protocol):
    """An explainer that can score given texts."""

    def nll(
        self, pairs: Pairs, user_rows: Ints | None = None, item_rows: Ints | None = None, titled: bool = False
    ) -> Nll:
        """NLL of the pairs' texts; `user_rows[k]` (`item_rows[k]`), `titled` with its title, is shown for pair k's."""


def measure_gain(explainer: Scorer, pairs: Pairs, seed: int = 0, titles: bool = False) -> dict[str, object]:
    """`information_gain`, `nll` and `nll_interval` of an evaluation document, in nats per target token.

    Cost: four passes of the language model over the pairs: with their own user and item, a stranger's user, item, and
    both. `titles`: prompts show titles, the pairs' own in these; a fifth pass deals them too (`everything`).
    """
    users = pairs.users[deal(len(pairs), seed, pairs.users)]
    items = pairs.items[deal(len(pairs), seed + 1, pairs.items)]
    user, item = {"user_rows": users}, {"item_rows": items}
    shown: list[dict[str, Any]] = [{}, user, item, user | item, *[user | item | {"titled": True}] * titles]
    passes = track(shown, "scoring test pairs, right and shuffled")
    true, *shuffled = [explainer.nll(pairs, **rows) for rows in passes]
    nll = per_token(true.sum, true.tokens)
    gain = {**flatten(information_gain(true, *shuffled)), "pairs": len(pairs)}
    return {"information_gain": gain, "nll": nll.mean, "nll_interval": [nll.low, nll.high]}


def information_gain(true: Nll, *shuffled: Nll) -> dict[str, Interval]:
    """Nats per target token lost, in the mean over all, when `user`, `item`, `both` or `everything` are shuffled.

    A ValueError where the shuffled runs scored other texts (their token counts differ).
    """
    if not all(np.array_equal(true.tokens, other.tokens) for other in shuffled):
        raise ValueError("right and shuffled NLL must score the same texts: their token counts differ")
    lost = [other.sum.astype(np.float64) - true.sum for other in shuffled]
    named = zip(("user", "item", "both", "everything"), lost, strict=False)
    return {side: per_token(sums_n, true.tokens) for side, sums_n in named}


def per_token(sums_n: NDArray[np.floating], tokens_n: NDArray[np.integer]) -> Interval:
    """Nats per target token with the bootstrap 95% interval over pairs."""
    rows_n2 = np.stack([sums_n, tokens_n], axis=1).astype(np.float64)
    return significance.bootstrap(rows_n2, lambda sums: sums[..., :1] / sums[..., 1:])[0]


# --- Texts by how much the method could know of the user: XRec's sparsity groups (section 4.4, its issue 6).
#
# Users of test pairs are ranked by their number of training explanations and cut into five equal groups, `tst1`
# (fewest) to `tst5`; those without any are `unseen`, XRec's zero-shot.

SEEN = ("tst1", "tst2", "tst3", "tst4", "tst5")
UNSEEN = "unseen"
LEAST = 5
"""Pairs: of fewer no number is given, as its interval would say nothing."""


@dataclass(frozen=True)
class TextGroup:
    """Test pairs of similar users with fewest to most `training_texts`, and scores if they are `LEAST` or more."""

    pairs: int
    users: int
    training_texts: tuple[int, int]
    scores: TextScores | None


def sparsity_groups(dataset: Dataset) -> dict[str, Ints]:
    """Group -> its users (internal numbers). Each user of a test pair is in exactly one; O(E log E).

    Ties in training explanations are broken by training interactions, fewest first, then by number. Of fewer than five
    users the last groups are empty.
    """
    tested = np.unique(dataset.pairs("test").users)
    told = np.bincount(dataset.pairs("train").users, minlength=len(dataset.users))[tested]
    visits = np.bincount(dataset.edges("train")[:, 0], minlength=len(dataset.users))[tested]
    ranked = np.lexsort((tested, visits, told))
    seen = tested[ranked[told[ranked] > 0]]
    return {**dict(zip(SEEN, np.array_split(seen, len(SEEN)), strict=True)), UNSEEN: tested[told == 0]}


def text_groups(
    dataset: Dataset, outputs: Outputs, scores: TextScores, least: int = LEAST
) -> dict[str, TextGroup]:
    """The texts of each of `sparsity_groups` with their metrics, with `least` pairs or more; of `features` only `fmr`.

    `dataset`: as the run saw it, so that what a protocol removed is unseen. `scores`: of these outputs, row by row.
    """
    users = dataset.users.numbers(outputs.frame["user_id"])
    found = {}
    for name, members in sparsity_groups(dataset).items():
        rows = np.flatnonzero(np.isin(users, members))
        part = None
        if len(rows) >= least:
            texts = outputs.take(rows.tolist()).predictions
            part = replace(scores.take(rows), of_all=variety(texts, [words(text) for text in texts]))
        found[name] = _group(dataset, users[rows], part)
    return found


def warm_group(dataset: Dataset, outputs: Outputs, encoder: Encoder | None = None) -> TextGroup:
    """The group of `Dataset.warm_pairs`, scored on its own."""
    users = dataset.users.numbers(outputs.frame["user_id"])
    scores = score_texts(outputs.predictions, outputs.references, encoder) if len(users) >= LEAST else None
    return _group(dataset, users, scores)


def _group(dataset: Dataset, users: Ints, scores: TextScores | None) -> TextGroup:
    trained = np.bincount(dataset.pairs("train").users, minlength=len(dataset.users))
    told = trained[np.unique(users)].tolist()
    return TextGroup(len(users), len(told), (min(told, default=0), max(told, default=0)), scores)


# --- Did text reach the tokens? Rank of a held-out pair's own text among all held-out texts.
# Shapes: n held-out pairs, D dimensions of the text space.

BLOCK_ROWS = 1024


def text_ranks(queries: NDArray[np.floating], texts: NDArray[np.floating]) -> Ints:
    """[n] rank from 1 of `texts[k]` for `queries[k]` (both [n, D]), by cosine, ties counted against us.

    Queries are what the vocabulary says of the pairs, projected to text space. Cost: n x n x D.
    """
    if queries.shape != texts.shape or queries.ndim != 2:
        raise ValueError(f"queries {queries.shape} and texts {texts.shape} must both be [n, D]")
    queries_nd, texts_nd = _unit(queries), _unit(texts)
    ranks = np.empty(len(texts_nd), dtype=np.int64)
    for start in range(0, len(ranks), BLOCK_ROWS):
        cosine_bn = queries_nd[start : start + BLOCK_ROWS] @ texts_nd.T
        right_b = np.diagonal(cosine_bn, start)
        # Equal texts may differ in the last bit of a product: within 1e-9 is a tie.
        ranks[start : start + BLOCK_ROWS] = (cosine_bn >= right_b[:, None] - 1e-9).sum(axis=1)
    return ranks


def text_retrieval(
    queries: NDArray[np.floating], texts: NDArray[np.floating], seed: int = 0
) -> dict[str, object]:
    """Median rank, mean reciprocal rank and hit@10 of `text_ranks`, with intervals and what chance gives, as JSON."""
    ranks = text_ranks(queries, texts)
    values = {"mrr": 1.0 / ranks, "hit@10": (ranks <= 10).astype(np.float64)}
    median = significance.bootstrap_median(ranks.astype(np.float64), seed)
    found = {"median_rank": median, **bootstrap_means(values, seed)}
    return {**flatten(found), "chance": chance(len(ranks)), "pairs": len(ranks)}


def chance(n: int) -> dict[str, float]:
    """What uniformly random ranks among n texts give in expectation."""
    reciprocal = float((1.0 / np.arange(1, n + 1)).mean())
    return {"median_rank": (n + 1) / 2, "mrr": reciprocal, "hit@10": min(10, n) / n}


# --- How much of what is said of a pair follows from its words.


def explained_variance(
    dataset: Dataset, said: Mapping[Side, Vectors], encoder: Encoder, seed: int = 0
) -> dict[str, object] | None:
    """Share of the variance of test explanations' vectors that a linear map from what the words say explains.

    Maps from `said` (`user` and `item` -> [N, D]) are fitted by ridge regression on at most `LOOKUP_PAIRS` training
    pairs and measured on test pairs; 0 is the mean training text, 1 the text itself. Keys, as JSON: `item`, `user` and
    `both`, `intervals`, and `controls` on the same pairs, each under the key that it is held against: the vectors of
    titles (with categories and description) and of profiles, where there are any, and `shuffled`, the words of another
    pair. None with fewer than two pairs to fit or to measure on.
    """
    train, test = dataset.pairs("train"), dataset.pairs("test")
    train = train.select(np.flatnonzero(~dataset.is_heldout(train.users, train.items)))
    draw = np.random.default_rng(seed)
    train = train.select(draw.permutation(len(train))[:LOOKUP_PAIRS])
    if min(len(train), len(test)) < 2:
        return None
    told, wanted = encoder.encode(train.texts), encoder.encode(test.texts)
    profiles, titles = dataset.profiles("item"), dataset.item_texts()
    texts = {"title": titles, "profile": [profiles.get(item, "") for item in range(len(titles))]}

    def known(name: str, pairs: Pairs) -> Vectors:
        if name in texts:
            return encoder.encode([texts[name][item] for item in pairs.items.tolist()])
        own = {"user": said["user"][pairs.users], "item": said["item"][pairs.items]}
        both = np.concatenate([*own.values()], axis=1)
        return (own | {"both": both})[name] if name != "shuffled" else both[draw.permutation(len(both))]

    total = np.square(wanted - told.mean(0)).sum(1)

    def shares(name: str) -> Floats:
        fitted, asked = known(name, train), known(name, test)
        size = max(float(np.sqrt(fitted.var(0).sum())), 1e-9)  # one penalty means the same to all
        left = np.square(wanted - ridge(fitted / size, told)(asked / size)).sum(1)
        return np.asarray((total - left) / total.mean())  # their mean is the share of the whole

    found = bootstrap_means({name: shares(name) for name in ("item", "user", "both")}, seed)
    held = {name: "item" for name, of in texts.items() if any(of)} | {"shuffled": "both"}
    beside = {name: flatten(bootstrap_means({column: shares(name)}, seed)) for name, column in held.items()}
    return {**flatten(found), "controls": beside, "pairs": len(test)}


def _unit(rows_nd: NDArray[np.floating]) -> Floats:
    wide = rows_nd.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("a vector is not finite: the tokenizer or the text encoder produced NaN or infinity")
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))
