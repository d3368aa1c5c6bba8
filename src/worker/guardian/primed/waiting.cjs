// A node process that has imported a package's dependencies and is nobody's yet: it waits for a launch, and becomes that worker.
//
// Started as `node THIS`, as a user of its own that may become one other, with nobody's environment (see decision 060). Descriptor 3 is a
// socket, by which it is told settings, as a line of JSON, and says what it has imported, as a line of JSON; then it is told the launch, until
// the end of what is sent, and answers eight bytes: stage and error number of what failed (`Stage` in wire.rs), zeroes if it has begun.
//
// Settings: `addon`, path of settle.c's; `folder`, which names of modules are relative to; `modules`, in order; `required`, those of them
// that are loaded by `require`; `left_out`, names of those that must not be loaded; `isModule`, whether the program is an ES module.
//
// Works with node 20 and later.
"use strict";
const fs = require("node:fs");
const Module = require("node:module");
const path = require("node:path");
const { pathToFileURL } = require("node:url");

const CONTROL = 3;
const STAGE_IDENTITY = 4;
const STAGE_FOLDER = 5;
const STAGE_TEMPLATE = 12;
const own = { exports: {} };

/** All that is sent, up to a line's end or to the end. */
function receive(isLine) {
  const parts = [];
  const buffer = Buffer.alloc(1 << 16);
  for (;;) {
    const length = fs.readSync(CONTROL, buffer);
    if (length === 0) break;
    parts.push(Buffer.from(buffer.subarray(0, length)));
    if (isLine && buffer[length - 1] === 10) break;
  }
  return Buffer.concat(parts).toString();
}

function send(bytes) {
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(CONTROL, bytes, at);
}

/** Stands for the main module where that is not known yet, in modules that keep it. */
function mainToBe() {
  const main = () => process.mainModule ?? {};
  const forwarded = (name) => (_target, ...rest) => Reflect[name](main(), ...rest);
  const names = ["get", "set", "has", "ownKeys", "deleteProperty", "getOwnPropertyDescriptor", "getPrototypeOf"];
  return new Proxy({}, Object.fromEntries(names.map((name) => [name, forwarded(name)])));
}

async function importAhead(settings) {
  const required = new Set(settings.required);
  for (const name of settings.modules) {
    if (name.startsWith("node:")) {
      await import(name);
      continue;
    }
    const file = path.join(settings.folder, name);
    if (required.has(name)) require(file);
    else await import(pathToFileURL(file));
  }
  const stray = settings.left_out.filter((name) => Module._cache[path.join(settings.folder, name)]);
  if (stray.length > 0) throw new Error("imported after all: " + stray.slice(0, 3).join(", "));
}

class Refused extends Error {
  constructor(stage, errno) {
    super();
    this.answer = [stage, errno];
  }
}

function becoming(stage, act) {
  try {
    return act();
  } catch (error) {
    throw new Refused(stage, Math.abs(error.errno ?? 22));
  }
}

/** Has the kernel take this process for one that was executed by its user, with that command line, environment and limits. */
function settle(launch) {
  const stat = fs.readFileSync("/proc/self/stat", "latin1");
  const fields = ["", "", "", ...stat.slice(stat.lastIndexOf(")") + 2).split(" ")];
  const ended = (words) => Buffer.from(words.map((word) => word + "\0").join(""));
  const line = ended([launch.arg0, launch.program, ...launch.args]);
  const text = Buffer.concat([line, ended(launch.env.map(([name, value]) => name + "=" + value))]);
  const kept = new ArrayBuffer(text.length);
  Buffer.from(kept).set(text);
  const words = [26, 27, 45, 46, 47, 28].map((at) => BigInt(fields[at]));
  const limits = [launch.open_files, launch.cpu_seconds, launch.file_size].map((it) => BigInt(it ?? 2n ** 64n - 1n));
  const errno = own.exports(BigUint64Array.from([...words, BigInt(line.length), ...limits]).buffer, kept);
  if (errno !== 0) throw new Refused(STAGE_IDENTITY, errno);
}

function become(launch) {
  const init = process.ppid;
  becoming(STAGE_IDENTITY, () => {
    process.setgid(launch.user);
    process.setuid(launch.user);
  });
  settle(launch);
  // As it may have ended before this process asked to end with it.
  if (process.ppid !== init) throw new Refused(STAGE_TEMPLATE, 3);
  becoming(STAGE_FOLDER, () => process.chdir(launch.cwd));
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const [name, value] of launch.env) process.env[name] = value;
  process.argv.splice(1, Infinity, launch.program, ...launch.args);
  const compiled = process.env.NODE_COMPILE_CACHE;
  if (compiled && Module.enableCompileCache) Module.enableCompileCache(compiled);
}

async function wait() {
  process.mainModule = undefined;
  delete Module._cache[__filename];
  const settings = JSON.parse(receive(true));
  try {
    process.dlopen(own, settings.addon);
    const began = performance.now();
    if (!settings.isModule) process.mainModule = mainToBe();
    await importAhead(settings);
    process.mainModule = undefined;
    // Work that the imports have put off is done before anything is a tenant's.
    await new Promise((done) => setImmediate(done));
    send(Buffer.from(JSON.stringify({ modules: settings.modules, took_ms: Math.round(performance.now() - began) }) + "\n"));
  } catch (error) {
    send(Buffer.from(JSON.stringify({ error: String(error?.stack ?? error).slice(0, 500) }) + "\n"));
    process.exit(1);
  }
  const said = receive(false);
  // Nobody wants it any more.
  if (said === "") process.exit(0);
  const answer = Buffer.alloc(8);
  try {
    become(JSON.parse(said));
  } catch (error) {
    const [stage, errno] = error.answer ?? [STAGE_TEMPLATE, 22];
    answer.writeInt32LE(stage, 0);
    answer.writeInt32LE(errno, 4);
    send(answer);
    process.exit(1);
  }
  send(answer);
  fs.closeSync(CONTROL);
  // Not from a promise, where what is thrown would be another kind of error.
  setImmediate(() => Module.runMain());
}

wait();
