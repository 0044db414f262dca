"""Values of the papers beside values here: `claims` of the report, over all tables that are kept in `reports/`.

    python benchmarks/paper_values.py

To the runs that these are of come the noise levels that `noise_levels.py` trained side by side, at sizes where a sweep
of runs would take hours; the two figures that have such levels are drawn again, into `results/`. Nothing is trained.
"""

import json

import pandas as pd
from results_file import RESULTS, write

from kernelexp.report import drawing, figures, paper, paper_claims
from kernelexp.report.frames import here, n_classes, summary, with_paper

REPORTS = RESULTS.parents[1] / "reports"
# The figures that levels side by side have points for: what tells these apart, and the values.
SIDE_BY_SIDE = {
    "rkhs_norm": (["dataset", "kernel", "bandwidth", "noise", "stop", "n", "d"], ["rkhs_norm"]),
    "label_noise": (
        ["dataset", "kernel", "bandwidth", "noise", "stop", "n", "classes"],
        ["noisy_test_error_percent", "clean_test_error_percent"],
    ),
}
BANDWIDTHS = {"gaussian": 5.0, "laplacian": 10.0}
# The rows that are drawn, and what is said below.
DRAWN = {
    "rkhs_norm": ("kernel == 'gaussian' and noise <= 0.1", "3 seeds to n = 20,000, then 1"),
    "label_noise": ("n == 60_000", "n = 60,000, 1 seed"),
}


def from_runs(name):
    """The measured rows of a figure in all reports that are kept, the oldest first."""
    kept = [here(pd.read_csv(file)) for file in sorted(REPORTS.glob(f"*/{name}.csv"))]
    return pd.concat(kept) if kept else pd.DataFrame()


def with_levels(name, measured):
    """Measured rows of a figure, with those of `noise_levels.py` as it has them.

    A run of its own is the better witness of a point that both have with one seed, which is 0 in all reports.
    """
    by, values = SIDE_BY_SIDE[name]
    single = measured[measured["seeds"] == 1].assign(seed=0)
    single = single.rename(columns={"runs": "run"})
    rows = pd.DataFrame(json.loads((RESULTS / "noise_levels.json").read_text())["rows"])
    rows = rows[(rows["dataset"] == "mnist") & rows["kernel"].isin(BANDWIDTHS)]
    rows = rows.assign(d=784, run="noise_levels.py")
    rows = rows.assign(bandwidth=rows["kernel"].map(BANDWIDTHS), classes=n_classes(rows))
    rows = pd.concat([single, rows]).drop_duplicates([*by, "seed"])
    found = summary(rows, by, values)
    found = found.assign(**{f"{value}_error_max": float("nan") for value in values})
    return pd.concat([measured[measured["seeds"] > 1], found]).drop_duplicates(by)


def tables():
    """Name, figure and table of each figure that a paper has values for and something here too."""
    for name, figure in figures.discover().items():
        measured = from_runs(name)
        if figure.claim is None or measured.empty:
            continue
        if name in SIDE_BY_SIDE:
            measured = with_levels(name, measured)
        yield name, figure, with_paper(measured, paper.points(name))


def draw(name, figure, table):
    """As the report draws it."""
    rows, below = DRAWN[name]
    drawing.draw(figure, table.query(rows), below, [RESULTS / f"{name}.png"], 160)


def rows_of(found):
    """Header, a row for each value that was tried, and how many hold, in a sentence."""
    every = [paper_claims.claims(figure, table) for _, figure, table in found]
    claims = pd.concat(every, ignore_index=True)
    tried = claims[claims["within"] != ""]
    header, _ = paper_claims.readable(tried)
    rows = [
        dict(zip(header, line, strict=True))
        for _, one in tried.groupby("figure", sort=False)
        for line in paper_claims.readable(one)[1]
    ]
    return header, rows, paper_claims.verdict(claims)


def main():
    found = list(tables())
    for name, figure, table in found:
        if name in DRAWN:
            draw(name, figure, table)
    header, rows, verdict = rows_of(found)
    columns = {name: (lambda row, name=name: row[name]) for name in header}
    title = f"Values of the papers beside values here: {verdict}"
    write("paper_values", title, {}, rows, columns)


if __name__ == "__main__":
    main()
