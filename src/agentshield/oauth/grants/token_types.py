"""The token type identifiers of RFC 8693, 3, and of the drafts that are built here."""

from typing import Final

_PREFIX: Final = "urn:ietf:params:oauth:token-type:"

ACCESS_TOKEN: Final = _PREFIX + "access_token"
ID_TOKEN: Final = _PREFIX + "id_token"
JWT: Final = _PREFIX + "jwt"
ID_JAG: Final = _PREFIX + "id-jag"
TRANSACTION_TOKEN: Final = _PREFIX + "txn_token"
