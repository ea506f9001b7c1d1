"""How much one network address may ask for: a short wait first, then a no. The rates are SPIRE's own (spire.md, 1a)."""

import asyncio
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError

_MOST_ADDRESSES: Final = 65_536
_LONGEST_WAIT: Final = 5.0  # seconds; a client's own deadline is 30
_IPV6_PREFIX: Final = 64  # what one subscriber has at least: a limit for less would be none


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many a second in the long run, and `burst` at once."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRates:
    """What one address may do. Each SVID of a batch counts; X.509, JWT and WIT are counted apart."""

    attest: Rate = Rate(per_second=1, burst=10)
    sign_x509: Rate = Rate(per_second=500, burst=500)
    sign_jwt: Rate = Rate(per_second=500, burst=500)
    sign_wit: Rate = Rate(per_second=500, burst=500)
    post_status: Rate = Rate(per_second=10, burst=10)
    record: Rate = Rate(per_second=5_000, burst=10_000)


class RateLimiter:
    """A budget for each address, which grows back with time."""

    def __init__(self, rate: Rate, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._timer = timer
        self._free_at: dict[str, float] = {}  # when the address would have its whole burst again

    async def take(self, address: str, count: int = 1) -> None:
        """Let `count` acts of `address` through, after a wait if it has been busy.

        Raises:
            GRPCError: RESOURCE_EXHAUSTED, the wait would be too long.
        """
        wait = self._reserve(_network_of(address), count)
        if wait > 0:
            await asyncio.sleep(wait)

    def _reserve(self, network: str, count: int) -> float:
        now = self._timer()
        cost = count / self._rate.per_second
        free_at = max(self._free_at.get(network, now), now) + cost
        wait = free_at - now - self._rate.burst / self._rate.per_second
        if wait > _LONGEST_WAIT:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "too many requests from this address")
        if network not in self._free_at:  # whoever we count already takes no more room
            self._make_room(now)
        self._free_at[network] = free_at
        return wait

    def _make_room(self, now: float) -> None:
        if len(self._free_at) < _MOST_ADDRESSES:
            return
        self._free_at = {network: free_at for network, free_at in self._free_at.items() if free_at > now}
        if len(self._free_at) >= _MOST_ADDRESSES:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "too many addresses at once")


def _network_of(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)
