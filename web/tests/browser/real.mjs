// The page of a real stdiopool, with the servers `demo`, `dies` and `broken` for anybody:
// `node real.mjs ADMIN FRONT BINARY [TOKEN]`.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { assertClean, assertFits, newPage, open, run } from "./browser.mjs";

const [admin, front, binary, token] = process.argv.slice(2);
const browser = await open();

/** Calls a tool as that tenant; what is said where it fails. */
async function call(tenant, server, tool, args = {}) {
  try {
    const { stdout } = await promisify(execFile)(binary, ["call", server, tool, JSON.stringify(args), "--url", front, "--tenant", tenant], { env: { ...process.env, NO_PROXY: "127.0.0.1", NO_COLOR: "1" } });
    return { ok: true, said: stdout };
  } catch (error) {
    return { ok: false, said: `${error.stderr}` };
  }
}

const settled = (page) => page.waitForFunction(() => document.querySelector(".connection")?.textContent.includes("Live") && !document.querySelector("[aria-busy=true]"));
const path = (page) => page.evaluate(() => location.hash);
const workers = (page) => page.locator(".tile .big").first();

const withToken = {
  "the token is asked for, and opens the dashboard": async () => {
    const { page, seen, context } = await newPage(browser, admin);
    seen.expected.push(/401/);
    const field = page.getByLabel("Admin token");
    await field.fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("This is not the token").waitFor();
    await field.fill(token);
    await page.keyboard.press("Enter");
    await page.locator(".headline").waitFor();
    await settled(page);
    assert.ok(!page.url().includes(token));
    assertClean(seen);
    await context.close();
  },
};

const withoutToken = {
  "it renders, and a call shows without anything done": async () => {
    const { page, seen, context } = await newPage(browser, admin);
    await settled(page);
    await page.locator(".headline", { hasText: "All is quiet" }).waitFor();
    assert.match(await workers(page).textContent(), /^0 of/);
    const { ok, said } = await call("acme", "demo", "echo", { message: "hello" });
    assert.ok(ok, said);
    await page.waitForFunction(() => document.querySelector(".tile .big")?.textContent.startsWith("1 of"));
    await page.getByRole("link", { name: "acme" }).first().waitFor();
    assertClean(seen);
    await context.close();
  },

  "every view of a real pool fits, and none has an error": async () => {
    for (const width of [1280, 390]) {
      const { page, seen, context } = await newPage(browser, admin, { width });
      for (const view of ["#/", "#/workers", "#/workers/w1", "#/workers?which=ended", "#/tenants", "#/tenants/acme", "#/servers", "#/servers/demo", "#/requests", "#/events"]) {
        await page.goto(`${admin}/${view}`);
        await settled(page);
        await page.locator("main h1").waitFor({ state: "attached" });
        await assertFits(page);
      }
      assertClean(seen);
      await context.close();
    }
  },

  "an error of now is two clicks from its worker's stderr": async () => {
    const { page, seen, context } = await newPage(browser, admin);
    await settled(page);
    const { ok } = await call("acme", "broken", "any");
    assert.ok(!ok);
    // One click: what happened names the worker.
    const event = page.locator(".events li", { hasText: "Start failed" }).first();
    await event.getByRole("link", { name: /^w\d+$/ }).click();
    await page.locator(".stderr").getByText("could not read the certificate").waitFor();
    await page.getByText("Ended: start_failed").waitFor();
    // Two: the server's last error does.
    await page.goto(`${admin}/#/`);
    await page.getByRole("link", { name: "broken" }).first().click();
    await page.getByText("The last thing that went wrong").waitFor();
    await page.locator(".panel", { hasText: "The last thing that went wrong" }).getByRole("link", { name: /^w\d+$/ }).click();
    await page.locator(".stderr").getByText("could not read the certificate").waitFor();
    assertClean(seen);
    await context.close();
  },

  "stderr comes live, up to the last words": async () => {
    const { page, seen, context } = await newPage(browser, admin);
    const { ok, said } = await call("globex", "dies", "echo", { message: "x" });
    assert.ok(ok, said);
    await page.goto(`${admin}/#/workers?search=globex`);
    await page.locator("tbody a", { hasText: /^w\d+$/ }).first().click();
    await page.getByText("first words").waitFor();
    assert.match(await page.locator(".stderr").textContent(), /<b>first words<\/b>/);
    await page.locator(".command").waitFor();
    await call("globex", "dies", "die");
    await page.locator(".stderr").getByText("this is the end").waitFor();
    await page.getByText("Ended: crashed").waitFor();
    // The call that failed leads here too.
    const id = (await path(page)).split("/").pop();
    await page.goto(`${admin}/#/`);
    const failed = page.locator(".panel", { hasText: "Failed lately" });
    await failed.getByRole("link", { name: id, exact: true }).first().click();
    await page.getByText("Ended: crashed").waitFor();
    assertClean(seen);
    await context.close();
  },

  "buttons act, once that is confirmed": async () => {
    const { page, seen, context } = await newPage(browser, admin);
    const open = async (tenant) => {
      const { ok, said } = await call(tenant, "demo", "echo", { message: "x" });
      assert.ok(ok, said);
      await page.goto(`${admin}/#/workers?search=${tenant}`);
      await page.locator("tbody tr", { hasText: tenant }).locator("a", { hasText: /^w\d+$/ }).first().click();
      await page.locator(".headline", { hasText: "Idle" }).waitFor();
    };
    const press = async (name) => {
      await page.getByRole("button", { name }).click();
      await page.getByRole("dialog").getByRole("button", { name }).click();
    };
    await open("hooli");
    await press("Hibernate");
    // Where the host has no swap, that is said.
    await page.waitForFunction(() => /ibernat|swap/.test(document.querySelector(".said")?.textContent ?? ""));
    seen.expected.push(/409/);
    await press("Restart");
    await page.getByText(/Ended: admin/).waitFor();
    // Another's: the list may have the worker that has just ended for two seconds more.
    await open("initech");
    await press("Stop");
    await page.getByText(/Ended: admin/).waitFor();
    seen.errors = seen.errors.filter((error) => !/40[49].*api\/v1\/workers\/w\d+\b/.test(error));
    assertClean(seen);
    await context.close();
  },
};

await run(token === undefined ? withoutToken : withToken);
await browser.close();
