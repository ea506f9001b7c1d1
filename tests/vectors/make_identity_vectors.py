"""Write tests/vectors/jwt_svid/tokens.json and x509_svid/chains.json: what any verifier can be held to.

Run it as `python tests/vectors/make_identity_vectors.py`. Keys are made for the run and thrown away, so the credentials
differ each time; the names, the rules and the outcomes do not.
"""

import base64
import json
import sys
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from identity_forges import AT, CertificateForge, TokenForge, base64url, key_usage, uri_names  # noqa: E402

SOURCE = (
    "written for AgentShield from the SPIFFE standards of 1 July 2026 and RFC 5280, 7515, 7518, 7519, 8725; Apache-2.0"
)
PLANNER = "spiffe://example.org/agents/planner"


def tokens():
    """Every kind of token that a JWT-SVID verifier meets."""
    forge, stranger = TokenForge("authority-1"), TokenForge("authority-1")
    strong = TokenForge("authority-2", ec.generate_private_key(ec.SECP384R1()))
    honest = forge.token()
    header, payload, signature = honest.split(".")
    cases = []

    def case(name, rule, token, outcome="refuse"):
        cases.append({"name": name, "rule": rule, "token": token, "outcome": outcome})

    def claims(name, rule, outcome="refuse", **members):
        case(name, rule, forge.token(forge.claims(**members)), outcome)

    def headers(name, rule, outcome="refuse", **members):
        case(name, rule, forge.token(header=forge.header(**members)), outcome)

    case("honest", "JWS-01", honest, "accept")
    case("ES384", "JWS-03", strong.token(header=strong.header(alg="ES384")), "accept")
    claims("audience as text", "JWS-06", "accept", aud="analyst")
    claims("several audiences", "JWS-06", "accept", aud=["other", "analyst"])
    headers("typ JOSE", "JWS-04", "accept", typ="JOSE")
    headers("typ absent", "JWS-04", "accept", typ=...)
    case("flattened JSON", "JWS-01", json.dumps({"protected": header, "payload": payload, "signature": signature}))
    case("no signature", "JWS-01", f"{header}.{payload}.")
    case("four parts", "JWS-01", f"{honest}.{signature}")
    case("padded", "JWS-01", honest + "==")
    case("newline at the end", "JWS-01", honest + "\n")
    case("space in front", "JWS-01", " " + honest)
    for name, value in {"jku": "https://evil.test", "jwk": stranger.jwk(), "x5c": ["AA"], "crit": ["exp"]}.items():
        headers(f"header {name}", "JWS-02", **{name: value})
    for alg in ("none", "None", "EdDSA", "ES256K", "HS512"):
        headers(f"alg {alg}", "JWS-03", alg=alg)
    hmac = forge.token(header=forge.header(alg="HS256"), sign=forge.mac_with_public_key)
    case("HS256 with the public key", "JWS-03", hmac)
    eddsa = ed25519.Ed25519PrivateKey.generate()
    case("good EdDSA", "JWS-03", forge.token(header=forge.header(alg="EdDSA"), sign=eddsa.sign))
    case("DER signature", "JWS-03", forge.token(sign=forge.sign_der))
    case("blank signature", "JWS-03", f"{header}.{payload}.{base64url(bytes(64)).decode()}")
    case("signature with a tail", "JWS-03", forge.token(sign=lambda data: forge.sign(data) + b"\0"))
    case("another key of the same kid", "JWS-08", stranger.token())
    for typ in ("at+jwt", "wit+jwt", "jwt"):
        headers(f"typ {typ}", "JWS-04", typ=typ)
    claims("no subject", "JWS-05", sub=...)
    claims("subject no SPIFFE ID", "JWS-05", sub="planner")
    claims("subject a trust domain", "JWS-05", sub="spiffe://example.org")
    claims("path trick", "JWS-05", sub="spiffe://example.org/a/../b")
    claims("wrong audience", "JWS-06", aud=["other"])
    claims("audience of another case", "JWS-06", aud=["ANALYST"])
    claims("no audience", "JWS-06", aud=...)
    claims("empty audience", "JWS-06", aud=[])
    claims("no expiry", "JWS-07", exp=...)
    claims("expiry as text", "JWS-07", exp="1795435500")
    claims("expired", "JWS-07", exp=int(AT.timestamp()) - 1)
    claims("expires this second", "JWS-07", exp=int(AT.timestamp()))
    claims("not yet valid", "JWS-07", nbf=int(AT.timestamp()) + 3600)
    claims("subject of an unknown domain", "JWS-08", sub="spiffe://stranger.test/a")
    headers("kid absent", "JWS-10", kid=...)
    headers("kid unknown", "JWS-10", kid="authority-3")
    case(
        "subject twice",
        "JWS-05",
        forge.token(b'{"sub":"%s","sub":"%s","aud":"analyst","exp":9999999999}' % ((PLANNER.encode(),) * 2)),
    )
    case("alg twice", "JWS-03", forge.token(header=b'{"alg":"none","alg":"ES256","kid":"authority-1"}'))
    bundle = CertificateForge.root().bundle(forge, strong)
    return {"trust_domain": "example.org", "audience": "analyst", "bundle": bundle, "cases": cases}


