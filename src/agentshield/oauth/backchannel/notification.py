"""Ping: telling a client that there is an answer to come for (CIBA Core, 10.2).

What a notification needs are two secrets, the client's token and the `auth_req_id`. They are kept in memory only. A
restart loses notifications and no answers: a client in ping mode may poll as well.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from agentshield.errors import AgentShieldError
from agentshield.oauth.model import ClientRegistration

_log: Final = logging.getLogger("agentshield.oauth.notification")


class Post(Protocol):
    """Where notifications are sent by: `IssuerFetch`, which checks the address and follows no redirect."""

    async def post(self, url: str, members: Mapping[str, str], *, bearer: str, ca_pem: bytes | None = None) -> None:
        """Post a JSON object.

        Raises:
            ForbiddenAddressError, NotDeliveredError: nobody was told.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What one client is to be told, and where it has registered to be told."""

    url: str
    ca_pem: bytes | None
    token: str = field(repr=False)
    auth_req_id: str = field(repr=False)
    expires_at: datetime

    @classmethod
    def to(cls, client: ClientRegistration, *, token: str, auth_req_id: str, expires_at: datetime) -> "Notification":
        """Return what is sent to the endpoint of a client that has one."""
        assert client.notification_endpoint is not None
        return cls(
            url=client.notification_endpoint,
            ca_pem=client.notification_ca_pem,
            token=token,
            auth_req_id=auth_req_id,
            expires_at=expires_at,
        )


class Notifications:
    """Who wants to hear of which answer: as many as there are pending requests, which are few."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._waiting: dict[str, Notification] = {}

    def expect(self, request_id: str, notification: Notification, *, at: datetime) -> None:
        """Send `notification` once there is an answer; forget those that nobody answered."""
        self._waiting = {key: each for key, each in self._waiting.items() if each.expires_at > at}
        self._waiting[request_id] = notification

    def forget(self, request_id: str) -> None:
        """Send nothing: the request was not made after all."""
        self._waiting.pop(request_id, None)

    async def answered(self, request_id: str) -> None:
        """Tell whoever waits for this answer, once. That nobody could be told is for our log: the answer stands."""
        waiting = self._waiting.pop(request_id, None)
        if waiting is None:
            return
        try:
            await self._post.post(
                waiting.url, {"auth_req_id": waiting.auth_req_id}, bearer=waiting.token, ca_pem=waiting.ca_pem
            )
        except AgentShieldError as error:
            _log.warning("the client of approval %s was not notified: %s", request_id, error)
        except Exception as error:  # nor may a defect of ours, whose text may hold what must not be logged
            _log.error("the client of approval %s was not notified: %s", request_id, type(error).__name__)
