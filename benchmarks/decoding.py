"""Constrained decoding against Hugging Face's, in one process: `python -m benchmarks.decoding`.

Hugging Face's side is `generate` with beams and a dict trie behind `prefix_allowed_tokens_fn`, at a batch of its
own; both sides take turns on the same users, and the ratio is of their best times. Items and scores of those
users are compared. `--growth` measures ours alone over catalogues of 10^3 to 10^6 generated items.
Prints one JSON line per measurement: seconds per user (wall and processor), ratio, whether items are equal and
the largest difference of scores; for growth, seconds to build the trie, its bytes and seconds per user.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from forwhy.recommend.decoding import BeamDecoder, Beams, CodeTrie

Codes = NDArray[np.int64]
LEVELS, WIDTH, PROMPT, ITEMS = 4, 256, 88, 12_101


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, help="folder of a causal language model; the small decoder where absent"
    )
    parser.add_argument("--index", type=Path, help=".index.json of real codes; generated where absent")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16, help="users in one pass of ours")
    parser.add_argument("--theirs", type=int, default=2, help="users in one call of generate")
    parser.add_argument("--shared", type=int, default=0, help="tokens that all prompts begin with")
    parser.add_argument("--normalise", choices=["vocab", "level", "legal"], default="vocab")
    parser.add_argument("--beam", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--growth", action="store_true", help="over catalogues of 10^3 to 10^6 items")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = (
        small()
        if options.model is None
        else AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    )
    model.eval()
    for codes in [generated(10**power) for power in range(3, 7)] if options.growth else [read(options.index)]:
        print(json.dumps(measured(model, codes, options)), flush=True)


def measured(model: PreTrainedModel, codes: Codes, options: argparse.Namespace) -> dict[str, Any]:
    """One catalogue's line."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = [torch.arange(WIDTH) + vocabulary - (LEVELS - level) * WIDTH for level in range(LEVELS)]
    prompts = torch.randint(0, vocabulary, (options.users, PROMPT))
    prompts[:, : options.shared] = prompts[0, : options.shared]
    start = time.perf_counter()
    trie = CodeTrie.from_codes(codes, [WIDTH] * LEVELS)
    built = time.perf_counter() - start
    decoder = BeamDecoder(model, trie, ids, options.normalise, options.beam, options.batch)
    sample = prompts[: options.theirs]
    theirs = hugging_face(model, codes, ids, sample, options.beam)
    decoder.search(prompts[: options.batch].tolist())  # memory is allocated once
    ours_s, theirs_s, found, reference = [], [], None, None
    for _ in range(options.rounds):
        found, seconds = timed(lambda: decoder.search(prompts.tolist()), options.users)
        ours_s.append(seconds)
        if not options.growth:
            reference, seconds = timed(theirs, options.theirs)
            theirs_s.append(seconds)
    wall, cpu = np.min(ours_s, axis=0)
    line = {
        "benchmark": "decoding", "model": "small" if options.model is None else options.model.name,
        "items": len(codes), "normalise": options.normalise, "beam": options.beam, "batch": options.batch,
        "shared": options.shared, "threads": options.threads, "load": round(os.getloadavg()[0], 1),
        "trie_seconds": round(built, 2), "trie_bytes": trie.nbytes, "s_per_user": round(wall, 4),
        "cpu_s_per_user": round(cpu, 4),
    }  # fmt: skip
    return line | (compared(found, reference, (wall, cpu), theirs_s) if reference else {})


def compared(
    found: Beams,
    reference: tuple[list[list[int]], Tensor],
    ours: tuple[float, float],
    theirs_s: list[tuple[float, float]],
) -> dict[str, Any]:
    """What Hugging Face's side adds to a line."""
    items, scores = reference
    wall, cpu = np.min(theirs_s, axis=0)
    return {
        "theirs_s_per_user": round(wall, 3), "theirs_cpu_s_per_user": round(cpu, 3),
        "ratio": round(wall / ours[0], 1), "cpu_ratio": round(cpu / ours[1], 1),
        "same_items": found.items[: len(items)].tolist() == items,
        "largest_score_difference": float((found.scores[: len(items)] - scores).abs().max()),
    }  # fmt: skip


def timed(work: Callable[[], Any], users: int) -> tuple[Any, tuple[float, float]]:
    """A result, and wall and processor seconds per user."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, ((time.perf_counter() - wall) / users, (time.process_time() - cpu) / users)


def small() -> PreTrainedModel:
    """The decoder that is trained from scratch: 4 layers, 256 wide, a vocabulary of codes only."""
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=LEVELS * WIDTH + 8, initializer_range=0.05, **sizes))


def read(index: Path | None) -> Codes:
    """Codes of an index file; items that repeat another's take the next free last code."""
    if index is None:
        return generated(ITEMS)
    rows = json.loads(index.read_text()).values()
    taken: set[tuple[int, ...]] = set()
    for tokens in rows:
        *path, last = (int(token.split("_")[1].rstrip(">")) for token in tokens)
        while (*path, last) in taken:
            last = (last + 1) % WIDTH
        taken.add((*path, last))
    return np.array(sorted(taken))


def generated(items: int) -> Codes:
    """Distinct codes, evenly spread."""
    numbers = np.random.default_rng(0).choice(WIDTH**LEVELS, items, replace=False, shuffle=True)
    return np.stack(np.unravel_index(numbers, (WIDTH,) * LEVELS), axis=1)


def hugging_face(
    model: PreTrainedModel, codes: Codes, ids: list[Tensor], prompts: Tensor, beam: int
) -> Callable[[], tuple[list[list[int]], Tensor]]:
    """Hugging Face's constrained beam search over these prompts, the dict trie built beforehand."""
    paths = np.stack([ids[level].numpy()[codes[:, level]] for level in range(LEVELS)], axis=1).tolist()
    root: dict[int, Any] = {}
    for path in paths:
        node = root
        for token in path:
            node = node.setdefault(token, {})
    item_of = {tuple(path): item for item, path in enumerate(paths)}

    def allowed(_: int, sequence: Tensor) -> list[int]:
        node = root
        for token in sequence[PROMPT:].tolist():
            node = node[token]
        return list(node)

    def run() -> tuple[list[list[int]], Tensor]:
        with torch.no_grad():
            out = model.generate(
                prompts, attention_mask=torch.ones_like(prompts), num_beams=beam, num_return_sequences=beam,
                max_new_tokens=LEVELS, prefix_allowed_tokens_fn=allowed, length_penalty=0.0, do_sample=False,
                eos_token_id=None, pad_token_id=0, return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
        items = [item_of[tuple(row)] for row in out.sequences[:, PROMPT:].tolist()]
        return torch.tensor(items).view(len(prompts), beam).tolist(), out.sequences_scores.view(
            len(prompts), beam
        )

    return run


if __name__ == "__main__":
    main()
