import assert from "node:assert/strict";
import test from "node:test";
import { plots } from "../src/plot/history.ts";
import { areaPath, linePath, nearest, stacked, ticks, timeTicks } from "../src/plot/scale.ts";

test("ticks are round, few, and reach the highest value", () => {
  assert.deepEqual(ticks(7, 3), [0, 5, 10]);
  assert.deepEqual(ticks(812, 3), [0, 500, 1000]);
  assert.deepEqual(ticks(0, 3), [0, 1]);
  assert.deepEqual(ticks(1.7 * 1024 ** 3, 3, 1024), [0, 1, 2].map((n) => n * 1024 ** 3));
  for (let max = 0.001; max < 1e13; max *= 1.3) {
    for (const base of [10, 1024]) {
      const all = ticks(max, 3, base);
      assert.ok(all.length >= 2 && all.length <= 4, `${max}: ${all}`);
      assert.ok(all[all.length - 1] >= max * 0.999999, `${max}: ${all}`);
    }
  }
});

test("times of the axis are whole and few", () => {
  const from = Date.UTC(2026, 10, 30, 3, 17, 5);
  for (const hours of [1, 6, 24]) {
    const all = timeTicks(from, from + hours * 3_600_000, 6);
    assert.ok(all.length >= 3 && all.length <= 7, `${all.length}`);
    for (const at of all) assert.equal(new Date(at).getSeconds(), 0);
  }
});

test("areas stand on each other, and lines break where nothing is known", () => {
  assert.deepEqual(stacked([[1, 2, null], [3, 4, 5]]), [[1, 2, 0], [4, 6, 5]]);
  assert.equal(linePath([0, 1, 2, 3], [5, null, 6.04, 7]), "M0 5M2 6L3 7");
  assert.equal(areaPath([0, 1], [1, 2], [3, 4]), "M0 1L1 2L1 4L0 3Z");
  assert.equal(areaPath([], [], []), "");
});

test("the nearest moment is found", () => {
  assert.equal(nearest([10, 20, 30], 14), 0);
  assert.equal(nearest([10, 20, 30], 16), 1);
  assert.equal(nearest([10, 20, 30], 99), 2);
  assert.equal(nearest([10, 20, 30], -9), 0);
  assert.equal(nearest([], 5), -1);
});

test("a span is cut from the end, and counts are a minute's", () => {
  const column = (n) => Array.from({ length: 1_440 }, () => n);
  const states = Object.fromEntries(["starting", "spare", "idle", "hibernated", "busy", "draining", "stopping"].map((state) => [state, column(state === "busy" ? 3 : 0)]));
  const counts = Object.fromEntries(["calls", "errors", "rejections", "evictions", "warm", "woken", "adopted", "primed", "cold", "failed"].map((kind) => [kind, column(120)]));
  const history = { at_ms: 1e12, step_seconds: 60, len: 1_440, workers: states, memory: { awake_mib: column(1), asleep_mib: column(null) }, queue_depth: column(0), counts };
  const hour = plots(history, "1h");
  assert.equal(hour.times.length, 60);
  assert.equal(hour.times[59], 1e12);
  assert.equal(hour.times[0], 1e12 - 59 * 60_000);
  assert.deepEqual(hour.workers.map((series) => series.kind), ["busy"]);
  assert.equal(hour.calls[0].values[0], 120);
  assert.equal(hour.memory[0].values[0], 1024 * 1024);
  assert.equal(hour.memory[1].values[0], null);
  assert.equal(plots({ ...history, step_seconds: 240, len: 360 }, "24h").calls[0].values[0], 30);
});
