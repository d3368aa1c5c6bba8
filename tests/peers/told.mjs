// The official TypeScript SDKs, and what they say of a request that fails: told.mjs URL CLIENT TOOL.
//
// TOOL is called without arguments; as `NAME:N`, with a message of N letters.
// CLIENT is `1` or `2` (the SDK of that generation, with `initialize`), `2-auto` (the second one, which begins with the
// stateless revision) or `1-sse` (the first one, over HTTP+SSE). Prints what the user is told of the failure, and whether the session goes on, as a line of JSON.

const [url, generation, tool] = process.argv.slice(2);
const [name, letters] = tool.split(":");
const given = letters ? { message: "x".repeat(Number(letters)) } : {};
const first = generation.startsWith("1");
const { Client } = await import(first ? "@modelcontextprotocol/sdk/client/index.js" : "@modelcontextprotocol/client");
const { StreamableHTTPClientTransport } = await import(
  first ? "@modelcontextprotocol/sdk/client/streamableHttp.js" : "@modelcontextprotocol/client"
);
const { SSEClientTransport } = await import(
  first ? "@modelcontextprotocol/sdk/client/sse.js" : "@modelcontextprotocol/client"
);
const Transport = generation === "1-sse" ? SSEClientTransport : StreamableHTTPClientTransport;
const options = generation === "2-auto" ? { versionNegotiation: { mode: "auto" } } : {};
const client = new Client({ name: "told", version: "1" }, options);
const call = (name, args) =>
  first ? client.callTool({ name, arguments: args }, undefined, { timeout: 20_000 }) : client.callTool({ name, arguments: args }, { timeout: 20_000 });
let told = "";
let lives = false;
try {
  await client.connect(new Transport(new URL(url)));
  try {
    told = JSON.stringify(await call(name, given));
  } catch (error) {
    told = `${error}`;
  }
  // A server that has just died may be started again a moment later only.
  for (let tries = 0; !lives && tries < 10; tries += 1) {
    try {
      lives = JSON.stringify(await call("echo", { message: "on" })).includes("on");
    } catch (error) {
      console.error(`${error}`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
  await client.close();
} catch (error) {
  told ||= `${error}`;
  console.error(`${error}`);
}
console.log(JSON.stringify({ told, lives }));
process.exit(0);
