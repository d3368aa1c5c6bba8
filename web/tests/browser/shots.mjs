// Pictures of the views with a pool that does not exist: `node shots.mjs FOLDER [--large] [--only NAME]`.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Pool } from "../../dev/pool.mjs";
import { serve } from "../../dev/server.mjs";
import { newPage, nodes, open } from "./browser.mjs";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { large: { type: "boolean" }, calm: { type: "boolean" }, only: { type: "string" } } });
const folder = positionals[0] ?? "shots";
mkdirSync(folder, { recursive: true });
const pool = new Pool({ ...(values.large ? { tenants: 10_000, workers: 2_000 } : {}), isCalm: values.calm ?? false });
const dist = fileURLToPath(new URL("../../dist", import.meta.url));
const server = await serve({ pool, dist });
const browser = await open();
const views = { overview: "#/", workers: "#/workers", worker: "#/workers/w402", ended: "#/workers/w999", tenants: "#/tenants", tenant: "#/tenants/acme", servers: "#/servers", server: "#/servers/browser", requests: "#/requests", events: "#/events" };
for (const [look, size] of [["light", { width: 1360, height: 900 }], ["dark", { width: 1360, height: 900 }], ["phone", { width: 390, height: 844 }]]) {
  for (const [name, hash] of Object.entries(views)) {
    if (values.only && !`${name}-${look}`.includes(values.only)) continue;
    const { page, seen, context } = await newPage(browser, `${server.url}/${hash}`, { theme: look === "dark" ? "dark" : "light", ...size });
    await page.waitForTimeout(900);
    await page.screenshot({ path: join(folder, `${name}-${look}.png`), fullPage: true });
    const scroll = await page.evaluate(() => document.documentElement.scrollWidth);
    console.log(name, look, "nodes", await nodes(page), "width", scroll, seen.errors, seen.foreign);
    await context.close();
  }
}
await browser.close();
await server.close();
