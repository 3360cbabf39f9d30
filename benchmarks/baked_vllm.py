"""A baked folder under our vLLM engine: does it write what forwhy wrote, how fast. In an environment that has vLLM.

    make bench-vllm MODEL=model      # on the CPU, in .venv-vllm (3.4 GB)
    python benchmarks/baked_vllm.py model

Prints how many of the folder's examples came out equal, and how many a second.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from forwhy.bridge.options import GenerationConfig, finish
from forwhy.explain.served import VllmEngine


def main() -> None:
    """Load, write, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    lines = (given.folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    examples = [json.loads(line) for line in lines]
    about = json.loads((given.folder / "forwhy.json").read_text(encoding="utf-8"))["config"]
    ends = json.loads((given.folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    how, prompts = (
        GenerationConfig.model_validate(about["generation"]),
        [one["prompt_ids"] for one in examples],
    )
    engine = VllmEngine(given.folder, given.precision)
    engine.write(prompts[:1], how, ends)
    began = time.perf_counter()
    written = engine.write(prompts, how, ends)
    seconds = time.perf_counter() - began
    texts = [finish(one.text, one.ended, how.max_words) for one in written]
    equal = sum(text == one["text"] for text, one in zip(texts, examples, strict=True))
    print(f"{equal} of {len(examples)} texts equal, {len(examples) / seconds:.2f} texts/s, all at once")


if __name__ == "__main__":
    main()
