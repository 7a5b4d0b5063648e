# Largest singular value of an infinite matrix's corner: calls of a small function, float arithmetic.
def entry(i, j):
    return 1.0 / ((i + j) * (i + j + 1) // 2 + i + 1)


def times(vector):
    return [sum(entry(i, j) * x for j, x in enumerate(vector)) for i in range(len(vector))]


def transposed_times(vector):
    return [sum(entry(j, i) * x for j, x in enumerate(vector)) for i in range(len(vector))]


def work():
    u = [1.0] * 130
    for _ in range(5):
        v = transposed_times(times(u))
        u = transposed_times(times(v))
    return round((sum(a * b for a, b in zip(u, v)) / sum(b * b for b in v)) ** 0.5, 6)
