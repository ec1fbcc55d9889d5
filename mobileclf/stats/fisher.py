"""Fisher's exact test of two shares, one-sided: on other photos, is it worse than it was?

What a model gave on its own test photos is an estimate, like what it gives on the new ones. Held
against it as if it were the truth, new photos would fail far more often than stated: of as many
photos as there were, 12 % of the time at 5 %.
"""

from __future__ import annotations


def fewer(right: int, n: int, own_right: int, own_n: int) -> float:
    """One-sided p that `right` of `n` is no smaller share than `own_right` of `own_n`.

    The chance, given how many of all n + own_n are right, that `right` or fewer of them fall
    among the n (Fisher 1935, "The logic of inductive inference", J. Royal Statistical Society
    98:39): hypergeometric. At most 0.05 with a chance of at most 0.05 where the shares are equal.
    1 where there is nothing to compare (n or own_n is 0). Raises ValueError for what is no count:
    the p of nonsense is no number, which would pass as 1.
    """
    from scipy.stats import hypergeom

    if not (0 <= right <= n and 0 <= own_right <= own_n):
        raise ValueError(f"wanted counts of photos, found {right} of {n}, {own_right} of {own_n}")
    if not n or not own_n:
        return 1.0
    return min(1.0, float(hypergeom.cdf(right, n + own_n, right + own_right, n)))
