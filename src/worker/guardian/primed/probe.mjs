// Finds out which dependencies of a node package may be imported before it is known whose process it will be.
//
// Started as `node --experimental-vm-modules --experimental-import-meta-resolve --no-warnings THIS`, with nobody's environment (see decision
// 060). Descriptor 3 is a socket, by which it is told settings and says what it has found, one line of JSON each; it ends then.
//
// Settings: `script`, path of the program, in the entry of the package cache; `folder`, the entry's `node_modules`; `package`, the name of
// the package that is run; `variables`, names of environment variables that launches of it set.
//
// The package's own files are not evaluated, as they are copies in each tenant's view: their imports are read from their text. Their
// dependencies are imported one by one, each after what it needs, so that what is read or done meanwhile is that module's.
//
// Works with node 20 and later.
import childProcess from "node:child_process";
import dgram from "node:dgram";
import dns from "node:dns";
import fs from "node:fs";
import Module, { createRequire, isBuiltin, syncBuiltinESMExports } from "node:module";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import vm from "node:vm";
import workers from "node:worker_threads";

const CONTROL = 3;
const readFile = fs.readFileSync;

// ---------------------------------------------------------------------------------------------------------------------
// The acts of each module while it is imported

const findings = {
  stack: [],
  order: [],
  reads: new Map(),
  does: new Map(),
  needs: new Map(),
  isOn: false,

  add(map, name, what) {
    if (!map.has(name)) map.set(name, new Set());
    map.get(name).add(what);
  },
  current() {
    return this.isOn ? this.stack.at(-1) : undefined;
  },
  read(variable) {
    const name = this.current();
    if (name !== undefined) this.add(this.reads, name, variable);
  },
  did(what) {
    const name = this.current();
    if (name !== undefined) this.add(this.does, name, what);
  },
  needed(name, needs) {
    if (name !== needs) this.add(this.needs, name, needs);
  },
};

/** Replaces a function by one that tells of its call. */
function told(object, name, tell) {
  const original = object[name];
  if (typeof original !== "function") return;
  object[name] = function (...given) {
    const what = typeof tell === "string" ? tell : tell(given);
    if (what) findings.did(what);
    return Reflect.apply(original, this, given);
  };
  Object.setPrototypeOf(object[name], original);
}

function recordEnvironment() {
  const kept = process.env;
  const read = (name) => typeof name === "string" && findings.read(name);
  process.env = new Proxy(kept, {
    get: (env, name) => (read(name), Reflect.get(env, name)),
    has: (env, name) => (read(name), Reflect.has(env, name)),
    getOwnPropertyDescriptor: (env, name) => (read(name), Reflect.getOwnPropertyDescriptor(env, name)),
    ownKeys: (env) => (findings.read("*"), Reflect.ownKeys(env)),
    set: (env, name, value) => (findings.did("changed the environment"), Reflect.set(env, name, value)),
    deleteProperty: (env, name) => (findings.did("changed the environment"), Reflect.deleteProperty(env, name)),
  });
  const of = (object, name, variables) => {
    const original = object[name];
    object[name] = (...given) => (variables.forEach(read), original.apply(object, given));
  };
  of(os, "homedir", ["HOME"]);
  of(os, "tmpdir", ["TMPDIR", "TMP", "TEMP"]);
}

