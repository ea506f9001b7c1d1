"""The bytes that a card's signature is over: by the specification, and as the SDKs have it (A2A 8.4.1; RFC 8785).

They differ. The specification keeps what is there: a scheme without a description, a requirement without scopes. The
SDKs (Python and JavaScript 1.3) first drop whatever is empty, at any depth, so their signature says nothing about
those. `left_out` names what a signature over the SDKs' form does not cover.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import rfc8785

from agentshield.identity.agent_card.errors import InvalidCardError
from agentshield.identity.agent_card.schema import AGENT_CARD, Member, Message, Presence, Scalar, Shape

MAX_DEPTH: Final = 32  # of a card, its extensions' own parameters included

_EMPTY: Final[dict[Shape, Any]] = {Shape.LIST: [], Shape.MAP: {}}
_DEFAULT: Final[dict[Scalar, Any]] = {Scalar.TEXT: "", Scalar.BOOL: False, Scalar.STRUCT: {}}


def strict_form(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card that `members` are, with the presence rules of A2A 8.4.1 applied, and nothing it does not know.

    Raises:
        InvalidCardError: a member of another type, one spelled in two ways, two schemes in one, or nested too deep.
    """
    return _message(members, AGENT_CARD, "")


def strict_list(values: Any, member: Member, path: str) -> list[Any]:
    """Return a list of messages in strict form. Raises: InvalidCardError."""
    found: list[Any] = _shaped(values, member, path)
    return found


def sdk_form(strict: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the SDKs make of a card: all of it that is not empty."""
    kept = {name: _kept(value) for name, value in strict.items()}
    return {name: value for name, value in kept.items() if value is not None}


def left_out(strict: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the JSON pointers (RFC 6901) of what `sdk_form` drops, outermost only."""
    return tuple(_dropped(strict, ""))


def canonical_bytes(form: Mapping[str, Any]) -> bytes:
    """Return the JCS form (RFC 8785).

    Raises:
        InvalidCardError: there is none, as for an integer beyond 2**53.
    """
    try:
        return rfc8785.dumps(dict(form))
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidCardError(f"card has no canonical form ({type(error).__name__})") from error


def unknown_members(members: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the JSON pointers of members that no reader of 1.0 knows: no signature covers them."""
    return tuple(_unknown(members, AGENT_CARD, ""))


def pointer(path: str, name: str) -> str:
    """Add one step to a JSON pointer (RFC 6901, 3)."""
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"


def _message(value: Any, message: Message, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidCardError(f"{path or 'card'} is {_kind(value)}, expected an object ({message.name})")
    _check_spellings(value, message, path)
    found: dict[str, Any] = {}
    for name, member in message.members.items():
        written = value.get(name)  # null is not written (ProtoJSON)
        if written is None:
            if member.presence is Presence.REQUIRED:
                found[name] = _absent(member)
            continue
        shaped = _shaped(written, member, pointer(path, name))
        if member.presence is not Presence.PLAIN or not _is_default(shaped, member):
            found[name] = shaped
    if len(message.choice & found.keys()) > 1:
        raise InvalidCardError(f"{path} has {' and '.join(sorted(message.choice & found.keys()))}, expected one")
    return found


def _check_spellings(value: Mapping[str, Any], message: Message, path: str) -> None:
    """ProtoJSON readers take `security_requirements` for `securityRequirements`: who wrote that wrote it for them."""
    for name in value:
        if name not in message.members and _camel(name) in message.members:
            raise InvalidCardError(f"{pointer(path, name)} is another spelling of {_camel(name)}")


def _shaped(value: Any, member: Member, path: str) -> Any:
    if member.shape is Shape.LIST:
        if not isinstance(value, list):
            raise InvalidCardError(f"{path} is {_kind(value)}, expected a list")
        return [_value(each, member, f"{path}/{index}") for index, each in enumerate(value)]
    if member.shape is Shape.MAP:
        if not isinstance(value, Mapping):
            raise InvalidCardError(f"{path} is {_kind(value)}, expected an object")
        return {name: _value(each, member, pointer(path, name)) for name, each in value.items()}
    return _value(value, member, path)


def _value(value: Any, member: Member, path: str) -> Any:
    if isinstance(member.kind, Message):
        return _message(value, member.kind, path)
    if type(value) is not member.kind.value:  # exactly: True is an int to Python
        raise InvalidCardError(f"{path} is {_kind(value)}, expected {member.kind.name.lower()}")
    if member.kind is Scalar.STRUCT:
        _check_depth(value, path, MAX_DEPTH)
    return value


def _check_depth(value: Any, path: str, left: int) -> None:
    if left == 0:
        raise InvalidCardError(f"{path} is nested too deep, at most {MAX_DEPTH}")
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for each in children:
        _check_depth(each, path, left - 1)


def _absent(member: Member) -> Any:
    """A REQUIRED member that was not written is there all the same, empty (A2A 8.4.1)."""
    if member.shape is not Shape.ONE:
        return type(_EMPTY[member.shape])()
    return _message({}, member.kind, "") if isinstance(member.kind, Message) else _DEFAULT[member.kind]


def _is_default(value: object, member: Member) -> bool:
    """A message that is there is there, also with nothing in it; so is a struct."""
    if member.shape is not Shape.ONE:
        return not value
    return member.kind in (Scalar.TEXT, Scalar.BOOL) and not value


def _kept(value: Any) -> Any:
    """The SDKs' cleaning: None for what is dropped."""
    if isinstance(value, Mapping):
        return sdk_form(value) or None
    if isinstance(value, list):
        return [kept for each in value if (kept := _kept(each)) is not None] or None
    return None if value == "" or value is None else value


def _dropped(value: Any, path: str) -> Iterator[str]:
    items: Iterator[tuple[str, Any]]
    if isinstance(value, Mapping):
        items = iter(value.items())
    elif isinstance(value, list):
        items = ((str(index), each) for index, each in enumerate(value))
    else:
        return
    for name, each in items:
        if _kept(each) is None:
            yield pointer(path, name)
        else:
            yield from _dropped(each, pointer(path, name))


def _unknown(value: Mapping[str, Any], message: Message, path: str) -> Iterator[str]:
    for name, written in value.items():
        member = message.members.get(name)
        if member is None:
            if path or name != "signatures":
                yield pointer(path, name)
        elif isinstance(member.kind, Message):
            below = pointer(path, name)
            if member.shape is Shape.ONE:
                children = [(below, written)]
            elif member.shape is Shape.LIST:
                children = [(f"{below}/{index}", each) for index, each in enumerate(written or ())]
            else:
                children = [(pointer(below, key), each) for key, each in (written or {}).items()]
            for place, child in children:
                if isinstance(child, Mapping):
                    yield from _unknown(child, member.kind, place)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _kind(value: Any) -> str:
    return {bool: "a boolean", str: "text", dict: "an object", list: "a list", type(None): "null"}.get(
        type(value), "a number"
    )
