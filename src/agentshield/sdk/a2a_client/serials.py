"""Which card of an agent is the newest we have seen: an older one that still holds is the past, shown again."""

from dataclasses import dataclass, field

from agentshield.identity.agent_card.signature import VerifiedCard
from agentshield.sdk.a2a_client.errors import CardRolledBackError


@dataclass(frozen=True, slots=True)
class _Seen:
    serial: int
    digest: str


@dataclass(slots=True)
class SeenSerials:
    """A memory of this process. An agent is remembered by its SPIFFE ID, and by the address that its card came from:
    a card without a serial, where there was one, is as old as any.
    """

    _newest: dict[str, _Seen] = field(default_factory=dict)

    def take(self, verified: VerifiedCard, *, url: str) -> None:
        """Remember a card.

        Raises:
            CardRolledBackError: we have seen a newer one, or another with the same serial.
        """
        binding = verified.binding
        names = (url,) if binding is None else (url, str(binding.spiffe_id))
        for name in names:
            seen = self._newest.get(name)
            if seen is None:
                continue
            if binding is None:
                raise CardRolledBackError(f"card at {url} has no serial, and had {seen.serial} before")
            if binding.serial < seen.serial:
                raise CardRolledBackError(f"card of {name} has serial {binding.serial}, and had {seen.serial} before")
            if binding.serial == seen.serial and verified.digest != seen.digest:
                raise CardRolledBackError(f"two cards of {name} have serial {seen.serial} and differ")
        if binding is not None:
            for name in names:
                self._newest[name] = _Seen(binding.serial, verified.digest)
