// The official TypeScript SDK as a client: client.mjs URL SERVER.
//
// Checks what a client sees of one of the test servers and prints a summary as one line of JSON.

import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";

const [url, server] = process.argv.slice(2);
const isOld = new URL(url).pathname.endsWith("/sse");
const checks = [];

/** Waits for the first of what `subscribe` hands on. */
function first(subscribe) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("nothing came")), 30_000);
    subscribe((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}

const text = (result) => result.content[0].text;
const call = (client, name, args, options) =>
  client.callTool({ name, arguments: args }, undefined, options);

const suites = {
  async demo(client) {
    assert.equal(text(await call(client, "echo", { message: "grüß dich" })), "grüß dich");
    checks.push("echo");
    const added = await call(client, "add", { a: 2, b: 3 });
    assert.deepEqual(added.structuredContent, { sum: 5 });
    checks.push("structured content");

    const steps = [];
    const onprogress = ({ progress }) => steps.push(progress);
    await call(client, "sleep", { seconds: 0.3, steps: 3 }, { onprogress });
    // Over SSE the SDK forgets whom to tell of the last step when the result comes right behind it.
    assert.deepEqual(steps.slice(0, 2), [1, 2]);
    assert.ok(isOld || steps.length === 3);
    checks.push("progress");

    const logged = first((tell) =>
      client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => tell(params.data)),
    );
    await client.setLoggingLevel("warning");
    await call(client, "log", { level: "info", message: "quiet" });
    await call(client, "log", { level: "error", message: "loud" });
    assert.equal(await logged, "loud");
    checks.push("logging");

    const updated = first((tell) =>
      client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => tell(params.uri)),
    );
    await client.subscribeResource({ uri: "demo://counter" });
    await call(client, "counter", {});
    assert.equal(await updated, "demo://counter");
    checks.push("subscription");

    const read = await client.readResource({ uri: "demo://echo/hello" });
    assert.equal(read.contents[0].text, "hello");
    checks.push("read");
    const prompt = await client.getPrompt({ name: "greet", arguments: { name: "Ada" } });
    assert.match(prompt.messages[0].content.text, /Ada/);
    checks.push("prompt");
    await client.ping();
    await assert.rejects(call(client, "no such tool", {}), { code: -32602 });
    checks.push("unknown tool");

    // A call that is cancelled ends at once, and the session goes on.
    const controller = new AbortController();
    const slow = call(client, "sleep", { seconds: 600 }, { signal: controller.signal });
    setImmediate(() => controller.abort("not needed any more"));
    await assert.rejects(slow);
    assert.equal(text(await call(client, "echo", { message: "on" })), "on");
    checks.push("cancellation");
  },

  async everything(client) {
    assert.match(text(await call(client, "echo", { message: "hello" })), /hello/);
    checks.push("echo");
    assert.match(text(await call(client, "get-sum", { a: 2, b: 3 })), /5/);
    checks.push("sum");
    const steps = [];
    const onprogress = ({ progress }) => steps.push(progress);
    await call(client, "trigger-long-running-operation", { duration: 1, steps: 4 }, { onprogress });
    assert.ok(steps.length >= 3, `${steps}`);
    checks.push("progress");
    const { resources } = await client.listResources();
    const read = await client.readResource({ uri: resources[0].uri });
    assert.ok(read.contents.length > 0);
    checks.push("resources");
    const { prompts } = await client.listPrompts();
    assert.ok(prompts.length > 0);
    checks.push("prompts");
  },

  async time(client) {
    const now = await call(client, "get_current_time", { timezone: "Europe/Berlin" });
    assert.equal(JSON.parse(text(now)).timezone, "Europe/Berlin");
    checks.push("now");
    const converted = await call(client, "convert_time", {
      source_timezone: "UTC",
      time: "12:00",
      target_timezone: "Asia/Tokyo",
    });
    assert.equal(JSON.parse(text(converted)).time_difference, "+9.0h");
    checks.push("converted");
  },
};

const client = new Client({ name: "typescript-peer", version: "1.0.0" });
const Transport = isOld ? SSEClientTransport : StreamableHTTPClientTransport;
const transport = new Transport(new URL(url));
await client.connect(transport);
const { tools } = await client.listTools();
await suites[server](client);
const revision = isOld ? transport._protocolVersion : transport.protocolVersion;
if (!isOld) await transport.terminateSession();
await client.close();
console.log(
  JSON.stringify({ server: client.getServerVersion().name, revision, tools: tools.length, checks }),
);
