"""What a token is asked for: one audience, and no more rights than everybody concerned allows."""

import re
from collections.abc import Iterable
from functools import lru_cache, reduce
from typing import Final
from urllib.parse import urlsplit

from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import AuthenticatedClient, Resource
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.store import ResourceStore

ALL_ALLOWED: Final = "/.default"  # after the audience: Entra's word for "whatever I may have"
_MAX_SCOPES: Final = 100

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749, 3.3


def target_name(request: OAuthRequest, *, default: str | None = None) -> str:
    """Return the one audience of a request, which `resource` (RFC 8707) or `audience` (RFC 8693) names.

    Raises:
        OAuthError: none (TX-08), more than one (TX-13), or a resource that is no absolute URI (RFC 8707, 2).
    """
    resources = request.all("resource")
    for resource in resources:
        if not _is_absolute(resource):
            raise _no_target("resource is not an absolute URI without fragment", rule="RFC 8707 2")
    names = {*resources, *request.all("audience")}
    if len(names) > 1:
        raise _no_target("more than one audience is asked for", rule="TX-13")
    if names:
        return names.pop()
    if default is None:
        raise _no_target("audience or resource is missing", rule="TX-08")
    return default


async def target_of(
    request: OAuthRequest, client: AuthenticatedClient, resources: ResourceStore, *, default: str | None = None
) -> Resource:
    """Return the registered resource that a request is for, if the client's agent may go there at all.

    Raises:
        OAuthError: invalid_target.
    """
    name = target_name(request, default=default)
    resource = await resources.find(name)
    if resource is None or name not in client.agent.scopes:
        detail = "is not registered" if resource is None else f"is not among those of agent {client.agent.spiffe_id}"
        raise _no_target(
            "the audience is unknown, or not for this client", rule="RFC 8707 2", detail=f"{name} {detail}"
        )
    return resource


def granted_scopes(text: str | None, audience: str, ceilings: Iterable[frozenset[str]]) -> frozenset[str]:
    """Return the scopes asked for, if every ceiling allows every one; never fewer (TX-08, TX-11). None asked: none.

    `<audience>/.default`, alone, stands for all that is allowed.

    Raises:
        OAuthError: invalid_scope.
    """
    asked = parse_scope(text)
    allowed = reduce(frozenset.__and__, ceilings)
    if audience + ALL_ALLOWED in asked:
        if len(asked) > 1 or not allowed:
            raise _no_scope("nothing is allowed here, or more was asked for beside it", asked)
        return allowed
    if not asked <= allowed:
        raise _no_scope("more is asked for than is allowed", asked - allowed)
    return asked


@lru_cache(maxsize=1024)
def parse_scope(text: str | None) -> frozenset[str]:
    """Read a `scope` parameter (RFC 6749, 3.3).

    Raises:
        OAuthError: it is not one, or of more than 100 scopes.
    """
    if text is None:
        return frozenset()
    if _SCOPE.fullmatch(text) is None or text.count(" ") >= _MAX_SCOPES:
        raise OAuthError(OAuthErrorCode.INVALID_SCOPE, "scope is malformed", rule="RFC 6749 3.3")
    return frozenset(text.split(" "))


def _is_absolute(uri: str) -> bool:
    try:
        return bool(urlsplit(uri).scheme) and "#" not in uri
    except ValueError:
        return False


def _no_target(description: str, *, rule: str, detail: str | None = None) -> OAuthError:
    return OAuthError(OAuthErrorCode.INVALID_TARGET, description, rule=rule, detail=detail)


def _no_scope(description: str, scopes: frozenset[str]) -> OAuthError:
    named = " ".join(sorted(scopes))[:200]
    return OAuthError(OAuthErrorCode.INVALID_SCOPE, description, rule="TX-11", detail=f"{description}: {named}")
