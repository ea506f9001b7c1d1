"""Where an owner wants a task's events sent, and with which credentials; these go in, and come out to nobody.

A configuration belongs to its task's owner (A2A 13.1): another's is answered as one that is not there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

from agentshield.a2a.owners import OwnerStore
from agentshield.a2a.push_egress import PushEgress
from agentshield.errors import ConflictError
from agentshield.sdk.a2a.errors import InvalidParamsError, TaskNotFoundError

MAX_PER_TASK: Final = 8

_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{0,1024}")
_SCHEME: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9._~+-]{0,63})?")  # RFC 9110, 11.1
_CREDENTIALS: Final = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]{0,4094}[\x21-\x7e])?)?")  # one header line


class TooManyPushConfigsError(ConflictError):
    """The task has as many push configurations as one may have."""

    code = "a2a_too_many_push_configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlace:
    """Which configuration: of whose task, and which of those. `agent` is whose task ids these are."""

    agent: str
    owner_key: str
    task_id: str
    config_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfig:
    """A push configuration. Its `repr` shows neither the token nor the credentials."""

    place: PushPlace
    url: str
    token: str = field(default="", repr=False)
    scheme: str = ""
    credentials: str = field(default="", repr=False)

    @classmethod
    def of(cls, members: Mapping[str, Any], *, agent: str, owner_key: str, task_id: str) -> Self:
        """Read a `TaskPushNotificationConfig` in ProtoJSON; without an id it has its task's, as the SDKs do it.

        Raises:
            InvalidParamsError: a member is of another type, too long, or would not fit on a header line.
        """
        shown = members.get("authentication") or {}
        if not isinstance(shown, Mapping):
            raise InvalidParamsError("authentication is not an object")
        config = cls(
            place=PushPlace(
                agent=agent,
                owner_key=owner_key,
                task_id=task_id,
                config_id=_text(members, "id", _ID) if members.get("id") else task_id,
            ),
            url=_text(members, "url", _CREDENTIALS),
            token=_text(members, "token", _TOKEN),
            scheme=_text(shown, "scheme", _SCHEME),
            credentials=_text(shown, "credentials", _CREDENTIALS),
        )
        if config.credentials and not config.scheme:
            raise InvalidParamsError("authentication has credentials and no scheme")
        return config

    def shown(self) -> dict[str, Any]:
        """Return it in ProtoJSON as its owner may see it again: without token and credentials."""
        members: dict[str, Any] = {"id": self.place.config_id, "taskId": self.place.task_id, "url": self.url}
        return members | ({"authentication": {"scheme": self.scheme}} if self.scheme else {})

    def headers(self) -> dict[str, str]:
        """Return what the receiver is to know us by."""
        shown = {"Authorization": f"{self.scheme} {self.credentials}"} if self.credentials else {}
        return shown | ({"X-A2A-Notification-Token": self.token} if self.token else {})


class PushConfigStore(Protocol):
    """Push configurations, by place."""

    async def keep(self, config: PushConfig) -> None:
        """Keep a configuration, in the place of the one that is there.

        Raises:
            TooManyPushConfigsError: it would be one too many of its task.
        """
        ...

    async def find(self, place: PushPlace) -> PushConfig | None:
        """Return a configuration, or None."""
        ...

    async def of_task(self, agent: str, owner_key: str, task_id: str) -> tuple[PushConfig, ...]:
        """Return those of a task, by id."""
        ...

    async def drop(self, place: PushPlace) -> None:
        """Drop a configuration, if it is there."""
        ...

    async def drop_owner(self, owner_key: str) -> int:
        """Drop all of an owner's; return how many."""
        ...


class MemoryPushConfigStore:
    """A store that forgets with the process, and so leaves no credentials on a disk."""

    def __init__(self) -> None:
        self._configs: dict[PushPlace, PushConfig] = {}

    async def keep(self, config: PushConfig) -> None:
        """See PushConfigStore."""
        place = config.place
        others = await self.of_task(place.agent, place.owner_key, place.task_id)
        if place not in self._configs and len(others) >= MAX_PER_TASK:
            raise TooManyPushConfigsError(f"the task has {len(others)} push configurations already")
        self._configs[place] = config

    async def find(self, place: PushPlace) -> PushConfig | None:
        """See PushConfigStore."""
        return self._configs.get(place)

    async def of_task(self, agent: str, owner_key: str, task_id: str) -> tuple[PushConfig, ...]:
        """See PushConfigStore."""
        wanted = (agent, owner_key, task_id)
        found = [each for p, each in self._configs.items() if (p.agent, p.owner_key, p.task_id) == wanted]
        return tuple(sorted(found, key=lambda config: config.place.config_id))

    async def drop(self, place: PushPlace) -> None:
        """See PushConfigStore."""
        self._configs.pop(place, None)

    async def drop_owner(self, owner_key: str) -> int:
        """See PushConfigStore."""
        theirs = [place for place in self._configs if place.owner_key == owner_key]
        for place in theirs:
            del self._configs[place]
        return len(theirs)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfigs:
    """What a caller may do with the push configurations of their own tasks at one agent."""

    agent: str
    owners: OwnerStore
    store: PushConfigStore
    egress: PushEgress

    async def create(self, owner_key: str, members: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a configuration, and return it as `PushConfig.shown`.

        Raises:
            TaskNotFoundError: the task is not this owner's, or is not there.
            InvalidParamsError, ForbiddenAddressError, PushUndeliverableError: it is not one that can be delivered to.
            TooManyPushConfigsError: the task has enough.
        """
        task_id = str(members.get("taskId", ""))
        await self._require(owner_key, task_id)
        config = PushConfig.of(members, agent=self.agent, owner_key=owner_key, task_id=task_id)
        await self.egress.check(config.url)
        await self.store.keep(config)
        return config.shown()

    async def get(self, owner_key: str, task_id: str, config_id: str) -> dict[str, Any]:
        """Return a configuration without its secrets. Raises: TaskNotFoundError, nothing there for this owner."""
        config = await self.store.find(self._place(owner_key, task_id, config_id))
        if config is None:
            raise TaskNotFoundError("there is no such task, or push configuration")
        return config.shown()

    async def list(self, owner_key: str, task_id: str) -> tuple[dict[str, Any], ...]:
        """Return those of a task without their secrets. Raises: TaskNotFoundError."""
        await self._require(owner_key, task_id)
        return tuple(config.shown() for config in await self.store.of_task(self.agent, owner_key, task_id))

    async def delete(self, owner_key: str, task_id: str, config_id: str) -> None:
        """Drop a configuration; once more does no harm (A2A 3.1.10). Raises: TaskNotFoundError."""
        await self._require(owner_key, task_id)
        await self.store.drop(self._place(owner_key, task_id, config_id))

    async def _require(self, owner_key: str, task_id: str) -> None:
        task = await self.owners.find_task(self.agent, task_id)
        if task is None or task.owner_key != owner_key:
            raise TaskNotFoundError("there is no such task, or push configuration")

    def _place(self, owner_key: str, task_id: str, config_id: str) -> PushPlace:
        return PushPlace(agent=self.agent, owner_key=owner_key, task_id=task_id, config_id=config_id)


def _text(members: Mapping[str, Any], name: str, rule: re.Pattern[str]) -> str:
    value = members.get(name, "")
    if not isinstance(value, str) or not rule.fullmatch(value):
        raise InvalidParamsError(f"{name} is not text that fits, on one line")
    return value
