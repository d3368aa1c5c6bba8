"""A template of Python workers: imports what a package's program imports, then forks one worker for each request.

Started as `python -c THIS SETTINGS`, with nobody's environment, by the guardian (see decision 055). Settings are JSON:

  script    path of the console script, in the entry of the package cache
  venv      path of the virtual environment in that entry
  package   name of the distribution that is run, as it was asked for
  writable  names of distributions that a worker may write beside their code; "*" for all
  variables names of environment variables that launches of it set
  calls     numbers of system calls, as the kernel of this host has them

Descriptor 3 is a socket to the guardian. A request is a packet of eight bytes, the number of the worker, with the worker's stdin,
stdout, stderr, its launch data and a socket to its helper. Reports are packets of twenty bytes (`InitReport` in init.rs).

What a worker is made of:

  guardian
    |-- template                       single-threaded; imports, waits, forks
    `-- keeper (fork of the template)  subreaper of the worker: reaps, says how the leader ended
          `-- leader                   becomes the tenant's worker

The keeper falls to the guardian, since the process between it and the template ends at once. So it outlives the template.
Works with CPython 3.9 to 3.14.
"""

import builtins
import ctypes
import gc
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import sysconfig
import time
import types

CONTROL = 3
REPORT = struct.Struct("<Qiii")
STARTED, FAILED, EXITED, FORKED = 0, 1, 2, 3
# Stages of a start that failed (`Stage` in wire.rs, by `stage_to_number`).
STAGE_LAUNCH, STAGE_IDENTITY, STAGE_FOLDER, STAGE_NAMESPACES, STAGE_TEMPLATE = 0, 4, 5, 6, 12

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_CAPBSET_DROP = 1, 4, 8, 15, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
KEYCTL_JOIN_SESSION_KEYRING = 1
PR_SET_MM, PR_SET_MM_MAP = 35, 14

# How long the imports that are looked at may take, in seconds.
PROBE_LIMIT = 60
# How long the parent-death signal's sender may be mistaken for alive, in seconds.
PARENT_DIED = signal.SIGUSR1
# Modules that libraries import when they are first used, as every server does.
USED_AT_ONCE = {
    "anyio": ["anyio._backends._asyncio"],
    "asyncio": ["concurrent.futures.thread"],
    "encodings": ["encodings.idna"],
}

# Libraries that read random bytes when they are imported, for names that nobody keeps secret.
HARMLESS_RANDOM = {
    # Keys of its context, which are compared within the process.
    "opentelemetry.context",
    "opentelemetry.baggage",
    "opentelemetry.trace.propagation",
}

libc = ctypes.CDLL(None, use_errno=True)
# With the interpreter's lock held: nothing else runs here, and no thread state is given up around a system call.
raw_call = ctypes.PyDLL(None, use_errno=True).syscall
raw_call.restype = ctypes.c_long


def checked(result):
    """Raises OSError for a C call that returned -1."""
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result


def prctl(option, value=0):
    """prctl(2)."""
    zero = ctypes.c_ulong(0)
    return checked(libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero))


def system_call(number, *arguments):
    """syscall(2) with arguments that are numbers, or ctypes objects."""
    words = [ctypes.c_long(it) if isinstance(it, int) else it for it in arguments]
    return checked(raw_call(ctypes.c_long(number), *words))


# ---------------------------------------------------------------------------------------------------------------------
# Which modules may be imported ahead


class Findings:
    """What importing each module read or did, and which modules it needs."""

    def __init__(self):
        self.stack = []
        self.order = []
        self.reads = {}
        self.does = {}
        self.needs = {}
        self.is_on = True

    def read(self, variable):
        """The module that is being imported read an environment variable; "*" for all."""
        if self.is_on and self.stack:
            self.reads.setdefault(self.stack[-1], set()).add(variable)

    def did(self, what):
        """The module that is being imported did or read something that no variable stands for."""
        if self.is_on and self.stack:
            self.does.setdefault(self.stack[-1], []).append(what)

    def needed(self, name):
        """The module that is being imported needs another one."""
        if self.stack and name != self.stack[-1]:
            self.needs.setdefault(self.stack[-1], set()).add(name)


