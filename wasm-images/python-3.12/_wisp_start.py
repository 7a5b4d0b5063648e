"""Starts Python in a sandbox: what CPython's own main does, with what WASI preview1 lacks put right first.

WASI preview1 has no working directory, file modes or process numbers. The sandbox's kernel tells them through /proc
and the device /dev/wisp, so this program is run first (`python3 -c "import _wisp_start; ..."`). It gives the os module
true answers, reads the user's command line and runs what that names.

Importing it is the part that does not depend on the process, so that it can be done ahead and snapshotted; main() is
the rest.
"""

import atexit
import errno
import gc
import io
import os
import stat
import sys
from importlib import _bootstrap_external as _importing

import __main__

EXECUTABLE = "/usr/local/bin/python3"
USAGE = "usage: {program} [option] ... [-c cmd | -m mod | file | -] [arg] ..."
HELP = """
Options (and corresponding environment variables):
-c cmd : program passed in as string (terminates option list)
-E     : ignore PYTHON* environment variables (such as PYTHONPATH)
-h     : print this help message and exit (also -? or --help)
-i     : go on interactively after running the program
-I     : isolate Python from the user's environment (implies -E, -P and -s)
-m mod : run library module as a script (terminates option list)
-O     : remove assert and __debug__-dependent statements
-OO    : do -O changes and also discard docstrings
-P     : don't prepend a potentially unsafe path to sys.path
-q     : don't print version and copyright messages on interactive startup
-s     : don't add user site directory to sys.path; also PYTHONNOUSERSITE
-S     : don't add site-packages to sys.path
-u     : force the stdout and stderr streams to be unbuffered; also PYTHONUNBUFFERED=x
-V     : print the Python version number and exit (also --version)
-W arg : warning control; arg is action:message:category:module:lineno; also PYTHONWARNINGS=arg
-x     : skip first line of source, allowing use of non-Unix forms of #!cmd
-X opt : set implementation-specific option
file   : program read from script file
-      : program read from stdin (default; interactive mode if a tty)
arg ...: arguments passed to program in sys.argv[1:]"""


# -- The kernel's answers ---------------------------------------------------------------------------------------------

_control_fd = -1
_umask = None
_resume = b""
_packages_changed = None
_FRESH_MAIN = {
    name: value for name, value in __main__.__dict__.items() if name.startswith("__")
}


def _ask(request):
    """Sends one request to /dev/wisp and returns the fields of its answer."""
    global _control_fd
    for attempt in range(2):
        if _control_fd < 0:
            _control_fd = _native_open("/dev/wisp", os.O_RDWR)
        try:
            os.write(_control_fd, request)
            answer = os.read(_control_fd, 256).split()
        except OSError:
            # The program may have closed every descriptor, as daemons do.
            _control_fd = -1
            if attempt:
                raise
            continue
        if answer[:1] == [b"ok"]:
            return answer[1:]
        number = int(answer[1]) if len(answer) > 1 else errno.EIO
        raise OSError(number, os.strerror(number))


def _escaped(path):
    return os.fsencode(path).replace(b"%", b"%25").replace(b"\n", b"%0A")


def _absolute(path, dir_fd=None):
    """A path as the kernel reads it: it does not know what directory this process has changed to."""
    path = os.fsencode(path)
    if path.startswith(b"/"):
        return path
    base = b"/dev/fd/%d" % _kernel_fd(dir_fd) if dir_fd is not None else os.fsencode(os.getcwd())
    return base + b"/" + path


_native_stat = os.stat
_native_lstat = os.lstat
_native_fstat = os.fstat
_native_open = os.open
_native_mkdir = os.mkdir
_native_scandir = os.scandir


def _kernel_fd(fd):
    """The kernel's number of a descriptor.

    The file tree that is linked into this interpreter numbers descriptors anew from 3 on, so look for the same inode.
    """
    if fd <= 2:
        return fd
    inode = _native_fstat(fd).st_ino
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(_ask(b"fstat %b\n" % name.encode())[5]) == inode:
                return int(name)
        except OSError:
            continue
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _completed(result, request):
    """A stat result with the mode and owner that preview1 leaves out."""
    try:
        mode, uid, gid, nlink, rdev, _ = map(int, _ask(request))
    except (OSError, ValueError):
        return result
    kind, (visible, hidden) = result.__reduce__()
    visible = (mode, visible[1], visible[2], nlink, uid, gid) + visible[6:]
    return kind(visible, {**hidden, "st_rdev": rdev})


