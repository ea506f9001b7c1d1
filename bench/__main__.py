"""Run every benchmark, or those named, and print one table: `python -m bench [--json] [NAME …]`."""

import asyncio
import importlib
import inspect
import json
import pkgutil
import sys
import time

import bench

OPERATORS = {">=": lambda value, goal: value >= goal, "<=": lambda value, goal: value <= goal}


def rows_of(name):
    """Run one module; an async `run` gets a loop of its own."""
    module = importlib.import_module(f"bench.{name}")
    if not hasattr(module, "run"):
        return []
    rows = module.run()
    return [{"bench": name, **row} for row in (asyncio.run(rows) if inspect.iscoroutine(rows) else rows)]


def verdict(row):
    """Compare with the goal: "ok", "short", or "" where there is none."""
    operator, _, number = (row.get("goal") or "").partition(" ")
    if operator not in OPERATORS:
        return ""
    return "ok" if OPERATORS[operator](row["value"], float(number.split()[0].replace(",", ""))) else "short"


def shown(value):
    """Three significant digits, whole from a hundred on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_table(rows):
    """Columns as wide as they must be."""
    lines = [("benchmark", "what", "value", "goal", "", "bound by")]
    for row in rows:
        value = f"{shown(row['value'])} {row['unit']}".rstrip()
        lines.append((row["bench"], row["name"], value, row.get("goal") or "", verdict(row), row["bound_by"]))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def main(arguments):
    """Exit 1 when a benchmark could not run; a goal missed is shown, not an error, since machines differ."""
    wanted = [each for each in arguments if not each.startswith("-")]
    names = [info.name for info in pkgutil.iter_modules(bench.__path__) if info.name != "__main__"]
    if unknown := set(wanted) - set(names):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    rows, failed = [], []
    for name in wanted or names:
        begin = time.perf_counter()
        try:
            rows += rows_of(name)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
        if sys.stderr.isatty():
            print(f"{name}: {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)
    for line in failed:
        print(f"could not run {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
