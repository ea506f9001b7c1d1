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

async function discovered(client_id) {
  const key = await crypto.subtle.importKey("jwk", wanted.jwk, ecdsa, false, ["sign"]);
  return client.discovery(
    new URL(wanted.issuer),
    client_id,
    { token_endpoint_auth_method: "private_key_jwt" },
    client.PrivateKeyJwt({ key, kid: wanted.jwk.kid }),
    { algorithm: wanted.algorithm },
  );
}

try {
  const config = await discovered(wanted.client_id);
  const resource = await discovered(wanted.resource_id); // only whom a token is for may ask about it
  const { token } = await granted(config, "client_credentials", { scope: wanted.scope, audience: wanted.audience });
  const before = await client.tokenIntrospection(resource, token.access_token);
  await client.tokenRevocation(config, token.access_token);
  const after = await client.tokenIntrospection(resource, token.access_token);
  console.log(JSON.stringify({ token, before, after }));
} catch (error) {
  console.log(JSON.stringify({ error: error.error ?? error.code ?? error.name, message: error.message, cause: String(error.cause ?? "") }));
}
process.stdin.destroy(); // else Node waits for another order
