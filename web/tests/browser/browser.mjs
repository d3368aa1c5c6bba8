// A browser with one page, which keeps an account of what the page does.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const PATIENCE_MS = 60_000;

function program() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const found = folders.map((folder) => join(folder, "chromium")).find((file) => existsSync(file));
  assert.ok(found, "chromium is on the PATH: run scripts/install chromium");
  return found;
}

export async function open() {
  const browser = await chromium.launch({
    executablePath: program(),
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--no-proxy-server"],
  });
  return browser;
}

/** A page in a context of its own. `seen` has what must not be: errors, and requests to other hosts. */
export async function newPage(browser, url, { theme = "light", width = 1280, height = 900 } = {}) {
  const context = await browser.newContext({ colorScheme: theme, viewport: { width, height }, timezoneId: "UTC", locale: "en-GB" });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const seen = { errors: [], foreign: [], expected: [] };
  const origin = new URL(url).origin;
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    const text = `${message.text()} (${message.location().url})`;
    // The browser writes a line for each answer that is an error; a test says which it provokes.
    if (!seen.expected.some((expected) => expected.test(text))) seen.errors.push(text);
  });
  page.on("pageerror", (error) => seen.errors.push(`${error.stack ?? error}`));
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (to.origin !== origin && to.protocol !== "blob:" && to.protocol !== "data:") seen.foreign.push(request.url());
  });
  await page.goto(url);
  return { page, seen, context };
}

export function assertClean(seen) {
  assert.deepEqual(seen.errors, [], "the console has no errors");
  assert.deepEqual(seen.foreign, [], "no other host is asked");
}

/** The page never scrolls sideways. */
export async function assertFits(page) {
  const { scroll, client } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth }));
  assert.ok(scroll <= client, `${page.url()}: the page is ${scroll} wide, the window ${client}`);
}

/** All nodes of the page, text included. */
export function nodes(page) {
  return page.evaluate(() => {
    const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
    let n = 1;
    while (walker.nextNode()) n += 1;
    return n;
  });
}

/** Bytes of the page's connections in that time, as the browser counts them. */
export async function bytesDuring(page, ms) {
  const client = await page.context().newCDPSession(page);
  await client.send("Network.enable");
  let bytes = 0;
  client.on("Network.dataReceived", ({ dataLength, encodedDataLength }) => (bytes += Math.max(dataLength, encodedDataLength)));
  await new Promise((done) => setTimeout(done, ms));
  await client.detach();
  return bytes;
}

/** Runs steps one after the other, and says which one failed. */
export async function run(steps) {
  for (const [name, step] of Object.entries(steps)) {
    const began = Date.now();
    try {
      await step();
      console.log(`ok ${name} (${Date.now() - began} ms)`);
    } catch (error) {
      console.error(`not ok ${name}\n${error.stack ?? error}`);
      process.exitCode = 1;
      return;
    }
  }
}
