"""forwhy: recommendations with a because.

A behaviour vocabulary learned from interactions and reviews, a frozen language model that reads it, and so
recommendations that say in words why this person would want this item. To read the source, begin at
`forwhy.systems`: a system is one file.

These are the public names. A system (`XRec`) is a kind of recipe; what a recipe of it fits is an explainer
(`XRecExplainer`) or a recommender; `...Config` are options. Importing this package imports neither torch nor polars:
a name is loaded when it is first asked for (PEP 562).
"""

from __future__ import annotations

import ast
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Read when torch is first imported, and all ways to it pass here. OpenMP's threads wait for each other by spinning,
# which on a busy machine makes two threads slower than one (benchmarks/threads.py); asleep they cost nothing.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:  # the one list of public names; at run time it is read, not run
    from forwhy.data.dataset import Dataset as Dataset, make_dataset as make_dataset
    from forwhy.data.intents import IntentsConfig as IntentsConfig, entity_phrases as entity_phrases
    from forwhy.data.sample import little_town as little_town
    from forwhy.errors import UserError as UserError
    from forwhy.explain.evidence import Explanation as Explanation
    from forwhy.explain.base import Explainer as Explainer
    from forwhy.explain.because import BecauseExplainer as BecauseExplainer
    from forwhy.explain.beat import BeatExplainer as BeatExplainer
    from forwhy.explain.codes import BeatWordsExplainer as BeatWordsExplainer
    from forwhy.explain.options import BeatConfig as BeatConfig, BecauseConfig as BecauseConfig
    from forwhy.explain.options import XRecConfig as XRecConfig
    from forwhy.explain.plain import PlainExplainer as PlainExplainer
    from forwhy.explain.xrec import XRecExplainer as XRecExplainer
    from forwhy.graph.representations import CollaborativeConfig as CollaborativeConfig
    from forwhy.graph.representations import CollaborativeVectors as CollaborativeVectors
    from forwhy.frames import Table as Table
    from forwhy.opened import Explanations as Explanations, OpenRun as OpenRun, open as open
    from forwhy.recipe import Recipe as Recipe, RunFolder as RunFolder, load_recipe as load_recipe, run as run
    from forwhy.recommend.base import PopularityRecommender as PopularityRecommender
    from forwhy.recommend.base import Recommender as Recommender
    from forwhy.recommend.behaviour import BehaviourRecommender as BehaviourRecommender
    from forwhy.recommend.codes import CodedCatalogue as CodedCatalogue
    from forwhy.recommend.llmbs.recommender import LlmBsRecommender as LlmBsRecommender
    from forwhy.recommend.options import LlmBsConfig as LlmBsConfig, TigerConfig as TigerConfig
    from forwhy.recommend.sequential import NextItemRecommender as NextItemRecommender
    from forwhy.recommend.tiger import TigerRecommender as TigerRecommender
    from forwhy.systems import find_system as find_system
    from forwhy.systems.att2seq import Att2Seq as Att2Seq, Att2SeqConfig as Att2SeqConfig
    from forwhy.systems.att2seq import Att2SeqExplainer as Att2SeqExplainer
    from forwhy.systems.beat import Beat as Beat
    from forwhy.systems.because import Because as Because, BecauseTokens as BecauseTokens
    from forwhy.systems.bert4rec import Bert4Rec as Bert4Rec, Bert4RecConfig as Bert4RecConfig
    from forwhy.systems.caser import Caser as Caser, CaserConfig as CaserConfig
    from forwhy.systems.din import Din as Din, DinConfig as DinConfig
    from forwhy.systems.fdsa import Fdsa as Fdsa, FdsaConfig as FdsaConfig
    from forwhy.systems.gru4rec import Gru4Rec as Gru4Rec, Gru4RecConfig as Gru4RecConfig
    from forwhy.systems.graphgpt import GraphGpt as GraphGpt, GraphGptConfig as GraphGptConfig
    from forwhy.systems.graphgpt import GraphGptExplainer as GraphGptExplainer
    from forwhy.systems.hgn import Hgn as Hgn, HgnConfig as HgnConfig
    from forwhy.systems.content_knn import ContentConfig as ContentConfig, ContentKnn as ContentKnn
    from forwhy.systems.content_knn import ContentKnnRecommender as ContentKnnRecommender
    from forwhy.systems.hybrid import Hybrid as Hybrid, HybridRecommender as HybridRecommender
    from forwhy.systems.item_knn import ItemKnn as ItemKnn, ItemKnnRecommender as ItemKnnRecommender
    from forwhy.systems.item_knn import KnnConfig as KnnConfig
    from forwhy.systems.llm_bs import LlmBs as LlmBs
    from forwhy.systems.nrt import Nrt as Nrt, NrtConfig as NrtConfig, NrtExplainer as NrtExplainer
    from forwhy.systems.parallel import Parallel as Parallel, ParallelConfig as ParallelConfig
    from forwhy.systems.pepler import Pepler as Pepler, PeplerConfig as PeplerConfig
    from forwhy.systems.pepler import PeplerExplainer as PeplerExplainer
    from forwhy.systems.peter import (
        Peter as Peter,
        PeterConfig as PeterConfig,
        PeterExplainer as PeterExplainer,
    )
    from forwhy.systems.peter_plus import PeterPlus as PeterPlus, PeterPlusConfig as PeterPlusConfig
    from forwhy.systems.peter_plus import PeterPlusExplainer as PeterPlusExplainer
    from forwhy.systems.popularity import Popularity as Popularity
    from forwhy.systems.s3_rec import S3Rec as S3Rec, S3RecConfig as S3RecConfig
    from forwhy.systems.sasrec import SasRec as SasRec, SasRecConfig as SasRecConfig
    from forwhy.systems.lc_rec import LcRec as LcRec
    from forwhy.systems.letter import Letter as Letter
    from forwhy.systems.p5_cid import P5Cid as P5Cid
    from forwhy.systems.tea_glm import TeaGlm as TeaGlm, TeaGlmConfig as TeaGlmConfig
    from forwhy.systems.tea_glm import TeaGlmExplainer as TeaGlmExplainer
    from forwhy.systems.tiger import Tiger as Tiger
    from forwhy.systems.time_llm import TimeLlm as TimeLlm, TimeLlmConfig as TimeLlmConfig
    from forwhy.systems.time_llm import TimeLlmExplainer as TimeLlmExplainer
    from forwhy.systems.xrec import XRec as XRec
    from forwhy.systems.xrec_profile import XRecProfile as XRecProfile, XRecProfileConfig as XRecProfileConfig
    from forwhy.systems.xrec_profile import XRecProfileExplainer as XRecProfileExplainer
    from forwhy.text.encoder import text_encoder as text_encoder
    from forwhy.vocabulary.index import IndexConfig as IndexConfig, ItemIndex as ItemIndex
    from forwhy.vocabulary.options import TokenizerConfig as TokenizerConfig
    from forwhy.vocabulary.indexing import build_index as build_index
    from forwhy.vocabulary.tokenizer import BehaviourTokenizer as BehaviourTokenizer
    from forwhy.vocabulary.vocabulary import Vocabulary as Vocabulary


def _public() -> dict[str, str]:
    return {
        alias.name: str(node.module)
        for node in ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type of a name not yet loaded
    """Loads a public name from its module on first use and keeps it."""
    if name == "BehaviorTokenizer":
        raise AttributeError("forwhy.BehaviorTokenizer is now spelled forwhy.BehaviourTokenizer")
    if name == "__all__":
        return __dir__()
    module = None if name.startswith("_") else _public().get(name)
    if module is None:
        raise AttributeError(f"module 'forwhy' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted([*_public(), "__version__"])