class RecordedEnviron(type(os.environ)):
    """`os.environ`, which tells what is read of it."""

    findings = None

    def __getitem__(self, key):
        self.findings.read(key if isinstance(key, str) else os.fsdecode(key))
        return super().__getitem__(key)

    def __contains__(self, key):
        self.findings.read(key if isinstance(key, str) else "*")
        return super().__contains__(key)

    def __iter__(self):
        self.findings.read("*")
        return super().__iter__()

    def __len__(self):
        self.findings.read("*")
        return super().__len__()

    def __setitem__(self, key, value):
        self.findings.did("changed the environment")
        super().__setitem__(key, value)

    def __delitem__(self, key):
        self.findings.did("changed the environment")
        super().__delitem__(key)


class RecordedArguments(list):
    """`sys.argv`, which tells that it is read."""

    findings = None

    def __getitem__(self, at):
        self.findings.did("read the arguments")
        return super().__getitem__(at)

    def __iter__(self):
        self.findings.did("read the arguments")
        return super().__iter__()

    def __len__(self):
        self.findings.did("read the arguments")
        return super().__len__()


def record(findings):
    """Has everything recorded that a module must not read or do while it is imported ahead. In a process that ends afterwards."""
    for kind in (RecordedEnviron, RecordedArguments):
        kind.findings = findings
    os.environ.__class__ = RecordedEnviron
    sys.argv = RecordedArguments([sys.argv[0]])
    sys.orig_argv = RecordedArguments([])

    def told(module, name, what):
        original = getattr(module, name, None)
        if original is None:
            return

        def wrapper(*arguments, **named):
            findings.did(what)
            return original(*arguments, **named)

        setattr(module, name, wrapper)

    for name, what in [
        ("getcwd", "read the working directory"),
        ("getcwdb", "read the working directory"),
        ("getpid", "read its process number"),
        ("getppid", "read its process number"),
        ("getuid", "read its user"),
        ("geteuid", "read its user"),
        ("getgid", "read its group"),
        ("getegid", "read its group"),
        ("getlogin", "read its user"),
        ("umask", "changed the umask"),
        ("urandom", "read random bytes"),
        ("getrandom", "read random bytes"),
    ]:
        told(os, name, what)
    told(signal, "signal", "set a signal handler")
    import _thread
    import threading

    for name in ("start_new_thread", "start_new", "start_joinable_thread"):
        told(_thread, name, "started a thread")
    for name in ("_start_new_thread", "_start_joinable_thread"):
        told(threading, name, "started a thread")

    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    events = {
        "os.chdir": "changed the working directory",
        "os.exec": "executed a program",
        "os.fork": "started a process",
        "os.forkpty": "started a process",
        "os.kill": "sent a signal",
        "os.posix_spawn": "started a process",
        "os.putenv": "changed the environment",
        "os.spawn": "started a process",
        "os.system": "started a process",
        "os.unsetenv": "changed the environment",
        "pty.spawn": "started a process",
        "socket.__new__": "opened a socket",
        "socket.gethostname": "read the name of the host",
        "subprocess.Popen": "started a process",
        "_thread.start_new_thread": "started a thread",
        "_thread.start_joinable_thread": "started a thread",
    }

    def hear(event, arguments):
        if not findings.is_on or not findings.stack:
            return
        what = events.get(event)
        if what is not None:
            findings.did(what)
        elif event == "open":
            path, _, flags = arguments
            # Bytecode is tried to be kept, and cannot be: the entry is read-only.
            if isinstance(flags, int) and flags & writing and ".pyc" not in str(path):
                findings.did("opened a file for writing")
            elif isinstance(path, str) and not path.startswith("/"):
                findings.did("opened a file by the working directory")

    sys.addaudithook(hear)

    import_module = builtins.__import__

    def imported(name, globals=None, locals=None, fromlist=(), level=0):
        result = import_module(name, globals, locals, fromlist, level)
        base = name
        if level and globals:
            package = globals.get("__package__") or globals.get("__name__", "").rpartition(".")[0]
            try:
                base = importlib.util.resolve_name("." * level + name, package)
            except (ImportError, ValueError):
                base = ""
        if base:
            findings.needed(base)
        for item in fromlist or ():
            if isinstance(item, str) and base + "." + item in sys.modules:
                findings.needed(base + "." + item)
        return result

    builtins.__import__ = imported

    by_name = importlib.import_module

    def imported_by_name(name, package=None):
        result = by_name(name, package)
        findings.needed(result.__name__)
        return result

    importlib.import_module = imported_by_name

    def threads():
        return len(os.listdir("/proc/self/task"))

    def descriptors():
        # Without the one that lists them.
        return len(os.listdir("/proc/self/fd"))

    def printed():
        return os.fstat(1).st_size + os.fstat(2).st_size

    def within(loader, name):
        original = getattr(loader, name)

        def execute(self, *arguments):
            # A module, or the specification of one that is to be made.
            given = arguments[0]
            full_name = given.__name__ if isinstance(given, types.ModuleType) else given.name
            findings.is_on = False
            parent = full_name.rpartition(".")[0]
            before = threads(), descriptors(), printed()
            findings.is_on = True
            findings.needed(full_name)
            findings.stack.append(full_name)
            if parent:
                findings.needed(parent)
            try:
                return original(self, *arguments)
            finally:
                findings.is_on = False
                for stream in (sys.stdout, sys.stderr):
                    if stream is not None:
                        stream.flush()
                after = threads(), descriptors(), printed()
                findings.is_on = True
                for had, has, what in zip(before, after, ("started a thread", "left a file open", "printed")):
                    if has > had and what not in findings.does.get(full_name, ()):
                        findings.did(what)
                findings.stack.pop()
                if full_name not in findings.order:
                    findings.order.append(full_name)

        setattr(loader, name, execute)

    machinery = importlib.machinery
    for loader in (machinery.SourceFileLoader, machinery.SourcelessFileLoader):
        within(loader, "exec_module")
    for name in ("create_module", "exec_module"):
        within(machinery.ExtensionFileLoader, name)


