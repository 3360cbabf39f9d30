"""Matrix products on two threads beside busy processes, with OpenMP's threads spinning or asleep while they wait.

    python benchmarks/threads.py [--busy 2]

Prints products per second of one thread and of two, on the machine as it is and beside the busy loops. The policy is
read when torch starts, so each figure is taken in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

SECONDS = 3.0
POLICIES = ("ACTIVE", "PASSIVE")


def measured() -> float:
    """Products per second of the size that a training step of a small model has."""
    import torch

    left, right = torch.randn(256, 576), torch.randn(576, 1536)
    for _ in range(20):
        left @ right
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        left @ right
        count += 1
    return count / (time.perf_counter() - start)


def asked(threads: int, policy: str, busy: int) -> float:
    """The figure of one process, beside `busy` loops."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        settings = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": policy}
        command = [sys.executable, __file__, "--measure"]
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
        return float(done.stdout)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, default=2, help="busy loops beside it")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measured())
        return
    print(f"products per second     quiet   beside {options.busy}")
    for threads in (1, 2):
        for policy in POLICIES if threads > 1 else POLICIES[1:]:
            figures = [asked(threads, policy, busy) for busy in (0, options.busy)]
            print(f"{threads} threads, {policy.lower():8} {figures[0]:11.0f} {figures[1]:10.0f}")


if __name__ == "__main__":
    main()
