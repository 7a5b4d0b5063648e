# Building, splitting and formatting text.
def work():
    total = 0
    for round_ in range(20):
        parts = []
        for n in range(5000):
            parts.append(f"{n:05d}-{n * round_ % 97:x}")
        text = ",".join(parts)
        words = text.upper().replace("-", " ").split(",")
        longest = ""
        for word in words:
            name, _, rest = word.partition(" ")
            longest += rest[:1]
            total += len(name.strip("0")) + (rest in "0123456789")
        total += len(longest) + text.count("9")
    return total
