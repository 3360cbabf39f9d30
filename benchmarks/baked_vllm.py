"""A baked folder under vLLM: does it write what forwhy wrote, and how fast. Runs in an environment that has vLLM.

    make bench-vllm MODEL=model      # on the CPU, in .venv-vllm (3.4 GB)
    python benchmarks/baked_vllm.py model

Prints how many of the folder's examples came out equal, and tokens per second with all of them at once.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from forwhy.bridge.options import finish


def main() -> None:
    """Load, write, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    from vllm import LLM, SamplingParams

    lines = (given.folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    examples = [json.loads(line) for line in lines]
    how = json.loads((given.folder / "forwhy.json").read_text(encoding="utf-8"))["config"]["generation"]
    ends = json.loads((given.folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    model = LLM(str(given.folder), dtype=given.dtype, enforce_eager=True)
    bias = dict.fromkeys(ends, how["end_bias"]) if how["end_bias"] else None
    asked = SamplingParams(
        temperature=0.0, max_tokens=how["max_new_tokens"], stop_token_ids=ends, logit_bias=bias
    )
    prompts = [{"prompt_token_ids": one["prompt_ids"]} for one in examples]
    model.generate(prompts[:1], asked, use_tqdm=False)
    began = time.perf_counter()
    outputs = [one.outputs[0] for one in model.generate(prompts, asked, use_tqdm=False)]
    seconds = time.perf_counter() - began
    texts = [finish(one.text, one.finish_reason == "stop", how["max_words"]) for one in outputs]
    equal = sum(text == one["text"] for text, one in zip(texts, examples, strict=True))
    tokens = sum(len(one.token_ids) for one in outputs)
    print(f"{equal} of {len(examples)} texts equal, {tokens / seconds:.1f} tokens/s")


if __name__ == "__main__":
    main()
