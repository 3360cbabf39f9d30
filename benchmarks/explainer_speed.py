"""Stage 2 against the plain way, in one process: training samples/s, generated tokens/s and what-ifs, as ratios.

Plain training: `model(inputs_embeds=..., labels=...)` over the whole prompt, random batches, all logits.
Plain generation: Hugging Face `generate` on the same prompts in batches of 16 as they come, greedy. Both run
the same model, the same prompt, the same bridge and, for XRec, the same injection; for generation with engine torch
they must write the same tokens. A what-if reads one text again without each of twelve tokens; its plain way is one
reading. With `--precision bf16` ours trains with the model in 16 bits, the plain way stays in 32. Ratios are of the
best rounds, by the clock and by the seconds of processor time, which other work on the machine disturbs less.

    python benchmarks/explainer_speed.py [--system beat|xrec] [--only generation|training|what-if]
        [--engine torch|bf16|int8] [--precision fp32|bf16] [--batch 16] [--model smollm2-135m] [--pairs 64]
        [--rounds 2] [--threads 2]

Texts have the lengths of XRec-Yelp's explanations (37 words in the mean) and profiles (39 and 32); their words
are drawn at random.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import StoppingCriteria

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.engines import processor
from forwhy.bridge.generation import Decoding
from forwhy.bridge.options import AdapterConfig, ProjectorConfig, PromptConfig
from forwhy.bridge.projectors import Bridge, ExpertAdapter, PairBridge, SideProjector
from forwhy.bridge.prompt import Prompt, Row, buckets, longest_first
from forwhy.bridge.reader import Reader
from forwhy.models import load_causal_lm

_SLOTS = ["macro", *["micro"] * 5]

Result = TypeVar("Result")


def build_beat(backbone: Backbone, random: np.random.Generator) -> Reader:
    """A reader with random codes, 512 to a book, 1 + 5 slots, started at random words."""
    prompt = Prompt(backbone.tokenizer, PromptConfig())
    sides = []
    for _ in range(2):
        books = {name: random.normal(size=(512, 128)).astype(np.float32) for name in ("macro", "micro")}
        starts = {name: random.integers(1000, 20000, 512).tolist() for name in books}
        start_CD = backbone.embed(torch.tensor([*starts["macro"], *starts["micro"]])).detach()
        sides.append(SideProjector(books, _SLOTS, ProjectorConfig(), start_CD, backbone.word_norm))
    return Reader(backbone, prompt, Bridge.at_start(*sides, prompt, backbone))


def build_xrec(backbone: Backbone, random: np.random.Generator) -> Reader:
    """A reader of random vectors of 64 numbers, injected into every layer."""
    prompt = Prompt(backbone.tokenizer, PromptConfig(profiles=True), {"user": 1, "item": 1})
    vectors = torch.from_numpy(random.normal(size=(512, 64)).astype(np.float32))
    config = AdapterConfig(start_std=0.3)
    sides = [ExpertAdapter(config, vectors, backbone.width, backbone.word_norm) for _ in range(2)]
    bridge = PairBridge.at_start(*sides, prompt, backbone).eval()
    return Reader(backbone, prompt, bridge, backbone.injection("projected"))


def sample_rows(reader: Reader, count: int, random: np.random.Generator) -> list[Row]:
    """Rows with explanations of 15 to 90 tokens, 47 in the mean; for XRec with profiles of 45 and 40."""

    def lengths(mean: float) -> list[int]:
        return np.clip(random.gamma(12.0, mean / 12.0, count).round().astype(int), 15, 96).tolist()

    def words(length: int) -> tuple[int, ...]:
        return tuple(random.integers(1000, 20000, length).tolist())

    is_beat = isinstance(reader.bridge, Bridge)
    rows = []
    for length, user, item in zip(lengths(47.0), lengths(45.0), lengths(40.0), strict=True):
        pair = random.integers(0, 512, (2, 6)) if is_beat else random.normal(size=(2, 64)).astype(np.float32)
        row = reader.prompt.row(*pair)
        shown = () if is_beat else words(user + item)
        rows.append(replace(row, shown=shown, target=(*words(length), reader.prompt.end_id)))
    return rows


def plain_prompts(reader: Reader, rows: Sequence[Row]) -> list[Tensor]:
    """Each row's whole prompt and text but its last token, [T, D]."""
    start_PD = torch.cat(
        [reader.backbone.embed(torch.tensor(reader.prompt.prefix_ids)), reader.bridge.task()]
    )
    batch, soft_BKD = reader.prompt.collate(rows), reader.soft(rows)
    inputs_BSD = reader.inputs(batch, soft_BKD)
    used = [len(reader.prompt.layout(row)) + max(len(row.target) - 1, 0) for row in rows]
    return [torch.cat([start_PD, inputs_SD[:n]]) for inputs_SD, n in zip(inputs_BSD, used, strict=True)]


