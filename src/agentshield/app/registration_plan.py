"""From what files say and what is registered to what there is to do. Nothing is done here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agentshield.app.manifest import KINDS, Kind, Manifest
from agentshield.errors import ConflictError
from agentshield.identity.spiffe_id import TrustDomain

Registered = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by kind and key, as the admin API shows it


class FixedObjectError(ConflictError):
    """What a file says differs from what is registered, and cannot be changed in place."""

    code = "cannot_change_in_place"


class Action(StrEnum):
    """What is done with one object."""

    CREATE = "create"
    CHANGE = "change"
    KEEP = "unchanged"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One member that differs; None where it is not there."""

    member: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do."""

    action: Action
    kind: Kind
    key: str
    place: str = ""
    changes: tuple[Change, ...] = ()
    manifest: Manifest | None = None


def plan(
    manifests: Iterable[Manifest], registered: Registered, *, domain: TrustDomain, prune: frozenset[str] = frozenset()
) -> tuple[Step, ...]:
    """Return the steps, each after those it may rest on. Members that a file does not name stay as they are.

    `prune` names the kinds of which everything goes that no file names; those steps come last, and in reverse.

    Raises:
        FixedObjectError: an object of a kind that cannot be changed would have to be.
    """
    wanted = tuple(manifests)
    steps = [_step(each, registered.get(each.kind.name, {}).get(each.key), domain) for each in wanted]
    named = {(each.kind.name, each.key) for each in wanted}
    gone = [
        Step(action=Action.DELETE, kind=kind, key=key)
        for kind in reversed(KINDS)
        if kind.name in prune
        for key in sorted(registered.get(kind.name, {}))
        if (kind.name, key) not in named
    ]
    return (*steps, *gone)


def _step(manifest: Manifest, current: Mapping[str, Any] | None, domain: TrustDomain) -> Step:
    kind = manifest.kind
    wanted = manifest.wanted(domain)
    if current is None:
        changes = tuple(
            Change(member=name, before=None, after=value) for name, value in wanted.items() if name != kind.key
        )
        action = Action.CREATE
    else:
        changes = tuple(
            Change(member=name, before=current.get(name), after=value)
            for name, value in wanted.items()
            if not _is_same(current.get(name), value)
        )
        action = Action.CHANGE if changes else Action.KEEP
    if action is Action.CHANGE and kind.is_fixed:
        differing = ", ".join(each.member for each in changes)
        raise FixedObjectError(
            f"{manifest.place}: {kind.name} {manifest.key} is registered with another {differing}",
            hint=f"delete it and apply again: agentshield {kind.name.lower()} delete {manifest.key}",
        )
    return Step(action=action, kind=kind, key=manifest.key, place=manifest.place, changes=changes, manifest=manifest)


def _is_same(current: Any, wanted: Any) -> bool:
    """Lists are sets here: scopes, audiences, methods."""
    if isinstance(wanted, list) and isinstance(current, list):
        return sorted(map(repr, current)) == sorted(map(repr, wanted))
    if isinstance(wanted, dict) and isinstance(current, dict):
        return current.keys() == wanted.keys() and all(_is_same(current[name], wanted[name]) for name in wanted)
    return bool(current == wanted)


def body_of(step: Step, current: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what to send: for a change, what the file does not name is sent as it is.

    Documents that the file does not name are not known here, so a change without them would drop them.
    """
    manifest = step.manifest
    assert manifest is not None
    if current is None:
        return manifest.body()
    kept = {
        name: current[name]
        for name in step.kind.members
        if name in current and current[name] is not None and name not in manifest.members
    }
    return kept | manifest.body()


def missing_documents(step: Step, current: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the file members whose document is registered and not named in the file: a change would drop them."""
    manifest = step.manifest
    assert manifest is not None
    digests = {"jwks": "jwks_sha256", "ca_pem": "ca_sha256"} | {
        name: f"{name.removesuffix('_pem')}_sha256" for name in ("attester_jwks", "notification_ca_pem", "tls_ca")
    }
    return tuple(
        name
        for name, member in step.kind.files.items()
        if member not in manifest.documents and current.get(digests[member]) is not None
    )