def _stat(path, *, dir_fd=None, follow_symlinks=True):
    result = _native_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
    if isinstance(path, int):
        return _completed(result, b"fstat %d\n" % _kernel_fd(path))
    verb = b"stat " if follow_symlinks else b"lstat "
    return _completed(result, verb + _escaped(_absolute(path, dir_fd)) + b"\n")


def _lstat(path, *, dir_fd=None):
    return _stat(path, dir_fd=dir_fd, follow_symlinks=False)


def _fstat(fd):
    return _completed(_native_fstat(fd), b"fstat %d\n" % _kernel_fd(fd))


def _chmod(path, mode, *, dir_fd=None, follow_symlinks=True):
    if isinstance(path, int):
        return _fchmod(path, mode)
    if not follow_symlinks:
        raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
    path = os.fspath(path)
    try:
        _ask(b"chmod %o %b\n" % (mode & 0o7777, _escaped(_absolute(path, dir_fd))))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def _fchmod(fd, mode):
    _ask(b"chmod %o /dev/fd/%d\n" % (mode & 0o7777, _kernel_fd(fd)))


def _chown(path, uid, gid, *, dir_fd=None, follow_symlinks=True):
    if uid not in (-1, 0) or gid not in (-1, 0):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
    _native_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)


def _current_umask():
    global _umask
    if _umask is None:
        _umask = int(_ask(b"umask 22\n")[0], 8)
        _ask(b"umask %o\n" % _umask)
    return _umask


def _set_umask(mask):
    global _umask
    old = int(_ask(b"umask %o\n" % (mask & 0o777))[0], 8)
    _umask = mask & 0o777
    return old


def _open(path, flags, mode=0o777, *, dir_fd=None):
    fd = None
    if flags & os.O_CREAT and mode & 0o7777 != 0o666:
        # The mode counts only if the file is made now.
        try:
            fd = _native_open(path, flags | os.O_EXCL, dir_fd=dir_fd)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
        else:
            _chmod(path, mode & ~_current_umask(), dir_fd=dir_fd)
    return _native_open(path, flags, dir_fd=dir_fd) if fd is None else fd


def _mkdir(path, mode=0o777, *, dir_fd=None):
    _native_mkdir(path, dir_fd=dir_fd)
    if mode & 0o777 != 0o777:
        _chmod(path, mode & ~_current_umask(), dir_fd=dir_fd)


def _access(path, mode, *, dir_fd=None, effective_ids=False, follow_symlinks=True):
    try:
        found = _stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
    except OSError:
        return False
    # Everyone is root here: only executing is ever refused.
    return not mode & os.X_OK or stat.S_ISDIR(found.st_mode) or bool(found.st_mode & 0o111)


class DirEntry:
    """os.DirEntry whose stat() knows modes."""

    __slots__ = ("_native", "name", "path", "inode", "is_dir", "is_file", "is_symlink", "is_junction")

    def __init__(self, native):
        self._native = native
        self.name = native.name
        self.path = native.path
        self.inode = native.inode
        self.is_dir = native.is_dir
        self.is_file = native.is_file
        self.is_symlink = native.is_symlink
        self.is_junction = native.is_junction

    def stat(self, *, follow_symlinks=True):
        """As os.stat."""
        return _stat(self.path, follow_symlinks=follow_symlinks)

    def __fspath__(self):
        return self.path

    def __repr__(self):
        return f"<DirEntry {self.name!r}>"


class _Scan:
    """The iterator of os.scandir."""

    def __init__(self, native):
        self._native = native

    def __iter__(self):
        return self

    def __next__(self):
        return DirEntry(next(self._native))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._native.close()

    def close(self):
        """Frees the directory."""
        self._native.close()


def _scandir(path="."):
    return _Scan(_native_scandir(path))


def _cpu_count():
    try:
        with open("/proc/cpuinfo", "rb") as info:
            return sum(line.startswith(b"processor") for line in info) or 1
    except OSError:
        return 1


def _getpid():
    return int(_ask(b"getpid\n")[0])


def _getppid():
    return int(_ask(b"getpid\n")[1])


def _kill(pid, signal):
    _ask(b"kill %d %d\n" % (pid, signal))


def _zero():
    return 0


