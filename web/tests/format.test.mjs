import assert from "node:assert/strict";
import test from "node:test";
import { ago, bytes, clock, count, duration, level, list, millis, percent, plural, short } from "../src/words/format.ts";

test("counts are short and never longer than five characters", () => {
  assert.equal(count(1_234_567), "1,234,567");
  assert.equal(count(null), "–");
  for (const [n, text] of [[0, "0"], [7, "7"], [0.31, "0.31"], [12.34, "12.3"], [999, "999"], [999.4, "999"], [999.9, "1k"], [12_345, "12.3k"], [999_999, "1M"], [4.5e6, "4.5M"], [-1_500, "-1.5k"]]) {
    assert.equal(short(n), text);
  }
  for (let n = 0.001; n < 1e12; n *= 1.07) assert.ok(short(n).length <= 5, `${n}: ${short(n)}`);
  assert.equal(short(Number.NaN), "–");
});

test("levels of a column have as many digits", () => {
  assert.equal(level(0.4, 2), "0.40");
  assert.equal(level(7.48, 1), "7.5");
  assert.equal(level(131.4, 1), "131");
  assert.equal(level(0, 2), "0");
  assert.equal(level(12_345, 1), "12.3k");
  assert.equal(level(null, 1), "–");
});

test("sizes are in binary units", () => {
  assert.equal(bytes(0), "0 B");
  assert.equal(bytes(512), "512 B");
  assert.equal(bytes(1023), "1 KiB");
  assert.equal(bytes(1.5 * 1024 ** 2), "1.5 MiB");
  assert.equal(bytes(4096 * 1024 ** 2), "4 GiB");
  assert.equal(bytes(null), "–");
});

test("times are told by their two largest units", () => {
  assert.equal(duration(0), "0 ms");
  assert.equal(duration(0.031), "31 ms");
  assert.equal(duration(0.234), "234 ms");
  assert.equal(duration(0.9999), "1 s");
  assert.equal(duration(3.24), "3.2 s");
  assert.equal(duration(59.96), "1 min");
  assert.equal(duration(245), "4 min 5 s");
  assert.equal(duration(3_600), "1 h");
  assert.equal(duration(93_784), "1 d 2 h");
  assert.equal(duration(-5), "−5 s");
  assert.equal(duration(undefined), "–");
  assert.equal(millis(1_500), "1.5 s");
});

test("a small part is not nothing, and all but a small part is not all", () => {
  assert.equal(percent(0, 10), "0 %");
  assert.equal(percent(1, 1_000), "<1 %");
  assert.equal(percent(999, 1_000), "99 %");
  assert.equal(percent(10, 10), "100 %");
  assert.equal(percent(1, 0), "–");
});

test("words", () => {
  assert.equal(plural(1, "worker"), "1 worker");
  assert.equal(plural(2_000, "worker"), "2,000 workers");
  assert.equal(list(["a"]), "a");
  assert.equal(list(["a", "b"]), "a and b");
  assert.equal(list(["a", "b", "c", "d"]), "a, b, c and 1 more");
  assert.equal(list([]), "");
  assert.equal(ago(1_000, 1_500), "just now");
  assert.equal(ago(1_000, 6_500), "5 s ago");
  assert.equal(ago(9_000, 1_000), "just now");
  assert.equal(ago(0, 92_000), "1 min ago");
  assert.equal(ago(0, 7_300_000), "2 h ago");
  const at = new Date(2026, 10, 29, 14, 2, 7).getTime();
  assert.equal(clock(at, at + 1_000), "14:02:07");
  assert.equal(clock(at, at + 86_400_000), "29 Nov 14:02");
});
