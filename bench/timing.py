"""Timing in turns: what is to be compared is measured alternately, so that a busy machine slows all of it alike."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping

ROUNDS = 7
SECONDS_PER_TURN = 0.05


def microseconds(operations: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Median time of one call, in microseconds, for each operation."""
    turns = {name: _calls_per_turn(operation) for name, operation in operations.items()}
    times: dict[str, list[float]] = {name: [] for name in operations}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, operation in operations.items():
                times[name].append(_time(operation, turns[name]))
    finally:
        gc.enable()
    return {name: statistics.median(each) for name, each in times.items()}


def _calls_per_turn(operation: Callable[[], object]) -> int:
    operation()  # fill caches first
    once = max(_time(operation, 5), 0.2)
    return max(5, int(SECONDS_PER_TURN * 1e6 / once))


def _time(operation: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        operation()
    return (time.perf_counter() - begin) / calls * 1e6
