import assert from "node:assert/strict";
import test from "node:test";
import { alike } from "../src/words/alike.ts";
import { Pool } from "../dev/pool.mjs";
import { EVENT_GROUPS, eventSign, eventWords } from "../src/words/events.ts";
import { address, parse, wanted } from "../src/words/route.ts";
import { bindingWords, sentence, verdict, withoutName } from "../src/words/verdict.ts";

const calm = () => new Pool({ isCalm: true }).overview(new URLSearchParams());
const troubled = () => new Pool().overview(new URLSearchParams());

test("a calm pool is told so", () => {
  const { sign, headline, more } = verdict(calm());
  assert.equal(sign, "good");
  assert.match(headline, /^All callers are served: \d+ workers are at work\.$/);
  assert.deepEqual(more, []);
  assert.equal(bindingWords(calm()).title, "No limit binds");
});

test("the worst is told first", () => {
  const { sign, headline, more } = verdict(troubled());
  assert.equal(sign, "bad");
  assert.equal(headline, "browser is not started for anyone, after repeated failures.");
  assert.equal(more[0], "Starts of drive are held back for single tenants, after repeated failures.");
  assert.equal(more[1], "3 requests wait, the longest for 3.2 s (acme at search).");
  assert.equal(more[2], "14 requests were refused in the last 5 min, most of them circuit_open.");
});

test("a request that waits for a moment is no trouble", () => {
  const now = calm();
  now.status.queue_depth = 1;
  now.status.longest_wait = { seconds: 0.02, tenant: "acme", server: "search", message: "" };
  const { sign, more } = verdict(now);
  assert.equal(sign, "good");
  assert.deepEqual(more, ["1 request waits, the longest for 20 ms (acme at search)."]);
});

test("a full pool is no trouble until somebody has to make room", () => {
  const now = calm();
  now.binding = { shows: "reached", limit: "max_workers", key: "pool.max_workers", since_seconds: null, tenant: null, server: null, message: "all 64 places are taken" };
  assert.equal(verdict(now).sign, "good");
  assert.deepEqual(verdict(now).more, ["All 64 places are taken."]);
  now.binding.shows = "evicts";
  assert.equal(verdict(now).sign, "warn");
  assert.equal(bindingWords(now).title, "All 100 places for workers are taken, and idle workers make room");
});

test("a message of the supervisor becomes a sentence", () => {
  assert.equal(sentence("no worker within 3s (raise `x`)"), "No worker within 3s (raise `x`).");
  assert.equal(sentence("is it?"), "Is it?");
  assert.equal(sentence("a\u001bb"), "a\\x1bb.");
  assert.equal(sentence("w8 has ended"), "w8 has ended.");
  assert.equal(sentence("pool.toml was read again"), "pool.toml was read again.");
  assert.equal(withoutName("Ready", "ready after 1.1s, primed"), "after 1.1s, primed");
  assert.equal(withoutName("Ready", "ready"), "");
  assert.equal(withoutName("Hibernated", "hibernated: holds 9 MiB"), "holds 9 MiB");
  assert.equal(withoutName("Woken", "woke"), "woke");
});

test("an address leads to its view and back", () => {
  assert.deepEqual(parse(""), { page: "overview", id: null, query: {} });
  assert.deepEqual(parse("#/nonsense"), { page: "overview", id: null, query: {} });
  const query = { sort: "memory", search: "a b&c" };
  assert.deepEqual(parse(address("tenants", null, query)), { page: "tenants", id: null, query });
  assert.deepEqual(parse(address("tenants", "a/b %?#ü")), { page: "tenants", id: "a/b %?#ü", query: {} });
  assert.equal(address("overview"), "#/");
  assert.deepEqual(parse("#/workers/%E0%A4%A"), { page: "workers", id: "%E0%A4%A", query: {} });
});

test("a view asks for no more than it shows", () => {
  assert.deepEqual(wanted(parse("#/tenants?sort=memory")), { sort: "memory", search: "", limit: "100" });
  assert.deepEqual(wanted(parse("#/tenants/acme")), { tenant: "acme", limit: "50" });
  assert.deepEqual(wanted(parse("#/events")), { limit: "1" });
});

test("ends that are faults look like faults", () => {
  assert.equal(eventSign({ kind: "worker_exited", reason: "crashed" }), "bad");
  assert.equal(eventSign({ kind: "worker_exited", reason: "idle" }), "off");
  assert.equal(eventWords("something_new"), "something new");
  assert.ok(EVENT_GROUPS.troubles({ kind: "package_failed" }));
  assert.ok(!EVENT_GROUPS.troubles({ kind: "worker_ready" }));
});

test("failures that are the same are told once", () => {
  const row = (id, reason, worker) => ({ id, outcome: "failed", reason, tenant: "acme", server: "search", method: "tools/call", worker });
  const rows = [row("3", "circuit_open", null), row("2", "worker_exited", "w1"), row("1", "circuit_open", null), row("0", "worker_exited", "w2")];
  const told = alike(rows).map(({ row, count }) => [row.id, count]);
  assert.deepEqual(told, [["3", 2], ["2", 1], ["0", 1]]);
});
