"""How sure an accuracy, or a difference of two, is: over seeds, and over test images.

The two answer different questions. An interval over seeds says where the mean accuracy of a recipe
lies on this test set, however its training is seeded; an interval over images says how two given
networks differ on images like these, and nothing of what another seed would have given.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from cifar_cnn.checks import check_shape


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean, spread and interval of the mean of one number a seed.

    Returns:
      n, mean, min, max; std: standard deviation with n - 1 in the denominator; interval_95:
      [low, high], Student's t interval of the mean. Both are None for a single value. The
      interval is that of normal values: it can reach beyond 0 and 1.
    """
    values = np.asarray(values, np.float64)
    several = len(values) > 1
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if several else None,
        "min": float(values.min()),
        "max": float(values.max()),
        "interval_95": _t_interval(values) if several else None,
    }


def welch_difference(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """mean(second) - mean(first) of two independent sets of seeds, at least two values each.

    Returns:
      difference; interval_95: Welch's t interval, which lets the two spreads differ (Welch 1947);
      degrees_of_freedom: None where neither set varies at all.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    difference = float(second.mean() - first.mean())
    if not (np.ptp(first) or np.ptp(second)):
        return {
            "difference": difference,
            "interval_95": [difference, difference],
            "degrees_of_freedom": None,
        }
    test = stats.ttest_ind(second, first, equal_var=False)
    interval = test.confidence_interval(0.95)
    return {
        "difference": difference,
        "interval_95": [float(interval.low), float(interval.high)],
        "degrees_of_freedom": float(test.df),
    }


def paired_difference(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Mean of second[i] - first[i], where i is the same seed in both; at least two seeds.

    Right whether or not equal seeds make the two accuracies move together; narrower than Welch's
    interval only if they do.

    Returns:
      difference; interval_95: Student's t interval of the mean of the differences;
      degrees_of_freedom: n - 1.
    """
    check_shape("second", np.shape(second), np.shape(first))
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    return {
        "difference": float(differences.mean()),
        "interval_95": _t_interval(differences),
        "degrees_of_freedom": len(differences) - 1,
    }


def images_difference(first_right: np.ndarray, second_right: np.ndarray) -> dict[str, Any]:
    """Difference of the accuracies of two networks that saw the same images.

    Args:
      first_right, second_right: bool [n], whether each network is right on each image.

    Returns:
      both_right, only_first, only_second, both_wrong: counts.
      difference: second accuracy - first accuracy.
      interval_95: [low, high] of Agresti & Min 2005, "Simple improved confidence intervals for
        comparing matched proportions": the normal interval of a paired difference after adding
        1/2 to each of the four counts.
      mcnemar_p: two-sided exact p-value of McNemar's test, that is of the discordant images
        falling to either side with probability 1/2.
    """
    first_right, second_right = np.asarray(first_right, bool), np.asarray(second_right, bool)
    check_shape("second_right", second_right.shape, first_right.shape)
    count = len(first_right)
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    both = int((first_right & second_right).sum())

    a, b, n = only_first + 0.5, only_second + 0.5, count + 2
    half = stats.norm.ppf(0.975) * np.sqrt(a + b - (b - a) ** 2 / n) / n
    discordant = only_first + only_second
    p = stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0
    return {
        "examples": count,
        "both_right": both,
        "only_first": only_first,
        "only_second": only_second,
        "both_wrong": count - both - discordant,
        "difference": (only_second - only_first) / count,
        "interval_95": [float((b - a) / n - half), float((b - a) / n + half)],
        "mcnemar_p": float(p),
    }


def _t_interval(values: np.ndarray) -> list[float]:
    """Student's t interval of the mean."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean() - half), float(values.mean() + half)]
