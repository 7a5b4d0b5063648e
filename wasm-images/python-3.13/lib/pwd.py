"""The users of /etc/passwd, which elsewhere the C library tells."""

import os
from collections import namedtuple

struct_passwd = namedtuple("struct_passwd", "pw_name pw_passwd pw_uid pw_gid pw_gecos pw_dir pw_shell")


def getpwall():
    """All users."""
    try:
        with open("/etc/passwd", encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.rstrip("\n").split(":") for line in file if line.count(":") == 6]
    except FileNotFoundError:
        return []
    return [struct_passwd(*row[:2], int(row[2]), int(row[3]), *row[4:]) for row in rows]


def getpwuid(uid):
    """The user with a number."""
    for user in getpwall():
        if user.pw_uid == uid:
            return user
    raise KeyError(f"getpwuid(): uid not found: {uid}")


def getpwnam(name):
    """The user with a name."""
    for user in getpwall():
        if user.pw_name == os.fspath(name):
            return user
    raise KeyError(f"getpwnam(): name not found: {name!r}")