def _install():
    """Puts these functions into the os module. posix keeps the native ones, which imports use and which are faster."""
    replaced = {
        "stat": _stat,
        "lstat": _lstat,
        "fstat": _fstat,
        "chmod": _chmod,
        "fchmod": _fchmod,
        "chown": _chown,
        "umask": _set_umask,
        "open": _open,
        "mkdir": _mkdir,
        "access": _access,
        "scandir": _scandir,
        "cpu_count": _cpu_count,
        "getpid": _getpid,
        "getppid": _getppid,
        "kill": _kill,
        "getuid": _zero,
        "geteuid": _zero,
        "getgid": _zero,
        "getegid": _zero,
    }
    capabilities = (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids)
    for name, function in replaced.items():
        native = getattr(os, name, None)
        for supporting in capabilities:
            if native is not None and native in supporting:
                supporting.add(function)
        function.__name__ = function.__qualname__ = name
        function.__module__ = "os"
        setattr(os, name, function)
    os.supports_fd.add(_chmod)
    os.lchown = lambda path, uid, gid: _chown(path, uid, gid, follow_symlinks=False)
    os.DirEntry = DirEntry
    os.R_OK, os.W_OK, os.X_OK, os.F_OK = 4, 2, 1, 0


_install()
# This program was run with -c, which put the current directory at the front.
if sys.path[:1] == [""]:
    del sys.path[0]


# -- The command line -------------------------------------------------------------------------------------------------


class _UsageError(Exception):
    """A command line that cannot be understood."""


class _Options:
    """What the command line and the environment ask for."""

    def __init__(self):
        self.command = None
        self.module = None
        self.arguments = []
        self.count = {}
        self.warnings = []
        self.implementation = []
        self.help = False

    def has(self, letter):
        """How often an option without argument was given."""
        return self.count.get(letter, 0)

    @property
    def isolated(self):
        """-I"""
        return bool(self.has("I"))

    @property
    def ignores_environment(self):
        """-E, or -I"""
        return self.isolated or bool(self.has("E"))

    def environment(self, name):
        """A PYTHON* variable, empty when it is unset or shall be ignored."""
        return "" if self.ignores_environment else os.environ.get(name, "")


_FLAGS = frozenset("bBdEhiIOPqRsStuvVx?")
_WITH_ARGUMENT = frozenset("cmWX")


def _parse(arguments):
    """Reads options as CPython does: up to -c, -m or the first word that is none."""
    options = _Options()
    rest = list(arguments)
    while rest:
        word = rest[0]
        if word == "-" or not word.startswith("-"):
            break
        del rest[0]
        if word == "--":
            break
        if word.startswith("--"):
            if word == "--version":
                options.count["V"] = options.has("V") + 1
            elif word in ("--help", "--help-all", "--help-env", "--help-xoptions"):
                options.help = True
            elif word == "--check-hash-based-pycs":
                if not rest:
                    raise _UsageError("Argument expected for the --check-hash-based-pycs option")
                del rest[0]
            else:
                raise _UsageError(f"unknown option {word}")
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _WITH_ARGUMENT:
                if not letters and not rest:
                    raise _UsageError(f"Argument expected for the -{letter} option")
                value = letters or rest.pop(0)
                letters = ""
                if letter == "c":
                    options.command = value
                elif letter == "m":
                    options.module = value
                elif letter == "W":
                    options.warnings.append(value)
                else:
                    options.implementation.append(value)
            elif letter in _FLAGS:
                options.count[letter] = options.has(letter) + 1
            else:
                raise _UsageError(f"Unknown option: -{letter}")
        if options.command is not None or options.module is not None:
            break
    options.arguments = rest
    options.help = options.help or bool(options.has("h") or options.has("?"))
    return options


def _number(text):
    """The value of a PYTHON* variable that is a flag or a level."""
    if not text:
        return 0
    try:
        return max(int(text), 1)
    except ValueError:
        return 1


