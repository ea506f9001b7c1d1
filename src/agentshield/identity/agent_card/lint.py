"""What is wrong with a card, for whoever writes or lists one: each finding with its rule and what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agentshield.identity.agent_card.binding import IDENTITY_EXTENSION
from agentshield.identity.agent_card.canonical import left_out
from agentshield.identity.agent_card.card import AgentCard, Requirement, Scheme, SchemeKind, origin_of

BINDINGS: Final = frozenset({"JSONRPC", "GRPC", "HTTP+JSON"})
_DEPRECATED_FLOWS: Final = frozenset({"implicit", "password"})


class Level(StrEnum):
    """How bad it is. A card with an error is not published here, and not listed."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing wrong. `path` is a JSON pointer into the card, empty for the whole."""

    rule: str
    level: Level
    path: str
    message: str
    remedy: str


_Rule = Callable[[AgentCard], Iterator[Finding]]


def lint(card: AgentCard) -> tuple[Finding, ...]:
    """Return what is wrong with `card`, errors first."""
    found = [finding for rule in _RULES for finding in rule(card)]
    return tuple(sorted(found, key=lambda each: (each.level is not Level.ERROR, each.rule, each.path)))


def _error(rule: str, path: str, message: str, remedy: str) -> Finding:
    return Finding(rule=rule, level=Level.ERROR, path=path, message=message, remedy=remedy)


def _warning(rule: str, path: str, message: str, remedy: str) -> Finding:
    return Finding(rule=rule, level=Level.WARNING, path=path, message=message, remedy=remedy)


def _nothing_empty(card: AgentCard) -> Iterator[Finding]:
    for path in left_out(card.members):
        yield _error(
            "nothing-empty",
            path,
            "is empty, so signatures of the A2A SDKs do not cover it: it can be taken out or put in unseen",
            "say something there (a description, a scope), or leave it out",
        )


def _requirements(card: AgentCard) -> Iterator[tuple[str, Requirement]]:
    for index, each in enumerate(card.requirements):
        yield f"/securityRequirements/{index}", each
    for place, skill in enumerate(card.skills):
        for index, each in enumerate(skill.requirements):
            yield f"/skills/{place}/securityRequirements/{index}", each


def _nobody_is_anonymous(card: AgentCard) -> Iterator[Finding]:
    if not card.requirements:
        yield _error(
            "authentication-required",
            "/securityRequirements",
            "no requirement: whoever reads this card calls without proving anything",
            "list a scheme that callers must use",
        )
    for path, requirement in _requirements(card):
        if requirement.is_open:
            yield _error(
                "no-open-alternative", path, "asks for nothing, and alternatives are OR: anonymous is fine", "drop it"
            )


def _schemes_are_known(card: AgentCard) -> Iterator[Finding]:
    used: set[str] = set()
    for path, requirement in _requirements(card):
        used |= requirement.schemes.keys()
        for name in sorted(requirement.schemes.keys() - card.schemes.keys()):
            yield _error(
                "scheme-known",
                path,
                f"names scheme {name[:80]!a}, which is not in securitySchemes",
                "add it, or mend it",
            )
    for name in sorted(card.schemes.keys() - used):
        yield _warning(
            "scheme-used", f"/securitySchemes/{name}", "no requirement asks for it", "ask for it, or drop it"
        )


def _schemes_are_sound(card: AgentCard) -> Iterator[Finding]:
    for name, scheme in card.schemes.items():
        yield from _scheme(f"/securitySchemes/{name}", scheme)


def _scheme(path: str, scheme: Scheme) -> Iterator[Finding]:
    members = scheme.members
    match scheme.kind:
        case SchemeKind.API_KEY if members["location"] == "query":
            yield _error("no-key-in-query", path, "the key is in the query, and so in every log", "use a header")
        case SchemeKind.API_KEY:
            yield _warning("no-shared-key", path, "an API key is whoever has it", "use mTLS or OAuth 2.0")
        case SchemeKind.HTTP if members["scheme"].lower() == "basic":
            yield _warning("no-password", path, "a password is whoever has it", "use mTLS or OAuth 2.0")
        case SchemeKind.OPENID_CONNECT:
            yield from _https(path, "openIdConnectUrl", members["openIdConnectUrl"])
        case SchemeKind.OAUTH2:
            yield from _flows(path, members["flows"])
        case _:
            pass


def _flows(path: str, flows: dict[str, Any]) -> Iterator[Finding]:
    if not flows:
        yield _error("flow-named", path, "no flow: nobody can tell where tokens come from", "name one flow")
    for name, flow in flows.items():
        place = f"{path}/oauth2SecurityScheme/flows/{name}"
        if name in _DEPRECATED_FLOWS:
            yield _error("no-deprecated-flow", place, f"{name} is not in OAuth 2.1", "use authorizationCode with PKCE")
        elif name == "authorizationCode" and not flow.get("pkceRequired"):
            yield _warning("pkce-required", place, "does not ask for PKCE", "set pkceRequired")
        for member in ("authorizationUrl", "tokenUrl", "deviceAuthorizationUrl", "refreshUrl"):
            if member in flow:
                yield from _https(place, member, flow[member])


def _https(path: str, name: str, url: str) -> Iterator[Finding]:
    if origin_of(url) is None:
        yield _error("https-only", path, f"{name} is no https URL", "use https")


def _interfaces_are_sound(card: AgentCard) -> Iterator[Finding]:
    if not card.interfaces:
        yield _error("interface-named", "/supportedInterfaces", "nobody can call this agent", "name an interface")
    for index, interface in enumerate(card.interfaces):
        path = f"/supportedInterfaces/{index}"
        if interface.origin is None:
            yield _error("https-only", path, "url is no https address", "use https, or host:port for gRPC")
        if interface.binding not in BINDINGS and ":" not in interface.binding:
            yield _error(
                "binding-known",
                path,
                f"binding {interface.binding[:40]!a} is neither of A2A nor a URI",
                f"one of {', '.join(sorted(BINDINGS))}",
            )
        major, _, minor = interface.version.partition(".")
        if not (major.isdigit() and minor.isdigit()):
            yield _error(
                "version-major-minor", path, f"protocolVersion is {interface.version[:20]!a}", 'Major.Minor, as "1.0"'
            )


def _extended_card_is_behind_something(card: AgentCard) -> Iterator[Finding]:
    if card.has_extended_card and not card.schemes:
        yield _error(
            "extended-card-authenticated",
            "/capabilities/extendedAgentCard",
            "the extended card needs a scheme of the public one (A2A 13.3), and there is none",
            "add a scheme",
        )


def _all_is_signed(card: AgentCard) -> Iterator[Finding]:
    if not card.signatures:
        yield _warning("signed", "/signatures", "nobody vouches for this card", "agentshield card sign")
    for path in card.unsigned:
        yield _warning(
            "nothing-unsigned",
            path,
            "is no member of A2A 1.0, and no signature covers it",
            "who reads it is on their own",
        )


def _says_who(card: AgentCard) -> Iterator[Finding]:
    if card.extension(IDENTITY_EXTENSION) is None:
        yield _warning(
            "identity-bound",
            "/capabilities/extensions",
            "says neither which SPIFFE ID it is about nor until when: an old card can be replayed for ever",
            f"sign it with the extension {IDENTITY_EXTENSION}",
        )


_RULES: Final[tuple[_Rule, ...]] = (
    _nothing_empty,
    _nobody_is_anonymous,
    _schemes_are_known,
    _schemes_are_sound,
    _interfaces_are_sound,
    _extended_card_is_behind_something,
    _all_is_signed,
    _says_who,
)
