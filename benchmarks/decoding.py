"""Constrained decoding against Hugging Face's, in one process: `python -m benchmarks.decoding`.

Hugging Face's side is `generate` with beams and a dict trie behind `prefix_allowed_tokens_fn`, at a batch of its
own; both sides take turns on the same users, and the ratio is of their best times. Items and scores of those
users are compared. `--growth` measures ours alone over catalogues of 10^3 to 10^6 generated items and over
histories of 1 to 20 items, `--exact` the ranking of the whole catalogue.
Prints one JSON line per measurement: seconds per user (wall and processor), ratio, whether items are equal and
the largest difference of scores; for growth, seconds to build the trie, its bytes, seconds per user and memory:
what a first search adds to the resident peak, per user of a batch (Linux only; at 10^6 items it is told too low,
as memory of the building is taken again).
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from forwhy.recommend.beams import BeamDecoder, Beams
from forwhy.recommend.llmbs.network import scratch_model
from forwhy.recommend.options import BackboneConfig
from forwhy.recommend.trie import CodeTrie

Codes = NDArray[np.int64]
LEVELS, WIDTH, PROMPT, ITEMS = 4, 256, 88, 12_101
CATALOGUES, HISTORIES = (10**3, 10**4, 10**5, 10**6), (1, 2, 5, 10, 20)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, help="folder of a causal language model; the small decoder where absent"
    )
    parser.add_argument("--index", type=Path, help=".index.json of real codes; generated where absent")
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32, help="users in one pass of ours")
    parser.add_argument("--theirs", type=int, default=2, help="users in one call of generate")
    parser.add_argument("--shared", type=int, default=0, help="tokens that all prompts begin with")
    parser.add_argument("--normalise", choices=["vocab", "level", "legal"], default="vocab")
    parser.add_argument("--beam", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompt", type=int, default=PROMPT, help="tokens of a prompt")
    parser.add_argument("--growth", action="store_true", help="over catalogues and over histories")
    parser.add_argument("--exact", action="store_true", help="rank the whole catalogue for each user")
    options = parser.parse_args()
    if not options.growth:
        measure(read(options.index), options)
        return
    grown = [(items, options.prompt) for items in CATALOGUES]
    grown += [(ITEMS, PROMPT - (HISTORIES[-1] - length) * LEVELS) for length in HISTORIES]
    for items, options.prompt in grown:
        # A process each, as memory that was freed can be taken again without being seen.
        process = get_context("spawn").Process(target=measure, args=(generated(items), options))
        process.start()
        process.join()


def measure(codes: Codes, options: argparse.Namespace) -> None:
    """Print the line of one catalogue and length of prompts."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = small() if options.model is None else opened(options.model)
    print(json.dumps(measured(model.eval(), codes, options)), flush=True)


def opened(folder: Path) -> PreTrainedModel:
    """The language model of a folder."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def measured(model: PreTrainedModel, codes: Codes, options: argparse.Namespace) -> dict[str, Any]:
    """One line."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = [torch.arange(WIDTH) + vocabulary - (LEVELS - level) * WIDTH for level in range(LEVELS)]
    prompts = torch.randint(0, vocabulary, (options.users, options.prompt))
    prompts[:, : options.shared] = prompts[0, : options.shared]
    start = time.perf_counter()
    trie = CodeTrie.from_codes(codes, [WIDTH] * LEVELS)
    built = time.perf_counter() - start
    decoder = BeamDecoder(model, trie, ids, options.normalise, options.beam, options.batch)
    work = decoder.exact if options.exact else decoder.search
    before = peak(anew=True)
    work(prompts[: options.batch].tolist())  # memory is allocated once
    per_user = (peak() - before) / min(options.users, options.batch)
    line = {
        "benchmark": "decoding", "model": "small" if options.model is None else options.model.name,
        "what": "exact_scores" if options.exact else "search", "items": len(codes), "prompt": options.prompt,
        "normalise": options.normalise, "beam": options.beam, "batch": options.batch, "shared": options.shared,
        "threads": options.threads, "trie_seconds": round(built, 2), "trie_bytes": held(trie),
        "MiB_per_user": round(per_user / 1024, 2),
    }  # fmt: skip
    alone = options.growth or options.exact
    theirs = None if alone else hugging_face(model, codes, ids, prompts[: options.theirs], options.beam)
    ours_s, theirs_s, found, reference = [], [], None, None
    for _ in range(options.rounds):
        found, seconds = timed(lambda: work(prompts.tolist()), options.users)
        ours_s.append(seconds)
        if theirs is not None:
            reference, seconds = timed(theirs, options.theirs)
            theirs_s.append(seconds)
    wall, cpu = np.min(ours_s, axis=0)
    line |= {
        "load": round(os.getloadavg()[0], 1), "s_per_user": round(wall, 4), "cpu_s_per_user": round(cpu, 4)
    }  # fmt: skip
    return line | (compared(found, reference, (wall, cpu), theirs_s) if reference else {})


def peak(anew: bool = False) -> int:
    """The most memory that was resident so far, in KiB; `anew`: from now on."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


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


def held(trie: CodeTrie) -> int:
    """Bytes of all its tensors."""
    parts = [part for depth in trie.depths for part in (depth.start, depth.code)]
    return sum(part.nbytes for part in [*parts, trie.items])


def timed(work: Callable[[], Any], users: int) -> tuple[Any, tuple[float, float]]:
    """A result, and wall and processor seconds per user."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, ((time.perf_counter() - wall) / users, (time.process_time() - cpu) / users)


def small() -> PreTrainedModel:
    """LLM-BS's decoder from scratch as configured by default, a vocabulary of codes only; scores far apart."""
    model = scratch_model(BackboneConfig(), LEVELS * WIDTH + 8)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.5 if weight.dim() == 2 else 1.0)
    return model


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
        for token in sequence[prompts.shape[1] :].tolist():
            node = node[token]
        return list(node)

    def run() -> tuple[list[list[int]], Tensor]:
        with torch.no_grad():
            out = model.generate(
                prompts, attention_mask=torch.ones_like(prompts), num_beams=beam, num_return_sequences=beam,
                max_new_tokens=LEVELS, prefix_allowed_tokens_fn=allowed, length_penalty=0.0, do_sample=False,
                eos_token_id=None, pad_token_id=0, return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
        items = [item_of[tuple(row)] for row in out.sequences[:, prompts.shape[1] :].tolist()]
        return torch.tensor(items).view(len(prompts), beam).tolist(), out.sequences_scores.view(
            len(prompts), beam
        )

    return run


if __name__ == "__main__":
    main()
