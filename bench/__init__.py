"""Benchmarks: each module of this directory with a `run()` measures one thing; `python -m bench` runs them all.

`run()` returns rows with the keys `name`, `value`, `unit`, `goal` (text such as ">= 0.45", or None) and `bound_by`:
what would have to become faster for the value to become better. Ratios are taken inside one run, never between runs.
"""
