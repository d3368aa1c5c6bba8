// What the page does whatever the supervisor tells it, with a pool that does not exist: large, behind a token, broken off, hostile.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Pool } from "../../dev/pool.mjs";
import { serve } from "../../dev/server.mjs";
import { assertClean, assertFits, bytesDuring, newPage, nodes, open, run } from "./browser.mjs";

const dist = fileURLToPath(new URL("../../dist", import.meta.url));
const MAX_NODES = 3_000;
/** An overview is below 64 KiB and comes every two seconds; requests that failed come beside it. */
const MAX_BYTES_A_SECOND = 40 * 1024;
const VIEWS = ["#/", "#/workers", "#/workers/w402", "#/workers/w999", "#/workers?which=ended", "#/tenants", "#/tenants/acme", "#/servers", "#/servers/browser", "#/requests", "#/events"];

const browser = await open();
const serving = async (options, act) => {
  const { pool = new Pool(), ...rest } = options;
  const server = await serve({ pool, dist, ...rest });
  try {
    await act(server, pool);
  } finally {
    await server.close();
  }
};
async function until(condition) {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `never came true: ${condition}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

const settled = (page) => page.waitForFunction(() => document.querySelector(".connection")?.textContent.includes("Live") && !document.querySelector("[aria-busy=true]"));

await run({
  "every view renders, wide and on a phone, light and dark": () =>
    serving({}, async (server) => {
      for (const [theme, width] of [["light", 1280], ["dark", 390]]) {
        const { page, seen, context } = await newPage(browser, server.url, { theme, width, height: 844 });
        for (const view of VIEWS) {
          await page.goto(`${server.url}/${view}`);
          await settled(page);
          await page.waitForFunction(() => document.querySelector("main h1") !== null);
          await assertFits(page);
          const unlabelled = await page.evaluate(() => [...document.querySelectorAll("button, a, input")].filter((element) => !(element.textContent.trim() || element.getAttribute("aria-label"))).length);
          assert.equal(unlabelled, 0, `${view}: all that acts has a name`);
          const tables = await page.evaluate(() => [...document.querySelectorAll("table")].every((table) => table.caption && table.querySelector("thead th[scope=col]")));
          assert.ok(tables, `${view}: tables have a caption and headings`);
        }
        const colours = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        assert.equal(colours === "rgb(13, 16, 20)", theme === "dark", colours);
        assertClean(seen);
        await context.close();
      }
    }),

  "2,000 workers and 10,000 tenants are few nodes and few bytes": () =>
    serving({ pool: new Pool({ tenants: 10_000, workers: 2_000 }) }, async (server) => {
      const { page, seen, context } = await newPage(browser, server.url);
      for (const view of ["#/", "#/workers", "#/tenants", "#/servers", "#/requests", "#/events", "#/tenants/acme", "#/servers/search"]) {
        await page.goto(`${server.url}/${view}`);
        await settled(page);
        const n = await nodes(page);
        assert.ok(n < MAX_NODES, `${view} has ${n} nodes`);
      }
      for (const view of ["#/", "#/tenants"]) {
        await page.goto(`${server.url}/${view}`);
        await settled(page);
        const seconds = 6;
        const bytes = await bytesDuring(page, seconds * 1_000);
        assert.ok(bytes > 0 && bytes < seconds * MAX_BYTES_A_SECOND, `${view} takes ${bytes / seconds} bytes a second`);
        console.log(`# ${view}: ${Math.round(bytes / seconds / 1024)} KiB/s, ${await nodes(page)} nodes`);
      }
      await page.goto(`${server.url}/#/tenants`);
      await page.getByLabel("Filter tenants by name").fill("hooli-9988");
      await page.getByText("1 tenant that match").waitFor();
      assertClean(seen);
      await context.close();
    }),

  "columns sort, and the address keeps it": () =>
    serving({}, async (server) => {
      const { page, seen, context } = await newPage(browser, `${server.url}/#/tenants`);
      await page.getByRole("button", { name: "Memory" }).click();
      await page.waitForFunction(() => document.querySelector("th[aria-sort=descending]")?.textContent.includes("Memory") && !document.querySelector("[aria-busy=true]"));
      assert.match(page.url(), /sort=memory/);
      await page.getByRole("button", { name: "Tenant" }).click();
      await page.waitForFunction(() => document.querySelector("th[aria-sort=ascending]") && document.querySelector("tbody a")?.textContent === "acme");
      await page.reload();
      await page.waitForFunction(() => document.querySelector("th[aria-sort=ascending]"));
      assertClean(seen);
      await context.close();
    }),

  "the keyboard is enough": () =>
    serving({}, async (server) => {
      const { page, seen, context } = await newPage(browser, server.url);
      await settled(page);
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
      const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
      assert.equal(outline, "solid", "focus is seen");
      await page.keyboard.press("Enter");
      assert.equal(await page.evaluate(() => document.activeElement.id), "main");
      await page.keyboard.press("g");
      await page.keyboard.press("w");
      await page.getByRole("heading", { name: "Workers" }).waitFor();
      await page.keyboard.press("/");
      assert.equal(await page.evaluate(() => document.activeElement.id), "filter");
      await page.keyboard.type("w402");
      await page.getByText("1 worker that match").waitFor();
      await page.keyboard.press("Tab");
      for (let i = 0; i < 20 && (await page.evaluate(() => document.activeElement.textContent)) !== "w402"; i++) await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      await page.getByRole("heading", { name: "w402", exact: true }).waitFor();
      await page.keyboard.press("g");
      await page.keyboard.press("o");
      const plot = page.locator(".plot-area").first();
      await plot.focus();
      await page.keyboard.press("ArrowLeft");
      await page.locator(".plot .cross").first().waitFor({ state: "attached" });
      assertClean(seen);
      await context.close();
    }),

  "an action asks first, is carried out once, and says what the supervisor says": () =>
    serving({ pool: new Pool({ isStill: true }) }, async (server, pool) => {
      const { page, seen, context } = await newPage(browser, `${server.url}/#/workers/w402`);
      await page.getByRole("button", { name: "Stop" }).click();
      const dialog = page.getByRole("dialog");
      assert.match(await dialog.textContent(), /Stop w402 now\?/);
      await page.keyboard.press("Escape");
      await dialog.waitFor({ state: "detached" });
      assert.deepEqual(pool.actions, []);
      await page.getByRole("button", { name: "Restart" }).click();
      await dialog.getByRole("button", { name: "Restart" }).click();
      await page.getByText("Restarting w402: it takes no new requests").waitFor();
      assert.deepEqual(pool.actions, ["restart w402"]);
      const idle = pool.workers.find((worker) => worker.state === "idle").id;
      await page.goto(`${server.url}/#/workers/${idle}`);
      const button = page.getByRole("button", { name: "Hibernate" });
      await page.waitForFunction((id) => document.querySelector("h1")?.textContent === id && document.querySelector(".headline")?.textContent === "Idle", idle);
      // It gets a request in the meantime.
      pool.workers.find((worker) => worker.id === idle).in_flight = 2;
      await button.click();
      await dialog.getByRole("button", { name: "Hibernate" }).click();
      await page.getByText(`${idle} has 2 requests in flight`, { exact: false }).waitFor();
      seen.errors = seen.errors.filter((error) => !/409/.test(error));
      assertClean(seen);
      await context.close();
    }),

  "text of servers is text": () =>
    serving({}, async (server) => {
      const { page, seen, context } = await newPage(browser, `${server.url}/#/workers/w999`);
      const stderr = page.locator(".stderr");
      await stderr.getByText("not markup").waitFor();
      const text = await stderr.textContent();
      assert.ok(text.includes("\\x1b[31mfatal\\x1b[0m <b>not markup</b>"), text);
      assert.ok(text.includes("\\u{202e}"), text);
      assert.equal(await page.locator(".stderr b").count(), 0);
      assertClean(seen);
      await context.close();
    }),

  "a token is asked for, kept for the tab alone, and sent": () =>
    serving({ token: "sesame" }, async (server) => {
      const { page, seen, context } = await newPage(browser, server.url);
      seen.expected.push(/401/);
      const field = page.getByLabel("Admin token");
      await field.fill("wrong");
      await page.keyboard.press("Enter");
      await page.getByText("This is not the token").waitFor();
      await field.fill("sesame");
      await page.keyboard.press("Enter");
      await page.locator(".headline").waitFor();
      await settled(page);
      const kept = await page.evaluate(() => ({ session: Object.values(sessionStorage), local: Object.values(localStorage), cookie: document.cookie }));
      assert.deepEqual(kept, { session: ["sesame"], local: [], cookie: "" });
      assert.ok(!page.url().includes("sesame"));
      await page.reload();
      await settled(page);
      assertClean(seen);
      await context.close();
    }),

  "what is not live says so, and comes back by itself": async () => {
    let server = await serve({ pool: new Pool(), dist });
    const port = Number(new URL(server.url).port);
    const { page, seen, context } = await newPage(browser, server.url);
    seen.expected.push(/ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|ERR_SOCKET/);
    await settled(page);
    await server.close();
    await page.getByText("Not live").waitFor();
    await page.getByText(/last heard .* ago/).waitFor();
    server = await serve({ pool: new Pool(), dist, port });
    await settled(page);
    server.cut();
    await until(() => server.streams.size === 0);
    await until(() => server.streams.size > 0);
    await settled(page);
    assertClean(seen);
    await context.close();
    await server.close();
  },

  "a hidden page asks for nothing": () =>
    serving({}, async (server) => {
      const { page, context } = await newPage(browser, server.url);
      await settled(page);
      assert.equal(server.streams.size, 1);
      await page.evaluate(() => {
        Object.defineProperty(document, "hidden", { value: true, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      });
      await until(() => server.streams.size === 0);
      await page.evaluate(() => {
        Object.defineProperty(document, "hidden", { value: false, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      });
      await until(() => server.streams.size > 0);
      await context.close();
    }),

  "colours can be chosen, and stay": () =>
    serving({}, async (server) => {
      const { page, seen, context } = await newPage(browser, server.url, { theme: "light" });
      const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = await ground();
      await page.getByRole("button", { name: /Colours: system/ }).click();
      await page.getByRole("button", { name: /Colours: light/ }).click();
      assert.notEqual(await ground(), light);
      await page.reload();
      assert.notEqual(await ground(), light);
      assertClean(seen);
      await context.close();
    }),
});
await browser.close();
