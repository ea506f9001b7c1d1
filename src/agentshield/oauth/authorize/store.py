"""Where authorization requests wait: kept, found by id, and moved on by one step that only one of many can take."""

from datetime import datetime
from typing import Protocol

from agentshield.errors import ConflictError
from agentshield.oauth.authorize.request import AuthorizationRequest


class RequestMovedOnError(ConflictError):
    """Somebody else has taken this step of an authorization request already."""

    code = "authorization_request_moved_on"


class AuthorizationStore(Protocol):
    """Authorization requests, by id."""

    async def add(self, request: AuthorizationRequest) -> None:
        """Keep a new request."""
        ...

    async def find(self, request_id: str) -> AuthorizationRequest | None:
        """Return a request, or None."""
        ...

    async def replace(self, before: AuthorizationRequest, after: AuthorizationRequest) -> None:
        """Take one step. Of several at once one does.

        Raises:
            RequestMovedOnError: it is not as `before` any more.
        """
        ...

    async def forget(self, *, before: datetime) -> None:
        """Drop requests that ended before `before`."""
        ...


class MemoryAuthorizationStore:
    """An `AuthorizationStore` that ends with the process. Nothing here awaits, so each method is a transaction."""

    def __init__(self) -> None:
        self._requests: dict[str, AuthorizationRequest] = {}

    async def add(self, request: AuthorizationRequest) -> None:
        """Keep a new request."""
        self._requests[request.request_id] = request

    async def find(self, request_id: str) -> AuthorizationRequest | None:
        """Return a request, or None."""
        return self._requests.get(request_id)

    async def replace(self, before: AuthorizationRequest, after: AuthorizationRequest) -> None:
        """Take one step. Raises: RequestMovedOnError."""
        if self._requests.get(before.request_id) != before:
            raise moved_on(before)
        self._requests[before.request_id] = after

    async def forget(self, *, before: datetime) -> None:
        """Drop old requests."""
        self._requests = {key: each for key, each in self._requests.items() if each.expires_at >= before}


def moved_on(request: AuthorizationRequest) -> RequestMovedOnError:
    """Return the error for who comes second."""
    return RequestMovedOnError(f"authorization request {request.request_id} is not {request.stage} any more")
