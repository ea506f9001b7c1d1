"""A token in the shape of each kind of issuer, for trying out a registration before the real one is at hand.

The shapes are data, one file a preset; the tokens are made when asked for and signed with a key that is thrown away, so
their signature never holds and nobody could be deceived by one.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from importlib.resources import files
from typing import Any, Final

from agentshield.errors import InvalidInputError
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import KeyType, generate_private_key
from agentshield.oauth.issuers.presets import PRESETS

SAMPLE_KID: Final = "sample-throwaway-key"
_KEY_TYPES: Final = {"RS256": KeyType.RSA_2048, "ES256": KeyType.EC_P256, "ES384": KeyType.EC_P384}


class SampleCase(Enum):
    """A sample as it should be, and the usual ways for one not to be."""

    GOOD = "good"
    EXPIRED = "expired"
    WRONG_AUDIENCE = "wrong-audience"
    TWO_AUDIENCES = "two-audiences"
    WRONG_ISSUER = "wrong-issuer"
    NO_SUBJECT = "no-subject"


def shape_of(preset: str) -> Mapping[str, Any]:
    """Return the shape of a preset's tokens: header, claims, lifetime, and what is peculiar to them.

    Raises:
        InvalidInputError: there is no such preset.
    """
    if preset not in PRESETS:
        raise InvalidInputError(f"there is no preset {preset[:40]!a}, expected one of {', '.join(PRESETS)}")
    shape: Mapping[str, Any] = json.loads((files(__name__) / f"{preset}.json").read_bytes())
    return shape


def sample_token(preset: str, *, issuer: str, audience: str, case: SampleCase, at: datetime) -> str:
    """Make a token as `preset`'s issuers make them, named for `issuer` and `audience`, with the fault of `case`.

    Raises:
        InvalidInputError: there is no such preset.
    """
    shape = shape_of(preset)
    now = int(at.timestamp())
    claims = {**shape["claims"], "iss": issuer, "aud": audience, "iat": now, "exp": now + shape["lifetime"]}
    if "nbf" in claims:
        claims["nbf"] = now
    claims = _spoilt(claims, case, subject_claim=PRESETS[preset].subject_claim)
    header = shape["header"]
    return sign_compact(
        claims, generate_private_key(_KEY_TYPES[header["alg"]]), kid=SAMPLE_KID, typ=header.get("typ", "JWT")
    )


def _spoilt(claims: dict[str, Any], case: SampleCase, *, subject_claim: str) -> dict[str, Any]:
    match case:
        case SampleCase.GOOD:
            return claims
        case SampleCase.EXPIRED:
            past = claims["exp"] - claims["iat"] + 60
            return claims | {name: claims[name] - past for name in ("iat", "nbf", "exp") if name in claims}
        case SampleCase.WRONG_AUDIENCE:
            return claims | {"aud": claims["aud"] + "/"}
        case SampleCase.TWO_AUDIENCES:
            return claims | {"aud": [claims["aud"], "account"]}
        case SampleCase.WRONG_ISSUER:
            slash = claims["iss"].endswith("/")
            return claims | {"iss": claims["iss"][:-1] if slash else claims["iss"] + "/"}
        case SampleCase.NO_SUBJECT:
            return {name: value for name, value in claims.items() if name != subject_claim}
