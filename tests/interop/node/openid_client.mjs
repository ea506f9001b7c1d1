// A stock openid-client against the authorization server named in one JSON line; prints what it was granted, as JSON.
import { createInterface } from "node:readline";
import * as client from "openid-client";

const wanted = await new Promise((told) => createInterface({ input: process.stdin }).once("line", (line) => told(JSON.parse(line))));
const ecdsa = { name: "ECDSA", namedCurve: "P-256" };

async function granted(config, grant, parameters) {
  const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
  const token = await client.genericGrantRequest(config, grant, parameters, { DPoP });
  return { DPoP, token };
}

try {
  const key = await crypto.subtle.importKey("jwk", wanted.jwk, ecdsa, false, ["sign"]);
  const config = await client.discovery(
    new URL(wanted.issuer),
    wanted.client_id,
    { token_endpoint_auth_method: "private_key_jwt" },
    client.PrivateKeyJwt({ key, kid: wanted.jwk.kid }),
    { algorithm: wanted.algorithm },
  );
  const { token } = await granted(config, "client_credentials", { scope: wanted.scope, resource: wanted.resource });
  const before = await client.tokenIntrospection(config, token.access_token);
  await client.tokenRevocation(config, token.access_token);
  const after = await client.tokenIntrospection(config, token.access_token);
  console.log(JSON.stringify({ token, before, after }));
} catch (error) {
  console.log(JSON.stringify({ error: error.error ?? error.code ?? error.name, message: error.message, cause: String(error.cause ?? "") }));
  process.exitCode = 1;
}
