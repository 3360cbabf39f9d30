#!/bin/bash
# LLM-BS as its paper has it on Amazon Beauty, for a machine with one GPU: benchmarks/beauty_on_gpu.sh DATA OUT [forwhy run's options]
# DATA: the folder of Beauty.inter.json (shared/data/amazon-beauty). What is whole here: 3 epochs of all histories and text
# tasks, the adapter, both ways to decode. NOT RUN YET on a GPU: no such machine was at hand when it was written. By
# counting, about 6 million tokens an epoch of SmolLM2-135M, so minutes an epoch; if it does not fit, halve batch_size.
set -e
data=$1 out=$2; shift 2
[ -d "$out/beauty" ] || forwhy data import lcrec "$data" "$out/beauty"
for halves in joined parallel; do
    forwhy run recipes/llm-bs.toml --set data.path="$out/beauty" --set recommender.halves=$halves \
        --set recommender.device=cuda --set recommender.batch_size=128 --set recommender.learning_rate=1e-3 \
        --out "$out/$halves" "$@"
    python -m benchmarks.talking "$out/$halves/recommender" --data "$out/beauty" --text docs/concepts.md docs/start.md
done
forwhy evaluate "$out/joined" "$out/parallel"