def _apply(options, resumed):
    """Sets the interpreter up as the options say."""
    limit = options.environment("PYTHONINTMAXSTRDIGITS")
    if resumed and limit:
        try:
            sys.set_int_max_str_digits(int(limit))
        except ValueError as error:
            sys.exit(f"python: PYTHONINTMAXSTRDIGITS: {error}")
    optimize = max(options.has("O"), _number(options.environment("PYTHONOPTIMIZE")))
    flags = {
        "debug": options.has("d"),
        "inspect": max(options.has("i"), _number(options.environment("PYTHONINSPECT"))),
        "interactive": options.has("i"),
        "optimize": optimize,
        "dont_write_bytecode": 1 if options.has("B") or options.environment("PYTHONDONTWRITEBYTECODE") else 0,
        "no_user_site": 1 if options.has("s") or options.isolated or options.environment("PYTHONNOUSERSITE") else 0,
        "no_site": options.has("S"),
        "ignore_environment": int(options.ignores_environment),
        "verbose": options.has("v"),
        "bytes_warning": options.has("b"),
        "quiet": options.has("q"),
        "isolated": int(options.isolated),
        "int_max_str_digits": sys.get_int_max_str_digits(),
        "safe_path": bool(options.has("P") or options.isolated or options.environment("PYTHONSAFEPATH")),
    }
    names = type(sys.flags).__match_args__
    if any(getattr(sys.flags, name) != value for name, value in flags.items()):
        from collections import namedtuple

        values = {name: getattr(sys.flags, name) for name in names}
        kind = namedtuple("flags", names, module="sys")
        as_tuple = kind.__repr__
        kind.__repr__ = lambda self: "sys." + as_tuple(self)
        sys.flags = kind(**{**values, **flags})
    if optimize:
        # Modules imported from now on are compiled like that; those of the library have no assertions to lose.
        _importing.SourceLoader.source_to_code.__kwdefaults__ = {"_optimization": min(optimize, 2)}

    # Byte code would be written beside the user's files and gains little here.
    sys.dont_write_bytecode = True
    for option in options.implementation:
        name, equals, value = option.partition("=")
        sys._xoptions[name] = value if equals else True

    named = [entry for entry in options.environment("PYTHONWARNINGS").split(",") if entry] + options.warnings
    fresh = named if resumed else options.warnings
    if fresh:
        sys.warnoptions.extend(fresh)
        import warnings

        warnings._processoptions(fresh)

    if resumed:
        _set_up_streams(*options.environment("PYTHONIOENCODING").partition(":")[::2])
    if options.has("u") or options.environment("PYTHONUNBUFFERED"):
        for name in ("stdout", "stderr"):
            _unbuffer(name)
    _set_path(options, resumed)
    return flags