def named_by(script):
    """The modules that a console script imports."""
    import ast

    with open(script, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
    return names


def normalized(name):
    """The name of a distribution as registries compare them."""
    return "".join("-" if it in "-_." else it for it in name).lower()


def own_files(settings):
    """Files of the distributions that a worker has copies of: its own package, and what it may write beside. None for all."""
    if "*" in settings["writable"]:
        return None
    meant = {normalized(name) for name in [settings["package"], *settings["writable"]]}
    script = os.path.basename(settings["script"])
    files = set()
    for distribution in importlib.metadata.distributions():
        name = normalized(distribution.metadata["Name"] or "")
        scripts = [it.name for it in distribution.entry_points if it.group == "console_scripts"]
        if name in meant or script in scripts:
            files.update(os.path.normpath(str(distribution.locate_file(it))) for it in distribution.files or ())
    return files


def probe(settings):
    """Imports what the program imports, and says which modules may be imported ahead, and why not the others."""
    own = own_files(settings)
    wanted = named_by(settings["script"])
    sysconfig.get_config_vars()
    before = set(sys.modules)
    findings = Findings()
    record(findings)
    failed = None
    for name in wanted:
        try:
            importlib.import_module(name)
        except BaseException as error:
            # It may need what a launch sets. What it had imported until then can be imported ahead all the same.
            failed = type(error).__name__ + " while importing " + name
    for library, names in USED_AT_ONCE.items():
        if library in sys.modules:
            for name in names:
                importlib.import_module(name)
    findings.is_on = False
    found = judged(findings, before, own, set(settings["variables"]))
    found["failed"] = failed
    return found


def is_renewed(name, what):
    """Whether what importing a module read is read again for each worker, or is harmless."""
    if what == "read random bytes" and name in HARMLESS_RANDOM:
        return True
    return name in RENEWED and what.startswith("read ")


def judged(findings, before, own, variables):
    """Which modules may be imported ahead, in the order in which they can be, and why not the others."""
    why = {}
    for name in findings.order:
        module = sys.modules.get(name)
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        did = [it for it in findings.does.get(name, ()) if not is_renewed(name, it)]
        if own is None or (origin is not None and os.path.normpath(origin) in own):
            why[name] = "is the worker's own copy"
        elif did:
            why[name] = did[0]
        elif name in RENEWED:
            pass
        elif "*" in findings.reads.get(name, ()):
            why[name] = "read the whole environment"
        else:
            read = sorted(findings.reads.get(name, set()) & variables)
            if read:
                why[name] = "read " + ", ".join(read)
    has_changed = True
    while has_changed:
        has_changed = False
        for name in findings.order:
            if name in why:
                continue
            for needed in sorted(findings.needs.get(name, ())):
                if needed in why:
                    why[name] = "needs " + needed
                    has_changed = True
                    break
    # A module that is not there has failed to be imported, and its importer goes on without it.
    is_ahead = lambda name: name not in why and name not in before and name in sys.modules
    ahead = [name for name in findings.order if is_ahead(name)]
    reads = set()
    for name in ahead:
        reads |= findings.reads.get(name, set()) - {"*"}
    return {"modules": ahead, "left_out": why, "reads": sorted(reads)}


def findings_of(settings):
    """What a fork of this process finds out about the modules."""
    told, tell = os.pipe()
    said = [os.memfd_create("stdout"), os.memfd_create("stderr")]
    pid = os.fork()
    if pid == 0:
        try:
            os.close(told)
            null = os.open("/dev/null", os.O_RDONLY)
            os.dup2(null, 0)
            for fd, at in zip(said, (1, 2)):
                os.dup2(fd, at)
            answer = json.dumps(probe(settings)).encode()
        except BaseException as error:
            answer = json.dumps({"error": type(error).__name__ + ": " + str(error)}).encode()
        while answer:
            answer = answer[os.write(tell, answer):]
        os._exit(0)
    os.close(tell)
    for fd in said:
        os.close(fd)
    parts = []
    until = time.monotonic() + PROBE_LIMIT
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([told], [], [], left)[0]:
            os.kill(pid, signal.SIGKILL)
            parts = [b'{"error": "its imports take too long"}']
            break
        part = os.read(told, 1 << 16)
        if not part:
            break
        parts.append(part)
    os.close(told)
    os.waitpid(pid, 0)
    return json.loads(b"".join(parts) or b'{"error": "its imports end the process"}')


def prepare(settings):
    """Imports what may be imported ahead; what is told of that."""
    began = time.monotonic()
    found = findings_of(settings)
    if "error" in found:
        return found
    sysconfig.get_config_vars()
    for name in found["modules"]:
        importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) != 1:
        return {"error": "a library has started a thread"}
    imported = set(sys.modules)
    stray = sorted(imported & set(found["left_out"]))
    if stray:
        return {"error": "imported after all: " + ", ".join(stray[:3])}
    gc.collect()
    gc.freeze()
    found["took_ms"] = round((time.monotonic() - began) * 1000)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The worker


