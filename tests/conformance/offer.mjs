// What the conformance suite expects a server to offer, in whichever words it is asked for.
// `peer` is the client of one request: `ask(method, params, id)`, `notify(method, params)`, `log(level, data)`.
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
const SOUND = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=';

export const fault = (code, message, data) => Object.assign(new Error(message), { code, data });
const text = (value) => ({ content: [{ type: 'text', text: value }] });
export const failed = (value) => ({ ...text(value), isError: true });
const form = (message, properties, required = Object.keys(properties)) => ({
  message,
  requestedSchema: { type: 'object', properties, required },
});
const sample = (prompt, maxTokens = 100) => ({
  messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
  maxTokens,
});
const said = (result) => result.content?.text ?? JSON.stringify(result.content);
const name = { name: { type: 'string' } };

const none = { type: 'object', properties: {} };
const tools = {
  test_simple_text: { run: (peer) => text('This is a simple text response for testing.') },
  test_image_content: { run: (peer) => ({ content: [{ type: 'image', data: PIXEL, mimeType: 'image/png' }] }) },
  test_audio_content: { run: (peer) => ({ content: [{ type: 'audio', data: SOUND, mimeType: 'audio/wav' }] }) },
  test_embedded_resource: {
    run: (peer) => ({
      content: [{ type: 'resource', resource: { uri: 'test://embedded-resource', mimeType: 'text/plain', text: 'This is an embedded resource content.' } }],
    }),
  },
  test_multiple_content_types: {
    run: (peer) => ({
      content: [
        { type: 'text', text: 'Multiple content types test:' },
        { type: 'image', data: PIXEL, mimeType: 'image/png' },
        { type: 'resource', resource: { uri: 'test://mixed-content-resource', mimeType: 'application/json', text: '{"test":"data","value":123}' } },
      ],
    }),
  },
  test_tool_with_logging: {
    run: async (peer) => {
      for (const line of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
        peer.log('info', line);
        await sleep(50);
      }
      return text('Tool with logging executed successfully');
    },
  },
  test_logging_tool: { run: (peer) => (peer.log('info', 'a line'), text('logged')) },
  test_tool_with_progress: {
    run: async (peer, _, meta) => {
      const progressToken = meta?.progressToken;
      for (const progress of [0, 50, 100]) {
        if (progressToken !== undefined) {
          peer.notify('notifications/progress', { progressToken, progress, total: 100, message: `Completed step ${progress} of 100` });
        }
        await sleep(50);
      }
      return text(String(progressToken ?? 'no token'));
    },
  },
  test_error_handling: { run: (peer) => failed('This tool intentionally returns an error for testing') },
  test_reconnection: { run: async (peer) => (await sleep(100), text('Reconnection test completed')) },
  test_sampling: {
    schema: { type: 'object', properties: { prompt: { type: 'string' } }, required: ['prompt'] },
    run: async (peer, { prompt }) => text(`LLM response: ${said(await peer.ask('sampling/createMessage', sample(prompt)))}`),
  },
  test_elicitation: {
    schema: { type: 'object', properties: { message: { type: 'string' } }, required: ['message'] },
    run: async (peer, { message }) => {
      const given = await peer.ask('elicitation/create', form(message, { username: { type: 'string', description: "User's response" }, email: { type: 'string', description: "User's email address" } }));
      return text(`User response: action=${given.action}, content=${JSON.stringify(given.content ?? {})}`);
    },
  },
  test_elicitation_sep1034_defaults: {
    run: async (peer) => {
      const given = await peer.ask('elicitation/create', form('Please review and update the form fields with defaults', {
        name: { type: 'string', default: 'John Doe' },
        age: { type: 'integer', default: 30 },
        score: { type: 'number', default: 95.5 },
        status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
        verified: { type: 'boolean', default: true },
      }, []));
      return text(`Elicitation completed: action=${given.action}, content=${JSON.stringify(given.content ?? {})}`);
    },
  },
  test_elicitation_sep1330_enums: {
    run: async (peer) => {
      const titled = [{ const: 'value1', title: 'First Option' }, { const: 'value2', title: 'Second Option' }, { const: 'value3', title: 'Third Option' }];
      const plain = ['option1', 'option2', 'option3'];
      const given = await peer.ask('elicitation/create', form('Please select options from the enum fields', {
        untitledSingle: { type: 'string', enum: plain },
        titledSingle: { type: 'string', oneOf: titled },
        legacyEnum: { type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['Option One', 'Option Two', 'Option Three'] },
        untitledMulti: { type: 'array', items: { type: 'string', enum: plain } },
        titledMulti: { type: 'array', items: { anyOf: titled } },
      }, []));
      return text(`Elicitation completed: action=${given.action}, content=${JSON.stringify(given.content ?? {})}`);
    },
  },
  json_schema_2020_12_tool: {
    schema: {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      type: 'object',
      $defs: { address: { $anchor: 'addressDef', type: 'object', properties: { street: { type: 'string' }, city: { type: 'string' } } } },
      properties: { name: { type: 'string' }, address: { $ref: '#/$defs/address' }, contactMethod: { type: 'string', enum: ['phone', 'email'] }, phone: { type: 'string' }, email: { type: 'string' } },
      allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
      if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
      then: { required: ['phone'] },
      else: { required: ['email'] },
      additionalProperties: false,
    },
    run: (peer, given) => text(JSON.stringify(given)),
  },
  test_header_tool: {
    schema: { type: 'object', properties: { region: { type: 'string', 'x-mcp-header': 'Region' } }, required: ['region'] },
    run: (peer, { region }) => text(`in ${region}`),
  },
  test_missing_capability: { run: async (peer) => text(said(await peer.ask('sampling/createMessage', sample('hello')))) },
  test_streaming_elicitation: {
    run: async (peer, _, meta) => {
      if (meta?.progressToken !== undefined) peer.notify('notifications/progress', { progressToken: meta.progressToken, progress: 1 });
      const given = await peer.ask('elicitation/create', form('Go on?', { ok: { type: 'boolean' } }));
      return text(given.action);
    },
  },
  test_trigger_tool_change: { run: (peer) => (peer.notify('notifications/tools/list_changed'), text('changed')) },
  test_trigger_resource_update: { run: (peer) => (peer.notify('notifications/resources/updated', { uri: 'test://watched-resource' }), text('updated')) },
  test_waits_for_ever: { run: () => new Promise(() => {}) },
  test_trigger_prompt_change: { run: (peer) => (peer.notify('notifications/prompts/list_changed'), text('changed')) },
  test_input_required_result_elicitation: {
    run: async (peer) => {
      const given = await peer.ask('elicitation/create', form('What is your name?', name), 'user_name');
      return text(`Hello, ${given.content?.name}!`);
    },
  },
  test_input_required_result_sampling: {
    run: async (peer) => text(said(await peer.ask('sampling/createMessage', sample('What is the capital of France?'), 'capital_question'))),
  },
  test_input_required_result_list_roots: {
    run: async (peer) => text(JSON.stringify((await peer.ask('roots/list', {}, 'client_roots')).roots)),
  },
  test_input_required_result_request_state: {
    run: async (peer) => {
      const given = await peer.ask('elicitation/create', form('Please confirm', { ok: { type: 'boolean' } }), 'confirm');
      return text(`state-ok ${given.content?.ok}`);
    },
  },
  test_input_required_result_multiple_inputs: {
    run: async (peer) => {
      const given = await Promise.all([
        peer.ask('elicitation/create', form('What is your name?', name), 'user_name'),
        peer.ask('sampling/createMessage', sample('Generate a greeting', 50), 'greeting'),
        peer.ask('roots/list', {}, 'client_roots'),
      ]);
      return text(`${given[0].content?.name}: ${said(given[1])} ${given[2].roots.length}`);
    },
  },
  test_input_required_result_multi_round: {
    run: async (peer) => {
      const first = await peer.ask('elicitation/create', form('Step 1: What is your name?', name), 'step1');
      const second = await peer.ask('elicitation/create', form('Step 2: What is your favorite color?', { color: { type: 'string' } }), 'step2');
      return text(`${first.content?.name} likes ${second.content?.color}`);
    },
  },
  test_input_required_result_tampered_state: {
    run: async (peer) => {
      const given = await peer.ask('elicitation/create', form('Please confirm', { ok: { type: 'boolean' } }), 'confirm');
      return text(`confirmed ${given.content?.ok}`);
    },
  },
  test_input_required_result_capabilities: {
    run: async (peer) => {
      const both = await Promise.allSettled([
        peer.ask('elicitation/create', form('What is your name?', name), 'user_name'),
        peer.ask('sampling/createMessage', sample('Generate a greeting'), 'greeting'),
      ]);
      return text(both.map((one) => one.status).join(' '));
    },
  },
};

