"""How to prove ourselves to an agent: a rule over its verified card and what we have, without I/O (A2A 7.3, 4.5).

A card lists alternatives; each names schemes that go together. A skill's requirements come on top of the card's. The
cheapest alternative of which we can show *all* is chosen; if there is none, the error says what each one lacked.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any, Final

from agentshield.identity.agent_card.binding import IDENTITY_EXTENSION
from agentshield.identity.agent_card.card import AgentCard, Interface, Requirement, Scheme, SchemeKind, origin_of
from agentshield.identity.agent_card.signature import VerifiedCard
from agentshield.sdk.a2a.once import ONCE_EXTENSION
from agentshield.sdk.a2a.operations import PROTOCOL_VERSION, Binding
from agentshield.sdk.a2a.skill import SKILL_EXTENSION
from agentshield.sdk.a2a_client.credentials import ApiKey, BasicLogin, BearerToken, Secret, Wallet
from agentshield.sdk.a2a_client.errors import (
    NoInterfaceError,
    NoUsableRequirementError,
    UnknownExtensionError,
    UnknownSkillError,
)

KNOWN_EXTENSIONS: Final = frozenset({IDENTITY_EXTENSION, SKILL_EXTENSION, ONCE_EXTENSION})
MAX_ALTERNATIVES: Final = 64  # of card and skill together; what a card has beyond is not looked at

_SPOKEN: Final = (Binding.JSON_RPC, Binding.HTTP_JSON)
_OPEN: Final = Requirement({})
_COST: Final = {"svid": 0, "jwt-svid": 1, "token": 2, "bearer": 3, "header": 3, "cookie": 3, "basic": 4, "query": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One thing to show. `kind` is one of `svid`, `jwt-svid`, `token`, `bearer`, `basic`, `header`, `cookie`, `query`.

    `name` is the field, cookie or parameter of an API key; `scopes` are those of a token.
    """

    kind: str
    scheme: str
    name: str = ""
    scopes: frozenset[str] = frozenset()
    secret: Secret | None = field(default=None, repr=False)

    @property
    def slot(self) -> tuple[str, str] | None:
        """Where in a request it goes, when only one thing fits there."""
        if self.kind in ("jwt-svid", "token", "bearer", "basic"):
            return "header", "authorization"
        return (self.kind, self.name.lower()) if self.kind in ("header", "cookie", "query") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """What goes along with each request, to `origin` and nowhere else."""

    origin: str
    proofs: tuple[Proof, ...]

    @property
    def schemes(self) -> tuple[str, ...]:
        """The names of the schemes that it satisfies."""
        return tuple(proof.scheme for proof in self.proofs)


def choose_interface(card: AgentCard) -> Interface:
    """Return the first interface of the card, in its order of preference, that we speak.

    Raises:
        NoInterfaceError: there is none.
    """
    for each in card.interfaces:
        if each.binding in _SPOKEN and each.version == PROTOCOL_VERSION and each.origin is not None:
            return each
    offered = ", ".join(f"{each.binding} {each.version}"[:60] for each in card.interfaces[:5]) or "nothing"
    raise NoInterfaceError(f"card offers {offered}; we speak JSONRPC and HTTP+JSON {PROTOCOL_VERSION}")


def check_extensions(card: AgentCard) -> None:
    """Refuse to speak to an agent that requires what we do not know. Raises: UnknownExtensionError."""
    for each in card.extensions:
        if each.is_required and each.uri not in KNOWN_EXTENSIONS:
            raise UnknownExtensionError(f"card requires the extension {each.uri[:200]!a}, which we do not know")


def plan_call(verified: VerifiedCard, wallet: Wallet, *, interface: Interface, skill: str | None) -> CallPlan:
    """Choose how to prove ourselves for `skill`, or for the agent as such.

    Raises:
        NoUsableRequirementError: no alternative of which we have all.
        UnknownSkillError: the card has no such skill.
        UnknownExtensionError: the card requires an extension that we do not know.
        NoInterfaceError: the interface is none of this card's.
    """
    card = verified.card
    check_extensions(card)
    if interface not in card.interfaces or interface.origin is None:
        raise NoInterfaceError(f"interface {interface.url[:200]!a} is not of the verified card")
    refused: list[tuple[str, tuple[str, ...]]] = []
    possible: list[tuple[Proof, ...]] = []
    for requirement in islice(_alternatives(card, skill), MAX_ALTERNATIVES):
        proofs, lacks = _satisfy(requirement, verified, wallet)
        if lacks:
            refused.append((" + ".join(requirement.schemes) or "nothing", lacks))
        else:
            possible.append(proofs)
    if not possible:
        raise NoUsableRequirementError(refused)
    chosen = min(possible, key=lambda proofs: sum(_COST[each.kind] for each in proofs))  # the first of equals
    return CallPlan(origin=interface.origin, proofs=chosen)


def _alternatives(card: AgentCard, skill: str | None) -> Iterator[Requirement]:
    """One of the card's and one of the skill's, with the scopes of both."""
    for of_card, of_skill in product(card.requirements or (_OPEN,), _of_skill(card, skill) or (_OPEN,)):
        names = dict.fromkeys((*of_card.schemes, *of_skill.schemes))
        none: frozenset[str] = frozenset()
        yield Requirement({each: of_card.schemes.get(each, none) | of_skill.schemes.get(each, none) for each in names})