def text_of(value):
    """A string of the launch data, where an operating system's string is its bytes."""
    return os.fsdecode(bytes(value["Unix"]))


class Refused(Exception):
    """A step of the start that failed: its stage and error number."""


def becoming(stage, act, *arguments):
    """A step of the start, which says what was being done if it fails."""
    try:
        return act(*arguments)
    except OSError as error:
        raise Refused(stage, error.errno or 22) from error


def give_up_privileges():
    """Takes every capability from this process, in its own namespace of users."""
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            break
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    checked(libc.capset(ctypes.byref(header), ctypes.byref(sets)))


def become_user(launch, helper, calls):
    """Makes this process one of the tenant's user, who sees what the helper has mounted, in a Landlock domain of its own.

    The helper maps the one user into this process's new namespace of users, and hands over a namespace of mounts and a ruleset."""
    checked(libc.unshare(CLONE_NEWUSER))
    helper.send(struct.pack("<i", os.getpid()))
    said, fds, _, _ = socket.recv_fds(helper, 16, 2)
    if said != b"go" or not fds:
        raise OSError(125, "the helper has ended")
    mounts, *ruleset = fds
    checked(libc.setns(mounts, CLONE_NEWNS))
    user = launch["user"]
    system_call(calls["keyctl"], KEYCTL_JOIN_SESSION_KEYRING, ctypes.c_void_p(None)) if calls["keyctl"] else None
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    give_up_privileges()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    # As execve(2) leaves it: what /proc has of this process is its user's.
    prctl(PR_SET_DUMPABLE, 1)
    for domain in ruleset:
        system_call(calls["landlock_restrict_self"], domain, 0)
    os.umask(0o077)


