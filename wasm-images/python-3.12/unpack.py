"""Runs once, when the image is installed: fills /layer with Python's standard library and the start-up program.

The interpreter carries the library in a read-only tree of its own at /usr. sys.argv[1] is the source of _wisp_start.
"""

import importlib.util
import os
import shutil
import sys
import zipfile
from importlib._bootstrap_external import _code_to_hash_pyc

OWN = "/usr/local"
LAYER = "/layer/usr/local"
LIBRARY = f"{LAYER}/lib/python3.12"

shutil.copytree(OWN, LAYER, copy_function=shutil.copyfile)

# Modules are found faster as files than in an archive, and `ls` shows people what there is.
archive = f"{LAYER}/lib/python312.zip"
with zipfile.ZipFile(archive) as library:
    library.extractall(LIBRARY)
os.remove(archive)

os.makedirs(f"{LIBRARY}/site-packages", exist_ok=True)
os.makedirs(f"{LIBRARY}/__pycache__", exist_ok=True)
os.makedirs(f"{LAYER}/bin", exist_ok=True)

source = sys.argv[1].encode()
path = f"{LIBRARY}/_wisp_start.py"
with open(path, "wb") as file:
    file.write(source)
# Checked neither by time nor by hash: image files do not change.
code = compile(source, "/usr/local/lib/python3.12/_wisp_start.py", "exec", dont_inherit=True)
with open(importlib.util.cache_from_source(path), "wb") as file:
    file.write(_code_to_hash_pyc(code, importlib.util.source_hash(source), checked=False))
