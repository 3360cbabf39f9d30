"""Stage 2 against the plain way, in one process: training samples/s and generated tokens/s, as ratios.

Plain training: `model(inputs_embeds=..., labels=...)` over the whole prompt, random batches, all logits.
Plain generation: Hugging Face `generate` on the same prompts, batch 16, greedy. Both run the same model,
the same prompt, the same projectors and, for generation, must write the same tokens.

    python benchmarks/explainer_speed.py [--model smollm2-135m] [--pairs 64] [--threads 2]

Texts have the lengths of XRec-Yelp's explanations (37 words in the mean); their words are drawn at random.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import StoppingCriteria

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.batching import buckets
from forwhy.bridge.config import ProjectorConfig, PromptConfig
from forwhy.bridge.generation import Decoding, greedy
from forwhy.bridge.projector import Bridge, Codes, SideProjector
from forwhy.bridge.prompt import Prompt, Row
from forwhy.bridge.reader import Reader
from forwhy.models import load_causal_lm

_SLOTS = ["macro", *["micro"] * 5]
_BATCH = 16


def build(model: str, seed: int = 0) -> Reader:
    """A reader with random codes, 512 to a book, 1 + 5 slots, started at random words."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    backbone = Backbone(load_causal_lm(model))
    prompt = Prompt(backbone.tokenizer, PromptConfig())
    sides = []
    for _ in range(2):
        books = {name: random.normal(size=(512, 128)).astype(np.float32) for name in ("macro", "micro")}
        starts = {name: random.integers(1000, 20000, 512).tolist() for name in books}
        codes = Codes.build(books, _SLOTS, starts)
        start_CD = backbone.embed(torch.from_numpy(codes.start_C)).detach()
        sides.append(SideProjector(codes, ProjectorConfig(), start_CD, backbone.word_norm))
    task_TD = backbone.embed(torch.tensor(prompt.task_ids)).detach()
    return Reader(backbone, prompt, Bridge(*sides, task_TD, prompt.config.order))


def sample_rows(reader: Reader, count: int, seed: int = 0) -> list[Row]:
    """Rows with explanations of 15 to 90 tokens, 47 in the mean."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.gamma(12.0, 47.0 / 12.0, count).round().astype(int), 15, 90)
    end = reader.prompt.end_id
    return [
        replace(
            reader.prompt.row(*random.integers(0, 512, (2, 6)).tolist()),
            target=(*random.integers(1000, 20000, length).tolist(), end),
        )
        for length in lengths
    ]


def plain_embeds(reader: Reader, rows: Sequence[Row]) -> Tensor:
    """The whole prompt and text of each row, [B, T, D], padded on the right."""
    batch = reader.prompt.collate(rows)
    head_PD = reader.backbone.embed(torch.tensor(reader.prompt.prefix_ids))
    start_PD = torch.cat([head_PD, reader.bridge.task()])
    return torch.cat([start_PD.expand(len(rows), -1, -1), reader.inputs(batch, reader.soft(rows))], dim=1)


def plain_step(reader: Reader, rows: Sequence[Row]) -> float:
    """Forward and backward as most code does it."""
    embeds_BTD = plain_embeds(reader, rows)
    batch = reader.prompt.collate(rows)
    length = embeds_BTD.shape[1]
    labels_BT = torch.full((len(rows), length + 1), -100)
    mask_BT = torch.ones(len(rows), length, dtype=torch.long)
    first = length - batch.ids_BS.shape[1] + 1 + len(reader.prompt.layout(rows[0])) - 1
    for number, row in enumerate(rows):
        labels_BT[number, first : first + len(row.target)] = torch.tensor(row.target)
        mask_BT[number, first + len(row.target) - 1 :] = 0
    last_B1D = reader.backbone.embed(torch.full((len(rows), 1), reader.prompt.end_id))
    inputs_BTD = torch.cat([embeds_BTD, last_B1D], dim=1)
    mask_BT = torch.nn.functional.pad(mask_BT, (0, 1))
    loss = reader.backbone.model(inputs_embeds=inputs_BTD, attention_mask=mask_BT, labels=labels_BT).loss
    loss.backward()
    return float(loss.detach())


def our_step(reader: Reader, rows: Sequence[Row]) -> float:
    """Forward and backward of the library."""
    loss = reader.loss(rows)
    loss.backward()
    return float(loss.detach())


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def training(reader: Reader, rows: list[Row], size: int, rounds: int = 2) -> dict[str, float]:
    """Samples per second of both ways over the same pairs in batches, alternating, the best round of each."""
    random = np.random.default_rng(1)
    order = random.permutation(len(rows)).tolist()
    plain = [[rows[n] for n in order[k : k + size]] for k in range(0, len(rows), size)]
    ours = buckets(rows, size, seed=0, epoch=0)
    same = [plain_step(reader, plain[0]), our_step(reader, plain[0])]
    best = {"plain": float("inf"), "ours": float("inf")}
    for _ in range(rounds):
        for name, step, batches in (("plain", plain_step, plain), ("ours", our_step, ours)):
            seconds, _ = timed(lambda s=step, b=batches: [s(reader, rows) for rows in b])
            best[name] = min(best[name], seconds)
    return {
        "plain samples/s": len(rows) / best["plain"],
        "ours samples/s": len(rows) / best["ours"],
        "ratio": best["plain"] / best["ours"],
        "loss difference": abs(same[0] - same[1]),
    }


class Lengths(StoppingCriteria):
    """Ends each row of `generate` after its own number of tokens."""

    def __init__(self, lengths_B: Tensor, start: int = 0) -> None:
        self.lengths_B, self.start = lengths_B, start

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        """Whether each row has its tokens."""
        return input_ids.shape[1] - self.start >= self.lengths_B


@torch.inference_mode()
def plain_generate(reader: Reader, rows: Sequence[Row], lengths: list[int]) -> list[list[int]]:
    """What `generate` writes, without what follows each row's end."""
    embeds_BTD = plain_embeds(reader, rows)
    stop = sorted(reader.prompt.stop_ids)
    made = reader.backbone.model.generate(
        inputs_embeds=embeds_BTD,
        attention_mask=torch.ones(embeds_BTD.shape[:2], dtype=torch.long),
        max_new_tokens=max(lengths),
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=stop[0],
        stopping_criteria=[Lengths(torch.tensor(lengths))],
    )
    out = []
    for ids, length in zip(made.tolist(), lengths, strict=True):
        cut = next((k for k, number in enumerate(ids) if number in stop), len(ids))
        out.append(ids[: min(cut, length)])
    return out