def _of_skill(card: AgentCard, skill: str | None) -> tuple[Requirement, ...]:
    if skill is None:
        return ()
    found = next((each for each in card.skills if each.id == skill), None)
    if found is None:
        known = ", ".join(each.id for each in card.skills[:10])
        raise UnknownSkillError(f"card of {card.name[:80]!a} has no skill {skill[:80]!a}", hint=f"it has: {known}")
    return found.requirements


def _satisfy(
    requirement: Requirement, verified: VerifiedCard, wallet: Wallet
) -> tuple[tuple[Proof, ...], tuple[str, ...]]:
    """All of the requirement, or what is lacking."""
    proofs: list[Proof] = []
    lacks: list[str] = []
    for name, scopes in requirement.schemes.items():
        scheme = verified.card.schemes.get(name)
        if scheme is None:
            lacks.append(f"the card does not say what {name[:60]!a} is")
            continue
        found = _show(name, scheme, scopes, verified, wallet)
        if isinstance(found, Proof):
            proofs.append(found)
        else:
            lacks.append(found)
    merged = tuple(_merged(proofs))
    slots = [proof.slot for proof in merged if proof.slot is not None]
    if twice := next((slot for slot in slots if slots.count(slot) > 1), None):
        lacks.append(f"two of them go into the same {twice[0]} {twice[1]}")
    return merged, tuple(lacks)


def _merged(proofs: Iterable[Proof]) -> Iterator[Proof]:
    """Two schemes that our token service serves are one token, with the scopes of both."""
    proofs = list(proofs)
    tokens = [each for each in proofs if each.kind == "token"]
    yield from (each for each in proofs if each.kind != "token")
    if tokens:
        scopes = frozenset[str]().union(*(each.scopes for each in tokens))
        yield Proof(kind="token", scheme=" and ".join(each.scheme for each in tokens), scopes=scopes)


def _show(name: str, scheme: Scheme, scopes: frozenset[str], verified: VerifiedCard, wallet: Wallet) -> Proof | str:
    """What to show for one scheme, or what we lack for it."""
    secret, members = wallet.secrets.get(name), scheme.members
    match scheme.kind:
        case SchemeKind.MUTUAL_TLS:
            return Proof(kind="svid", scheme=name) if wallet.shows_svid else "no SVID is shown over public TLS"
        case SchemeKind.OAUTH2:
            flow = members.get("flows", {}).get("clientCredentials")
            if flow is None:
                return "of the OAuth flows we have clientCredentials only"
            return _token(name, scopes, str(flow.get("tokenUrl", "")), wallet)
        case SchemeKind.OPENID_CONNECT:
            return _token(name, scopes, str(members.get("openIdConnectUrl", "")), wallet)
        case SchemeKind.HTTP:
            return _http(name, members, secret, verified, wallet)
        case SchemeKind.API_KEY:
            return _api_key(name, members, secret)


def _token(name: str, scopes: frozenset[str], url: str, wallet: Wallet) -> Proof | str:
    """Our token service is asked, at its own address; the card's only says whose tokens the agent takes."""
    if wallet.issuer is None:
        return f"no token service, and it takes tokens of {origin_of(url) or 'nobody'}"
    if not url.startswith(f"{wallet.issuer.rstrip('/')}/"):
        return f"it takes tokens of {url[:200]!a}, and ours are of {wallet.issuer}"
    return Proof(kind="token", scheme=name, scopes=scopes)


def _http(
    name: str, members: Mapping[str, Any], secret: Secret | None, verified: VerifiedCard, wallet: Wallet
) -> Proof | str:
    scheme = str(members.get("scheme", "")).lower()
    if scheme == "basic":
        if isinstance(secret, BasicLogin):
            return Proof(kind="basic", scheme=name, secret=secret)
        return "no name and password were handed in for it"
    if scheme != "bearer":
        return f"of HTTP schemes we have bearer and basic, not {scheme[:40]!a}"
    if isinstance(secret, BearerToken):
        return Proof(kind="bearer", scheme=name, secret=secret)
    if verified.binding is not None and verified.binding.proofs and "jwt-svid" not in verified.binding.proofs:
        return "the agent takes no JWT-SVID"
    return Proof(kind="jwt-svid", scheme=name) if wallet.has_jwt_svid else "no JWT-SVID, and no token was handed in"


def _api_key(name: str, members: Mapping[str, Any], secret: Secret | None) -> Proof | str:
    place, field_name = str(members.get("location", "")), str(members.get("name", ""))
    if not isinstance(secret, ApiKey):
        return "no API key was handed in for it"
    if place not in ("header", "cookie", "query") or not _is_name(field_name):
        return f"a key cannot go into {place[:20]!a} as {field_name[:40]!a}"
    if place not in secret.places:
        return f"the key may not go into a {place}"
    return Proof(kind=place, scheme=name, name=field_name, secret=secret)


def _is_name(value: str) -> bool:
    """RFC 9110, 5.6.2; a header that carries something else of ours must not be replaced by a card."""
    return value.isascii() and value.replace("-", "").replace("_", "").isalnum() and value.lower() not in _TAKEN


_TAKEN: Final = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "cookie", "dpop", "a2a-version"}
)
