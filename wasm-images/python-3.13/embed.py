"""Prints a text file as a C string: embed.py FILE NAME."""

import sys

path, name = sys.argv[1:]
print(f"static const char {name}[] =")
with open(path, encoding="utf-8") as file:
    for line in file:
        escaped = line.rstrip("\n").replace("\\", "\\\\").replace('"', '\\"')
        print(f'    "{escaped}\\n"')
print(";")