def padded(parts: Sequence[Tensor], left: bool) -> tuple[Tensor, Tensor]:
    """[B, T, D] and the mask [B, T]."""
    side = "left" if left else "right"
    ones = [torch.ones(len(part), dtype=torch.long) for part in parts]
    inputs = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_side=side)
    return inputs, torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side=side)


@contextmanager
def plainly_injected(reader: Reader, rows: Sequence[Row], mask_BT: Tensor) -> Iterator[None]:
    """XRec's injection as its code has it: in every pass over more than one position."""
    if reader.injection is None:
        yield
        return
    first = len(reader.prompt.prefix_ids) + len(reader.bridge.task())
    begins_B1 = mask_BT.argmax(dim=1, keepdim=True)
    positions_BK = begins_B1 + first + reader.prompt.collate(rows).soft_BK
    soft_BKD, row_B1 = reader.soft(rows), torch.arange(len(rows))[:, None]

    def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if inputs[0].shape[1] == 1:
            return inputs
        return inputs[0].index_put((row_B1, positions_BK), soft_BKD, accumulate=True), *inputs[1:]

    names = ("q_proj", "k_proj", "v_proj")
    modules = [m for name, m in reader.backbone.model.named_modules() if name.endswith(names)]
    handles = [module.register_forward_pre_hook(before) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def plain_step(reader: Reader, rows: Sequence[Row]) -> float:
    """Forward and backward as most code does it."""
    prompts = plain_prompts(reader, rows)
    lasts = reader.backbone.embed(torch.tensor([row.target[-1] for row in rows]))
    inputs_BTD, mask_BT = padded(
        [torch.cat([p, last[None]]) for p, last in zip(prompts, lasts, strict=True)], False
    )
    labels_BT = torch.full(mask_BT.shape, -100)
    for number, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        first = len(prompt) - len(row.target) + 1
        labels_BT[number, first : first + len(row.target)] = torch.tensor(row.target)
    with plainly_injected(reader, rows, mask_BT):
        loss = reader.backbone.model(inputs_embeds=inputs_BTD, attention_mask=mask_BT, labels=labels_BT).loss
    loss.backward()
    return float(loss.detach())


def our_step(reader: Reader, rows: Sequence[Row]) -> float:
    """Forward and backward of the library."""
    loss = reader.loss(rows)
    loss.backward()
    return float(loss.detach())


@dataclass
class Best:
    """The least seconds that some work took, by the clock and of processor time."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def time(self, work: Callable[[], Result]) -> Result:
        """One more round."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.wall = min(self.wall, time.perf_counter() - wall)
        self.cpu = min(self.cpu, time.process_time() - cpu)
        return result


def compared(count: int, unit: str, plain: Best, ours: Best) -> dict[str, float]:
    """What each way did in a second, and how many times as fast ours is."""
    return {
        f"plain {unit}/s": count / plain.wall,
        f"ours {unit}/s": count / ours.wall,
        "ratio": plain.wall / ours.wall,
        "plain cpu s": plain.cpu,
        "ours cpu s": ours.cpu,
        "cpu ratio": plain.cpu / ours.cpu,
    }


def training(whole: Reader, reader: Reader, rows: list[Row], size: int, rounds: int) -> dict[str, float]:
    """Both ways over the same pairs in batches, alternating; `whole` is of the model in 32 bits."""
    random = np.random.default_rng(1)
    order = random.permutation(len(rows)).tolist()
    batches = [[rows[n] for n in order[k : k + size]] for k in range(0, len(rows), size)]
    same = [plain_step(whole, batches[0]), our_step(reader, batches[0])]
    plain, ours = Best(), Best()
    for _ in range(rounds):
        plain.time(lambda: [plain_step(whole, batch) for batch in batches])
        ours.time(lambda: [our_step(reader, batch) for batch in buckets(rows, size, seed=0, epoch=0)])
    return {**compared(len(rows), "samples", plain, ours), "loss difference": abs(same[0] - same[1])}


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
    embeds_BTD, mask_BT = padded(plain_prompts(reader, rows), True)
    stop = sorted(reader.prompt.stop_ids)
    with plainly_injected(reader, rows, mask_BT):
        made = reader.backbone.model.generate(
            inputs_embeds=embeds_BTD,
            attention_mask=mask_BT,
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


def our_generate(reader: Reader, rows: Sequence[Row], lengths: list[int], batch: int) -> list[list[int]]:
    """What the library writes, as :meth:`Reader.write` does."""
    order = longest_first(rows)
    ends = [lengths[number] for number in order]
    decoding = Decoding(reader.prompt.stop_ids, max(ends), lambda row, ids: len(ids) >= ends[row])
    written = reader.greedy([rows[number] for number in order], decoding, batch)
    return [row.ids for _, row in sorted(zip(order, written, strict=True), key=lambda pair: pair[0])]


def generation(reader: Reader, rows: list[Row], rounds: int, batch: int) -> dict[str, float]:
    """Both ways on the same prompts, alternating, and the share of tokens that are the same.

    An untrained bridge does not know when to end, so each row ends after as many as an explanation has.
    """
    asked = [replace(row, target=()) for row in rows]
    lengths = [len(row.target) for row in rows]
    starts = range(0, len(rows), batch)
    parts = [(asked[first : first + batch], lengths[first : first + batch]) for first in starts]
    plain, ours = Best(), Best()
    for _ in range(rounds):
        expected = plain.time(lambda: [ids for part in parts for ids in plain_generate(reader, *part)])
        written = ours.time(lambda: our_generate(reader, asked, lengths, batch))
    tokens = sum(map(len, written))
    pairs = [pair for rows in zip(written, expected, strict=True) for pair in zip(*rows, strict=False)]
    same = {"the same": sum(a == b for a, b in pairs) / tokens, "tokens": float(tokens)}
    return {**compared(tokens, "tokens", plain, ours), **same}


@torch.inference_mode()
def what_if(reader: Reader, rows: Sequence[Row], rounds: int) -> dict[str, float]:
    """One reading of a text against all of them that tell what each of twelve tokens is worth, one text at a time."""
    hidden_HK = torch.cat([torch.zeros(1, 12, dtype=torch.bool), torch.eye(12, dtype=torch.bool)])
    one, each = Best(), Best()
    for _ in range(rounds):
        one.time(lambda: [reader.nll([row]) for row in rows])
        each.time(lambda: [reader.nll([row] * 13, 32, hidden_HK) for row in rows])
    return {"one reading, cpu s": one.cpu / len(rows), "of twelve tokens": each.cpu / one.cpu}


def main() -> None:
    """Print both comparisons as one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system", choices=("beat", "xrec"), default="beat")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--only", choices=("generation", "training", "what-if"))
    parser.add_argument("--engine", choices=("torch", "bf16", "int8"), default="torch")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    build = {"beat": build_beat, "xrec": build_xrec}[options.system]
    reader = build(Backbone(load_causal_lm(options.model), options.engine), random)
    trained = reader
    if options.precision == "bf16":
        half = load_causal_lm(options.model, dtype="bfloat16")
        trained = build(Backbone(half), np.random.default_rng(0))
    rows = sample_rows(reader, options.pairs, random)
    document = {
        "system": options.system,
        "model": options.model,
        "engine": options.engine,
        "precision": options.precision,
        "threads": options.threads,
        "processor": [
            name for name, has in processor().items() if has is True and name.startswith(("avx512", "amx"))
        ],
        "prefix": len(reader.prompt.prefix_ids),
    }
    if options.only in (None, "generation"):
        document["generation"] = generation(reader, rows, options.rounds, options.batch)
    if options.only in (None, "training"):
        for size in (options.batch, 4):
            document[f"training, batch {size}"] = training(reader, trained, rows, size, options.rounds)
    if options.only == "what-if":
        document["what-if"] = what_if(reader, rows, options.rounds)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