def limit(kind, value):
    """Lowers a limit; without privileges the hard one can only go down."""
    if value is not None:
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def limits(launch):
    """The limits of the launch."""
    limit(resource.RLIMIT_NOFILE, launch["open_files"])
    limit(resource.RLIMIT_CPU, launch["cpu_seconds"])
    longest = launch["file_size"]
    if longest is not None:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        soft = longest if hard == resource.RLIM_INFINITY else min(longest, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def interpreter_of(script):
    """The interpreter that a script names, in either of the forms in which installers write it."""
    with open(script, "rb") as file:
        first, second = file.readline(), file.readline()
    if first.startswith(b"#!/bin/sh") and second.startswith(b"'''exec' "):
        word = second[len(b"'''exec' "):].split(b' "$0"')[0].strip()
        return os.fsdecode(word.strip(b"'"))
    return os.fsdecode(first[2:].strip())


def replace_environment(variables):
    """Replaces the whole environment, of Python and of C."""
    for name in list(os.environ):
        del os.environ[name]
    for name, value in variables:
        os.environ[name] = value


class MemoryMap(ctypes.Structure):
    """`struct prctl_mm_map` of prctl(2)."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in (
            "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack",
            "arg_start", "arg_end", "env_start", "env_end", "auxv",
        )),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    ]


def show_as(arguments, variables):
    """Has /proc show that command line and environment, as of a program that was executed with them. A kernel that has no such
    call (CONFIG_CHECKPOINT_RESTORE) shows the template's."""
    ended = lambda words: b"".join(os.fsencode(word) + b"\0" for word in words)
    line, environment = ended(arguments), ended(name + "=" + value for name, value in variables)
    kept = ctypes.create_string_buffer(line + environment)
    with open("/proc/self/stat", "rb") as file:
        fields = [0, 0, 0, *file.read().rpartition(b")")[2].split()]
    number = lambda at: int(fields[at])
    start = ctypes.addressof(kept)
    between = start + len(line)
    libc.sbrk.restype = ctypes.c_void_p
    own = MemoryMap(
        number(26), number(27), number(45), number(46), number(47), libc.sbrk(0), number(28),
        start, between, between, between + len(environment), 0, 0, 0xFFFFFFFF,
    )
    if libc.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.byref(own), ctypes.c_ulong(ctypes.sizeof(own)), 0) == 0:
        # For as long as the process lives.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


def moved(path, old, new):
    """A path of one virtual environment in another."""
    if isinstance(path, str) and (path == old or path.startswith(old + "/")):
        return new + path[len(old):]
    return path


def renew_site(site, old, new):
    """The user's own folder of packages follows from HOME."""
    site.PREFIXES[:] = [moved(it, old, new) for it in site.PREFIXES]
    site.USER_BASE = site.USER_SITE = None
    site.getusersitepackages()


def renew_sysconfig(sysconfig, old, new):
    """It keeps the prefix, and the user's base."""
    sysconfig._CONFIG_VARS = None
    if hasattr(sysconfig, "_CONFIG_VARS_INITIALIZED"):
        sysconfig._CONFIG_VARS_INITIALIZED = False
    for name in ("_PREFIX", "_EXEC_PREFIX"):
        if hasattr(sysconfig, name):
            setattr(sysconfig, name, new)


def renew_logging(logging, old, new):
    """It counts from its import."""
    logging._startTime = time.time_ns() if sys.version_info >= (3, 13) else time.time()


def renew_multiprocessing(process, old, new):
    """It keeps the working directory, and a secret of the process."""
    process.ORIGINAL_DIR = os.path.abspath(os.getcwd())
    process._current_process = type(process._current_process)()


# What launches decide of these modules of the standard library is set anew in each worker.
RENEWED = {
    "site": renew_site,
    "sysconfig": renew_sysconfig,
    "logging": renew_logging,
    "multiprocessing.process": renew_multiprocessing,
}