const resources = {
  'test://static-text': { name: 'Static Text', mimeType: 'text/plain', text: 'This is the content of the static text resource.' },
  'test://static-binary': { name: 'Static Binary', mimeType: 'image/png', blob: PIXEL },
  'test://watched-resource': { name: 'Watched', mimeType: 'text/plain', text: 'watched' },
};
const prompts = {
  test_simple_prompt: { run: (peer) => [{ type: 'text', text: 'This is a simple prompt for testing.' }] },
  test_prompt_with_arguments: {
    arguments: [{ name: 'arg1', required: true }, { name: 'arg2', required: true }],
    run: (peer, { arg1, arg2 }) => [{ type: 'text', text: `Prompt with arguments: arg1='${arg1}', arg2='${arg2}'` }],
  },
  test_prompt_with_embedded_resource: {
    arguments: [{ name: 'resourceUri', required: true }],
    run: (peer, { resourceUri }) => [
      { type: 'resource', resource: { uri: resourceUri, mimeType: 'text/plain', text: 'Embedded resource content for testing.' } },
      { type: 'text', text: 'Please process the embedded resource above.' },
    ],
  },
  test_prompt_with_image: {
    run: (peer) => [{ type: 'image', data: PIXEL, mimeType: 'image/png' }, { type: 'text', text: 'Please analyze the image above.' }],
  },
  test_input_required_result_prompt: {
    run: async (peer) => {
      const given = await peer.ask('elicitation/create', form('What context should the prompt use?', { context: { type: 'string' } }), 'user_context');
      return [{ type: 'text', text: `Context: ${given.content?.context}` }];
    },
  },
};


