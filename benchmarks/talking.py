"""Does a model that recommends still talk? `python -m benchmarks.talking MODEL --data DATA --text FILE ...`.

MODEL is a folder that `LlmBsRecommender.save_pretrained` wrote. Perplexity per token on the item texts of DATA and on
any text files, of the model that training began with, of the first stage's (the annealing adapter off) and with the
adapter on. All three read the same tokens; the index tokens compete for probability in the last two. A model from
scratch has no base.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from benchmarks.perplexity import Surprise, surprise

from forwhy.data.dataset import Dataset
from forwhy.models import load_causal_lm
from forwhy.recommend.llmbs.recommender import LlmBsRecommender


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, help="data set folder")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="files of plain text, UTF-8")
    parser.add_argument("--items", type=int, default=200, help="item texts, drawn with seed 0")
    parser.add_argument("--characters", type=int, default=20_000, help="of each file, from its beginning")
    parser.add_argument("--context", type=int, default=256, help="tokens of a window")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sources = {path.name: [path.read_text(encoding="utf-8")[: options.characters]] for path in options.text}
    if options.data is not None:
        sources["item texts"] = drawn(Dataset.load(options.data).item_texts(), options.items)
    recommender = LlmBsRecommender.from_pretrained(options.model)
    print(
        "| text | tokens | base | first stage | adapter on | first stage / base | adapter on / first stage |"
    )
    print("|---" * 7 + "|")
    for name, texts in sources.items():
        print(line(name, *measured(recommender, texts, options.context)), flush=True)


def measured(
    recommender: LlmBsRecommender, texts: Sequence[str], context: int
) -> tuple[Surprise | None, Surprise, Surprise]:
    """Base, first stage, adapter on."""
    with recommender.talking() as (model, tokenizer):
        off = surprise(model, tokenizer, texts, context)
    on = surprise(recommender.network.lm, tokenizer, texts, context)
    if not recommender.base:
        return None, off, on
    loaded = load_causal_lm(recommender.base["id"], recommender.base["revision"])
    base = surprise(loaded.model, loaded.tokenizer, texts, context)
    if base.tokens != off.tokens:
        raise ValueError(f"{base.tokens} tokens without an index, {off.tokens} with it: not the same text")
    return base, off, on


def line(name: str, base: Surprise | None, off: Surprise, on: Surprise) -> str:
    """One row of the table."""
    cells = ["" if one is None else f"{one.perplexity:.2f}" for one in (base, off, on)]
    cells.append("" if base is None else f"{off.perplexity / base.perplexity:.3f}")
    cells.append(f"{on.perplexity / off.perplexity:.3f}")
    return f"| {name} | {off.tokens:,} | " + " | ".join(cells) + " |"


def drawn(texts: Sequence[str], wanted: int) -> list[str]:
    """So many texts that are not blank, in the order of the catalogue."""
    filled = [text for text in texts if text.strip()]
    chosen = np.random.default_rng(0).permutation(len(filled))[:wanted]
    return [filled[number] for number in np.sort(chosen)]


if __name__ == "__main__":
    main()