def as_started(launch, settings):
    """Sets what the interpreter and its standard library know of their start, as if this had been it. Returns the script."""
    script = text_of(launch["program"])
    arguments = [text_of(it) for it in launch["args"]]
    variables = [(text_of(name), text_of(value)) for name, value in launch["env"]]
    replace_environment(variables)
    interpreter = interpreter_of(script)
    old, new = settings["venv"], os.path.dirname(os.path.dirname(interpreter))
    sys.argv = [script, *arguments]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [interpreter, script, *arguments]
    sys.prefix = sys.exec_prefix = new
    sys.executable = interpreter
    sys.path[:] = [os.path.dirname(script), *(moved(it, old, new) for it in sys.path)]
    for path in [it for it in sys.path_importer_cache if it == old or it.startswith(old + "/")]:
        del sys.path_importer_cache[path]
    for name, renew in RENEWED.items():
        if name in sys.modules:
            renew(sys.modules[name], old, new)
    time.tzset()
    show_as([interpreter, script, *arguments], variables)
    name = os.path.basename(script).encode()[:15]
    libc.prctl(PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)
    return script


def main_module(script):
    """The module `__main__` of a script that was just started, and its code."""
    module = types.ModuleType("__main__")
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", script)
    module.__builtins__ = builtins
    module.__file__ = script
    if sys.version_info < (3, 14):
        module.__cached__ = None
        module.__annotations__ = {}
    with open(script, "rb") as file:
        code = compile(file.read(), script, "exec", dont_inherit=True)
    sys.modules["__main__"] = module
    return module, code


