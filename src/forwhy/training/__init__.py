"""The one training loop of every stage: resume, early stop, schedules, metrics.jsonl, many processes.

`engine` says what a stage supplies (:class:`Task`), `loop` trains it. Several processes: start the same command under
`torchrun --nproc_per_node 2 -m forwhy …` (CPUs, DDP over gloo) or `accelerate launch --num_processes 4 -m forwhy …`
(GPUs: `--multi_gpu` for DDP, `--use_deepspeed --zero_stage 2` for ZeRO-2). Each takes its shard of every batch
(:meth:`Task.shard`), gradients are averaged, the main one writes files; each does a :attr:`Task.whole` task.
Without dropout losses are those of one process. A resume gives the uninterrupted result there too, except under
DeepSpeed, whose optimiser moments are not kept.
"""
