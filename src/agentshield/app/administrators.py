"""The humans of `agentshield up`: the local users whom the admin socket lets in, under the names it knows them by."""

import os
import pwd
from typing import Final

from agentshield.identity.act_chain import Party

PREFIX: Final = "local-admin/"


def administrator_name(uid: int) -> str:
    """Return the name of a local user as an administrator, for the audit log and as an approver."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return PREFIX + name


class Administrators:
    """Who can be asked for an approval: whoever could also answer. `issuer` is who vouches for their names."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer

    async def find(self, hint: str) -> Party | None:
        """Return the administrator of this name, with or without `local-admin/`; None: nobody here has it."""
        named = PREFIX + hint.removeprefix(PREFIX)
        if named not in {administrator_name(uid) for uid in (0, os.geteuid())}:
            return None
        return Party(issuer=self._issuer, subject=named, profile="user")
