// A stock openid-client that has a human delegate to it: PAR, code, refresh; told by JSON lines, and tells by them.
import { createInterface } from "node:readline";
import * as client from "openid-client";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const wanted = JSON.parse((await lines.next()).value);

try {
  const key = await crypto.subtle.importKey("jwk", wanted.jwk, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
  const config = await client.discovery(
    new URL(wanted.issuer),
    wanted.client_id,
    { token_endpoint_auth_method: "private_key_jwt" },
    client.PrivateKeyJwt({ key, kid: wanted.jwk.kid }),
    { algorithm: "oauth2" },
  );
  const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const expectedState = client.randomState();
  const link = await client.buildAuthorizationUrlWithPAR(
    config,
    {
      redirect_uri: wanted.redirect_uri,
      scope: wanted.scope,
      audience: wanted.audience,
      state: expectedState,
      code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
      code_challenge_method: "S256",
    },
    { DPoP },
  );
  console.log(JSON.stringify({ link: link.href }));
  const back = new URL((await lines.next()).value); // where the human's browser was sent
  const first = await client.authorizationCodeGrant(config, back, { pkceCodeVerifier, expectedState }, undefined, { DPoP });
  const second = await client.refreshTokenGrant(config, first.refresh_token, undefined, { DPoP });
  console.log(JSON.stringify({ first, second }));
} catch (error) {
  console.log(JSON.stringify({ error: error.error ?? error.code ?? error.name, message: error.message, cause: String(error.cause ?? "") }));
}
process.stdin.destroy(); // else Node waits for another order
