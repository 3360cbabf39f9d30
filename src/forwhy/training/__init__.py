"""The one training loop of every stage: resume, early stop, schedules, metrics.jsonl, many processes.

`engine` says what a stage supplies (:class:`Task`), `loop` trains it.

Several processes: start the same command under a launcher. Each takes its shard of every batch
(:meth:`Task.shard`), gradients are averaged, the main one writes files. A resume gives the uninterrupted
result there too, except under DeepSpeed, whose optimiser moments are not kept.

    torchrun --nproc_per_node 2 -m forwhy run RECIPE …                                 CPUs, DDP over gloo
    accelerate launch --multi_gpu --num_processes 4 -m forwhy run RECIPE …             GPUs, DDP
    accelerate launch --use_deepspeed --zero_stage 2 --num_processes 4 -m forwhy …     GPUs, ZeRO-2
"""