def _set_up_streams(encoding, errors):
    """Lets the standard streams be what they are in this process: of the snapshot they are pipes."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        try:
            os.lseek(number, 0, os.SEEK_CUR)
        except OSError:
            pass
        else:
            # It has a position, as files have.
            buffer = open(number, "wb" if number else "rb", closefd=False)
            buffer.raw.name = stream.name
            mode = stream.mode
            stream = io.TextIOWrapper(buffer, stream.encoding, stream.errors, "\n", stream.line_buffering)
            stream.mode = mode
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        if encoding or errors:
            import codecs

            try:
                codec = codecs.lookup(encoding).name if encoding else None
            except LookupError as error:
                sys.exit(f"python: PYTHONIOENCODING: {error}")
            stream.reconfigure(encoding=codec, errors="backslashreplace" if number == 2 else errors or None)


def _unbuffer(name):
    stream = getattr(sys, name)
    raw = getattr(stream.buffer, "raw", None)
    if raw is None:
        return
    stream.flush()
    raw = open(raw.fileno(), "wb", buffering=0, closefd=False)
    raw.name = f"<{name}>"
    fresh = io.TextIOWrapper(raw, stream.encoding, stream.errors, newline="\n", write_through=True)
    fresh.mode = "w"
    setattr(sys, name, fresh)
    setattr(sys, f"__{name}__", fresh)


def _set_path(options, resumed):
    """Applies PYTHONPATH, -E, -I, -s and -S to the module search path."""
    added = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(":") if entry]
    sys.path[:] = [entry for entry in sys.path if entry not in added]
    if not options.ignores_environment:
        sys.path[:0] = added
    if options.has("S"):
        sys.path[:] = [entry for entry in sys.path if not entry.endswith("/site-packages")]
        return
    disabled = options.has("s") or options.isolated or options.environment("PYTHONNOUSERSITE")
    if resumed:
        _complete_site(options, bool(added))
    home = os.environ.get("HOME")
    if home and not disabled:
        user = f"{home}/.local/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        if user not in sys.path and os.path.isdir(user):
            import site

            site.addsitedir(user)


def _complete_site(options, has_own_path):
    """Does again what the site module did before the snapshot, as far as it may come to something else now."""
    import site

    base = options.environment("PYTHONUSERBASE")
    if base:
        site.USER_BASE, site.USER_SITE = base, site._get_path(base)
    packages = f"{sys.prefix}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    changed = _native_stat(packages).st_mtime_ns != _packages_changed
    if changed:
        sys.path.remove(packages)
        site.addsitepackages(site.removeduppaths())
    if changed or has_own_path:
        # Nowhere else can there be such a module.
        site.execsitecustomize()


# -- Running ----------------------------------------------------------------------------------------------------------


def _run(options, flags, program):
    """Runs what the command line names, in the module __main__."""
    namespace = __main__.__dict__
    safe = flags["safe_path"]
    optimize = min(flags["optimize"], 2)
    if options.command is not None:
        sys.argv[:] = ["-c", *options.arguments]
        if not safe:
            sys.path.insert(0, "")
        exec(compile(options.command + "\n", "<string>", "exec", dont_inherit=True, optimize=optimize), namespace)
        return
    if options.module is not None:
        import runpy

        sys.argv[:] = ["-m", *options.arguments]
        if not safe:
            sys.path.insert(0, os.getcwd())
        runpy._run_module_as_main(options.module, alter_argv=True)
        return
    if options.arguments and options.arguments[0] != "-":
        _run_file(options, safe, optimize, program, namespace)
        return
    sys.argv[:] = options.arguments or [""]
    if not safe:
        sys.path.insert(0, "")
    if os.isatty(0) or options.has("i"):
        _interact(options)
        return
    source = sys.stdin.buffer.read()
    exec(compile(_skipped(options, source), "<stdin>", "exec", dont_inherit=True, optimize=optimize), namespace)


def _run_file(options, safe, optimize, program, namespace):
    given = options.arguments[0]
    path = os.path.join(os.getcwd(), given)
    sys.argv[:] = options.arguments
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        # A directory or zip archive with a __main__ module.
        import runpy

        sys.path.insert(0, path)
        runpy._run_module_as_main("__main__", alter_argv=False)
        return
    try:
        with open(path, "rb") as file:
            source = file.read()
    except IsADirectoryError:
        sys.stderr.write(f"{program}: {path!r} is a directory, cannot continue\n")
        raise SystemExit(1) from None
    except OSError as error:
        sys.stderr.write(f"{program}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n")
        raise SystemExit(2) from None
    if not safe:
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    namespace["__file__"] = path
    namespace["__cached__"] = None
    if source.startswith(_importing.MAGIC_NUMBER):
        import marshal

        namespace["__loader__"] = _importing.SourcelessFileLoader("__main__", path)
        code = marshal.loads(memoryview(source)[16:])
    else:
        namespace["__loader__"] = _importing.SourceFileLoader("__main__", path)
        code = compile(_skipped(options, source), path, "exec", dont_inherit=True, optimize=optimize)
    exec(code, namespace)


def _skipped(options, source):
    """The source without its first line, whose number stays taken, if -x was given."""
    return b"\n" + source.partition(b"\n")[2] if options.has("x") else source


def _interact(options):
    import code

    console = code.InteractiveConsole(__main__.__dict__)
    try:
        sys.ps1
    except AttributeError:
        sys.ps1, sys.ps2 = ">>> ", "... "
    if options.arguments[:1] in ([], ["-"]) and not options.has("q") and not options.command and not options.module:
        console.write(f"Python {sys.version} on {sys.platform}\n")
    console.interact("", exitmsg="")


def _guarded(function, *arguments):
    """Calls a function and returns the exit status its end means, as CPython's main does."""
    try:
        function(*arguments)
        return 0
    except SystemExit as error:
        code = error.code
    except BaseException as error:
        return _report(error)
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stdout.flush()
    try:
        print(code, file=sys.stderr)
    except Exception:
        pass
    return 1


def _without_own_frames(trace):
    """A traceback without the frames of this file: those that started the program, and those of the os functions."""
    kept = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != __file__:
            kept.append(trace)
        trace = trace.tb_next
    following = None
    for entry in reversed(kept):
        entry.tb_next = following
        following = entry
    return following


