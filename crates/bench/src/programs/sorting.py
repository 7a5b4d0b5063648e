# Sorting by keys, grouping in dictionaries, binary search.
from bisect import bisect


def work():
    seed = 42
    records = []
    for n in range(30000):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        records.append((seed % 1000, f"name{seed % 5000}", n))
    total = 0
    for _ in range(3):
        records.sort(key=lambda record: record[1])
        records.sort(key=lambda record: -record[0])
        groups = {}
        for number, name, n in records:
            groups.setdefault(number, []).append(n)
        ordered = sorted(n for group in groups.values() for n in group[:20])
        total += sum(bisect(ordered, n) for n in range(0, 30000, 7)) + records[100][2]
    return total
