// Serves what `npm run build` made with a pool that does not exist: `node dev/mock.mjs [PORT] [--large | --calm] [--token TOKEN]`.

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Pool } from "./pool.mjs";
import { serve } from "./server.mjs";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { large: { type: "boolean" }, calm: { type: "boolean" }, token: { type: "string" } } });
const size = values.large ? { tenants: 10_000, workers: 2_000 } : {};
const pool = new Pool({ ...size, isCalm: values.calm ?? false });
const dist = fileURLToPath(new URL("../dist", import.meta.url));
const { url } = await serve({ pool, dist, token: values.token ?? null, port: Number(positionals[0] ?? 9_091) });
console.log(url);