// What both eras ask, answered with a result or a promise of one. `peer.missing` makes the error for a resource that is not there.
export const answers = {
  'tools/list': () => ({
    tools: Object.entries(tools).map(([name, { schema }]) => ({ name, description: `The suite's ${name}`, inputSchema: schema ?? none })),
  }),
  'tools/call': async (peer, { name, arguments: given, _meta }) => {
    if (!tools[name]) throw fault(-32602, `Unknown tool: ${name}`);
    return tools[name].run(peer, given ?? {}, _meta);
  },
  'resources/list': () => ({ resources: Object.entries(resources).map(([uri, { name, mimeType }]) => ({ uri, name, mimeType })) }),
  'resources/templates/list': () => ({ resourceTemplates: [{ uriTemplate: 'test://template/{id}/data', name: 'Template', mimeType: 'application/json' }] }),
  'resources/read': (peer, { uri }) => {
    const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
    if (id) return { contents: [{ uri, mimeType: 'application/json', text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }] };
    if (!resources[uri]) throw peer.missing(uri);
    const { name: _, ...content } = resources[uri];
    return { contents: [{ uri, ...content }] };
  },
  'prompts/list': () => ({ prompts: Object.entries(prompts).map(([name, { arguments: wanted }]) => ({ name, description: name, ...(wanted && { arguments: wanted }) })) }),
  'prompts/get': async (peer, { name, arguments: given }) => {
    if (!prompts[name]) throw fault(-32602, `Unknown prompt: ${name}`);
    const contents = await prompts[name].run(peer, given ?? {});
    return { messages: contents.map((content) => ({ role: 'user', content })) };
  },
  'completion/complete': (_, { argument }) => ({ completion: { values: ['paris', 'park', 'party'].filter((v) => v.startsWith(argument.value ?? '')), total: 150, hasMore: false } }),
};

export const capabilities = {
  tools: { listChanged: true },
  prompts: { listChanged: true },
  resources: { subscribe: true, listChanged: true },
  logging: {},
  completions: {},
};
export const serverInfo = { name: 'conformance-fixture', version: '1.0.0' };
const LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'];
export const reaches = (level, threshold) => LEVELS.indexOf(level) >= LEVELS.indexOf(threshold);
