"""Results on stdout, in the shape asked for; talk on stderr. JSON carries `apiVersion` and `kind`."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from agentshield.app.failure import API_VERSION

Format = Literal["table", "wide", "json", "yaml", "jsonl", "name"]
FORMATS: tuple[str, ...] = get_args(Format)
Resource = Mapping[str, Any]
_CELL_LIMIT = 60  # a table stays a table; `-o wide` and `-o json` show the whole


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, the member it shows (dots go inwards) or a function of the resource."""

    title: str
    source: str | Callable[[Resource], object]
    only: Literal["always", "wide"] = "always"

    def cell(self, resource: Resource) -> str:
        """Give the text of this column for `resource`."""
        value = self.source(resource) if callable(self.source) else _member(resource, self.source)
        return _text(value)


@dataclass(frozen=True, slots=True)
class Shape:
    """How one kind of resource is shown: its name column first, the rest after it."""

    kind: str
    name: str
    columns: tuple[Column, ...]

    def visible(self, output: str) -> tuple[Column, ...]:
        """Give the columns that `output` shows."""
        return tuple(c for c in self.columns if c.only == "always" or output == "wide")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where results go, and how: decided once an invocation."""

    format: str | None = None
    verbosity: int = 0

    @property
    def chosen(self) -> str:
        """The format asked for, or a table."""
        return self.format or "table"

    @property
    def is_for_people(self) -> bool:
        """Whether a person reads stdout: a table was asked for and there is a terminal."""
        return self.chosen in ("table", "wide") and sys.stdout.isatty()

    def show(self, shape: Shape, resource: Resource) -> None:
        """Print one resource."""
        match self.chosen:
            case "json":
                print(json.dumps(_typed(shape.kind, resource), indent=2, ensure_ascii=False))
            case "jsonl":
                print(json.dumps(_typed(shape.kind, resource), ensure_ascii=False))
            case "yaml":
                print(_yaml(_typed(shape.kind, resource)), end="")
            case "name":
                print(_text(_member(resource, shape.name)))
            case chosen:
                _print_pairs([(c.title, c.cell(resource)) for c in shape.visible(chosen)])

    def show_all(self, shape: Shape, resources: Sequence[Resource]) -> None:
        """Print a list of resources."""
        match self.chosen:
            case "json":
                print(json.dumps(_listed(shape.kind, resources), indent=2, ensure_ascii=False))
            case "yaml":
                print(_yaml(_listed(shape.kind, resources)), end="")
            case "jsonl" | "name":
                for resource in resources:
                    self.show(shape, resource)
            case chosen:
                self._print_table(shape.visible(chosen), resources, limit=None if chosen == "wide" else _CELL_LIMIT)

    def stream(self, shape: Shape, resources: Iterable[Resource]) -> None:
        """Print resources as they come, a line each; JSON becomes JSON lines, as a stream has no end to close."""
        columns = shape.visible(self.chosen)
        for resource in resources:
            if self.chosen in ("json", "jsonl", "yaml"):
                print(json.dumps(_typed(shape.kind, resource), ensure_ascii=False), flush=True)
            elif self.chosen == "name":
                print(_text(_member(resource, shape.name)), flush=True)
            else:
                print(("  " if self.is_for_people else "\t").join(c.cell(resource) for c in columns), flush=True)

    def say(self, text: str) -> None:
        """Tell the person something on stderr, unless `--quiet`."""
        if self.verbosity >= 0:
            print(text, file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """Tell on stderr what only `--verbose` wants to know."""
        if self.verbosity > 0:
            print(text, file=sys.stderr, flush=True)

    def _print_table(self, columns: Sequence[Column], resources: Sequence[Resource], *, limit: int | None) -> None:
        rows = [[column.cell(resource) for column in columns] for resource in resources]
        if not self.is_for_people:
            for row in rows:
                print("\t".join(row))
            return
        print(table([c.title for c in columns], [[_cut(cell, limit) for cell in row] for row in rows]))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under titles, columns aligned, no rules."""
    lines = [list(titles), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def box(lines: Sequence[tuple[str, str]], *, title: str) -> str:
    """Draw the frame that `up` prints: a title and labelled lines."""
    label = max(len(name) for name, _ in lines)
    body = [f"{name.ljust(label)}  {value}".rstrip() for name, value in lines]
    width = max(len(title) + 2, *(len(line) for line in body))
    top = f"┌─ {title} " + "─" * (width - len(title)) + "─┐"
    return "\n".join([top, *[f"│  {line.ljust(width)}  │" for line in body], "└" + "─" * (width + 4) + "┘"])


def _typed(kind: str, resource: Resource) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, **resource}


def _listed(kind: str, resources: Sequence[Resource]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": f"{kind}List", "items": [_typed(kind, r) for r in resources]}


def _yaml(value: object) -> str:
    import yaml  # 25 ms: only for those who ask for YAML

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def _member(resource: Resource, path: str) -> object:
    value: object = resource
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str:
    """Give one line without control characters: names and reasons may come from outside."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ",".join(_text(item) for item in value) or "-"
        case Mapping():
            return ",".join(f"{key}={_text(item)}" for key, item in value.items()) or "-"
        case _:
            return "".join(c if c.isprintable() else " " for c in str(value))


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def _print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    if not sys.stdout.isatty():
        for title, cell in pairs:
            print(f"{title.lower()}\t{cell}")
        return
    width = max(len(title) for title, _ in pairs)
    for title, cell in pairs:
        print(f"{title.lower().ljust(width)}  {cell}")
