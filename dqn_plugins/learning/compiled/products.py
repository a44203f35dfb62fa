"""Arithmetic in compiled code: small products of matrices, and numbers too small to matter."""

import numpy as np

from dqn_plugins.learning.compiled.compilation import Floats, compiled

__all__ = ["add_product", "flushed", "multiply_by_rows"]


@compiled
def add_product(
    factors: Floats,
    n_rows: int,
    n_terms: int,
    row_step: int,
    term_step: int,
    source: Floats,
    target: Floats,
    n: int,
) -> None:
    """
    Add a product of matrices to a matrix: each row of ``target`` gets a sum of rows of ``source``.

    :param factors: The factor of a row and a term stands at ``row · row_step + term · term_step``.
    :param source: ``n_terms`` rows of ``n`` numbers.
    :param target: ``n_rows`` rows of ``n`` numbers.
    """
    # Two rows and four terms at a time, so that numbers are read and written less often.
    row = 0
    while row + 2 <= n_rows:
        one, other = target[row * n : (row + 1) * n], target[(row + 1) * n : (row + 2) * n]
        at, term = row * row_step, 0
        while term + 4 <= n_terms:
            first, second = source[term * n :], source[(term + 1) * n :]
            third, fourth = source[(term + 2) * n :], source[(term + 3) * n :]
            a, b = factors[at], factors[at + term_step]
            c, d = factors[at + 2 * term_step], factors[at + 3 * term_step]
            beside = at + row_step
            e, f = factors[beside], factors[beside + term_step]
            g, h = factors[beside + 2 * term_step], factors[beside + 3 * term_step]
            for i in range(n):
                w, x, y, z = first[i], second[i], third[i], fourth[i]
                one[i] += a * w + b * x + c * y + d * z
                other[i] += e * w + f * x + g * y + h * z
            at += 4 * term_step
            term += 4
        while term < n_terms:
            first, a, e = source[term * n :], factors[at], factors[at + row_step]
            for i in range(n):
                one[i] += a * first[i]
                other[i] += e * first[i]
            at += term_step
            term += 1
        row += 2
    if row < n_rows:
        one = target[row * n : (row + 1) * n]
        for term in range(n_terms):
            first, a = source[term * n :], factors[row * row_step + term * term_step]
            for i in range(n):
                one[i] += a * first[i]


@compiled
def multiply_by_rows(
    inputs: Floats, weights: Floats, outputs: Floats, n_rows: int, n_in: int, n_out: int
) -> None:
    """Multiply each of ``n_rows`` rows of ``n_in`` numbers by each of ``n_out`` rows."""
    row = 0
    while row < n_rows:
        # Two rows by four at a time, so that numbers are read less often.
        pair = min(2, n_rows - row)
        one, other = inputs[row * n_in :], inputs[(row + pair - 1) * n_in :]
        to, beside = row * n_out, (row + pair - 1) * n_out
        unit = 0
        while unit + 4 <= n_out:
            first, second = weights[unit * n_in :], weights[(unit + 1) * n_in :]
            third, fourth = weights[(unit + 2) * n_in :], weights[(unit + 3) * n_in :]
            a = b = c = d = np.float32(0.0)
            e = f = g = h = np.float32(0.0)
            for i in range(n_in):
                x, y = one[i], other[i]
                a, b = a + x * first[i], b + x * second[i]
                c, d = c + x * third[i], d + x * fourth[i]
                e, f = e + y * first[i], f + y * second[i]
                g, h = g + y * third[i], h + y * fourth[i]
            at = to + unit
            outputs[at], outputs[at + 1], outputs[at + 2], outputs[at + 3] = a, b, c, d
            at = beside + unit
            outputs[at], outputs[at + 1], outputs[at + 2], outputs[at + 3] = e, f, g, h
            unit += 4
        while unit < n_out:
            first, a, e = weights[unit * n_in :], np.float32(0.0), np.float32(0.0)
            for i in range(n_in):
                a, e = a + one[i] * first[i], e + other[i] * first[i]
            outputs[to + unit], outputs[beside + unit] = a, e
            unit += 1
        row += pair


@compiled
def flushed(value: np.float32) -> np.float32:
    """
    Replace a number that no longer matters by zero.

    What decays step by step, such as the moments and traces of an inactive unit, ends among the
    denormal numbers, with which processors compute many times slower.
    """
    return value if abs(value) > np.float32(1e-30) else np.float32(0.0)
