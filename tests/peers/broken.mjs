// The official TypeScript SDK of either generation as a client whose connections break: broken.mjs URL GENERATION.
//
// Says `begun` when a call's stream can be resumed, `waited` when a call is answered whose connection broke meanwhile, `quiet` a while after calls that ended
// otherwise, and `done` a while later.

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

const [url, generation] = process.argv.slice(2);
const { Client } = await import(
  generation === "1" ? "@modelcontextprotocol/sdk/client/index.js" : "@modelcontextprotocol/client"
);
const { StreamableHTTPClientTransport } = await import(
  generation === "1" ? "@modelcontextprotocol/sdk/client/streamableHttp.js" : "@modelcontextprotocol/client"
);
const client = new Client({ name: "breaks", version: "1" });
const call = (name, args, options) =>
  generation === "1"
    ? client.callTool({ name, arguments: args }, undefined, options)
    : client.callTool({ name, arguments: args }, options);

await client.connect(new StreamableHTTPClientTransport(new URL(url)));
// What has not been read of an answer that breaks is lost: the first event must have been.
let begun = 0;
const onresumptiontoken = () => begun++ === 0 && console.log("begun");
const waited = await call("wait", { seconds: 8 }, { onresumptiontoken });
console.log(waited.content[0].text);
// Given up after its stream has begun.
await assert.rejects(call("wait", { seconds: 60 }, { signal: AbortSignal.timeout(3500) }));
await assert.rejects(call("fail", {}, { onprogress() {} }));
await pause(5000);
console.log("quiet");
await pause(4000);
const again = await call("wait", { seconds: 0 });
console.log(again.content[0].text === "waited" ? "done" : again);
await client.close();
