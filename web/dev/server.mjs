// The admin address of a pool that does not exist: the page and its API, as the supervisor serves them.

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml" };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Serves `pool` and the files of `dist`; with `token`, the API to those alone who send it. `port` 0: any that is free. */
export async function serve({ pool, dist, token = null, port = 0 }) {
  const streams = new Set();
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://localhost");
    if (!url.pathname.startsWith("/api/")) return file(url.pathname, dist, response);
    const json = (status, value) => {
      response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
      response.end(JSON.stringify(value));
    };
    if (token !== null && request.headers.authorization !== `Bearer ${token}`) {
      return json(401, { error: "the admin token is missing or wrong; send `Authorization: Bearer <[admin] token>`", reason: "unauthorized" });
    }
    const stream = () => {
      response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
      streams.add(response);
      response.on("close", () => streams.delete(response));
      return (value, type) => response.write(`${type ? `event: ${type}\n` : ""}data: ${JSON.stringify(value)}\n\n`);
    };
    answer({ pool, request, url, json, stream, response });
  });
  server.on("connection", (socket) => socket.on("error", () => socket.destroy()));
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    streams,
    /** Breaks every stream, as a connection that is lost. */
    cut: () => [...streams].forEach((response) => response.destroy()),
    close: () => new Promise((done) => (server.closeAllConnections(), server.close(done))),
  };
}

function answer({ pool, request, url, json, stream, response }) {
  const [, , , kind, id, action] = url.pathname.split("/");
  const query = url.searchParams;
  const nothing = () => json(404, { error: "there is nothing here; GET / lists the endpoints", reason: "not_found" });
  if (request.method === "POST") return kind === "workers" && action ? json(...pool.act(id, action)) : nothing();
  switch (kind) {
    case "status":
      return json(200, pool.overview(query).status);
    case "overview": {
      if (query.get("follow") !== "true") return json(200, pool.overview(query));
      const send = stream();
      send(pool.overview(query));
      const timer = setInterval(() => (pool.tick(), send(pool.overview(query))), 2_000);
      return response.on("close", () => clearInterval(timer));
    }
    case "history":
      return json(200, pool.history(Number(query.get("points") ?? 360)));
    case "workers": {
      if (action === "logs") {
        const send = stream();
        for (const line of pool.logs(id)) send({ line });
        if (!pool.worker(id)) return response.end();
        let n = 0;
        const timer = setInterval(() => send({ line: `a line that came later ${n++}` }), 1_000);
        return response.on("close", () => clearInterval(timer));
      }
      const row = pool.worker(id);
      return row ? json(200, row) : json(404, { error: `there is no worker \`${id}\``, reason: "not_found" });
    }
    case "ended":
      return json(200, pool.endedRows(query.get("worker")));
    case "requests": {
      const isMeant = (row) => ["tenant", "server"].every((name) => !query.get(name) || row[name] === query.get(name));
      const isOf = { open: (row) => row.outcome === "open", failed: (row) => ["failed", "cancelled"].includes(row.outcome), slow: (row) => row.total_ms >= 1_000 }[query.get("state")] ?? (() => true);
      const rows = pool.requests.filter((row) => isMeant(row) && isOf(row)).slice(0, Number(query.get("limit") ?? 100));
      return json(200, rows.map(({ agoMs, ...row }) => ({ ...row, began: new Date(Date.now() - agoMs).toISOString(), age_ms: agoMs })));
    }
    case "events": {
      const send = stream();
      const since = query.get("since") ?? "";
      const from = /^\d+$/.test(since) ? Number(since) : 0;
      for (const event of pool.events) if (event.at_ms >= from) send(event);
      return undefined;
    }
    default:
      return nothing();
  }
}

function file(path, dist, response) {
  const wanted = normalize(path === "/" ? "/index.html" : path);
  const place = join(dist, wanted);
  if (!place.startsWith(dist) || !existsSync(place) || !statSync(place).isFile()) {
    response.writeHead(404, { "content-type": "application/json" });
    return response.end(JSON.stringify({ error: "there is nothing here; GET / lists the endpoints", reason: "not_found" }));
  }
  response.writeHead(200, { "content-type": TYPES[extname(place)] ?? "application/octet-stream", "content-security-policy": CSP });
  return createReadStream(place).pipe(response);
}
