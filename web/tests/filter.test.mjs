import assert from "node:assert/strict";
import test from "node:test";
import { filter } from "../src/words/filter.ts";

test("every word of a filter has to be there, and a field's name says where", () => {
  const row = { tenant: "acme", server: "search", reason: null };
  const isFound = (query) => filter(query, (row) => row)(row);
  assert.ok(isFound(""));
  assert.ok(isFound("ACM sear"));
  assert.ok(isFound("tenant:ac"));
  assert.ok(!isFound("tenant:cme"));
  assert.ok(!isFound("server:acme"));
  assert.ok(!isFound("reason:x"));
  assert.ok(!isFound("acme fetch"));
});