function recordProcess() {
  const argv = process.argv;
  process.argv = new Proxy(argv, {
    get: (it, name) => {
      if (name !== "0") findings.did("read the arguments");
      return Reflect.get(it, name);
    },
    ownKeys: (it) => (findings.did("read the arguments"), Reflect.ownKeys(it)),
    set: (it, name, value) => (findings.did("changed the arguments"), Reflect.set(it, name, value)),
  });
  const getter = (name, what, wrap = (value) => value) => {
    const before = Object.getOwnPropertyDescriptor(process, name);
    let value = before.value;
    const get = () => {
      if (what) findings.did(what);
      return before.get ? wrap(before.get.call(process)) : value;
    };
    const set = (given) => {
      findings.did("set process." + name);
      if (before.set) before.set.call(process, given);
      else value = given;
    };
    Object.defineProperty(process, name, { get, set, configurable: true, enumerable: true });
  };
  getter("stdin", "opened stdin");
  getter("title", "read its title");
  getter("execArgv", "read the arguments");
  const wrapped = new WeakSet();
  for (const name of ["stdout", "stderr"]) {
    getter(name, undefined, (stream) => {
      if (!wrapped.has(stream)) {
        wrapped.add(stream);
        for (const act of ["write", "end"]) told(stream, act, "printed");
      }
      return stream;
    });
  }
  for (const name of ["getuid", "geteuid", "getgid", "getegid", "getgroups"]) told(process, name, "read its user");
  for (const name of ["setuid", "seteuid", "setgid", "setegid", "setgroups"]) told(process, name, "changed its user");
  told(process, "cwd", "read the working directory");
  told(process, "chdir", "changed the working directory");
  told(process, "umask", ([mask]) => mask !== undefined && "changed the umask");
  told(process, "dlopen", "loaded native code");
  told(process, "kill", "sent a signal");
  told(process, "_rawDebug", "printed");
  for (const name of ["exit", "reallyExit", "abort"]) {
    process[name] = () => {
      findings.did("ended the process");
      throw new Error("it ends the process");
    };
  }
  told(os, "userInfo", "read its user");
  const main = (name) => (_target, ...rest) => (findings.did("read the main module"), Reflect[name]({}, ...rest));
  process.mainModule = new Proxy({}, { get: main("get"), has: main("has"), ownKeys: main("ownKeys") });
}

function recordOthers() {
  for (const name of ["spawn", "spawnSync", "exec", "execSync", "execFile", "execFileSync", "fork"]) {
    told(childProcess, name, "started a process");
  }
  const started = { construct: (it, given) => (findings.did("started a thread"), Reflect.construct(it, given)) };
  workers.Worker = new Proxy(workers.Worker, started);
  told(net.Socket.prototype, "connect", "opened a socket");
  told(net.Server.prototype, "listen", "opened a socket");
  told(dgram, "createSocket", "opened a socket");
  told(globalThis, "fetch", "opened a socket");
  for (const names of [dns, dns.promises]) {
    for (const name of ["lookup", "resolve", "resolve4", "resolve6"]) told(names, name, "looked a name up");
  }
}

function recordFiles() {
  const changes = [
    "appendFile", "chmod", "chown", "copyFile", "cp", "createWriteStream", "link", "lutimes", "mkdir", "mkdtemp", "rename", "rm", "rmdir",
    "symlink", "truncate", "unlink", "utimes", "writeFile",
  ];
  const looks = [
    "access", "createReadStream", "exists", "lstat", "open", "opendir", "readFile", "readdir", "readlink", "realpath", "stat", "statfs",
    "watch", "watchFile",
  ];
  const isRelative = (it) => typeof it === "string" && !path.isAbsolute(it) && !it.startsWith("file:");
  const look = (name) => ([at, flags]) => {
    if (name === "open" && flags !== undefined && flags !== "r" && flags !== fs.constants.O_RDONLY && typeof flags !== "function") {
      return "opened a file for writing";
    }
    if (name.startsWith("watch")) return "watches files";
    return isRelative(at) && "looked for a file by the working directory";
  };
  for (const [object, suffixes] of [[fs, ["", "Sync"]], [fs.promises, [""]]]) {
    for (const suffix of suffixes) {
      for (const name of changes) told(object, name + suffix, "changed files");
      for (const name of looks) told(object, name + suffix, look(name));
    }
  }
  for (const name of ["write", "writeSync", "writev", "writevSync"]) told(fs, name, "printed");
}

/** What keeps a process alive, or would be called later. */
function pending() {
  return process.getActiveResourcesInfo().filter((it) => !/^(FSReq|CloseReq|Pipe|TTY|Immediate)/.test(it)).length;
}

function within(name, act) {
  const before = pending();
  const settled = () => {
    if (pending() > before) findings.did("left a timer or a connection");
    findings.stack.pop();
    if (!findings.order.includes(name)) findings.order.push(name);
  };
  findings.stack.push(name);
  let result;
  try {
    result = act();
  } catch (error) {
    settled();
    throw error;
  }
  if (typeof result?.then !== "function") {
    settled();
    return result;
  }
  return result.finally(settled);
}

