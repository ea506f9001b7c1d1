"""One JWS over a card's canonical bytes, detached (RFC 7515, appendix F; A2A 8.4.2). The signatures are joserfc's."""

import base64
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from agentshield.identity.agent_card.card import MAX_CARD_BYTES, CardSignature
from agentshield.identity.agent_card.errors import InvalidCardError
from agentshield.identity.jws import decode_base64url, encode_base64url
from agentshield.identity.keys import PrivateKey, PublicKey, private_key_to_pem, signing_algorithm
from agentshield.identity.strict_json import parse_json_object

_PARAMETERS: Final = frozenset({"alg", "kid", "typ", "jku", "x5c"})  # `jku` may stand there, and is not followed
_TYPE: Final = "JOSE"  # A2A 8.4.2
_MAX_HEADER: Final = 16 * 1024


class _CardRegistry(jws.JWSRegistry):
    """Room for a card and a chain of certificates. The header is read by `read_header`: SDKs write a `jku` of null."""

    max_header_length = _MAX_HEADER
    max_payload_length = 2 * MAX_CARD_BYTES  # canonical JSON can be longer than what was sent; base64 is by a third

    def check_header(self, header: Any) -> None:
        """Nothing more to check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSigner:
    """A key that signs. `chain` is that of the X509-SVID it belongs to, leaf first in DER, where there is one."""

    kid: str
    key: PrivateKey = field(repr=False)
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureHeader:
    """The protected header of one signature. It chooses a key, and never brings one that is believed for it."""

    alg: str
    kid: str
    chain: tuple[bytes, ...]


def sign_payload(payload: bytes, signer: CardSigner) -> dict[str, str]:
    """Return the member of `signatures` for `payload`."""
    alg = signing_algorithm(signer.key)
    header: dict[str, Any] = {"alg": alg, "kid": signer.kid, "typ": _TYPE}
    if signer.chain:
        header["x5c"] = [base64.b64encode(der).decode() for der in signer.chain]
    key = (RSAKey if alg.startswith("RS") else ECKey).import_key(private_key_to_pem(signer.key))
    protected, _, signature = jws.serialize_compact(
        header, payload, key, registry=_CardRegistry(algorithms=[alg])
    ).split(".")
    return {"protected": protected, "signature": signature}


def read_header(signature: CardSignature) -> SignatureHeader:
    """Read the header (RFC 7515, 4.1).

    Raises:
        InvalidCardError: not JSON in base64url, a parameter that is not known, no `alg` or `kid`, or another `typ`.
    """
    if len(signature.protected) > _MAX_HEADER:
        raise InvalidCardError("signature has a header of over 16 KiB")
    members = parse_json_object(
        decode_base64url(signature.protected.encode("ascii", "replace"), what="signature header"),
        what="signature header",
        error=InvalidCardError,
    )
    if unknown := members.keys() - _PARAMETERS:
        raise InvalidCardError(
            f"signature header has {min(unknown)[:40]!a}; only {', '.join(sorted(_PARAMETERS))} may be"
        )
    alg, kid, chain = members.get("alg"), members.get("kid"), members.get("x5c", [])
    if not isinstance(alg, str) or not isinstance(kid, str) or not kid:
        raise InvalidCardError("signature header has no alg or no kid (A2A 8.4.2)")
    if members.get("typ") != _TYPE:
        raise InvalidCardError(f"signature header has typ {str(members.get('typ'))[:40]!a}, expected {_TYPE}")
    if not isinstance(chain, list) or not all(isinstance(each, str) for each in chain):
        raise InvalidCardError("signature header has an x5c that is no list of texts")
    try:
        return SignatureHeader(alg=alg, kid=kid, chain=tuple(base64.b64decode(each, validate=True) for each in chain))
    except ValueError as error:
        raise InvalidCardError("signature header has an x5c that is not base64") from error


def is_signed_by(signature: CardSignature, header: SignatureHeader, key: PublicKey, payload: bytes) -> bool:
    """Whether the signature is that of `key` over `payload`, by the algorithm in the header."""
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = f"{signature.protected}.{encode_base64url(payload).decode()}.{signature.signature}"
    try:
        opened = (RSAKey if header.alg.startswith("RS") else ECKey).import_key(pem)
        jws.deserialize_compact(text, opened, registry=_CardRegistry(algorithms=[header.alg]))
    except (JoseError, ValueError):
        return False
    return True
