"""Numbers that survive a second look: full ranking, texts beside their controls, information gain.

numpy only; a text encoder is passed in where one is needed.
"""

from forwhy.evaluate.compare import Comparison, Scored, bold_cells, compare
from forwhy.evaluate.controls import Control, TextTable, best_constant, deal, text_table
from forwhy.evaluate.evidence import Evidence
from forwhy.evaluate.gain import (
    Gain,
    TextGroup,
    information_gain,
    mean_nll,
    measure_gain,
    sparsity_groups,
    text_groups,
    text_ranks,
    text_retrieval,
)
from forwhy.evaluate.grounding import Grounder, cosine_support, entailment_support, grounding_table
from forwhy.evaluate.ranking import RankingResult, rank_all, rank_scores
from forwhy.evaluate.registry import METRICS, Metric
from forwhy.evaluate.report import evaluation_document, protocol_in_words, render
from forwhy.evaluate.sequential import rank_lists, rank_sequences
from forwhy.evaluate.significance import (
    Interval,
    bootstrap_interval,
    effect_size,
    holm,
    paired_permutation,
)
from forwhy.evaluate.text import Features, TextScores, score_texts

__all__ = [
    "METRICS",
    "Comparison",
    "Control",
    "Features",
    "Evidence",
    "Gain",
    "Grounder",
    "Interval",
    "Metric",
    "RankingResult",
    "Scored",
    "TextGroup",
    "TextScores",
    "TextTable",
    "best_constant",
    "bold_cells",
    "bootstrap_interval",
    "compare",
    "cosine_support",
    "deal",
    "effect_size",
    "entailment_support",
    "evaluation_document",
    "grounding_table",
    "holm",
    "information_gain",
    "mean_nll",
    "measure_gain",
    "paired_permutation",
    "protocol_in_words",
    "rank_all",
    "rank_lists",
    "rank_scores",
    "rank_sequences",
    "render",
    "score_texts",
    "sparsity_groups",
    "text_groups",
    "text_ranks",
    "text_retrieval",
    "text_table",
]
