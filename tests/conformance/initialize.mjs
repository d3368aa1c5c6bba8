// A server of the revisions that begin with `initialize`, over stdio. Written without an SDK, so that the ids of its own
// requests can be chosen.
import { createInterface } from 'node:readline';
import { answers, capabilities, failed, fault, reaches, serverInfo } from './offer.mjs';

const send = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
const notify = (method, params) => send({ method, params });

let level = 'debug';
// Requests of the server, by id.
const asked = new Map();
let nextAsk = 1;
const peer = {
  notify,
  ask: (method, params, id = `ask-${nextAsk++}`) =>
    new Promise((resolve, reject) => {
      asked.set(id, { resolve, reject });
      send({ id, method, params });
    }),
  log: (at, data) => {
    if (reaches(at, level)) notify('notifications/message', { level: at, logger: 'fixture', data });
  },
  missing: (uri) => fault(-32002, 'Resource not found', { uri }),
};

const methods = {
  ...answers,
  initialize: (_, { protocolVersion }) => {
    const known = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25'];
    return { protocolVersion: known.includes(protocolVersion) ? protocolVersion : '2025-11-25', capabilities, serverInfo };
  },
  ping: () => ({}),
  'resources/subscribe': () => ({}),
  'resources/unsubscribe': () => ({}),
  'logging/setLevel': (_, params) => ((level = params.level), {}),
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, method, params, result, error } = JSON.parse(line);
  if (method === undefined) {
    const waiting = asked.get(id);
    asked.delete(id);
    if (error) waiting?.reject(new Error(error.message));
    else waiting?.resolve(result);
    return;
  }
  if (id === undefined) return;
  try {
    if (!methods[method]) throw fault(-32601, `Method not found: ${method}`);
    send({ id, result: await methods[method](peer, params ?? {}) });
  } catch (failure) {
    if (method === 'tools/call' && failure.code === undefined) send({ id, result: failed(failure.message) });
    else send({ id, error: { code: failure.code ?? -32603, message: failure.message, data: failure.data } });
  }
});
