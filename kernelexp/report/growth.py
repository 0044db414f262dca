"""How the norm grows with n: a power law against A exp(B n^(1/d)), and whether they can be told apart.

Both have two parameters and are fitted by least squares in log ||f||: on log n, and on n^(1/d). For
large d they are nearly one family, since n^(1/d) = 1 + log(n)/d + ..., and A exp(B n^(1/d)) is then
close to a power law of exponent B/d.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kernelexp.metrics import RUN
from kernelexp.report.captions import listed

# A norm is not known to better than this, for rounding and the draw of the points: smaller residuals
# count as this, or an AIC would compare rounding errors.
_RESOLUTION = 1e-3
# Below this difference of AIC two models are commonly held to be equally supported.
_EQUAL_AIC = 2.0


def fit(n: np.ndarray, norm: np.ndarray, d: float) -> dict[str, float]:
    """Both fits to a series, n and norm (N,), N >= 2.

    Returns:
        ``slope`` and ``slope_se`` of log ||f|| on log n; ``B``; the residual sums of squares of log
        ||f|| of both, ``rss_power`` and ``rss_exponential``; ``delta_aic``, AIC of the exponential less
        that of the power law; ``apart_percent``, the most that the fitted curves differ by between the
        smallest and the largest n. Two points leave no residuals: those are NaN then.
    """
    log_n, y = np.log(n), np.log(norm)
    # d (n^(1/d) - 1): log n and a little; centred so, the system is well-conditioned for any d.
    root = d * np.expm1(log_n / d)
    (a, slope), rss_power = _line(log_n, y)
    (b, scaled), rss_exponential = _line(root, y)
    N = len(n)
    result = {
        "points": N,
        "n_from": float(n.min()),
        "n_to": float(n.max()),
        "d": d,
        "slope": slope,
        "slope_se": float("nan"),
        "B": d * scaled,
        "rss_power": float("nan"),
        "rss_exponential": float("nan"),
        "delta_aic": float("nan"),
        "apart_percent": float("nan"),
    }
    if N > 2:
        spread = ((log_n - log_n.mean()) ** 2).sum()
        between = np.linspace(log_n.min(), log_n.max(), 101)
        curves = b + scaled * d * np.expm1(between / d) - (a + slope * between)
        result |= {
            "slope_se": float(np.sqrt(rss_power / (N - 2) / spread)),
            "rss_power": rss_power,
            "rss_exponential": rss_exponential,
            "delta_aic": _aic(rss_exponential, N) - _aic(rss_power, N),
            "apart_percent": float(100 * np.expm1(np.abs(curves).max())),
        }
    return result


def _aic(rss: float, N: int) -> float:
    """N log(RSS / N), less what models of equally many parameters share."""
    return float(N * np.log(max(rss / N, _RESOLUTION**2)))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[tuple[float, float], float]:
    design = np.stack([np.ones_like(x), x], axis=1)  # (N, 2)
    (intercept, slope), *_ = np.linalg.lstsq(design, y, rcond=None)
    residuals = y - intercept - slope * x
    return (float(intercept), float(slope)), float(residuals @ residuals)


def fits(table: pd.DataFrame, keys: Sequence[str], d: dict[str, float]) -> pd.DataFrame:
    """Both fits to every series of a table of ``n`` and ``rkhs_norm``, also to the paper's.

    Args:
        table: see ``frames.summary``; a series is a combination of ``keys`` and ``source``.
        keys: columns.
        d: the dimension of each data set.
    """
    rows = []
    for values, series in table.groupby([*keys, "source"], dropna=False):
        series = series[series[RUN.rkhs_norm] > 0].drop_duplicates("n")
        if len(series) >= 2:
            own = dict(zip([*keys, "source"], values, strict=True))
            n, norm = series["n"].to_numpy(float), series[RUN.rkhs_norm].to_numpy(float)
            rows.append({**own, **fit(n, norm, d[str(series["dataset"].iloc[0])])})
    return pd.DataFrame(rows)


def exponents(fitted: pd.DataFrame) -> str:
    """Whether the norm grows, from the slopes; empty where nothing was fitted."""
    if fitted.empty:
        return ""
    low, high, rising = (
        fitted["slope"].min(),
        fitted["slope"].max(),
        int((fitted["slope"] > 0).sum()),
    )
    return (
        f"The norm grows with n in {rising} of {len(fitted)} series: exponents of n from "
        f"{low:.2f} to {high:.2f}."
    )


def verdict(fitted: pd.DataFrame) -> str:
    """What the comparison of the two laws shows, from its numbers; empty where nothing was fitted."""
    if fitted.empty:
        return ""
    known = fitted.dropna(subset=["delta_aic"])
    if known.empty:
        return "Two sizes give a slope and no test of its form."
    scatter = 100 * np.expm1(np.sqrt((known["rss_power"] / (known["points"] - 2)).max()))
    apart, difference = known["apart_percent"].max(), known["delta_aic"].abs().max()
    low, high, d = known["n_from"].min(), known["n_to"].max(), known["d"].max()
    sizes = listed(known["points"])
    text = (
        f"A exp(B n^(1/d)) against a power law, both of two parameters, over {sizes} sizes: once fitted "
        f"they differ by at most {apart:.2g}% anywhere between the sizes (d = {listed(known['d'])}; "
        f"n^(1/d) runs only from {low ** (1 / d):.4f} to {high ** (1 / d):.4f}), while the points scatter "
        f"about the power law by up to {scatter:.2g}%; their AIC differ by at most {difference:.2g}. "
    )
    if difference < _EQUAL_AIC or apart < scatter:
        return text + (
            "These runs cannot tell the two laws apart: over this range the exponential is a power law of exponent B/d in all but name."
        )
    better = known.loc[known["delta_aic"].abs().idxmax()]
    law = "the power law" if better["delta_aic"] > 0 else "the exponential"
    return text + (
        f"Where the two laws differ most in AIC, {law} fits better, but with "
        f"{int(better['points'])} sizes a curve that is neither would show the same."
    )
