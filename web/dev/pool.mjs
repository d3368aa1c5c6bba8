// A pool that does not exist, of any size, as the admin API tells of it: for development, and for the browser test with 2,000 workers
// and 10,000 tenants. The same seed makes the same pool.

/** Made once: 10,000 names are sorted for each answer. */
const NAMES = new Intl.Collator("en", { numeric: true });
const MIB = 1024 * 1024;
const STATES = ["busy", "busy", "idle", "idle", "idle", "hibernated", "hibernated", "hibernated", "hibernated", "spare", "starting", "draining", "stopping"];
const WORDS = ["acme", "globex", "initech", "umbrella", "hooli", "vandelay", "sterling", "wayne", "tyrell", "aperture", "soylent", "wonka"];
const SERVERS = ["search", "fetch", "git", "drive", "sqlite", "browser", "memory", "time", "tickets", "calendar", "maps", "mail"];

/** Numbers from 0 to 1 that look random, the same for a seed. */
function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export class Pool {
  constructor({ tenants = 12, workers = 46, seed = 7, isCalm = false, isStill = false } = {}) {
    const random = numbers(seed);
    this.random = random;
    this.isCalm = isCalm;
    this.isStill = isStill;
    this.beganMs = Date.now() - 26 * 3_600_000;
    this.tenants = Array.from({ length: tenants }, (_, i) => (i < WORDS.length ? WORDS[i] : `${WORDS[i % WORDS.length]}-${i}`));
    this.servers = SERVERS;
    this.maxWorkers = Math.max(64, Math.ceil((workers * 1.2) / 100) * 100);
    this.workers = Array.from({ length: workers }, (_, i) => this.#worker(i, random));
    this.ended = new Map();
    this.actions = [];
    this.lines = new Map();
    this.events = this.#events();
    this.requests = this.#requests(random);
  }

  #worker(i, random) {
    const state = i < 5 ? "busy" : STATES[Math.floor(random() * STATES.length)];
    const skew = Math.floor(random() ** 3 * this.tenants.length);
    return {
      id: `w${400 + i}`,
      server: this.servers[Math.floor(random() ** 1.7 * this.servers.length)],
      tenant: state === "spare" ? "" : this.tenants[skew],
      state,
      in_flight: state === "busy" ? 1 + Math.floor(random() * 3) : 0,
      cpu_cores: state === "busy" ? random() * 0.5 : 0,
      memory_bytes: state === "starting" ? null : Math.round((state === "hibernated" ? 4 + random() * 8 : 30 + random() * 120) * MIB),
      requests: state === "spare" ? 0 : Math.floor(random() ** 2 * 900),
      age_seconds: random() * 40_000,
      idle_seconds: state === "busy" ? null : random() * 500,
      pinned: false,
    };
  }

  #events() {
    const now = Date.now();
    const event = (ago, kind, message, server = null, tenant = null, worker = null, reason) => ({ at_ms: now - ago * 1000, kind, server, tenant, worker, message, ...(reason ? { reason } : {}) });
    const all = [
      event(3_600, "reloaded", "pool.toml was read again: 1 server changed"),
      event(91, "worker_starting", "starting", "search", "acme", "w411"),
      event(90, "worker_ready", "ready", "search", "acme", "w411"),
    ];
    if (this.isCalm) return all;
    return [
      ...all,
      event(58, "worker_limited", "has 130 MiB in its folders, more than the 128 MiB it may: its files grow no more until some of that is removed (`servers.sqlite.limits.disk`)", "sqlite", "wayne", "w405", "limit_disk"),
      event(31, "circuit_opened", "starts of server `browser` are refused for everyone for 30s", "browser"),
      event(31, "worker_start_failed", "exited before it was ready (exit 1); its last line: Error: Failed to launch the browser process", "browser", "hooli", "w999"),
      event(12, "package_installing", "mcp-server-fetch is being installed", "fetch"),
      event(3, "worker_exited", "was ended: idle for 10m", "git", "wayne", "w377", "idle"),
    ];
  }

  #requests(random) {
    return Array.from({ length: 120 }, (_, i) => {
      const worker = this.workers[Math.floor(random() ** 2 * this.workers.length)];
      const outcome = this.isCalm ? "ok" : i < 2 ? "open" : i % 17 === 3 ? "failed" : i % 23 === 5 ? "error" : i % 41 === 7 ? "cancelled" : "ok";
      const isRefused = outcome === "failed" && i % 2 === 0;
      const took = outcome === "open" ? 2_000 + i * 500 : random() ** 4 * 3_000 + 4;
      return {
        id: `1f0c22ab-${(900 - i).toString(16)}`,
        agoMs: 700 + i * 1_900,
        tenant: worker?.tenant ?? "acme",
        server: worker?.server ?? "search",
        method: i % 5 === 0 ? "tools/list" : "tools/call",
        session: "9f1c22ab",
        worker: isRefused ? null : outcome === "failed" ? "w999" : (worker?.id ?? null),
        outcome,
        reason: outcome === "failed" ? (isRefused ? "circuit_open" : "worker_exited") : null,
        before_ms: 0.4,
        waited_ms: isRefused ? took : took * 0.2,
        worker_ms: outcome === "open" || isRefused ? null : took * 0.8,
        after_ms: outcome === "open" || isRefused ? null : 0.1,
        total_ms: took,
      };
    });
  }

  /** Some time passes: what is busy changes a little. */
  tick() {
    if (this.isStill) return;
    for (let i = 0; i < Math.min(40, this.workers.length); i++) {
      const worker = this.workers[Math.floor(this.random() * this.workers.length)];
      if (!["busy", "idle"].includes(worker.state)) continue;
      const isBusy = worker.state === "idle";
      worker.state = isBusy ? "busy" : "idle";
      worker.in_flight = isBusy ? 1 : 0;
      worker.cpu_cores = isBusy ? this.random() * 0.5 : 0;
      worker.idle_seconds = isBusy ? null : 0.1;
      if (isBusy) worker.requests += 1;
    }
  }

  #uses(of, names) {
    const uses = new Map(names.map((name) => [name, { name, workers: 0, in_flight: 0, queued: 0, calls_per_minute: 0, errors_per_minute: 0, cpu_cores: 0, memory_awake_bytes: 0, memory_asleep_bytes: 0 }]));
    for (const worker of this.workers) {
      const use = uses.get(worker[of]);
      if (!use) continue;
      use.workers += 1;
      use.in_flight += worker.in_flight;
      use.cpu_cores += worker.cpu_cores;
      use.calls_per_minute += worker.requests / 60;
      use[worker.state === "hibernated" ? "memory_asleep_bytes" : "memory_awake_bytes"] += worker.memory_bytes ?? 0;
    }
    return [...uses.values()];
  }

  overview(query) {
    const given = (name) => query.get(name) ?? "";
    const limit = Number(given("limit") || 20);
    const words = given("search").toLowerCase().split(/\s+/).filter(Boolean);
    const sort = given("sort") || "cpu";
    const ranked = (rows, texts, keys) => {
      const found = rows.filter((row) => words.every((word) => texts(row).some((text) => text.toLowerCase().includes(word))));
      const key = keys[sort] ?? keys.cpu;
      const text = (row) => row.name ?? row.id;
      found.sort((a, b) => (sort === "name" ? 0 : key(b) - key(a)) || NAMES.compare(text(a), text(b)));
      const kept = [];
      let size = 0;
      for (const row of found.slice(0, limit)) {
        size += JSON.stringify(row).length;
        if (size > 13_000) break;
        kept.push(row);
      }
      return { total: found.length, rows: kept };
    };
    const memory = (row) => row.memory_awake_bytes + row.memory_asleep_bytes;
    const useKeys = { cpu: (row) => row.cpu_cores, memory, workers: (row) => row.workers, in_flight: (row) => row.in_flight, queued: (row) => row.queued, calls: (row) => row.calls_per_minute, errors: (row) => row.errors_per_minute };
    const isMeant = (worker) => (!given("tenant") || worker.tenant === given("tenant")) && (!given("server") || worker.server === given("server"));
    const workers = this.workers.filter(isMeant);
    const some = (of, names) => {
      const other = of === "tenant" ? "server" : "tenant";
      if (given(of)) return names.filter((name) => name === given(of));
      return given(other) ? names.filter((name) => workers.some((worker) => worker[of] === name)) : names;
    };
    const tenants = this.#uses("tenant", some("tenant", this.tenants)).map((use) => ({ ...use, max_workers: 12 }));
    const servers = this.#uses("server", some("server", this.servers)).map((use) => {
      const isBroken = use.name === "browser" && !this.isCalm;
      const last_error = isBroken ? { at_ms: Date.now() - 31_000, tenant: "hooli", worker: "w999", message: "exited before it was ready (exit 1); its last line: Error: Failed to launch the browser process" } : null;
      return { ...use, errors_per_minute: isBroken ? 6 : 0, starts: { ok: 240, failed: isBroken ? 9 : 0 }, circuit: isBroken ? "open" : "closed", retry_in_seconds: isBroken ? 21.4 : null, last_error };
    });
    const first = tenants.find((row) => row.name === "acme");
    if (first && !this.isCalm) Object.assign(first, { queued: 3, errors_per_minute: 4 });
    const counts = { starting: 0, spare: 0, idle: 0, hibernated: 0, busy: 0, draining: 0, stopping: 0 };
    let awake = 0;
    let asleep = 0;
    for (const worker of this.workers) {
      counts[worker.state] += 1;
      if (worker.state === "hibernated") asleep += worker.memory_bytes ?? 0;
      else awake += worker.memory_bytes ?? 0;
    }
    const wait = { seconds: 3.2, tenant: "acme", server: "search", message: "no worker of tenant `acme` within 3s (12 of 12 are in use; raise `tenants.acme.max_workers` or `pool.queue_timeout`)" };
    const mix = { warm: 184_213, woken: 2_210, adopted: 180, primed: 412, cold: 878, failed: this.isCalm ? 0 : 11 };
    const about = (n) => (this.isCalm ? 0 : n);
    const events = this.events.filter((event) => (!given("tenant") || event.tenant === given("tenant")) && (!given("server") || event.server === given("server")));
    return {
      at_ms: Date.now(),
      every_ms: 2_000,
      status: {
        version: "0.1.0",
        pid: 4711,
        uptime_seconds: (Date.now() - this.beganMs) / 1e3,
        state: "ready",
        config: "/etc/stdiopool/pool.toml",
        workers: counts,
        limits: { max_workers: this.maxWorkers, max_workers_per_tenant: 8, max_starting: 2, max_memory_bytes: this.maxWorkers * 80 * MIB, queue_limit: 1_024, queue_timeout_seconds: 30, idle_timeout_seconds: 600 },
        memory_bytes: awake + asleep,
        queue_depth: about(3),
        longest_wait: this.isCalm ? null : wait,
        sessions: 212,
        starts: { ok: 1_290, failed: mix.failed },
        circuits: [],
      },
      memory: { charged_bytes: awake + asleep + 84 * MIB, awake_bytes: awake, asleep_bytes: asleep, saved_bytes: asleep * 8, max_bytes: this.maxWorkers * 80 * MIB },
      binding: this.isCalm ? null : { shows: "waits", limit: "max_workers_per_tenant", key: "pool.max_workers_per_tenant", since_seconds: 3.2, tenant: "acme", server: "search", message: wait.message },
      rates: { over_seconds: 60, calls_per_minute: 812, errors_per_minute: about(7), cpu_cores: this.workers.reduce((sum, worker) => sum + worker.cpu_cores, 0) },
      tenants: ranked(tenants, (row) => [row.name], useKeys),
      servers: ranked(servers, (row) => [row.name], useKeys),
      workers: ranked(workers, (row) => [row.id, row.tenant, row.server], { cpu: (row) => row.cpu_cores, memory: (row) => row.memory_bytes ?? 0, calls: (row) => row.requests, workers: (row) => row.requests, in_flight: (row) => row.in_flight, queued: (row) => row.in_flight, errors: (row) => row.in_flight }),
      starts: { since_start: mix, lately: { warm: 4_021, woken: 31, adopted: 2, primed: 6, cold: 4, failed: about(3), over_seconds: 300 } },
      rejections: {
        total: about(96),
        lately: about(14),
        over_seconds: 300,
        rows: this.isCalm
          ? []
          : [
              { reason: "circuit_open", total: 31, lately: 12, about: "The server failed repeatedly; the failure says when it will be tried again" },
              { reason: "start_failed", total: 11, lately: 2, about: "The process exited before it was ready, or never answered" },
              { reason: "tenant_limit", total: 40, lately: 0, about: "The tenant's own limit" },
              { reason: "unauthorized", total: 14, lately: 0, about: "No credentials, or not valid ones" },
            ],
      },
      evictions: { since_start: { max_workers: 0, max_workers_per_tenant: about(57), max_workers_per_server: 0, max_memory: about(4) }, lately: about(2) },
      circuits: this.#of(given, this.isCalm ? [] : [
        { server: "browser", failing_configurations: 3, retry_in_seconds: 21.4, message: "starts of server `browser` are refused for everyone: 3 configurations fail" },
        { server: "drive", tenant: "globex", configuration: true, failures_in_a_row: 5, retry_in_seconds: 44, message: "exited before it was ready (exit 2); its last line: invalid_grant" },
      ]),
      installs: this.#of(given, this.isCalm ? [] : [{ package: "mcp-server-fetch", server: "fetch", stage: "installing", seconds: 12.4 }]),
      oauth: this.#of(given, this.isCalm ? [] : [
        { tenant: "globex", server: "drive", ends_at_ms: Date.now() + 3 * 3_600_000, message: "ends in 3h: the provider gave no refresh token, so it has to be authorised again" },
        { tenant: "hooli", server: "drive", ends_at_ms: null, message: "3 refreshes in a row have failed; tried again in 40s" },
      ]),
      events: { rows: [...events].reverse().slice(0, 30) },
    };
  }

  #of(given, rows) {
    const found = rows.filter((row) => (!given("tenant") || row.tenant === undefined || row.tenant === given("tenant")) && (!given("server") || row.server === given("server")));
    return { total: found.length, rows: found };
  }

  history(points) {
    const len = Math.min(points, 1_440);
    const step = 60 * Math.ceil(1_440 / len);
    const random = numbers(99);
    const day = Array.from({ length: len }, (_, i) => 0.55 + 0.4 * Math.sin(((i / len) * 24 - 9) * (Math.PI / 12)) + 0.08 * Math.sin(i / 7));
    const broken = (values) => values.map((value, i) => (i > len * 0.27 && i < len * 0.28 ? null : value));
    const level = (scale) => broken(day.map((d) => Math.max(0, Math.round(d * scale * (0.92 + random() * 0.16) * 10) / 10)));
    const count = (scale) => broken(day.map((d) => Math.max(0, Math.floor(d * scale * (step / 60) * (0.6 + random() * 0.8)))));
    const n = this.workers.length;
    return {
      at_ms: Date.now(),
      step_seconds: step,
      len,
      workers: { starting: level(n * 0.02), spare: level(n * 0.03), idle: level(n * 0.3), hibernated: level(n * 0.42), busy: level(n * 0.2), draining: level(n * 0.01), stopping: level(n * 0.01) },
      memory: { awake_mib: level(n * 38).map((v) => v && Math.round(v)), asleep_mib: level(n * 4).map((v) => v && Math.round(v)) },
      queue_depth: broken(day.map((d) => (random() > 0.86 ? Math.floor(d * 9 * random()) : 0))),
      counts: { calls: count(800), errors: count(6), rejections: count(1.6), evictions: count(0.8), warm: count(780), woken: count(10), adopted: count(0.9), primed: count(2.4), cold: count(3.6), failed: count(0.7) },
    };
  }

  worker(id) {
    const row = this.workers.find((row) => row.id === id);
    if (!row) return undefined;
    const now = Date.now();
    const began = now - row.age_seconds * 1e3;
    const step = (part, state, message) => ({ at_ms: Math.round(began + (now - began) * part), state, message });
    return {
      ...row,
      pid: 9_127,
      processes: [9_127, 9_130],
      key: "5f0c1b7a9d2e4c385f0c1b7a9d2e4c38",
      stderr_lines: 31,
      start: { program: "uvx", args: [`mcp-${row.server}@1.4.0`, "--api-key", "[redacted]", "--greeting", "Good morning"], env: ["PATH", "HOME", "LANG", "SEARCH_API_KEY"], cwd: `/var/lib/stdiopool/data/${row.tenant}/${row.server}`, is_callers: false },
      timeline: [step(0, "starting", "spawned"), step(0.02, "ready", "ready after 1.1s, primed"), step(0.021, "first_request", "given its first request"), step(0.4, "hibernated", "hibernated: holds 9 MiB of 62 MiB"), step(0.9, "woken", "woken by a request, after 31ms")],
    };
  }

  endedRows(worker) {
    const now = Date.now();
    const failed = {
      id: "w999",
      server: "browser",
      tenant: "hooli",
      ended_at_ms: now - 31_000,
      reason: "start_failed",
      message: "it exited with status 1 before it answered `initialize`; its last lines on stderr:\nError: Failed to launch the browser process",
      exit: "exit 1",
      age_seconds: 0.8,
      stderr_lines: 4,
      timeline: [
        { at_ms: now - 31_800, state: "starting", message: "spawned" },
        { at_ms: now - 31_000, state: "ended", message: "exited before it was ready (exit 1)" },
      ],
    };
    const idle = { ...failed, id: "w377", server: "git", tenant: "wayne", reason: "idle", message: "idle for 10m", exit: "exit 0", age_seconds: 4_000, timeline: [] };
    const rows = this.isCalm ? [idle] : [idle, failed];
    return worker ? [...rows, ...this.ended.values()].filter((row) => row.id === worker) : [...rows, ...this.ended.values()];
  }

  logs(id) {
    if (id === "w999") return ["Error: Failed to launch the browser process", "    at Launcher.launch (/app/node_modules/browser/launcher.js:12:9)", "\u001b[31mfatal\u001b[0m <b>not markup</b>", "\u001b]0;owned\u0007 rtl \u202e gnp.txt"];
    return Array.from({ length: 30 }, (_, i) => `2026-11-30T14:0${i % 10}:00Z INFO request ${i} answered in ${(i * 7) % 40} ms`);
  }

  act(id, action) {
    const row = this.workers.find((row) => row.id === id);
    this.actions.push(`${action} ${id}`);
    if (!row) return [404, { error: `there is no worker \`${id}\``, reason: "not_found" }];
    if (action === "hibernate") {
      if (row.in_flight > 0) return [409, { error: `${id} has ${row.in_flight} requests in flight: only a worker with none is hibernated`, reason: "unavailable" }];
      row.state = "hibernated";
      return [202, { message: `hibernating ${id}` }];
    }
    row.state = action === "stop" ? "stopping" : "draining";
    return [202, { message: action === "stop" ? `stopping ${id}` : `restarting ${id}: it takes no new requests and ends with those it has; the next request starts another` }];
  }
}
