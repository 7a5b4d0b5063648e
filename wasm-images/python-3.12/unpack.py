"""Runs once, when the image is installed: fills /layer with Python's standard library and the start-up program.

The interpreter carries the library in a read-only tree of its own at /usr. sys.argv[1] is the source of _wisp_start.
"""

import importlib.util
import marshal
import os
import shutil
import sys
import zipfile
from _imp import _fix_co_filename
from importlib._bootstrap_external import MAGIC_NUMBER, _code_to_hash_pyc

OWN = "/usr/local"
LAYER = "/layer/usr/local"
INSTALLED = "/usr/local/lib/python3.12"
LIBRARY = f"/layer{INSTALLED}"
HEADER = 16  # Bytes of a .pyc before the code.

# Event loops make a socket pair, by which other threads and signals wake them. There are neither here, nor sockets.
WITHOUT_SOCKETS = """
import marshal
exec(marshal.loads({code!r}))
BaseSelectorEventLoop._make_self_pipe = lambda self: None
BaseSelectorEventLoop._close_self_pipe = lambda self: None
BaseSelectorEventLoop._write_to_self = lambda self: None
"""


def copy():
    """Copies the library out of the interpreter."""
    shutil.copytree(OWN, LAYER, copy_function=shutil.copyfile)
    # Modules are found faster as files than in an archive, and `ls` shows people what there is.
    archive = f"{LAYER}/lib/python312.zip"
    with zipfile.ZipFile(archive) as library:
        library.extractall(LIBRARY)
    os.remove(archive)


def name_sources():
    """Makes tracebacks name files where Python looks for them, not where they were on the machine of the build."""
    for directory, _, names in os.walk(LIBRARY):
        for name in names:
            path = os.path.join(directory, name)
            if not name.endswith(".pyc"):
                continue
            with open(path, "rb") as file:
                data = file.read()
            assert data.startswith(MAGIC_NUMBER), path
            code = marshal.loads(data[HEADER:])
            source = path.removeprefix("/layer").removesuffix("c")
            _fix_co_filename(code, source)
            if source.endswith("/asyncio/selector_events.py"):
                code = compile(WITHOUT_SOCKETS.format(code=marshal.dumps(code)), source, "exec")
            with open(path, "wb") as file:
                file.write(data[:HEADER] + marshal.dumps(code))


def add_start(source):
    """Adds the start-up program. Its byte code is checked neither by time nor by hash: image files do not change."""
    os.makedirs(f"{LIBRARY}/site-packages", exist_ok=True)
    os.makedirs(f"{LIBRARY}/__pycache__", exist_ok=True)
    # All the directories that the program has preopened have to exist.
    for name in ("bin", "include", "lib", "libexec", "local/bin", "sbin", "share", "src"):
        os.makedirs(f"/layer/usr/{name}", exist_ok=True)
    path = f"{LIBRARY}/_wisp_start.py"
    with open(path, "wb") as file:
        file.write(source)
    code = compile(source, f"{INSTALLED}/_wisp_start.py", "exec", dont_inherit=True)
    with open(importlib.util.cache_from_source(path), "wb") as file:
        file.write(_code_to_hash_pyc(code, importlib.util.source_hash(source), checked=False))


copy()
name_sources()
add_start(sys.argv[1].encode())
