"""Where CAKE and AVk may start: linear classifiers of all features, squeezed into a few coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exprembed.errors import BadInputError

# Inverse strength of the penalty on the logistic regressions (scikit-learn's C).
_STRENGTH = 0.1


@dataclass(frozen=True)
class Affine:
    """y = A x + a: slope A (r, F), offset a (r,); rows of `x` (n, F) give rows of the result (n, r)."""

    slope: np.ndarray
    offset: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return A x + a of each row."""
        values: np.ndarray = x @ self.slope.T + self.offset
        return values


def linear_scores(
    x: np.ndarray, labels: np.ndarray, domains: np.ndarray, lists: Mapping[str, Sequence[str]], classes: Sequence[str]
) -> tuple[Affine, np.ndarray]:
    """Fit one logistic regression for each domain, its classes weighing alike.

    Returns scores z (J C of them, centred over the classes that a domain has faces of, 0 for the others), and how much
    each face weighs: N_j / (C_j N_jc) for one of class c of domain j, as in CAKE's equation (2); 0 for a class that is not
    in its domain's list.

    Raises:
        BadInputError: a domain has faces of fewer than two classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils.class_weight import compute_sample_weight

    slope, offset = np.zeros((len(lists), len(classes), x.shape[1])), np.zeros((len(lists), len(classes)))
    weight = np.zeros(len(x))
    for j, (domain, names) in enumerate(lists.items()):
        own = (domains == domain) & np.isin(labels, names)
        found = sorted(set(labels[own]))
        if len(found) < 2:
            raise BadInputError(
                f"linear classifiers need faces of two classes in each domain; {domain!r} has {', '.join(found) or 'none'}"
            )
        weight[own] = compute_sample_weight("balanced", labels[own])
        fitted = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=1000).fit(x[own], labels[own])
        # Of two classes scikit-learn gives one row: the second's score less the first's.
        parts = np.array([[-0.5], [0.5]]) if len(found) == 2 else np.eye(len(found)) - 1 / len(found)
        rows = [list(classes).index(name) for name in found]
        slope[j, rows], offset[j, rows] = parts @ fitted.coef_, parts @ fitted.intercept_
    return Affine(slope.reshape(-1, x.shape[1]), offset.ravel()), weight


def squeezed(scores: Affine, given: Affine, x: np.ndarray, weight: np.ndarray, size: int) -> tuple[Affine, Affine]:
    """Find the few coordinates of x from which scores are read best, beside coordinates that are given.

    z ~ B g + b by least squares; t (m of them) the first principal components V^T (z - B g - b) of what is left, over r,
    their root mean square; z ~ B g + r V t + b. No other m coordinates that are linear in x come nearer to z
    (Eckart and Young).

    Symbols: z (p,) `scores` and g (q,) `given` of a face, both linear in its features x (n, F), `weight` (n,) how much each
    face counts. m = min(size, rank of what is left).

    Returns:
        t of x, and z of (g, t).

    Example:
        >>> x = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0], [4.0, 2.0]])
        >>> scores, nothing = Affine(np.eye(2), np.zeros(2)), Affine(np.zeros((0, 2)), np.zeros(0))
        >>> coordinate, reading = squeezed(scores, nothing, x, np.ones(4), 1)
        >>> (reading(coordinate(x)) + 0.0).round(3).tolist()
        [[0.0, 1.0], [4.0, 1.0], [0.0, 1.0], [4.0, 1.0]]
    """
    root, z = np.sqrt(weight)[:, None], scores(x)
    design = np.column_stack([given(x), np.ones(len(x))])
    *line, constant = np.linalg.lstsq(root * design, root * z, rcond=None)[0]
    known = np.reshape(line, (len(given.offset), len(scores.offset))).T
    left = Affine(scores.slope - known @ given.slope, scores.offset - known @ given.offset - constant)
    rest = root * left(x)
    variances, directions = (part[..., ::-1] for part in np.linalg.eigh(rest.T @ rest / weight.sum()))
    m = min(size, int((variances > 1e-9 * np.square(root * z).mean()).sum()))
    top, r = directions[:, :m], np.sqrt(variances[:m].mean()) if m else 1.0
    return Affine(top.T @ left.slope / r, top.T @ left.offset / r), Affine(np.hstack([known, r * top]), constant)
