# A chain of one-way constraints that passes changes on, in the manner of DeltaBlue: method calls and small objects.
class Variable:
    def __init__(self, value):
        self.value = value
        self.readers = []


class Constraint:
    def __init__(self, source, target):
        self.source = source
        self.target = target
        source.readers.append(self)

    def apply(self):
        value = self.compute(self.source.value)
        if value == self.target.value:
            return False
        self.target.value = value
        return True


class Equal(Constraint):
    def compute(self, value):
        return value


class Scaled(Constraint):
    def compute(self, value):
        return (value * 3 + 1) % 65537


def propagate(variable):
    waiting = [variable]
    applied = 0
    while waiting:
        for constraint in waiting.pop().readers:
            applied += 1
            if constraint.apply():
                waiting.append(constraint.target)
    return applied


def work():
    first = Variable(0)
    last = first
    for n in range(1000):
        following = Variable(0)
        (Scaled if n % 3 else Equal)(last, following)
        last = following
    applied = 0
    for value in range(1, 200):
        first.value = value
        applied += propagate(first)
    return applied * 100000 + last.value
