// A page in a browser with an official TypeScript SDK as its client; bundled for the test with a browser. Its address has
// the server's in `?url=` and the SDK's generation in `&sdk=`. It reports to where it came from: `called`, then `begun` and `waited` of a
// call whose connection breaks in between.

import { Client as Client1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as Transport1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client as Client2, StreamableHTTPClientTransport as Transport2 } from "@modelcontextprotocol/client";

const report = (text) => fetch("/report", { method: "POST", body: text });
const asked = new URLSearchParams(location.search);
const [Client, Transport] = asked.get("sdk") === "1" ? [Client1, Transport1] : [Client2, Transport2];
const client = new Client({ name: "page", version: "1" });
try {
  await client.connect(new Transport(new URL(asked.get("url"))));
  const call = async (seconds, options) => {
    const params = { name: "wait", arguments: { seconds } };
    const result = await (Client === Client1
      ? client.callTool(params, undefined, options)
      : client.callTool(params, options));
    return result.content[0].text;
  };
  await report((await call(0)) === "waited" ? "called" : "called wrongly");
  // A browser forgets what a script has not read of an answer that breaks: the first event must have been read.
  let begun = 0;
  const onresumptiontoken = () => begun++ === 0 && report("begun");
  await report(await call(9, { onresumptiontoken }));
} catch (error) {
  await report(`${error}`);
}
