// A stock oidc-provider: foreign issuer in tests, peer in the benchmark. Told by one JSON line, says "ready" when it is.
import { createServer } from "node:https";
import { createInterface } from "node:readline";
import { Provider } from "oidc-provider";

const settings = await new Promise((told) => createInterface({ input: process.stdin }).once("line", (line) => told(JSON.parse(line))));

const provider = new Provider(settings.issuer, {
  clients: settings.clients.map(({ id, jwk, redirect_uri, scope }) => ({
    client_id: id,
    token_endpoint_auth_method: "private_key_jwt",
    token_endpoint_auth_signing_alg: "ES256",
    id_token_signed_response_alg: "ES256",
    grant_types: [redirect_uri ? "authorization_code" : "client_credentials"],
    redirect_uris: redirect_uri ? [redirect_uri] : [],
    response_types: redirect_uri ? ["code"] : [],
    jwks: { keys: [jwk] },
    scope,
  })),
  jwks: { keys: [settings.signing_jwk] },
  scopes: settings.scopes,
  features: {
    devInteractions: { enabled: Boolean(settings.signs_humans_in) },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => settings.audience,
      getResourceServerInfo: (_, audience) => ({
        scope: settings.scopes.join(" "),
        audience,
        accessTokenTTL: 300,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
});

createServer({ key: settings.tls_key, cert: settings.tls_certificate }, provider.callback()).listen(
  settings.port,
  "127.0.0.1",
  () => console.log("ready"),
);
