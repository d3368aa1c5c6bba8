// The picture of README: a real pool with tenants and servers of a demonstration, under some load for some minutes.
//   node dev/picture.mjs STDIOPOOL ../docs/images/dashboard.png [MINUTES]

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newPage, open } from "../tests/browser/browser.mjs";

const [binary, into, minutes = "30"] = process.argv.slice(2);
const TENANTS = ["acme", "globex", "initech", "umbrella", "hooli", "vandelay", "sterling", "wayne"];
const SERVERS = ["search", "tickets", "calendar", "files", "mail", "maps"];
const HEADERS = { "content-type": "application/json", accept: "application/json, text/event-stream" };

const folder = await mkdtemp(join(tmpdir(), "stdiopool-picture-"));
const servers = SERVERS.map((name) => `[servers.${name}]\ncommand = "${binary}"\nargs = ["demo-server"]\n`).join("");
const broken = `[servers.browser]\ncommand = "sh"\nargs = ["-c", "echo 'Error: no usable display' >&2; exit 1"]\n`;
const config = `[http]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n[auth]\nmode = "none"\n[state]\ndir = "state"\n[pool]\nmax_workers = 40\nmax_workers_per_tenant = 6\nmax_memory = "1GiB"\n${servers}${broken}`;
await writeFile(join(folder, "pool.toml"), config);
const pool = spawn(binary, ["serve", "--config", "pool.toml"], { cwd: folder, stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, NO_COLOR: "1" } });
const [front, admin] = await addresses(pool.stderr);

let isOver = false;
const callers = TENANTS.flatMap((tenant, i) => SERVERS.slice(0, 6 - (i >> 1)).map((server, j) => caller(tenant, server, 400 * (i + 1) * (j + 1))));
callers.push(stubborn());
await rest(Number(minutes) * 60_000);

const browser = await open();
const { page } = await newPage(browser, admin, { width: 1280, height: 1180 });
await page.getByText("1 h", { exact: true }).click();
await rest(70_000);
await page.screenshot({ path: into });
await browser.close();
isOver = true;
await Promise.all(callers);
pool.kill("SIGTERM");
await new Promise((done) => pool.once("exit", done));
await rm(folder, { recursive: true });

function rest(ms) {
  return new Promise((done) => setTimeout(done, ms));
}

async function addresses(stderr) {
  const found = {};
  let text = "";
  for await (const piece of stderr) {
    text += piece;
    for (const what of ["MCP", "admin"]) found[what] ??= text.match(new RegExp(`${what} at (http://[^/\\s]+)`))?.[1];
    if (found.MCP && found.admin) break;
  }
  pool.stderr.resume();
  return [found.MCP, found.admin];
}

async function post(url, message, session) {
  const headers = session ? { ...HEADERS, "mcp-session-id": session } : HEADERS;
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify({ jsonrpc: "2.0", ...message }) });
  return { session: response.headers.get("mcp-session-id"), text: await response.text() };
}

/** One session, with calls at about that distance. */
async function caller(tenant, server, everyMs) {
  const url = `${front}/t/${tenant}/${server}/mcp`;
  const hello = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "demonstration", version: "1" } };
  const { session } = await post(url, { id: 0, method: "initialize", params: hello });
  await post(url, { method: "notifications/initialized" }, session);
  for (let id = 1; !isOver; id++) {
    const arguments_ = { seconds: 0.02 + Math.random() ** 4 * 2 };
    // One call of some hundred ends its server.
    const call = Math.random() < 0.002 ? { name: "exit", arguments: { code: 3 } } : { name: "sleep", arguments: arguments_ };
    await post(url, { id, method: "tools/call", params: call }, session).catch(() => undefined);
    await rest(everyMs * (0.3 + Math.random() * 1.4));
  }
}

/** Asks again and again for a server that cannot be started. */
async function stubborn() {
  const hello = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "demonstration", version: "1" } };
  while (!isOver) {
    await post(`${front}/t/hooli/browser/mcp`, { id: 0, method: "initialize", params: hello }).catch(() => undefined);
    await rest(9_000);
  }
}
