"""Whom we mean to talk to. An authorizer is asked inside the TLS handshake, before any byte of a request is sent.

There is none that takes everybody, and an empty list takes nobody: it is refused when it is made, since it is always a
mistake. Where every member of a domain will do, `member_of` says so in the code.
"""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agentshield.identity.errors import PeerNotAllowedError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import VerifiedIdentity

if TYPE_CHECKING:
    from agentshield.sdk.token_holder import TokenHolder


class Authorizer(Protocol):
    """Anything that, called with a verified peer, raises unless the peer is wanted. Its `str` names whom it wants."""

    def __call__(self, peer: VerifiedIdentity) -> None:
        """Let `peer` pass.

        Raises:
            PeerNotAllowedError: it is not wanted here.
        """
        ...


def require_accepted(authorize: Callable[..., object], peer: "VerifiedIdentity | TokenHolder") -> None:
    """Ask `authorize` about `peer`; the one place that does.

    It lets the peer in by returning None and by nothing else. `lambda peer: False` and an `async def` answer without
    raising too, and neither may be read as a yes.

    Raises:
        PeerNotAllowedError: it says no, or it returned an answer.
    """
    answer: object = authorize(peer)
    if answer is None:
        return
    if isinstance(answer, Coroutine):
        answer.close()
    refusal = PeerNotAllowedError(
        expected=f"no answer from {authorize}, which returned a {type(answer).__name__}", actual=peer.spiffe_id
    )
    refusal.hint = "an authorizer is no predicate: it raises PeerNotAllowedError to refuse, and returns None"
    raise refusal


@dataclass(frozen=True, slots=True)
class _Only:
    spiffe_ids: frozenset[SpiffeId]

    def __call__(self, peer: VerifiedIdentity) -> None:
        if peer.spiffe_id not in self.spiffe_ids:
            raise PeerNotAllowedError(expected=str(self), actual=peer.spiffe_id)

    def __str__(self) -> str:
        return " or ".join(sorted(map(str, self.spiffe_ids)))


@dataclass(frozen=True, slots=True)
class _MemberOf:
    trust_domains: frozenset[TrustDomain]

    def __call__(self, peer: VerifiedIdentity) -> None:
        if peer.trust_domain not in self.trust_domains:
            raise PeerNotAllowedError(expected=str(self), actual=peer.spiffe_id)

    def __str__(self) -> str:
        return "a member of " + " or ".join(sorted(map(str, self.trust_domains)))


@dataclass(frozen=True, slots=True)
class _AllOf:
    authorizers: tuple[Authorizer, ...]

    def __call__(self, peer: VerifiedIdentity) -> None:
        for authorize in self.authorizers:
            require_accepted(authorize, peer)

    def __str__(self) -> str:
        return " and ".join(f"({each})" for each in self.authorizers)


@dataclass(frozen=True, slots=True)
class _AnyOf:
    authorizers: tuple[Authorizer, ...]

    def __call__(self, peer: VerifiedIdentity) -> None:
        for authorize in self.authorizers:
            try:
                require_accepted(authorize, peer)
            except PeerNotAllowedError:
                continue
            return
        raise PeerNotAllowedError(expected=str(self), actual=peer.spiffe_id)

    def __str__(self) -> str:
        return " or ".join(f"({each})" for each in self.authorizers)


def only(*spiffe_ids: SpiffeId | str) -> Authorizer:
    """Accept exactly these peers.

    Raises:
        InvalidSpiffeIdError: text that is not a SPIFFE ID.
        ValueError: none given, or one that names a trust domain: that is `member_of`'s.
    """
    parsed = frozenset(SpiffeId.parse(each) if isinstance(each, str) else each for each in spiffe_ids)
    _refuse_empty(parsed, "only")
    for each in parsed:
        if not each.is_workload:
            raise ValueError(f"{each} names a trust domain, not a workload; say member_of({each.trust_domain.name!r})")
    return _Only(parsed)


def member_of(*trust_domains: TrustDomain | str) -> Authorizer:
    """Accept every workload of these trust domains.

    Raises:
        InvalidSpiffeIdError: text that is not a trust domain.
        ValueError: none given.
    """
    parsed = frozenset(TrustDomain.parse(each) if isinstance(each, str) else each for each in trust_domains)
    _refuse_empty(parsed, "member_of")
    return _MemberOf(parsed)


def all_of(*authorizers: Authorizer) -> Authorizer:
    """Accept a peer that each of these accepts.

    Raises:
        ValueError: none given.
    """
    _refuse_empty(authorizers, "all_of")
    return _AllOf(authorizers)


def any_of(*authorizers: Authorizer) -> Authorizer:
    """Accept a peer that at least one of these accepts.

    Raises:
        ValueError: none given.
    """
    _refuse_empty(authorizers, "any_of")
    return _AnyOf(authorizers)


Expected = SpiffeId | TrustDomain | str | Authorizer | Iterable[SpiffeId | str]


def authorizer_for(expected: Expected) -> Authorizer:
    """Turn what a caller wrote into an authorizer: a SPIFFE ID, several, a `TrustDomain` value, or one ready made.

    Text is a SPIFFE ID, never a trust domain: "example.org" for a single peer would silently mean everybody.

    Raises:
        InvalidSpiffeIdError, ValueError: as `only` and `member_of`.
    """
    if isinstance(expected, TrustDomain):
        return member_of(expected)
    if isinstance(expected, str | SpiffeId):
        return only(expected)
    if callable(expected):
        return expected
    return only(*expected)


def _refuse_empty(values: Iterable[object], name: str) -> None:
    if not tuple(values):
        raise ValueError(f"{name}() needs at least one peer: an empty list would accept nobody")
