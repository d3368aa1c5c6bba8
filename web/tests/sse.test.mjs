import assert from "node:assert/strict";
import test from "node:test";
import { pause } from "../src/api/follow.ts";
import { EventReader } from "../src/api/sse.ts";

test("events are the same however the stream is cut", () => {
  const text = 'data: {"a":1}\n\n: keep alive\n\nevent: lagged\ndata: 7\n\ndata: one\r\ndata: two\r\n\r\ndata\n\nid: 9\n\n';
  const expected = [
    { type: "message", data: '{"a":1}' },
    { type: "lagged", data: "7" },
    { type: "message", data: "one\ntwo" },
    { type: "message", data: "" },
  ];
  for (let size = 1; size <= text.length; size++) {
    const reader = new EventReader();
    const events = [];
    for (let at = 0; at < text.length; at += size) events.push(...reader.push(text.slice(at, at + size)));
    assert.deepEqual(events, expected, `pieces of ${size}`);
  }
});

test("a line without an end is not kept for ever", () => {
  const reader = new EventReader();
  assert.throws(() => {
    for (let i = 0; i < 40; i++) reader.push("x".repeat(1024 * 1024));
  }, /too long/);
});

test("pauses grow to a bound, and spread", () => {
  assert.equal(pause(0, 0), 500);
  assert.equal(pause(1, 0), 1_000);
  assert.equal(pause(40, 0), 15_000);
  assert.equal(pause(40, 1), 11_250);
});
