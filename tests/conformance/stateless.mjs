// A server of the stateless revision and of no other, over stdio: each request says everything, and what the server wants to
// know it says in a result that requires input (2026-07-28, basic/patterns/mrtr).
//
// A tool is run anew for each round, with what the rounds before have brought; what that was travels in `requestState`.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { createInterface } from 'node:readline';
import { answers, capabilities, failed, fault, reaches, serverInfo } from './offer.mjs';

const VERSION = '2026-07-28';
const META = 'io.modelcontextprotocol/';
const send = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
const introduced = { _meta: { [`${META}serverInfo`]: serverInfo } };

// State that a client brings back.
const key = randomBytes(32);
const digest = (method, params) => {
  const { _meta, inputResponses, requestState, ...rest } = params;
  return createHash('sha256').update(JSON.stringify([method, rest])).digest('hex');
};
const mac = (text) => createHmac('sha256', key).update(text).digest();
const seal = (state) => {
  const text = Buffer.from(JSON.stringify(state)).toString('base64url');
  return `${text}.${mac(text).toString('base64url')}`;
};
const unseal = (sealed, of) => {
  const [text, tag = ''] = String(sealed).split('.');
  const [given, wanted] = [Buffer.from(tag, 'base64url'), mac(text)];
  const state = given.length === wanted.length && timingSafeEqual(given, wanted) && JSON.parse(Buffer.from(text, 'base64url'));
  if (!state || state.of !== of) throw fault(-32602, 'requestState is not valid');
  return state;
};

// What a client must have declared, and what its answers look like.
const NEEDED = { 'elicitation/create': 'elicitation', 'sampling/createMessage': 'sampling', 'roots/list': 'roots' };
const isAnswer = {
  'elicitation/create': (given) => ['accept', 'decline', 'cancel'].includes(given?.action),
  'sampling/createMessage': (given) => typeof given?.role === 'string' && typeof given?.content === 'object',
  'roots/list': (given) => Array.isArray(given?.roots),
};

// Listeners, by the ids of their requests.
const listeners = new Map();
const LISTENED = {
  'notifications/tools/list_changed': 'toolsListChanged',
  'notifications/prompts/list_changed': 'promptsListChanged',
  'notifications/resources/list_changed': 'resourcesListChanged',
};
const tell = (method, params) => {
  for (const [id, wanted] of listeners) {
    const is = method === 'notifications/resources/updated' ? wanted.resourceSubscriptions?.includes(params.uri) : wanted[LISTENED[method]];
    if (is) send({ method, params: { ...params, _meta: { [`${META}subscriptionId`]: id } } });
  }
};

const CACHED = ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'resources/read'];
const INTERACTIVE = ['tools/call', 'prompts/get', 'resources/read'];
const cancelled = new Set();

async function round(id, method, params) {
  const meta = params._meta;
  const of = digest(method, params);
  const known = params.requestState === undefined ? {} : unseal(params.requestState, of).known;
  const [brought, wanted] = [params.inputResponses ?? {}, {}];
  let wants;
  const wanting = new Promise((resolve) => (wants = () => setImmediate(resolve)));
  let nextAsk = 1;
  const peer = {
    ask: (asked, given, name = `ask-${nextAsk++}`) =>
      new Promise((resolve, reject) => {
        const response = known[name] ?? brought[name];
        if (response !== undefined && isAnswer[asked](response)) return resolve((known[name] = response));
        const capability = NEEDED[asked];
        if (!meta[`${META}clientCapabilities`][capability]) {
          return reject(fault(-32021, `the client has not declared ${capability}`, { requiredCapabilities: { [capability]: {} } }));
        }
        wanted[name] = { method: asked, params: given };
        wants();
      }),
    // What concerns a request comes before its result, what does not goes to listeners.
    notify: (name, given) => (LISTENED[name] || name === 'notifications/resources/updated' ? tell(name, given) : send({ method: name, params: given })),
    log: (at, data) => {
      const threshold = meta[`${META}logLevel`];
      if (threshold && reaches(at, threshold)) send({ method: 'notifications/message', params: { level: at, logger: 'fixture', data } });
    },
    missing: (uri) => fault(-32602, 'Resource not found', { uri }),
  };
  const done = answers[method](peer, params);
  const result = await Promise.race([done, wanting.then(() => undefined)]);
  if (result === undefined) {
    if (!INTERACTIVE.includes(method)) throw fault(-32603, `${method} cannot require input`);
    Promise.resolve(done).catch(() => {});
    return { resultType: 'input_required', inputRequests: wanted, requestState: seal({ of, known }), ...introduced };
  }
  const caching = CACHED.includes(method) ? { ttlMs: 1000, cacheScope: 'private' } : {};
  return { resultType: 'complete', ...caching, ...result, ...introduced };
}

function listen(id, { notifications = {} }) {
  listeners.set(id, notifications);
  send({ method: 'notifications/subscriptions/acknowledged', params: { notifications, _meta: { [`${META}subscriptionId`]: id } } });
}

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, method, params = {} } = JSON.parse(line);
  if (method === 'notifications/cancelled') {
    if (!listeners.delete(params.requestId)) cancelled.add(params.requestId);
    console.error(`cancelled: ${params.reason}`);
    return;
  }
  if (id === undefined || method === undefined) return;
  try {
    const version = params._meta?.[`${META}protocolVersion`];
    if (method === 'initialize' || (version !== undefined && version !== VERSION)) {
      throw fault(-32022, 'Unsupported protocol version', { supported: [VERSION], requested: version ?? params.protocolVersion });
    }
    if (version === undefined || typeof params._meta[`${META}clientCapabilities`] !== 'object') throw fault(-32602, '_meta is not complete');
    if (method === 'subscriptions/listen') return listen(id, params);
    if (method === 'server/discover') {
      return send({ id, result: { resultType: 'complete', supportedVersions: [VERSION], capabilities, ttlMs: 1000, cacheScope: 'private', ...introduced } });
    }
    if (!answers[method]) throw fault(-32601, `Method not found: ${method}`);
    const result = await round(id, method, params);
    if (!cancelled.delete(id)) send({ id, result });
  } catch (failure) {
    if (cancelled.delete(id)) return;
    if (method === 'tools/call' && failure.code === undefined) send({ id, result: { resultType: 'complete', ...failed(failure.message) } });
    else send({ id, error: { code: failure.code ?? -32603, message: failure.message, data: failure.data } });
  }
});