def chains():
    """The commonest shapes of chains; the whole table is in tests/unit/identity/test_x509_shapes.py."""
    root = CertificateForge.root()
    partner = CertificateForge.root("partner.test")
    middle = root.intermediate()
    evil = root.intermediate(uri="spiffe://example.org/agents/evil")
    cases = []

    def case(name, rule, *chain, outcome="refuse"):
        encoded = [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in chain]
        cases.append({"name": name, "rule": rule, "chain": encoded, "outcome": outcome})

    def changed(name, rule, kind, replacement, outcome="refuse"):
        case(name, rule, root.leaf(changes={kind: replacement}), outcome=outcome)

    case("honest", "X5S-11", root.leaf(), outcome="accept")
    case("below an intermediate", "X5S-10", middle.leaf(), middle.certificate, outcome="accept")
    changed("no extended key usage", "X5S-06", x509.ExtendedKeyUsage, None, "accept")
    changed("critical names", "X5S-03", x509.SubjectAlternativeName, (uri_names(PLANNER), True), "accept")
    case("two URIs", "X5S-01", root.leaf(PLANNER, "spiffe://example.org/admin"))
    case("no path", "X5S-02", root.leaf("spiffe://example.org"))
    case("empty subject", "X5S-03", root.leaf(subject=x509.Name([])))
    changed("CA", "X5S-04", x509.BasicConstraints, (x509.BasicConstraints(ca=True, path_length=None), True))
    changed("keyCertSign", "X5S-04", x509.KeyUsage, (key_usage("digital_signature", "key_cert_sign"), True))
    changed("cRLSign", "X5S-04", x509.KeyUsage, (key_usage("digital_signature", "crl_sign"), True))
    changed("no digitalSignature", "X5S-04", x509.KeyUsage, (key_usage("key_agreement"), True))
    changed("key usage not critical", "X5S-04", x509.KeyUsage, (key_usage("digital_signature"), False))
    changed("no key usage", "X5S-04", x509.KeyUsage, None)
    changed("no names", "X5S-01", x509.SubjectAlternativeName, None)
    case("web URI", "X5S-11", root.leaf("https://example.org/a"))
    case("upper case", "SID-07", root.leaf("spiffe://EXAMPLE.org/a"))
    case("signing certificate alone", "X5S-09", root.certificate)
    case("signed by a workload", "X5S-08", evil.leaf("spiffe://example.org/admin"), evil.certificate)
    case("signed by a partner", "X5S-10", partner.leaf("spiffe://example.org/admin"))
    case("intermediate missing", "X5S-10", middle.leaf())
    case("unknown domain", "X5S-10", root.leaf("spiffe://stranger.test/a"))
    case("expired", "X5S-10", root.leaf(not_after=AT - timedelta(seconds=1)))
    case("not yet valid", "X5S-10", root.leaf(not_before=AT + timedelta(hours=1)))
    bundles = {"example.org": root.bundle(), "partner.test": partner.bundle()}
    return {"bundles": {"trust_domains": bundles}, "cases": cases}


def main():
    """Write both files."""
    for path, content in (("jwt_svid/tokens.json", tokens()), ("x509_svid/chains.json", chains())):
        document = {"source": SOURCE, "at": int(AT.timestamp()), **content}
        (HERE / path).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
