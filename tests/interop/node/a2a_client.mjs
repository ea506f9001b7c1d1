// A stock @a2a-js/sdk client against the agent named in one JSON line; prints what it was told, as JSON.
// Node's own fetch takes no client certificate, so the SDK is handed one over node:https that does.
import { request } from "node:https";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { ClientFactory, DefaultAgentCardResolver, JsonRpcTransportFactory, RestTransportFactory } from "@a2a-js/sdk/client";

const wanted = await new Promise((told) => createInterface({ input: process.stdin }).once("line", (line) => told(JSON.parse(line))));

function fetchImpl(url, { method = "GET", headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const tls = { cert: wanted.cert, key: wanted.key, ca: wanted.ca, checkServerIdentity: () => undefined };
    const options = { method, headers: Object.fromEntries(new Headers(headers)), ...tls };
    const asked = request(url, options, (answer) => {
      const hasBody = ![204, 304].includes(answer.statusCode);
      const init = { status: answer.statusCode, headers: answer.headers };
      resolve(new Response(hasBody ? Readable.toWeb(answer) : null, init));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

function message(text) {
  return {
    tenant: "",
    message: {
      messageId: crypto.randomUUID(),
      contextId: "",
      taskId: "",
      role: 1,
      parts: [{ content: { $case: "text", value: text }, metadata: undefined, filename: "", mediaType: "" }],
      metadata: undefined,
      extensions: [],
      referenceTaskIds: [],
    },
    configuration: undefined,
    metadata: undefined,
  };
}

const transports = { JSONRPC: new JsonRpcTransportFactory({ fetchImpl }), "HTTP+JSON": new RestTransportFactory({ fetchImpl }) };
const factory = new ClientFactory({
  transports: [transports[wanted.binding]],
  cardResolver: new DefaultAgentCardResolver({ fetchImpl }),
});
const told = {};
try {
  const client = await factory.createFromUrl(wanted.url);
  told.sent = await client.sendMessage(message("echo hello"));
  told.events = [];
  for await (const event of client.sendMessageStream(message("echo again"))) told.events.push(event);
  told.listed = await client.listTasks({ tenant: "", contextId: "", status: 0, pageToken: "", pageSize: 10 });
  told.card = await client.getAgentCard();
} catch (error) {
  told.error = `${error.name}: ${error.message}`;
}
console.log(JSON.stringify(told));
process.exit(0);