def _report(error):
    """Prints an uncaught exception as if this file were not there."""
    pending, seen = [error], set()
    while pending:
        linked = pending.pop()
        if linked is not None and id(linked) not in seen:
            seen.add(id(linked))
            linked.__traceback__ = _without_own_frames(linked.__traceback__)
            pending += [linked.__cause__, linked.__context__]
    trace = error.__traceback__
    sys.last_exc = sys.last_value = error
    sys.last_type, sys.last_traceback = type(error), trace
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        pass
    try:
        sys.excepthook(type(error), error, trace)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1
    except BaseException as second:
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(type(second), second, second.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, trace)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _flush(status):
    """Flushes the standard streams; what cannot be written makes the status 120."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None or getattr(stream, "closed", False):
            continue
        try:
            stream.flush()
        except BaseException as error:
            status = 120
            if stream is sys.stdout:
                try:
                    sys.stderr.write(f"Exception ignored in: {stream!r}\n{type(error).__name__}: {error}\n")
                except Exception:
                    pass
    return status


def _finish(status):
    """Ends the process: exit handlers, destructors of the program's objects, buffered output.

    The interpreter itself is not torn down. Its memory goes with the process, and walking it would cost more than most
    programs take.
    """
    atexit._run_exitfuncs()
    status = _flush(status)
    namespace = __main__.__dict__
    for hidden in (True, False):
        for name in list(namespace):
            if name.startswith("_") == hidden and not name.startswith("__"):
                namespace[name] = None
    gc.collect()
    os._exit(_flush(status))


def _strings(path):
    with open(path, "rb") as file:
        return [os.fsdecode(string) for string in file.read().split(b"\0")[:-1]]


def _take_environment():
    """Reads the environment anew, for an interpreter that was started in another process."""
    entries = dict(entry.split("=", 1) for entry in _strings("/proc/self/environ") if "=" in entry)
    os.environ.clear()
    os.environ.update(entries)
    random = sys.modules.get("random")
    if random is not None:
        random.seed()


def _finish_logging(logging):
    """The end of the logging module, for programs that use it: it writes what all of them have on standard error."""
    if len(logging._handlerList) > 1:
        logging.shutdown()


def freeze():
    """Ends the start that is done ahead: prints what PyRun_SimpleStringFlags shall be called with to go on from here.

    What must not be the same in every process, or belongs to this one, is dropped.
    """
    global _control_fd, _umask, _resume, _packages_changed
    if _control_fd >= 0:
        os.close(_control_fd)
        _control_fd = -1
    _umask = None
    _packages_changed = _native_stat(os.path.dirname(os.__file__) + "/site-packages").st_mtime_ns
    logging = sys.modules.get("logging")
    if logging is not None:
        atexit.unregister(logging.shutdown)
        atexit.register(_finish_logging, logging)
    __main__.__dict__.clear()
    __main__.__dict__.update(_FRESH_MAIN)
    # A C string that stays where it is. The bytes of a bytes object come after 16 bytes of its own.
    _resume = b"import _wisp_start; _wisp_start.main(resumed=True)\0"
    print(id(_resume) + bytes.__basicsize__ - 1, 0, flush=True)
    # No process will look at these objects to find garbage, so their pages stay shared.
    gc.collect()
    gc.freeze()
    os._exit(0)


def main(resumed=False):
    """Runs the user's command line to its end. `resumed`: this interpreter was started in another process."""
    __main__.__dict__.pop("_wisp_start", None)
    if resumed:
        _take_environment()
    argv = _strings("/proc/self/cmdline") or [EXECUTABLE]
    sys.orig_argv = list(argv)
    sys.executable = sys._base_executable = EXECUTABLE
    try:
        os.chdir(os.readlink("/proc/self/cwd"))
    except OSError:
        # A directory that was removed meanwhile: stay at the root, as there is no better place.
        pass
    program = argv[0]
    try:
        options = _parse(argv[1:])
    except _UsageError as error:
        usage = USAGE.format(program=program)
        sys.stderr.write(f"{error}\n{usage}\nTry `python -h' for more information.\n")
        _finish(2)
    if options.help:
        print(USAGE.format(program=program) + HELP)
        _finish(0)
    if options.has("V"):
        print(f"Python {sys.version}" if options.has("V") > 1 else f"Python {sys.version.split()[0]}")
        _finish(0)
    flags = _apply(options, resumed)
    status = _guarded(_run, options, flags, program)
    if flags["inspect"] and (options.command or options.module or options.arguments):
        status = _guarded(_interact, options)
    _finish(status)
