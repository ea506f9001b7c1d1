"""A JWT-SVID in a file that is always fresh, for libraries that read a token from one.

Azure's `WorkloadIdentityCredential` reads AZURE_FEDERATED_TOKEN_FILE, AWS's SDKs AWS_WEB_IDENTITY_TOKEN_FILE:

async with TokenFile(shield, audience="api://AzureADTokenExchange", path="/run/planner/token"):
    ...
"""

import asyncio
import contextlib
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from agentshield.errors import AgentShieldError, ConfigurationError
from agentshield.sdk.backoff import Backoff

if TYPE_CHECKING:
    from agentshield.identity.jwt_svid import JwtSvid
    from agentshield.sdk.shield import Shield

_RENEW_SHARE: Final = 0.5  # of what is left of a token's life
_SHORTEST_WAIT: Final = 1.0  # seconds

_log = logging.getLogger("agentshield.sdk.token_file")


class TokenFile:
    """Keeps a JWT-SVID for `audience` in the file `path`, which only we can read, for as long as it is open.

    Readers see one whole token or another, never half of one. The file goes away with the identity, and at the end.
    """

    def __init__(self, shield: "Shield", *, audience: str, path: str | os.PathLike[str]) -> None:
        if not audience:
            raise ValueError("audience must not be empty: it is whom the token is for")
        self._shield = shield
        self._audience = audience
        self.path = Path(path)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Write the first token, and begin to renew.

        Raises:
            AgentShieldError: there is no token to be had.
            ConfigurationError: it cannot be written there.
        """
        svid = await self._shield.fetch_jwt_svid(self._audience)
        self._write(svid)
        self._task = asyncio.create_task(self._renew(svid), name="agentshield-token-file")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._remove()

    async def _renew(self, svid: "JwtSvid") -> None:
        backoff = Backoff()
        while True:
            await asyncio.sleep(self._wait_for(svid))
            try:
                svid = await self._shield.fetch_jwt_svid(self._audience)
                self._write(svid)
            except AgentShieldError as error:
                _log.warning("token in %s could not be renewed: %s", self.path, error)
                if svid.expires_at <= self._shield.clock():
                    self._remove()  # nobody should learn of it by being refused elsewhere
                await backoff.wait()
            else:
                backoff.reset()

    def _wait_for(self, svid: "JwtSvid") -> float:
        left = (svid.expires_at - self._shield.clock()).total_seconds()
        return max(_SHORTEST_WAIT, left * _RENEW_SHARE)

    def _write(self, svid: "JwtSvid") -> None:
        """Beside it first, then in its place; no link is followed to either name."""
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    os.fchmod(file.fileno(), 0o600)  # whatever the umask: never less, so that we can read it
                    file.write(svid.token.encode())
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(self.path)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"token file {self.path} cannot be written: {error.strerror}",
                hint="its directory must exist and be ours to write to",
            ) from error

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
