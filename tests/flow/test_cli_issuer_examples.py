"""`agentshield issuer test --example`: what a registration would make of a token, before there is one."""

import json

from agentshield.identity.jwk import jwk_of
from agentshield.identity.keys import KeyType, generate_private_key


def test_an_example_says_which_claim_fails_and_which_passes(desk):
    """An administrator tries a registration out with nothing but the wheel."""
    desk.up()
    jwk = jwk_of(generate_private_key(KeyType.RSA_2048).public_key(), kid="k1")
    (desk.home / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    made = desk.type(
        "agentshield issuer add builds --preset github --issuer https://token.actions.githubusercontent.com"
        " --audience api://shield --jwks-file jwks.json"
    )
    assert made.code == 0, made.err

    good = desk.type("agentshield issuer test builds --example -o json")
    assert good.code == 0, good.err
    held = {check["claim"]: check["holds"] for check in good.data["items"]}
    assert [claim for claim, holds in held.items() if not holds] == ["signature"]
    assert {"iss", "aud", "exp", "sub", "alg"} <= held.keys()
    assert "every claim of the issuer's holds" in good.err
    assert "throwaway key" in good.err

    bad = desk.type("agentshield issuer test builds --example=wrong-audience")
    assert bad.code == 3
    assert "fails: aud;" in bad.err
    assert "differs only by the final slash" in bad.out

    assert desk.type("agentshield issuer test nobody --example").code == 6
    assert desk.type("agentshield issuer test builds --example=perfect").code == 2
    assert desk.type("agentshield issuer test builds --example --token-file jwks.json").code == 2
