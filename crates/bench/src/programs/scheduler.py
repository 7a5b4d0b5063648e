# Tasks that pass packets around, in the manner of Richards: generators, deques and dispatch.
from collections import deque


class Packet:
    __slots__ = ("kind", "hops", "data")

    def __init__(self, kind, data):
        self.kind = kind
        self.hops = 0
        self.data = data


def task(number, queues, counts):
    seed = number
    while True:
        packet = queues[number].popleft() if queues[number] else None
        if packet is not None:
            counts[number] += 1
            packet.hops += 1
            seed = (seed * 1103515245 + packet.data + 12345) & 0x7FFFFFFF
            packet.data = seed
            if packet.kind == "device":
                target = (number + 1) % len(queues)
            else:
                target = seed % len(queues)
            queues[target].append(packet)
        yield


def work():
    queues = [deque() for _ in range(6)]
    counts = [0] * 6
    for n in range(12):
        queues[n % 6].append(Packet("device" if n % 2 else "work", n))
    tasks = [task(n, queues, counts) for n in range(6)]
    for _ in range(40000):
        for each in tasks:
            next(each)
    return sum(n * count for n, count in enumerate(counts, 1))
