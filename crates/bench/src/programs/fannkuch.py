# Flips of all permutations of eight numbers: slices of small lists.
from itertools import permutations


def work():
    most = 0
    for permutation in permutations(range(8)):
        cards = list(permutation)
        flips = 0
        while first := cards[0]:
            cards[: first + 1] = cards[first::-1]
            flips += 1
        if flips > most:
            most = flips
    return most
