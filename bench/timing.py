"""How every peer times its work, the way `convae bench` does. Imports no framework, since ONNX
Runtime and OpenVINO are measured in processes that hold nothing else."""

import statistics
import time

WARM_UP_ROUNDS = 3


def shape(text):
    """"16x3x192x192" → (16, 3, 192, 192)"""
    return tuple(map(int, text.split("x")))


def median_ms(work, rounds):
    """Median milliseconds of `work()`, after rounds that compile, allocate and fill caches."""
    times = []
    for number in range(-WARM_UP_ROUNDS, rounds):
        start = time.perf_counter()
        work()
        if number >= 0:
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
