# Searching and replacing in a log: the C part of the re module.
import re


def work():
    log = "\n".join(
        f"2026-11-{n % 28 + 1:02} 10:{n % 60:02}:00 host{n % 7} service[{n}]: user{n % 13}@example.com took {n * 37 % 999}ms"
        for n in range(3000)
    )
    address = re.compile(r"([a-z0-9]+)@([a-z]+\.[a-z]+)")
    line = re.compile(r"^(\d{4})-(\d\d)-(\d\d) .*?\[(\d+)\]: .* took (\d+)ms$", re.MULTILINE)
    found = 0
    for _ in range(3):
        found += len(address.findall(log))
        found += sum(int(match[5]) for match in line.finditer(log))
        found += len(address.sub(r"\2 at \1", log))
    return found
