"""YAML as policies are written in it: no key twice, and an unknown key is an error that names the nearest known one."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from agentshield.policy.errors import InvalidRuleError, Problem


class _UniqueKeyLoader(yaml.SafeLoader):
    """`SafeLoader` that refuses a key twice; YAML's readers silently let the last one win."""


def _mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise yaml.constructor.ConstructorError(
                problem=f"key {key!r} stands twice", problem_mark=node.value[index][0].start_mark
            )
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(text: str, *, file: str) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InvalidRuleError: not YAML, not a mapping, or a key twice; the message gives the line.
    """
    try:
        value = yaml.load(text, _UniqueKeyLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        problem = Problem(file=file, line=line, message=getattr(error, "problem", None) or "not YAML")
        raise InvalidRuleError([problem]) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refused(file, f"expected a mapping at the top, not a {type(value).__name__}")
    return value


def check_keys(members: Mapping[Any, Any], known: Collection[str], *, where: str) -> None:
    """Refuse a key nobody reads: an ignored security setting is worse than none.

    Raises:
        InvalidRuleError: the key, and the nearest known one.
    """
    for key in members:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            meant = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"
            raise refused(where, f"unknown key {str(key)[:40]!r}{meant}")


def text_list(members: Mapping[str, Any], key: str, *, where: str, required: bool = False) -> tuple[str, ...]:
    """Read a text, or a list of texts.

    Raises:
        InvalidRuleError: something else, an empty list, or nothing where it is required.
    """
    value = members.get(key)
    if value is None and not required:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(each, str) and each for each in values):
        raise refused(where, f"{key} must be a text or a list of texts")
    return tuple(values)


def refused(where: str, message: str) -> InvalidRuleError:
    """Make the error for something wrong in one place of a file."""
    return InvalidRuleError([Problem(file=where, line=0, message=message)])
