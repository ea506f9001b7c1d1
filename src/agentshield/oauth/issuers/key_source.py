"""An issuer's keys: where they come from, how long they hold, and when we ask again.

A token can name any `kid` and costs its sender nothing, so what a token can make us do is bounded: one question to an
issuer in thirty seconds, whatever arrives meanwhile.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Protocol

from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.jwk import KeySet, UnknownKeyError
from agentshield.identity.strict_json import parse_json_object
from agentshield.oauth.issuers.errors import KeysUnavailableError
from agentshield.oauth.issuers.fetch import Document
from agentshield.oauth.model import IssuerRecord

SHORTEST: Final = timedelta(seconds=30)  # keys are kept at least so long, and asked for no oftener
LONGEST: Final = timedelta(hours=1)
USUAL: Final = timedelta(minutes=10)  # for an issuer that says nothing
STALE: Final = timedelta(hours=1)  # how long keys that ran out still hold while their issuer does not answer
_MOST_SOURCES: Final = 1024

_DISCOVERY: Final = "/.well-known/openid-configuration"  # OpenID Connect Discovery, 4
_TENANT: Final = "{tenantid}"  # Entra's keys name their issuer with it, where they serve several


class Fetch(Protocol):
    """Gets documents; `IssuerFetch` is the one that guards what it connects to."""

    async def get(self, url: str, *, ca_pem: bytes | None = None) -> Document:
        """Return the document. Raises: ForbiddenAddressError, KeysUnavailableError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What we hold of one issuer: its keys, if we ever had them, and when we last asked."""

    keys: KeySet | None
    fresh_until: datetime | None
    asked_at: datetime
    failure: AgentShieldError | None = None

    def is_fresh(self, at: datetime) -> bool:
        return self.fresh_until is not None and at < self.fresh_until

    def is_usable(self, at: datetime) -> bool:
        return self.fresh_until is not None and at < self.fresh_until + STALE

    def may_ask(self, at: datetime) -> bool:
        return at >= self.asked_at + SHORTEST


@dataclass(slots=True)
class _Source:
    held: _Held | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class KeySource:
    """The keys of issuers, each from the place that its record names."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._sources: dict[tuple[object, ...], _Source] = {}

    async def keys_for(self, record: IssuerRecord, *, kid: str | None, alg: str, at: datetime) -> KeySet:
        """Return the issuer's keys; if none of them is the one asked for, look once whether it has a new one.

        The result may still lack the key: `KeySet.find` says so.

        Raises:
            KeysUnavailableError: none are known, or they are too old, and the issuer does not answer.
        """
        if record.jwks is not None:
            return read_keys(record.jwks, record)
        source = self._source_of(record)
        held = source.held
        if held is None or not held.is_fresh(at) or not _has(held.keys, kid, alg):
            held = await self._refreshed(source, record, kid, alg, at)
        if held.keys is None or not held.is_usable(at):
            raise KeysUnavailableError(
                f"keys of issuer {record.name[:80]!a} cannot be had: {held.failure}",
                hint=held.failure.hint if held.failure is not None else None,
                retry_after=SHORTEST.total_seconds(),
            )
        return held.keys

    async def _refreshed(self, source: _Source, record: IssuerRecord, kid: str | None, alg: str, at: datetime) -> _Held:
        async with source.lock:  # one question, whoever else waits for its answer
            held = source.held
            if held is not None and (not held.may_ask(at) or (held.is_fresh(at) and _has(held.keys, kid, alg))):
                return held
            source.held = await self._asked(held, record, at)
            return source.held

    async def _asked(self, held: _Held | None, record: IssuerRecord, at: datetime) -> _Held:
        try:
            url = record.jwks_url or await self._discovered(record)
            document = await self._fetch.get(url, ca_pem=record.ca_pem)
            keys = read_keys(document.body, record)
        except AgentShieldError as failure:
            if held is None:
                return _Held(keys=None, fresh_until=None, asked_at=at, failure=failure)
            return replace(held, asked_at=at, failure=failure)
        said = USUAL if document.max_age is None else document.max_age
        lifetime = min(max(said, SHORTEST), LONGEST)
        return _Held(keys=keys, fresh_until=at + lifetime, asked_at=at)

    async def _discovered(self, record: IssuerRecord) -> str:
        jwks_uri = (await discovery_of(record, self._fetch)).get("jwks_uri")
        if not isinstance(jwks_uri, str):
            raise InvalidInputError(f"discovery document of {record.issuer[:200]} has no jwks_uri")
        return jwks_uri

    def _source_of(self, record: IssuerRecord) -> _Source:
        """A changed record starts anew: what was fetched for the old one says nothing about the new one."""
        key = (record.name, record.version, record.created_at, record.issuer, record.jwks_url, record.ca_pem)
        if key not in self._sources and len(self._sources) >= _MOST_SOURCES:
            self._sources.pop(next(iter(self._sources)))
        return self._sources.setdefault(key, _Source())


async def discovery_of(record: IssuerRecord, fetch: Fetch) -> Mapping[str, Any]:
    """Return what an issuer says of itself (OpenID Connect Discovery, 4.1 and 4.3).

    Raises:
        InvalidInputError: the document is not the issuer's own, to the letter.
        ForbiddenAddressError, KeysUnavailableError: it cannot be had.
    """
    url = record.issuer.removesuffix("/") + _DISCOVERY
    document = await fetch.get(url, ca_pem=record.ca_pem)
    members = parse_json_object(document.body, what="discovery document", error=InvalidInputError)
    if members.get("issuer") != record.issuer:
        raise InvalidInputError(
            f"discovery document at {url[:200]} is that of {str(members.get('issuer'))[:200]!a}, "
            f"expected {record.issuer[:200]!a}",
            hint="register the issuer exactly as its own document names it",
        )
    return members


def read_keys(data: bytes, record: IssuerRecord) -> KeySet:
    """Read a JWK Set, without keys that say they are another issuer's (Entra's `issuer` member).

    Raises:
        InvalidInputError: not a JWK Set.
    """
    return _keys_in(data, record.issuer, record.algorithms)


@lru_cache(maxsize=256)
def _keys_in(data: bytes, issuer: str, algorithms: frozenset[str]) -> KeySet:
    """Cached by content: uploaded keys are read for every token."""
    if b'"issuer"' in data:
        members = parse_json_object(data, what="JWK Set", error=InvalidInputError)
        keys = members.get("keys")
        if isinstance(keys, list):
            members["keys"] = [jwk for jwk in keys if not _is_of_another(jwk, issuer)]
        data = json.dumps(members).encode()
    return KeySet.from_jwks(data, algorithms=algorithms)


def _is_of_another(jwk: object, issuer: str) -> bool:
    named: Any = jwk.get("issuer") if isinstance(jwk, Mapping) else None
    if not isinstance(named, str):
        return False
    before, template, after = named.partition(_TENANT)
    if not template:
        return named != issuer
    tenant = issuer[len(before) : len(issuer) - len(after)]
    return issuer != before + tenant + after or "/" in tenant or not tenant


def _has(keys: KeySet | None, kid: str | None, alg: str) -> bool:
    if keys is None:
        return False
    try:
        keys.find(kid, alg)
    except UnknownKeyError:
        return False
    return True
