// The official TypeScript SDK of the second generation as a client: client2.mjs URL SERVER MODE.
// MODE is `auto`, which begins with the stateless revision, or `legacy`.
//
// Checks what a client sees of one of the test servers and prints a summary as one line of JSON.

import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, server, mode] = process.argv.slice(2);
const checks = [];
const text = (result) => result.content[0].text;

/** The first of what `subscribe` hands on. */
function first(subscribe) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("nothing came")), 30_000);
    subscribe((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}

const suites = {
  async fixture(client) {
    const call = (name, args = {}, options) => client.callTool({ name, arguments: args }, options);
    assert.match(text(await call("test_simple_text")), /simple text/);
    checks.push("call");
    const asked = await call("test_elicitation", { message: "who?" });
    assert.match(text(asked), /action=accept.*ann/);
    checks.push("elicitation");
    assert.match(text(await call("test_sampling", { prompt: "hm?" })), /LLM response: sampled/);
    checks.push("sampling");
    const steps = [];
    await call("test_tool_with_progress", {}, { onprogress: ({ progress }) => steps.push(progress) });
    assert.deepEqual(steps, [0, 50, 100]);
    checks.push("progress");

    const changed = first((tell) => client.setNotificationHandler("notifications/tools/list_changed", tell));
    const updated = first((tell) =>
      client.setNotificationHandler("notifications/resources/updated", ({ params }) => tell(params.uri)),
    );
    const uri = "test://watched-resource";
    const subscription =
      mode === "auto"
        ? await client.listen({ toolsListChanged: true, resourceSubscriptions: [uri] })
        : await client.subscribeResource({ uri });
    await call("test_trigger_tool_change");
    await call("test_trigger_resource_update");
    await changed;
    assert.equal(await updated, uri);
    await subscription.close?.();
    checks.push("subscription");

    const controller = new AbortController();
    const slow = call("test_waits_for_ever", {}, { signal: controller.signal });
    setImmediate(() => controller.abort("not needed any more"));
    await assert.rejects(slow);
    assert.match(text(await call("test_simple_text")), /simple text/);
    checks.push("cancellation");
  },

  async everything(client) {
    assert.match(text(await client.callTool({ name: "echo", arguments: { message: "hello" } })), /hello/);
    const { resources } = await client.listResources();
    assert.ok((await client.readResource({ uri: resources[0].uri })).contents.length > 0);
    checks.push("call", "resources");
  },

  async time(client) {
    const now = await client.callTool({ name: "get_current_time", arguments: { timezone: "Europe/Berlin" } });
    assert.equal(JSON.parse(text(now)).timezone, "Europe/Berlin");
    checks.push("call");
  },
};

const client = new Client(
  { name: "typescript-peer-2", version: "1.0.0" },
  {
    capabilities: { elicitation: {}, sampling: {} },
    ...(mode === "auto" && { versionNegotiation: { mode: "auto" } }),
  },
);
client.setRequestHandler("elicitation/create", () => ({ action: "accept", content: { username: "ann", email: "ann@example.com" } }));
client.setRequestHandler("sampling/createMessage", () => ({
  role: "assistant",
  content: { type: "text", text: "sampled" },
  model: "none",
}));
const transport = new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
const { tools } = await client.listTools();
await suites[server](client);
if (mode === "legacy") await transport.terminateSession();
await client.close();
console.log(JSON.stringify({ server, mode, tools: tools.length, checks }));
