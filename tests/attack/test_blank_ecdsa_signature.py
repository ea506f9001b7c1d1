"""The attacker sends r = s = 0, or numbers beyond the curve's order: some verifiers have said yes to every message."""

import pytest

from agentshield.identity.errors import BadSignatureError
from agentshield.identity.jws import UnverifiedJws

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (FIPS 186-5)
NUMBERS = {"zero": 0, "one": 1, "order": ORDER, "order minus one": ORDER - 1, "all ones": 2**256 - 1}


@pytest.mark.parametrize("s", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("r", NUMBERS.values(), ids=NUMBERS)
def test_degenerate_signatures_are_refused(tokens, r, s):
    """One accepted constant would be a master key to every identity."""
    token = tokens.token(sign=lambda _: r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    with pytest.raises(BadSignatureError):
        UnverifiedJws.parse(token, types=frozenset({"JWT"})).verify(tokens.key.public_key())


def test_der_signatures_are_refused(tokens):
    """RFC 7518, 3.4: DER has many spellings of one signature; JWS has one."""
    with pytest.raises(BadSignatureError, match="64"):
        UnverifiedJws.parse(tokens.token(sign=tokens.sign_der), types=frozenset({"JWT"})).verify(
            tokens.key.public_key()
        )


@pytest.mark.parametrize("spoil", [lambda s: s[:-1], lambda s: s + b"\0", lambda s: b"\0" + s, lambda s: s * 2])
def test_signatures_of_another_length_are_refused(tokens, spoil):
    """A byte to spare is a byte the attacker may choose."""
    with pytest.raises(BadSignatureError, match="64"):
        UnverifiedJws.parse(tokens.token(sign=lambda data: spoil(tokens.sign(data))), types=frozenset({"JWT"})).verify(
            tokens.key.public_key()
        )
