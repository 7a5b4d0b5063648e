"""Prepares the interpreter for its snapshot (see main.c). What this imports, no process has to import again."""

import atexit
import builtins
import codecs
import gc
import importlib
import io
import itertools
import linecache
import logging
import os
import posix
import random
import re
import site
import sys
import traceback
import types
import warnings
import weakref

# Modules that programs often use. Not among them is what `python3 -m NAME` runs as a module of a package, like json.tool:
# runpy warns when such a one is there already.
PRELOADED = """
    abc argparse array ast asyncio base64 bisect bz2 cProfile calendar cmath codecs collections collections.abc
    concurrent.futures configparser contextlib contextvars copy copyreg csv dataclasses datetime decimal difflib doctest
    email.message encodings.ascii encodings.idna encodings.latin_1 enum filecmp fileinput fnmatch fractions functools
    getpass glob graphlib gzip hashlib heapq hmac html html.parser http.client importlib.metadata importlib.resources
    inspect io itertools json keyword linecache logging lzma math mimetypes numbers operator optparse os pathlib pdb pickle
    pickletools platform plistlib pprint profile pstats pwd queue random re runpy sched secrets select selectors shlex
    shutil signal socket sqlite3 stat statistics string struct subprocess sys tarfile tempfile textwrap threading time
    timeit tokenize tomllib traceback types typing unicodedata unittest unittest.mock urllib.error urllib.parse
    urllib.request uuid warnings weakref xml.etree.ElementTree zipfile zlib zoneinfo _strptime
"""

PREFIX_EXECUTABLES = {b"/usr/local/bin/python3", b"/usr/local/bin/python", b"/usr/local/bin/python3.13"}
SITE_PACKAGES = "/usr/local/lib/python3.13/site-packages"
STREAMS = ("stdin", "stdout", "stderr")
SITE_BUILTINS = ["copyright", "credits", "exit", "help", "license", "quit"]

for name in PRELOADED.split():
    importlib.import_module(name)
re.purge()
sys.path_importer_cache.pop("", None)


def start(executable, pythonpath, buffered, streams):
    """Gives this process what differs from the snapshot, where main.c sees that something may.

    `streams` has a letter for each standard stream: "-" closed, "f" with a position as files have, "t" a terminal, "p"
    another.
    """
    if pythonpath:
        sys.path[0:0] = pythonpath.split(":")
    is_environment = executable not in PREFIX_EXECUTABLES
    if is_environment:
        sys.executable = os.fsdecode(executable)
    if sys.flags.no_site:
        leave_out_site()
    else:
        complete_site(bool(pythonpath), is_environment)
    if sys.warnoptions:
        warnings._processoptions(sys.warnoptions)
    set_up_streams(buffered, streams)
    if b"PYTHONIOENCODING" in environment and not sys.flags.ignore_environment:
        set_encoding(*os.fsdecode(environment[b"PYTHONIOENCODING"]).partition(":")[::2])


def modified(directory):
    """When it was, or None if it is gone."""
    try:
        return os.stat(directory).st_mtime_ns
    except OSError:
        return None


def leave_out_site():
    """What python -S asks for."""
    sys.path.remove(SITE_PACKAGES)
    del sys.modules["site"]
    for name in SITE_BUILTINS:
        delattr(builtins, name)


def complete_site(has_own_path, is_environment):
    """Does again what the site module did before the snapshot, as far as it may come to something else now."""
    if has_own_path:
        site.removeduppaths()
    site.USER_BASE = site.USER_SITE = None
    site.ENABLE_USER_SITE = site.check_enableusersite()
    has_packages = modified(SITE_PACKAGES) != site_packages_modified
    has_user_packages = os.path.isdir(site.getusersitepackages()) and site.ENABLE_USER_SITE
    if has_packages or has_user_packages or is_environment:
        sys.path.remove(SITE_PACKAGES)
        known = site.venv(site.removeduppaths())
        site.addsitepackages(site.addusersitepackages(known))
    if has_packages or has_user_packages or is_environment or has_own_path:
        # Nowhere else can there be such a module.
        site.execsitecustomize()
        if site.ENABLE_USER_SITE:
            site.execusercustomize()


def set_up_streams(buffered, streams):
    """Makes those standard streams that the snapshot has differently."""
    for number, name in enumerate(STREAMS):
        if streams[number] == "-":
            stream = None
        elif number > 0 and not buffered:
            stream = opened_stream(number, getattr(sys, name), buffered)
        else:
            continue
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if streams[1] == "t":
        sys.stdout.reconfigure(line_buffering=True)


