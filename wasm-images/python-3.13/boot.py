"""Prepares the interpreter for its snapshot (see main.c). What this imports, no process has to import again."""

import atexit
import gc
import importlib
import io
import logging
import os
import posix
import random
import re
import site
import sys
import traceback
import warnings

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

for name in PRELOADED.split():
    importlib.import_module(name)
re.purge()
sys.path_importer_cache.pop("", None)


def start(executable, pythonpath, buffered, terminal):
    """Gives this process what differs from the snapshot, where main.c sees that something may."""
    if executable not in PREFIX_EXECUTABLES:
        adopt_environment(os.fsdecode(executable))
    elif modified(SITE_PACKAGES) != site_packages_modified and not sys.flags.no_site:
        site.addsitedir(SITE_PACKAGES)
    if b"HOME" in environment and not (sys.flags.no_user_site or sys.flags.no_site):
        add_user_site(os.fsdecode(environment[b"HOME"]))
    if pythonpath:
        sys.path[0:0] = pythonpath.split(":")
    if sys.warnoptions:
        warnings._processoptions(sys.warnoptions)
    if terminal:
        sys.stdout.reconfigure(line_buffering=True)
    if not buffered:
        sys.stdout = sys.__stdout__ = unbuffered(sys.stdout)
        sys.stderr = sys.__stderr__ = unbuffered(sys.stderr)
    if b"PYTHONIOENCODING" in environment and not sys.flags.ignore_environment:
        set_encoding(*os.fsdecode(environment[b"PYTHONIOENCODING"]).partition(":")[::2])


def modified(directory):
    """When it was, or None if it is gone."""
    try:
        return os.stat(directory).st_mtime_ns
    except OSError:
        return None


def adopt_environment(executable):
    """Makes this the Python of a virtual environment if the file it was started as belongs to one."""
    sys.executable = executable
    sys.path.remove(SITE_PACKAGES)
    site.venv(set())
    if sys.prefix == sys.base_prefix or sys.prefix not in site.PREFIXES[:1] or len(site.PREFIXES) > 1:
        sys.path.append(SITE_PACKAGES)


def add_user_site(home):
    """Adds what `pip install --user` installed."""
    directory = home + "/.local/lib/python3.13/site-packages"
    if os.path.isdir(directory):
        site.ENABLE_USER_SITE = True
        site.addsitedir(directory)


def unbuffered(stream):
    """The same stream without a buffer, which python -u asks for."""
    raw = open(stream.fileno(), "wb", buffering=0, closefd=False)
    raw.name = stream.name
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, write_through=True)


def set_encoding(encoding, errors):
    """What PYTHONIOENCODING asks for."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        wanted = errors if stream is not sys.stderr else "backslashreplace"
        stream.reconfigure(encoding=encoding or None, errors=wanted or None)


def finish(imported):
    """What of the end of an interpreter a program can see: objects are finalised, output is written."""
    if len(logging._handlerList) > snapshot_handlers:
        logging.shutdown()
    for module in imported:
        try:
            module.__dict__.clear()
        except Exception:
            pass
    imported = module = None
    main_names.clear()
    gc.collect()
    good = True
    try:
        if not sys.stdout.closed:
            sys.stdout.flush()
    except AttributeError:
        pass
    except Exception as error:
        good = False
        report_unwritten(error)
    try:
        sys.stderr.flush()
    except Exception:
        pass
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
    main_names.update(initial_main_names)
    sys.path[:] = initial_path
    sys.path_importer_cache.clear()
    sys.path_importer_cache.update(initial_importers)
    environment.clear()
    posix_environment.clear()
    settle()


def settle():
    """Takes from the garbage collector what is there: it never looks at that again."""
    # Twice: finalisers may leave garbage of their own.
    gc.collect()
    gc.collect()
    gc.freeze()


main_names = sys.modules["__main__"].__dict__
environment = os.environ._data
posix_environment = posix.environ
logging_names = logging.__dict__
site_packages_modified = modified(SITE_PACKAGES)
# They are found out when somebody asks for them: whose directory that is differs.
site.USER_SITE = site.USER_BASE = None
# All that the modules registered is logging.shutdown, which finish() calls if it has something to do.
assert atexit._ncallbacks() == 1
atexit._clear()
snapshot_handlers = len(logging._handlerList)
# Seeded when it is first used: patches/random.patch.
random.setstate((random.Random.VERSION, (0,) * 624 + (625,), None))
initial_main_names = dict(main_names)
initial_path = list(sys.path)
initial_importers = dict(sys.path_importer_cache)
settle()
