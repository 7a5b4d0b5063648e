"""Puts pip into a virtual environment: a copy of the one that this Python has."""

import os
import shutil
import sys
import sysconfig

SCRIPT = """#!{executable}
import sys

from pip._internal.cli.main import main

sys.exit(main())
"""


def version():
    """The version of that pip."""
    from importlib.metadata import version

    return version("pip")


def bootstrap(**_):
    """Copies pip to where this Python looks for packages."""
    source = sysconfig.get_path("purelib", vars={"base": sys.base_prefix})
    target = sysconfig.get_path("purelib")
    if source == target:
        return
    for name in os.listdir(source):
        if name == "pip" or name.startswith("pip-"):
            shutil.copytree(os.path.join(source, name), os.path.join(target, name), dirs_exist_ok=True)
    for name in ("pip", "pip3", "pip3.13"):
        path = os.path.join(sysconfig.get_path("scripts"), name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(SCRIPT.format(executable=sys.executable))
        os.chmod(path, 0o755)
