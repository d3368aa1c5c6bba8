// A page in a browser with the official TypeScript SDK as its client; bundled for the test with a browser. Its address has
// the server's in `?url=`. It reports to where it came from: `called`, then `waited` for a call whose connection breaks.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const report = (text) => fetch("/report", { method: "POST", body: text });
const url = new URL(new URLSearchParams(location.search).get("url"));
const client = new Client({ name: "page", version: "1" });
try {
  await client.connect(new StreamableHTTPClientTransport(url));
  const call = async (seconds) => (await client.callTool({ name: "wait", arguments: { seconds } })).content[0].text;
  await report((await call(0)) === "waited" ? "called" : "called wrongly");
  await report(await call(9));
} catch (error) {
  await report(`${error}`);
}