def opened_stream(number, like, buffered):
    """A standard stream like this one; without a buffer for what is written if python -u asks for that."""
    file = open(number, "wb" if number > 0 else "rb", buffering=-1 if buffered or number == 0 else 0, closefd=False)
    getattr(file, "raw", file).name = like.name
    stream = io.TextIOWrapper(
        file, like.encoding, like.errors, "\n", line_buffering=buffered and number == 2, write_through=not buffered
    )
    stream.mode = "w" if number > 0 else "r"
    return stream


def streams_with_positions():
    """The standard streams as they are when they are files: a stream finds out only once whether it has a position."""
    saved = [os.dup(number) for number in range(len(STREAMS))]
    file = os.open(os.__file__, os.O_RDONLY)
    try:
        for number in range(len(STREAMS)):
            os.dup2(file, number)
        return tuple(opened_stream(number, getattr(sys, name), True) for number, name in enumerate(STREAMS))
    finally:
        for number, descriptor in enumerate(saved):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(file)


def set_encoding(encoding, errors):
    """What PYTHONIOENCODING asks for."""
    try:
        encoding = encoding and codecs.lookup(encoding).name
    except LookupError as error:
        sys.exit(f"python: PYTHONIOENCODING: {error}")
    for name in STREAMS:
        stream = getattr(sys, name)
        if stream is not None:
            wanted = errors if name != "stderr" else "backslashreplace"
            stream.reconfigure(encoding=encoding or None, errors=wanted or None)


def finish(snapshot_modules, snapshot_builtins):
    """What of the end of an interpreter a program can see: output is written, objects are finalised.

    The order is that of CPython's finalize_modules(). What was there before the snapshot comes first in a dict, by these
    numbers of entries; it is left alone.
    """
    if len(logging._handlerList) > snapshot_handlers:
        logging.shutdown()
    good = flush()
    for name in ("last_exc", "last_type", "last_value", "last_traceback", "ps1", "ps2"):
        vars(sys).pop(name, None)
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    vars(builtins).pop("_", None)
    if gc.isenabled():
        gc.collect()
    names = added(sys.modules, snapshot_modules)
    modules = [sys.modules.pop(name, None) for name in names]
    kept = [weakref.ref(module) for module in modules if isinstance(module, types.ModuleType)]
    del modules
    for name in added(vars(builtins), snapshot_builtins):
        vars(builtins).pop(name, None)
    gc.collect()
    for reference in reversed(kept):
        module = reference()
        if module is not None:
            clear(vars(module))
            del module
    # What was lost before has been told.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    return good


def added(names, count):
    """The names in a dict that come after so many. To go through it from its start would take long: it has all those."""
    return list(itertools.islice(reversed(names), max(len(names) - count, 0)))[::-1]


def clear(names):
    """Takes from a module that is still used what it has, as CPython's _PyModule_ClearDict() does."""
    for private in (True, False):
        for name in list(names):
            if name != "__builtins__" and private == (name[:1] == "_" and name[1:2] != "_"):
                names[name] = None


def flush():
    """Writes what is buffered, and tells whether that went well."""
    good = True
    if sys.stdout is not None and not getattr(sys.stdout, "closed", False):
        try:
            sys.stdout.flush()
        except Exception as error:
            good = False
            report_unwritten(error)
    try:
        if sys.stderr is not None and not getattr(sys.stderr, "closed", False):
            sys.stderr.flush()
    except Exception:
        good = False
    return good


def report_unwritten(error):
    """Says why output was lost."""
    try:
        print("Exception ignored on flushing sys.stdout:", file=sys.stderr)
        print(*traceback.format_exception_only(error), sep="", end="", file=sys.stderr)
    except Exception:
        pass


def forget_run():
    """Undoes what the run of a program leaves."""
    sys.path[:] = initial_path
    sys.path_importer_cache.clear()
    sys.path_importer_cache.update(initial_importers)
    environment.clear()
    posix_environment.clear()
    linecache._interactive_cache.clear()
    settle()


def settle():
    """Takes from the garbage collector what is there: it never looks at that again."""
    # Twice: finalisers may leave garbage of their own.
    gc.collect()
    gc.collect()
    gc.freeze()


# Each process has a module __main__ of its own, which begins with these names.
main_names = dict(vars(sys.modules.pop("__main__")))
file_streams = streams_with_positions()
environment = os.environ._data
posix_environment = posix.environ
logging_names = logging.__dict__
site_packages_modified = modified(SITE_PACKAGES)
# All that the modules registered is logging.shutdown, which finish() calls if it has something to do.
assert atexit._ncallbacks() == 1
atexit._clear()
snapshot_handlers = len(logging._handlerList)
# Seeded when it is first used: patches/random.patch.
random.setstate((random.Random.VERSION, (0,) * 624 + (0x57697370,), None))
initial_path = list(sys.path)
initial_importers = dict(sys.path_importer_cache)
settle()
