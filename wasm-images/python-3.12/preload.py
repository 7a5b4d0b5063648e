"""Runs once, when the image is installed: brings the interpreter into the state that every process starts from.

Prints the address of the text that PyRun_SimpleStringFlags is then called with, and its flags (none).
"""

import _wisp_start

for name in """
    abc argparse array ast base64 bisect calendar cmath code codecs collections collections.abc concurrent.futures
    contextlib copy csv dataclasses datetime decimal difflib email enum fnmatch fractions functools getopt glob gzip
    hashlib heapq hmac html http inspect io itertools json keyword linecache locale logging marshal math numbers
    operator os pathlib pickle platform pprint queue random re runpy secrets shlex shutil signal sqlite3 statistics
    string struct tempfile textwrap threading time timeit tokenize traceback types typing unittest urllib.parse uuid
    warnings weakref zipfile zlib asyncio xml.etree.ElementTree
""".split():
    __import__(name)

_wisp_start.freeze()
