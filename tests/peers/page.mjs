// A page in a browser with an official TypeScript SDK as its client; bundled for the test with a browser. Its address has
// the server's in `?url=` and the SDK's generation in `&sdk=`. It reports to where it came from: `called`, then `waited` for a
// call whose connection breaks.

import { Client as Client1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as Transport1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client as Client2, StreamableHTTPClientTransport as Transport2 } from "@modelcontextprotocol/client";

const report = (text) => fetch("/report", { method: "POST", body: text });
const asked = new URLSearchParams(location.search);
const [Client, Transport] = asked.get("sdk") === "1" ? [Client1, Transport1] : [Client2, Transport2];
const client = new Client({ name: "page", version: "1" });
try {
  await client.connect(new Transport(new URL(asked.get("url"))));
  const call = async (seconds) => (await client.callTool({ name: "wait", arguments: { seconds } })).content[0].text;
  await report((await call(0)) === "waited" ? "called" : "called wrongly");
  await report(await call(9));
} catch (error) {
  await report(`${error}`);
}
