"""YAML as policies are written in it: no key twice, and an unknown key is an error that names the nearest known one."""

import difflib
from collections.abc import Collection
from typing import Any

import yaml

from agentshield.policy.errors import InvalidRuleError, Problem


class YamlMapping(dict[str, Any]):
    """A mapping of a YAML file that knows where it stands, so that what is wrong in it can be found."""

    def __init__(self, members: dict[str, Any], *, file: str, line: int, lines: dict[str, int]) -> None:
        super().__init__(members)
        self.file = file
        self.line = line
        self._lines = lines

    def refused(self, message: str, *, key: str | None = None) -> InvalidRuleError:
        """Return the error for something wrong here, at the line of `key` if that is given and there."""
        line = self.line if key is None else self._lines.get(key, self.line)
        return InvalidRuleError([Problem(file=self.file, line=line, message=message)])

    def check_keys(self, known: Collection[str]) -> None:
        """Refuse a key nobody reads: an ignored security setting is worse than none.

        Raises:
            InvalidRuleError: the key, and the nearest known one.
        """
        for key in self:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                meant = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"
                raise self.refused(f"unknown key {key[:40]!r}{meant}", key=key)

    def text(self, key: str) -> str | None:
        """Read a text, or None where there is none.

        Raises:
            InvalidRuleError: something else.
        """
        value = self.get(key)
        if value is None or (isinstance(value, str) and value):
            return value
        raise self.refused(f"{key} must be text, not {value!r:.40}", key=key)

    def texts(self, key: str, *, least: int = 0) -> tuple[str, ...]:
        """Read a text, or a list of texts.

        Raises:
            InvalidRuleError: something else, an empty list, or fewer than `least`.
        """
        value = self.get(key)
        if value is None and not least:
            return ()
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(each, str) and each for each in values):
            raise self.refused(f"{key} must be a text or a list of texts", key=key)
        return tuple(values)

    def mapping(self, key: str) -> "YamlMapping":
        """Read a mapping inside this one, empty where there is none.

        Raises:
            InvalidRuleError: something else.
        """
        value = self.get(key)
        if value is None:
            return YamlMapping({}, file=self.file, line=self.line, lines={})
        if not isinstance(value, YamlMapping):
            raise self.refused(f"{key} must be a mapping", key=key)
        return value

    def mappings(self, key: str, *, of: str) -> "tuple[YamlMapping, ...]":
        """Read a list of mappings, empty where there is none; `of` says what each is, for the error.

        Raises:
            InvalidRuleError: something else.
        """
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.refused(f"{key} must be a list", key=key)
        for number, each in enumerate(value, start=1):
            if not isinstance(each, YamlMapping):
                raise self.refused(f"{key}, item {number}: expected {of}", key=key)
        return tuple(value)


def load_yaml(text: str, *, file: str) -> YamlMapping:
    """Read a YAML mapping.

    Raises:
        InvalidRuleError: not YAML, not a mapping, a key twice or not a text; the message gives the line.
    """
    documents = load_yaml_documents(text, file=file)
    if len(documents) > 1:
        problem = Problem(file=file, line=documents[1].line, message="expected a single document in the stream")
        raise InvalidRuleError([problem])
    return documents[0] if documents else YamlMapping({}, file=file, line=0, lines={})


def load_yaml_documents(text: str, *, file: str) -> tuple[YamlMapping, ...]:
    """Read YAML mappings with `---` between them; empty documents are left out.

    Raises:
        InvalidRuleError: as `load_yaml`.
    """
    try:
        values = _construct(text, file)
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        message = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise InvalidRuleError([Problem(file=file, line=line, message=message)]) from error
    for value in values:
        if not isinstance(value, YamlMapping | None):
            problem = Problem(file=file, line=1, message=f"expected a mapping at the top, not a {type(value).__name__}")
            raise InvalidRuleError([problem])
    return tuple(value for value in values if value is not None)


def _construct(text: str, file: str) -> list[Any]:
    loader = _Loader(text)
    loader.file = file
    values = []
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]
            values.append(loader.get_data())
    finally:
        loader.dispose()
    return values


class _Loader(yaml.SafeLoader):
    """`SafeLoader` that refuses a key twice, where YAML's readers silently let the last one win."""

    file = ""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases: a rule says what it says where it stands."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(problem="aliases (*name) are not read here", problem_mark=mark)
        return super().compose_node(parent, index)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> YamlMapping:
    members: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str) or key in members:
            problem = f"key {key!r} stands twice" if isinstance(key, str) else f"key {key!r} is not text"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key_node.start_mark)
        members[key] = loader.construct_object(value_node, deep=True)
        lines[key] = key_node.start_mark.line + 1
    return YamlMapping(members, file=loader.file, line=node.start_mark.line + 1, lines=lines)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