/** Has it recorded which modules CommonJS modules load. */
function recordModules() {
  const load = Module.prototype.load;
  Module.prototype.load = function (file) {
    return within(file, () => load.call(this, file));
  };
  const resolveAndLoad = Module._load;
  Module._load = function (request, parent, isMain) {
    if (parent?.filename && findings.stack.length > 0) {
      try {
        const file = Module._resolveFilename(request, parent);
        if (path.isAbsolute(file)) findings.needed(parent.filename, file);
      } catch {
        // A module that is not there is an error of whoever asked for it.
      }
    }
    return resolveAndLoad.call(this, request, parent, isMain);
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// The modules of a package

const kinds = new Map();

/** The type that the nearest package.json gives `.js` files. */
function typeAt(folder) {
  if (!kinds.has(folder)) {
    let kind;
    try {
      kind = JSON.parse(readFile(path.join(folder, "package.json"), "utf8")).type === "module" ? "module" : "commonjs";
    } catch {
      const above = path.dirname(folder);
      kind = above === folder || path.basename(folder) === "node_modules" ? "commonjs" : typeAt(above);
    }
    kinds.set(folder, kind);
  }
  return kinds.get(folder);
}

/** What a file is to node: `module`, `commonjs`, or something else. */
function kindOf(file) {
  switch (path.extname(file)) {
    case ".mjs":
      return "module";
    case ".cjs":
      return "commonjs";
    case ".js":
    case "":
      return typeAt(path.dirname(file));
    default:
      return "other";
  }
}

/** What an ES module imports statically, in order. */
function importsOf(file) {
  const module = new vm.SourceTextModule(readFile(file, "utf8"), { identifier: file });
  return module.moduleRequests?.map((it) => it.specifier) ?? module.dependencySpecifiers;
}

/** Files of its own package that an ES module imports when it comes to it. A file that is named for stdio goes before its like, as the server is served by stdio. */
function laterImportsOf(file) {
  const calls = [...readFile(file, "utf8").matchAll(/\bimport\(\s*(["'])(\.[^"'\n]+)\1\s*\)/g)].map((call) => call[2]);
  const ofStdio = calls.filter((it) => /stdio/i.test(path.basename(it)));
  return ofStdio.length > 0 ? ofStdio : calls;
}

/** What a CommonJS file requires on its outermost level, as compilers write it. */
function requiresOf(file) {
  const calls = readFile(file, "utf8").matchAll(/^[^\s/*].*?\brequire\((["'])([^"'\n]+)\1\)/gm);
  return [...calls].map((call) => call[2]);
}

/** The file or `node:` name that a specifier means in a file; undefined where there is none. */
function resolved(specifier, file, isImport) {
  try {
    if (!isImport) {
      const found = createRequire(file).resolve(specifier);
      return path.isAbsolute(found) ? found : "node:" + found.replace(/^node:/, "");
    }
    const url = import.meta.resolve(specifier, pathToFileURL(file).href);
    if (url.startsWith("node:")) return url;
    return url.startsWith("file:") ? fs.realpathSync(fileURLToPath(url)) : undefined;
  } catch {
    return undefined;
  }
}

/** The folder of the package that a file is of: below the last `node_modules`. */
function packageOf(file) {
  const parts = file.split(path.sep);
  const at = parts.lastIndexOf("node_modules");
  if (at < 0) return undefined;
  const length = parts[at + 1]?.startsWith("@") ? 3 : 2;
  return parts.slice(0, at + length).join(path.sep);
}

/** What the package's own files need of others: files and `node:` names, in the order in which they are needed. */
function neededBy(script, own) {
  const seen = new Set();
  const needed = new Map();
  const visit = (file) => {
    if (seen.has(file)) return;
    seen.add(file);
    const isImport = kindOf(file) === "module";
    if (!isImport && kindOf(file) !== "commonjs") return;
    let specifiers;
    try {
      specifiers = isImport ? [...importsOf(file), ...laterImportsOf(file)] : requiresOf(file);
    } catch {
      return;
    }
    for (const specifier of specifiers) {
      const found = resolved(specifier, file, isImport);
      if (found === undefined) continue;
      if (!found.startsWith("node:") && own.has(packageOf(found))) visit(found);
      else if (!needed.has(found)) needed.set(found, isImport);
    }
  };
  visit(script);
  return needed;
}

/** Those files, and what they import as ES modules, each after what it needs. CommonJS modules tell what they need when they are loaded. */
function inOrder(needed) {
  const order = new Map();
  const seen = new Set();
  const visit = (file, isImport) => {
    if (seen.has(file)) return;
    seen.add(file);
    if (isImport && kindOf(file) === "module") {
      let specifiers = [];
      try {
        specifiers = importsOf(file);
      } catch {
        // The import of the file fails as well, and says why.
      }
      for (const specifier of specifiers) {
        const found = resolved(specifier, file, true);
        if (found === undefined || isBuiltin(found) || kindOf(found) === "other") continue;
        findings.needed(file, found);
        visit(found, true);
      }
    }
    order.set(file, isImport);
  };
  for (const [file, isImport] of needed) if (!file.startsWith("node:")) visit(file, isImport);
  return order;
}

// ---------------------------------------------------------------------------------------------------------------------

async function importAll(needed, order) {
  // The first import of one looks at all that it exports.
  for (const name of [...needed.keys(), "node:process"]) if (name.startsWith("node:")) await import(name);
  syncBuiltinESMExports();
  const require = createRequire(import.meta.url);
  const turn = () => new Promise((done) => setImmediate(done));
  const imported = new Set();
  let failed = null;
  findings.isOn = true;
  for (const [file, isImport] of order) {
    try {
      if (isImport) {
        imported.add(file);
        await within(file, async () => {
          await import(pathToFileURL(file));
          await turn();
        });
      } else if (!Module._cache[file]) {
        require(file);
        await within(file, turn);
      }
    } catch (error) {
      findings.add(findings.does, file, "failed: " + String(error?.message ?? error).split("\n")[0].slice(0, 200));
      failed ??= "importing " + file;
    }
  }
  findings.isOn = false;
  return { imported, failed };
}

/** Which modules may be imported ahead, in order, and why not the others. */
function judged(variables) {
  const why = new Map();
  for (const name of findings.order) {
    const reads = findings.reads.get(name) ?? new Set();
    const read = [...reads].filter((it) => variables.has(it)).sort();
    const [did] = findings.does.get(name) ?? [];
    if (did) why.set(name, did);
    else if (reads.has("*")) why.set(name, "read the whole environment");
    else if (read.length > 0) why.set(name, "read " + read.join(", "));
  }
  for (let hasChanged = true; hasChanged; ) {
    hasChanged = false;
    for (const name of findings.order) {
      if (why.has(name)) continue;
      const needed = [...(findings.needs.get(name) ?? [])].sort().find((it) => why.has(it));
      if (needed === undefined) continue;
      why.set(name, "needs " + needed);
      hasChanged = true;
    }
  }
  return why;
}

async function probe(settings) {
  const script = fs.realpathSync(settings.script);
  const [first] = readFile(script, "utf8").split("\n", 1);
  if (!/^#!\s*\/usr\/bin\/env node\s*$/.test(first)) return { error: "its program does not begin with `#!/usr/bin/env node`" };
  const own = new Set([path.join(settings.folder, settings.package), packageOf(script)]);
  const needed = neededBy(script, own);
  const order = inOrder(needed);
  recordEnvironment();
  recordProcess();
  recordOthers();
  recordFiles();
  recordModules();
  const { imported, failed } = await importAll(needed, order);
  const why = judged(new Set(settings.variables));
  const shown = (text) => text.replaceAll(settings.folder + path.sep, "");
  const ahead = findings.order.filter((name) => !why.has(name) && name.startsWith(settings.folder + path.sep));
  const reads = new Set(ahead.flatMap((name) => [...(findings.reads.get(name) ?? [])]));
  const left = [...why].map(([name, reason]) => [shown(name), shown(reason)]);
  const builtins = new Set([...needed.keys(), "node:process"].filter((it) => it.startsWith("node:")));
  return {
    modules: [...builtins, ...ahead.map(shown)],
    required: ahead.filter((name) => !imported.has(name)).map(shown),
    left_out: Object.fromEntries([...left, [settings.package, "is the worker's own copy"]]),
    reads: [...reads].sort(),
    failed: failed && shown(failed),
    is_module: kindOf(script) === "module",
  };
}

function receiveLine() {
  const buffer = Buffer.alloc(1 << 20);
  let length = 0;
  while (length < buffer.length) {
    const more = fs.readSync(CONTROL, buffer, { offset: length });
    length += more;
    if (more === 0 || buffer[length - 1] === 10) break;
  }
  return buffer.toString("utf8", 0, length);
}

const [write, exit] = [fs.writeSync, process.reallyExit.bind(process)];
let answer;
try {
  answer = await probe(JSON.parse(receiveLine()));
} catch (error) {
  answer = { error: String(error?.stack ?? error).slice(0, 500) };
}
const bytes = Buffer.from(JSON.stringify(answer) + "\n");
for (let at = 0; at < bytes.length; ) at += write(CONTROL, bytes, at);
exit(0);