def worker(launch_fd, pipes, helper, keeper, outcome, settings):
    """Becomes the worker, in a process that its keeper has forked. Returns what is to be executed."""
    helper = socket.socket(fileno=helper)
    launch = json.loads(os.pread(launch_fd, 1 << 26, 0))
    for fd, at in zip(pipes, range(3)):
        os.dup2(fd, at)
    os.setsid()
    becoming(STAGE_IDENTITY, become_user, launch, helper, settings["calls"])
    becoming(STAGE_IDENTITY, prctl, PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        raise Refused(STAGE_TEMPLATE, 3)
    becoming(STAGE_FOLDER, os.chdir, text_of(launch["cwd"]))
    becoming(STAGE_LAUNCH, limits, launch)
    script = becoming(STAGE_LAUNCH, as_started, launch, settings)
    main = becoming(STAGE_LAUNCH, main_module, script)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    helper.detach()
    close_range(3, outcome - 1)
    close_range(outcome)
    return main


# ---------------------------------------------------------------------------------------------------------------------
# The keeper


def report(control, number, kind, first=0, second=0):
    """Tells the guardian."""
    try:
        control.send(REPORT.pack(number, kind, first, second))
    except OSError:
        # The guardian is gone, which the parent-death signal says as well.
        pass


def children():
    """Pids of this process's children."""
    with open("/proc/self/task/%d/children" % os.getpid()) as file:
        return [int(it) for it in file.read().split()]


def end_children():
    """Kills what descends from this process: children fall to it as their parents end. For a minute at the most."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = children()
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                return
        time.sleep(0.005)


def keep(control, number, leader):
    """Reaps orphans, and says how the leader ended; it stays unreaped, so that its pid is nobody else's, until the guardian
    ends this process."""
    guardian = os.getppid()
    has_ended = False
    while True:
        while not has_ended:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if ended is None:
                break
            if ended.si_pid != leader:
                os.waitpid(ended.si_pid, 0)
                continue
            has_ended = True
            status = ended.si_status
            if ended.si_code == os.CLD_EXITED:
                status = (status & 0xFF) << 8
            elif ended.si_code == os.CLD_DUMPED:
                status |= 0x80
            report(control, number, EXITED, status)
        if os.getppid() != guardian:
            end_children()
            return
        signal.sigwait({signal.SIGCHLD, PARENT_DIED})


def close_range(first, last=(1 << 32) - 1):
    """Closes all descriptors from the first to the last one."""
    if first > last:
        return
    words = [ctypes.c_ulong(it) for it in (first, last, 0)]
    # The number is the same on all architectures.
    if raw_call(ctypes.c_long(436), *words) < 0:
        os.closerange(first, min(last + 1, 1 << 16))


def quiet(*kept):
    """Closes all descriptors but those, and leaves /dev/null as stdin, stdout and stderr."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    at = 3
    for fd in sorted(kept):
        close_range(at, fd - 1)
        at = fd + 1
    close_range(at)


def keeper(control, guardian, number, fds, settings):
    """Forks the worker's leader and keeps it. Returns what the leader is to execute, in the leader alone."""
    stdin, stdout, stderr, launch, helper = fds
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Whatever comes waits; only SIGKILL and SIGSTOP do not.
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    until = time.monotonic() + 5
    while os.getppid() != guardian:
        if time.monotonic() > until:
            os._exit(1)
        time.sleep(0.0002)
    # Now, as the end of the process in between is not the guardian's.
    prctl(PR_SET_PDEATHSIG, PARENT_DIED)
    if os.getppid() != guardian:
        os._exit(1)
    report(control, number, FORKED, os.getpid())
    told, outcome = os.pipe()
    me = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        try:
            return worker(launch, (stdin, stdout, stderr), helper, me, outcome, settings)
        except Refused as refused:
            stage, errno = refused.args
        except BaseException as error:
            # For the log of the template: no stage says more.
            os.write(2, (type(error).__name__ + ": " + str(error) + "\n").encode())
            stage, errno = STAGE_TEMPLATE, 22
        try:
            os.write(outcome, struct.pack("<ii", stage, errno))
        finally:
            os._exit(1)
    libc.prctl(PR_SET_NAME, ctypes.c_char_p(b"sp-init"), 0, 0, 0)
    # The template's folder goes with the template.
    os.chdir("/")
    quiet(CONTROL, told)
    said = b""
    while True:
        part = os.read(told, 64)
        if not part:
            break
        said += part
    os.close(told)
    if len(said) == 8:
        report(control, number, FAILED, *struct.unpack("<ii", said))
    else:
        report(control, number, STARTED, pid)
        keep(control, number, pid)
    os._exit(0)


# ---------------------------------------------------------------------------------------------------------------------
# The template


def serve(control, guardian, settings):
    """Forks a worker for each request, until stdin or the socket ends. Returns in a worker's leader alone."""
    while True:
        ready, _, _ = select.select([control, 0], [], [])
        if 0 in ready and not os.read(0, 4096):
            os._exit(0)
        if control not in ready:
            continue
        said, fds, _, _ = socket.recv_fds(control, 64, 8)
        if not said and not fds:
            os._exit(0)
        number = struct.unpack("<Q", said)[0] if len(said) == 8 else None
        if number is None or len(fds) != 5:
            for fd in fds:
                os.close(fd)
            if number is not None:
                report(control, number, FAILED, STAGE_TEMPLATE, 24)
            continue
        try:
            pid = os.fork()
        except OSError as error:
            report(control, number, FAILED, STAGE_TEMPLATE, error.errno)
            pid = None
        if pid == 0:
            # In between: its child falls to the guardian.
            try:
                is_between = os.fork()
            except OSError as error:
                report(control, number, FAILED, STAGE_TEMPLATE, error.errno)
                os._exit(1)
            if is_between:
                os._exit(0)
            return keeper(control, guardian, number, fds, settings)
        for fd in fds:
            os.close(fd)
        if pid:
            os.waitpid(pid, 0)


def template():
    """The whole life of a template; what to execute, in a worker's leader alone."""
    settings = json.loads(sys.argv[1])
    guardian = os.getppid()
    # The entry for the working directory, as `-c` puts it there.
    sys.path[:] = [it for it in sys.path if it]
    sys.argv = [""]
    control = socket.socket(fileno=CONTROL)
    found = prepare(settings)
    os.write(1, json.dumps(found).encode() + b"\n")
    if "error" in found:
        os._exit(1)
    main = serve(control, guardian, settings)
    control.detach()
    return main


def run():
    """Executes the worker's script as `__main__`, whose errors are told without this file's lines."""
    module, code = template()
    try:
        exec(code, module.__dict__)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        trace = error.__traceback__.tb_next
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)


run()