@torch.inference_mode()
def our_generate(reader: Reader, rows: Sequence[Row], lengths: list[int]) -> list[list[int]]:
    """What the library writes."""
    batch = reader.prompt.collate(rows, left=True)
    inputs_BSD, prefix = reader.inputs(batch, reader.soft(rows)), reader.prefix()
    decoding = Decoding(reader.prompt.stop_ids, max(lengths), lambda row, ids: len(ids) >= lengths[row])
    return [row.ids for row in greedy(reader.backbone, prefix, inputs_BSD, batch.pad_B, decoding)]


def generation(reader: Reader, rows: list[Row], rounds: int = 2) -> dict[str, float]:
    """Tokens per second of both ways on the same 16 prompts, and whether they wrote the same.

    An untrained bridge does not know when to end, so each row ends after as many as an explanation has.
    """
    asked = [replace(row, target=()) for row in rows[:_BATCH]]
    lengths = [len(row.target) for row in rows[:_BATCH]]
    best = {"plain": float("inf"), "ours": float("inf")}
    written = {}
    for _ in range(rounds):
        for name, write in (("plain", plain_generate), ("ours", our_generate)):
            seconds, written[name] = timed(lambda w=write: w(reader, asked, lengths))
            best[name] = min(best[name], seconds)
    tokens = sum(map(len, written["ours"]))
    return {
        "plain tokens/s": tokens / best["plain"],
        "ours tokens/s": tokens / best["ours"],
        "ratio": best["plain"] / best["ours"],
        "identical": float(written["plain"] == written["ours"]),
        "tokens": float(tokens),
    }


def main() -> None:
    """Print both comparisons as one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reader = build(options.model)
    rows = sample_rows(reader, options.pairs)
    document = {
        "model": options.model,
        "threads": options.threads,
        "prefix": len(reader.prompt.prefix_ids),
        "generation": generation(reader, rows),
        "training, batch 16": training(reader, rows, _BATCH),
        "training, batch 4": training(reader, rows, 4),
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
