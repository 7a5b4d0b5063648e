"""The groups of /etc/group, which elsewhere the C library tells."""

import os
from collections import namedtuple

struct_group = namedtuple("struct_group", "gr_name gr_passwd gr_gid gr_mem")


def getgrall():
    """All groups."""
    try:
        with open("/etc/group", encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.rstrip("\n").split(":") for line in file if line.count(":") == 3]
    except FileNotFoundError:
        return []
    return [struct_group(*row[:2], int(row[2]), row[3].split(",") if row[3] else []) for row in rows]


def getgrgid(gid):
    """The group with a number."""
    for group in getgrall():
        if group.gr_gid == gid:
            return group
    raise KeyError(f"getgrgid(): gid not found: {gid}")


def getgrnam(name):
    """The group with a name."""
    for group in getgrall():
        if group.gr_name == os.fspath(name):
            return group
    raise KeyError(f"getgrnam(): name not found: {name!r}")
