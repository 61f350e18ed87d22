"""A plan of two stages, whose result is known."""

import fnmap


def square(x):
    return x * x


def make_plan(n=10):
    with fnmap.plan("p") as p:
        p.reduce(sum, p.map(square, range(n)), fan_in=4)
    return p
