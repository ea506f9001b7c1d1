"""Why a card is not believed."""

from agentshield.errors import AuthenticationError, InvalidInputError


class InvalidCardError(InvalidInputError):
    """Bytes that are no agent card, or that two readers could take for two. The message names the member."""

    code = "invalid_agent_card"


class UnsignedCardError(AuthenticationError):
    """The card has no signature, or none by a key that is enrolled."""

    code = "agent_card_unsigned"


class CardTamperedError(AuthenticationError):
    """A signature by a key that we know is not over this card."""

    code = "agent_card_tampered"


class CardPartlySignedError(AuthenticationError):
    """The signature holds, and something that security hangs on is not under it."""

    code = "agent_card_partly_signed"


class CardKeyNotValidError(AuthenticationError):
    """The key has ended, or was revoked (A2A 8.4.3: such keys MUST NOT be used)."""

    code = "agent_card_key_not_valid"


class CardNotCurrentError(AuthenticationError):
    """The card has expired, or is from the future."""

    code = "agent_card_not_current"


class CardOutOfPlaceError(AuthenticationError):
    """The signer may not speak for an address or an identity that the card names."""

    code = "agent_card_out_of_place"
