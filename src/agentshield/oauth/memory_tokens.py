"""Issuances, revocations and single uses in memory. Nothing here awaits, so each method is a transaction."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from agentshield.oauth.errors import AlreadyUsedError, ParentRevokedError
from agentshield.oauth.model import IssuedToken, Revocation, SingleUse
from agentshield.oauth.single_uses import digests_of, kept_until


class MemoryTokens:
    """What the tables keep, in dictionaries."""

    def __init__(self) -> None:
        self._tokens: dict[str, IssuedToken] = {}
        self._children: dict[str, set[str]] = defaultdict(set)
        self._revocations: dict[str, Revocation] = {}
        self._uses: dict[bytes, datetime] = {}
        self._epoch = 0

    async def issue(
        self,
        token: IssuedToken | None,
        *,
        uses: tuple[SingleUse, ...],
        at: datetime,
        beside: IssuedToken | None = None,
    ) -> None:
        """Claim and record, or neither. Raises: AlreadyUsedError, ParentRevokedError."""
        claimed = digests_of(uses, at=at)
        for digest, use in claimed.items():
            if digest in self._uses and self._uses[digest] > at:
                raise AlreadyUsedError(use.kind)
        tokens = [each for each in (token, beside) if each is not None]
        for each in tokens:
            self._check(each)
        for each in tokens:
            self._tokens[each.jti] = each
            for parent in each.parents:
                self._children[parent].add(each.jti)
        self._uses.update((digest, kept_until(use)) for digest, use in claimed.items())

    async def find(self, jti: str) -> IssuedToken | None:
        """Return the record of an issuance, or None."""
        return self._tokens.get(jti)

    async def find_opaque(self, digest: str) -> IssuedToken | None:
        """Return the record of an opaque token, or None."""
        return next((token for token in self._tokens.values() if token.opaque_sha256 == digest), None)

    async def is_revoked(self, jti: str) -> bool:
        """Whether it, or anything it derives from, is revoked."""
        return jti in self._revocations

    async def revoke(self, jti: str, *, at: datetime) -> tuple[Revocation, ...]:
        """Revoke a token and whatever derives from it."""
        return self._revoke([jti] if jti in self._tokens else [], at)

    async def revoke_agent(self, agent: str, *, at: datetime) -> tuple[Revocation, ...]:
        """Revoke every token of an agent, and what derives from them; return those that were live."""
        revoked = self._revoke([jti for jti, token in self._tokens.items() if str(token.agent) == agent], at)
        return tuple(each for each in revoked if each.expires_at > at)

    async def revocations_after(self, epoch: int, *, at: datetime) -> tuple[int, tuple[Revocation, ...]]:
        """Return the newest epoch and what was revoked since."""
        since = (each for each in self._revocations.values() if each.epoch > epoch and each.expires_at > at)
        return self._epoch, tuple(sorted(since, key=lambda each: each.epoch))

    async def forget(self, *, before: datetime) -> int:
        """Drop what has ended; a token stays while one that derives from it does."""
        ended = [digest for digest, until in self._uses.items() if until < before]
        for digest in ended:
            del self._uses[digest]
        count = len(ended)
        while leaves := [token for token in self._tokens.values() if self._may_go(token, before)]:
            for token in leaves:
                self._drop(token)
            count += len(leaves)
        return count

    def _check(self, token: IssuedToken) -> None:
        if token.jti in self._tokens:
            raise AlreadyUsedError("jti")
        for parent in token.parents:
            if parent not in self._tokens or parent in self._revocations:
                raise ParentRevokedError("the token it derives from is revoked or unknown")

    def _revoke(self, roots: Iterable[str], at: datetime) -> tuple[Revocation, ...]:
        revoked = []
        for jti in self._with_descendants(roots):
            if jti not in self._revocations:
                self._epoch += 1
                revoked.append(
                    Revocation(epoch=self._epoch, jti=jti, expires_at=self._tokens[jti].expires_at, revoked_at=at)
                )
                self._revocations[jti] = revoked[-1]
        return tuple(revoked)

    def _with_descendants(self, roots: Iterable[str]) -> tuple[str, ...]:
        found = dict.fromkeys(roots)
        waiting = list(found)
        for jti in waiting:  # grows as it goes: nearest first
            new = [child for child in sorted(self._children.get(jti, ())) if child not in found]
            found.update(dict.fromkeys(new))
            waiting.extend(new)
        return tuple(waiting)

    def _may_go(self, token: IssuedToken, before: datetime) -> bool:
        return token.expires_at < before and not self._children.get(token.jti)

    def _drop(self, token: IssuedToken) -> None:
        del self._tokens[token.jti]
        self._revocations.pop(token.jti, None)
        self._children.pop(token.jti, None)
        for parent in token.parents:
            self._children[parent].discard(token.jti)
