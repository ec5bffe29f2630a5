"""Losses of the reduced models written apart from the package, in NumPy, with gradients derived by hand.

Orthonormal inputs and M = J. Nothing of the package is used here. Losses are written from the attention pattern of
one-hot tokens, as functions of alpha_3, beta_2, gamma_3 (circuit) or of the twelve combinations of coordinates that the
loss can tell apart (subspace), with their gradients by reverse accumulation; and once more with every softmax written
out, as a check.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

Vector = np.ndarray
Model = Callable[[Vector], tuple[Any, Vector]]
"""From coordinates to the loss and its gradient; also at complex coordinates, where both are analytic."""

LIVE = (
    "alpha_1",
    "alpha_3",
    "beta_1",
    "beta_2",
    "beta_3 + beta_9",
    "beta_10",
    "beta_4 + beta_11",
    "beta_12",
    "gamma_1",
    "gamma_2",
    "gamma_3",
    "gamma_4",
)
MOBILITY = np.array([1, 1, 1, 1, 2, 1, 2, 1, 1, 1, 1, 1.0])  # both terms of a sum move with its gradient
PLACES = {"circuit": (0, 1, 2), "subspace": (1, 3, 10)}  # of alpha_3, beta_2, gamma_3


class Sums:
    """Sums over pairs k = 1..N of functions that are smooth in log k: term by term, or by quadrature beyond a head.

    Beyond the head the nodes are Chebyshev points of panels in log k, and a sum is the Euler-Maclaurin series of the
    integral, which also continues prefix sums to real k; so sums of prefix sums need nothing new.

    Args:
        pairs: N.
        head: number of pairs that are summed term by term; all where N is not much larger.
    """

    def __init__(self, pairs: int, head: int = 384, ratio: float = 2.0, degree: int = 16):
        self.pairs = pairs
        direct = pairs <= 3 * head
        self.head = pairs if direct else head
        self.k: Vector = np.arange(1.0, self.head + 1)
        self.weights: Vector = np.ones(self.head)
        self.tail_before = self.tail_after = np.zeros((0, 0))
        if direct:
            return
        first = head + 1.0
        panels = math.ceil(math.log(pairs / first) / math.log(ratio))
        width = math.log(pairs / first) / panels
        nodes = panels * degree + 1
        points = -np.cos(np.pi * np.arange(degree + 1) / degree)
        logs = (np.arange(panels)[:, None] + (points[1:] + 1) / 2) * width
        k = first * np.exp(np.append(0.0, logs))
        k[-1] = pairs
        # Through Chebyshev coefficients: the integral from a panel's left end, and the derivative, at its points.
        vandermonde = np.polynomial.chebyshev.chebvander(points, degree)
        basis = np.linalg.inv(vandermonde)
        primitive = np.polynomial.chebyshev.chebint(np.eye(degree + 1), lbnd=-1)
        within = np.polynomial.chebyshev.chebvander(points, degree + 1) @ primitive @ basis * width / 2
        slope = np.polynomial.chebyshev.chebder(np.eye(degree + 1))
        slopes = np.polynomial.chebyshev.chebvander(points, degree - 1) @ slope @ basis * 2 / width
        left, right, derivative = (np.zeros((nodes, nodes)) for _ in range(3))
        for panel in range(panels):
            here = slice(panel * degree, (panel + 1) * degree + 1)
            left[here.start + 1 : here.stop, here] += within[1:]
            left[here.stop :, here] += within[-1]
            right[here.start : here.stop - 1, here] += within[-1] - within[:-1]
            right[: here.start, here] += within[-1]
            derivative[here.start] = 0  # a node that two panels share
            derivative[here, here] = slopes
        derivative /= k[:, None]
        third = derivative @ derivative @ derivative
        ends = derivative / 12 - third / 720 + third @ derivative @ derivative / 30240
        ends -= np.eye(nodes) / 2
        self.tail_before = left * k + ends - ends[0]
        self.tail_after = right * k + ends[-1] - ends - np.eye(nodes)
        self.tail_after[:, -1] += 1
        self.k = np.append(self.k, k)
        self.weights = np.append(self.weights, self.tail_after[0])
        self.weights[head] += 1

    def total(self, f: Vector) -> Any:
        """Sum of f over all k."""
        return self.weights @ f

    def before(self, f: Vector) -> Vector:
        """At each node q the sum of f over k < q."""
        result = np.empty_like(f)
        head, tail = f[: self.head], f[self.head :]
        result[0] = 0
        np.cumsum(head[:-1], axis=0, out=result[1 : self.head])
        result[self.head :] = self.tail_before @ tail + head.sum(axis=0)
        return result

    def after(self, f: Vector) -> Vector:
        """At each node q the sum of f over k > q. (Not as a difference, whose rounding would be that of the total.)"""
        result = np.empty_like(f)
        head, tail = f[: self.head], f[self.head :]
        result[self.head - 1] = 0
        result[: self.head - 1] = np.cumsum(head[:0:-1], axis=0)[::-1]
        result[: self.head] += self.weights[self.head :] @ tail
        result[self.head :] = self.tail_after @ tail
        return result

    def before_transposed(self, f: Vector) -> Vector:
        """The transpose of `before`, which carries derivatives back."""
        result = np.empty_like(f)
        head, tail = f[: self.head], f[self.head :]
        result[self.head - 1] = 0
        result[: self.head - 1] = np.cumsum(head[:0:-1], axis=0)[::-1]
        result[: self.head] += tail.sum(axis=0)
        result[self.head :] = self.tail_before.T @ tail
        return result

    def after_transposed(self, f: Vector) -> Vector:
        """The transpose of `after`."""
        result = np.empty_like(f)
        head, tail = f[: self.head], f[self.head :]
        result[0] = 0
        np.cumsum(head[:-1], axis=0, out=result[1 : self.head])
        result[self.head :] = self.tail_after.T @ tail
        result[self.head :] += np.multiply.outer(self.weights[self.head :], head.sum(axis=0))
        return result

    def queries(self, query: str) -> Vector:
        """How much the loss of target q counts, at each node."""
        if query == "uniform":
            return self.weights / self.pairs
        return np.append(np.zeros(len(self.k) - 1), 1.0)


def circuit_last(pairs: int) -> tuple[Model, Callable[[Vector], Vector]]:
    """Loss and gradient in alpha_3, beta_2, gamma_3 with the query last; and the Hessian."""
    others = 2 * pairs - 1

    def parts(theta):
        alpha, beta, gamma = theta
        a, not_a = special.expit(alpha - math.log(2 * pairs - 2)), special.expit(math.log(2 * pairs - 2) - alpha)
        b, not_b = special.expit(beta * a - math.log(others)), special.expit(math.log(others) - beta * a)
        missing = 1 - gamma * b
        by_score = -(gamma * missing + gamma**2 * not_b / others) * b * not_b
        score = np.array([beta * a * not_a, a, 0.0])
        return beta, gamma, a, not_a, b, not_b, missing, by_score, score

    def model(theta):
        _, gamma, _, _, b, not_b, missing, by_score, score = parts(theta)
        by_gamma = gamma * not_b**2 / others - b * missing
        return (missing**2 + gamma**2 * not_b**2 / others) / 2, by_score * score + np.array([0.0, 0.0, by_gamma])

    def hessian(theta):
        beta, gamma, a, not_a, b, not_b, missing, by_score, score = parts(theta)
        twice = gamma**2 * (1 + 1 / others) * (b * not_b) ** 2 + by_score * (not_b - b)
        mixed = (2 * gamma * b - 1 - 2 * gamma * not_b / others) * b * not_b
        gammas = np.array([0.0, 0.0, 1.0])
        curvature = np.zeros((3, 3))
        curvature[0, 0] = beta * a * not_a * (not_a - a)
        curvature[0, 1] = curvature[1, 0] = a * not_a
        return (
            twice * np.outer(score, score)
            + by_score * curvature
            + mixed * (np.outer(score, gammas) + np.outer(gammas, score))
            + (b**2 + not_b**2 / others) * np.outer(gammas, gammas)
        )

    return model, hessian


def circuit_uniform(sums: Sums) -> Model:
    """Loss and gradient in alpha_3, beta_2, gamma_3, averaged over targets q."""
    q, count = sums.k, sums.queries("uniform")
    v = np.where(q == 1, 0.0, 0.5 / np.where(q == 1, 1.0, q - 1))

    def model(theta):
        alpha, beta, gamma = theta
        u = 1 / (np.exp(alpha) + 2 * q - 2)
        g = np.exp(alpha) * u
        # Attention before normalisation, less that of a score of zero: on label q, on later labels and items.
        own, label, item = np.exp(beta * g), np.expm1(beta * u), np.expm1(beta * v)
        sizes = np.stack([label + item, label * (label + 2) + item * (item + 2)], axis=1)
        later = sums.after(sizes)
        z = 2 * sums.pairs - 1 + own + later[:, 0]
        squares = 2 * sums.pairs - 1 + own**2 + later[:, 1]
        right, spread = own / z, squares / z**2
        loss = count @ (0.5 - gamma * right + gamma**2 * spread / 2)

        by_z = count * (gamma * right - gamma**2 * spread) / z
        by_squares = count * gamma**2 / (2 * z**2)
        by_own = by_z + 2 * own * by_squares - count * gamma / z
        by_sizes = sums.after_transposed(np.stack([by_z, by_squares], axis=1))
        own_score = by_own * own
        label_score = (by_sizes[:, 0] + 2 * (label + 1) * by_sizes[:, 1]) * (label + 1)
        item_score = (by_sizes[:, 0] + 2 * (item + 1) * by_sizes[:, 1]) * (item + 1)
        by_alpha = beta * (own_score @ (g * (2 * q - 2) * u) - label_score @ (u * g))
        by_beta = own_score @ g + label_score @ u + item_score @ v
        return loss, np.stack([by_alpha, by_beta, count @ (gamma * spread - right)])

    return model


def subspace(sums: Sums, query: str) -> Model:
    """Loss and gradient in the twelve combinations `LIVE`.

    A pair is before the target, the target itself or after it; its item's and label's scores depend on the class and
    on k only. Capitals are items, small letters labels.
    """
    k, n = sums.k, sums.pairs
    count = sums.queries(query)
    first = np.where(k == 1, 1.0, 0.0)
    others = 2 * k - 2
    v = np.where(k == 1, 0.0, 1 / np.where(k == 1, 1.0, others))

    def columns(*vectors):
        return np.stack(vectors, axis=1)

    def model(theta):
        alpha_1, alpha_3, beta_1, beta_2, beta_3, beta_10, beta_4, beta_12, gamma_1, gamma_2, gamma_3, gamma_4 = theta
        w = 1 / (np.exp(alpha_1) + 2 * n - 1)
        h, d = np.exp(alpha_1) * w, np.expm1(alpha_1) * w
        u = 1 / (np.exp(alpha_3) + others)
        g = np.exp(alpha_3) * u
        not_g = others * u
        u = u * (1 - first)  # the first label has no other token before it
        match = beta_2 + d * (beta_4 - beta_12)

        # Scores, less (beta_3 + beta_4) w, which all have.
        item, label = beta_10 * w - beta_4 * w * first, beta_12 * w * g - beta_10 * w
        early_item, early = np.exp(item), np.exp(label)
        late_item, late = np.exp(item + match * v), np.exp(label + match * u)
        own_item = np.exp(item + beta_1 + beta_3 * d)
        own = np.exp(label + beta_2 * g + d * (beta_4 * g - beta_10))

        early_pull, late_pull = early * u + early_item * v, late * u + late_item * v
        own_pull = own * u + own_item * v
        earlier = sums.before(early_item + early)
        # A sum of early pulls between k and q is a difference of these, in which nothing cancels for q = N.
        later, early_sum, late_sum = sums.after(columns(late_item + late, early_pull, late_pull)).T
        y = 1 / (earlier + own_item + own + later)
        pulled = own_pull - early_pull - early_sum + late_sum

        # Output coefficients times Z, without what all tokens share.
        early_out_item = gamma_3 * early_item + gamma_4 * (early * g + early_sum)
        early_out = gamma_3 * early + gamma_4 * early_sum
        late_out_item = gamma_3 * late_item + gamma_4 * (late * g + late_sum)
        late_out = gamma_3 * late + gamma_4 * late_sum
        early_moments = sums.before(columns(early_out_item + early_out, early_out_item**2 + early_out**2))
        late_moments = sums.after(columns(late_out_item + late_out, late_out_item**2 + late_out**2))
        shared = gamma_2 * w
        shared_early = shared + gamma_4 * pulled * y
        own_out_item = gamma_3 * own_item + gamma_4 * (own * g + late_sum)
        own_out = gamma_3 * own + gamma_4 * late_sum
        out_item = gamma_1 + gamma_2 * h + y * own_out_item
        out = shared + y * own_out - 1
        early_first, early_second = early_moments.T
        late_first, late_second = late_moments.T
        loss = 0.5 * (
            count
            @ (
                others * shared_early**2
                + 2 * shared_early * y * early_first
                + (2 * n - 2 * k) * shared**2
                + 2 * shared * y * late_first
                + y**2 * (early_second + late_second)
                + out_item**2
                + out**2
            )
        )

        # Back again: `x_` is the derivative by x.
        shared_early_ = count * (others * shared_early + y * early_first)
        shared_ = count @ ((2 * n - 2 * k) * shared + y * late_first) + shared_early_.sum()
        out_item_, out_ = count * out_item, count * out
        shared_ = shared_ + out_.sum()
        y_ = count * (shared_early * early_first + shared * late_first + y * (early_second + late_second))
        y_ = y_ + shared_early_ * gamma_4 * pulled + out_item_ * own_out_item + out_ * own_out
        pulled_ = gamma_4 * y * shared_early_
        moment = count * y**2 / 2
        early_first_, early_second_ = sums.before_transposed(columns(count * shared_early * y, moment)).T
        late_first_, late_second_ = sums.after_transposed(columns(count * shared * y, moment)).T
        early_out_item_ = early_first_ + 2 * early_out_item * early_second_
        early_out_ = early_first_ + 2 * early_out * early_second_
        late_out_item_ = late_first_ + 2 * late_out_item * late_second_
        late_out_ = late_first_ + 2 * late_out * late_second_
        own_out_item_, own_out_ = y * out_item_, y * out_

        gamma_3_ = own_out_item_ @ own_item + own_out_ @ own + early_out_item_ @ early_item + early_out_ @ early
        gamma_3_ = gamma_3_ + late_out_item_ @ late_item + late_out_ @ late
        gamma_4_ = shared_early_ @ (pulled * y) + own_out_item_ @ (own * g + late_sum) + own_out_ @ late_sum
        gamma_4_ = gamma_4_ + early_out_item_ @ (early * g + early_sum) + early_out_ @ early_sum
        gamma_4_ = gamma_4_ + late_out_item_ @ (late * g + late_sum) + late_out_ @ late_sum

        early_sum_ = gamma_4 * (early_out_item_ + early_out_) - pulled_
        late_sum_ = gamma_4 * (late_out_item_ + late_out_ + own_out_item_ + own_out_) + pulled_
        z_ = -(y**2) * y_
        early_ = sums.before_transposed(z_)
        late_, early_pull_, late_pull_ = sums.after_transposed(columns(z_, early_sum_, late_sum_)).T
        early_pull_ = early_pull_ - pulled_

        g_ = gamma_4 * (early_out_item_ * early + late_out_item_ * late + own_out_item_ * own)
        u_ = early_pull_ * early + late_pull_ * late + pulled_ * own
        early_item_ = (early_ + gamma_3 * early_out_item_ + v * early_pull_) * early_item
        late_item_ = (late_ + gamma_3 * late_out_item_ + v * late_pull_) * late_item
        own_item_ = (z_ + gamma_3 * own_out_item_ + v * pulled_) * own_item
        early_ = (early_ + gamma_4 * g * early_out_item_ + gamma_3 * early_out_ + u * early_pull_) * early
        late_ = (late_ + gamma_4 * g * late_out_item_ + gamma_3 * late_out_ + u * late_pull_) * late
        own_ = (z_ + gamma_4 * g * own_out_item_ + gamma_3 * own_out_ + u * pulled_) * own

        # From here on the derivatives by scores.
        item_, label_ = early_item_ + late_item_ + own_item_, early_ + late_ + own_
        match_ = late_item_ @ v + late_ @ u
        u_ = u_ + match * late_
        g_ = g_ + beta_12 * w * label_ + (beta_2 + d * beta_4) * own_
        own_match = own_ @ g
        d_ = beta_3 * own_item_.sum() + beta_4 * own_match - beta_10 * own_.sum() + match_ * (beta_4 - beta_12)
        w_ = beta_10 * (item_.sum() - label_.sum()) - beta_4 * item_[0] + beta_12 * (label_ @ g) + gamma_2 * shared_
        h_ = gamma_2 * out_item_.sum()
        return loss, np.stack(
            [
                -w * h * w_ + h * (1 - h) * h_ + h * (1 - d) * d_,
                g_ @ (g * not_g) - u_ @ (u * g),
                own_item_.sum(),
                own_match + match_,
                d * own_item_.sum(),
                w * (item_.sum() - label_.sum()) - d * own_.sum(),
                d * (own_match + match_) - w * item_[0],
                w * (label_ @ g) - d * match_,
                out_item_.sum(),
                h * out_item_.sum() + w * shared_,
                gamma_3_,
                gamma_4_,
            ]
        )

    return model


def live_of(nineteen: Vector) -> Vector:
    """The twelve combinations `LIVE` of the nineteen coordinates."""
    a, b, c = nineteen[:3], nineteen[3:15], nineteen[15:]
    return np.array([a[0], a[2], b[0], b[1], b[2] + b[8], b[9], b[3] + b[10], b[11], *c])


def attention_loss(nineteen: Vector, pairs: int, query: str) -> float:
    """The full model on one-hot tokens and positions, every softmax written out, for M = J and each target in turn."""
    alpha, beta, gamma = nineteen[:3], nineteen[3:15], nineteen[15:]
    n, half = 2 * pairs + 1, pairs + 1
    tokens, places = np.zeros((n, 2 * pairs)), np.zeros((n, 2 * half))
    tokens[: n - 1] = np.eye(2 * pairs)
    turn = np.block([[np.zeros((half, half)), -np.eye(half)], [np.eye(half), np.zeros((half, half))]])
    places[0:-1:2, :pairs] = places[1::2, :pairs] = np.eye(pairs)
    places[1::2] = places[1::2] @ turn.T
    places[-1, pairs] = 1
    losses = []
    for q in range(pairs) if query == "uniform" else [pairs - 1]:
        tokens[-1] = tokens[2 * q]
        scores = alpha[0] * tokens @ tokens.T + places @ (alpha[1] * np.eye(2 * half) + alpha[2] * turn) @ places.T
        first = np.zeros((n, n))
        for i in range(1, n):
            first[i, :i] = special.softmax(scores[i, :i])
        t, r = first @ tokens, first @ places
        pair_of = [beta[i] * np.eye(2 * half) + beta[i + 1] * turn for i in (4, 6, 8, 10)]
        score = (
            beta[0] * tokens @ tokens[-1]
            + beta[1] * t @ tokens[-1]
            + beta[2] * tokens @ t[-1]
            + beta[3] * t @ t[-1]
            + places @ pair_of[0].T @ places[-1]
            + r @ pair_of[1].T @ places[-1]
            + places @ pair_of[2].T @ r[-1]
            + r @ pair_of[3].T @ r[-1]
        )
        second = special.softmax(score[:-1])
        out = gamma[0] * tokens[-1] + gamma[1] * t[-1] + gamma[2] * second @ tokens[:-1] + gamma[3] * second @ t[:-1]
        losses.append(np.sum((tokens[2 * q + 1] - out) ** 2) / 2)
    return float(np.mean(losses))


def complex_step(function: Callable[[Vector], Any], theta: Vector) -> Vector:
    """Derivatives of an analytic function, to rounding: its imaginary part a step of 1e-30 i away."""
    moves = 1e-30j * np.eye(len(theta))
    return np.stack([np.imag(function(theta + move)) / 1e-30 for move in moves], axis=-1)
