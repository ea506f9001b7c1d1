"""What can be wrong between us and a foreign issuer: its keys, its tokens, and who they are to us."""

from agentshield.errors import AuthenticationError, UnavailableError


class KeysUnavailableError(UnavailableError):
    """The issuer's keys cannot be had at the moment, and those we knew are too old to go by."""

    code = "issuer_keys_unavailable"


class NotDeliveredError(UnavailableError):
    """A client could not be told that there is an answer for it."""

    code = "notification_not_delivered"


class UnknownIssuerError(AuthenticationError):
    """The token names an issuer that nobody registered here."""

    code = "unknown_issuer"


class NoCredentialError(AuthenticationError):
    """The token is good, and no federated credential says which agent it is."""

    code = "no_federated_credential"


class AmbiguousIdentityError(AuthenticationError):
    """The token fits federated credentials of more than one agent, so it is nobody's."""

    code = "ambiguous_identity"
