"""The figures of docs/claim.md, drawn from the results of benchmarks/claim."""

from collections.abc import Mapping
from pathlib import Path


def draw(found: Mapping, directory: Path) -> None:
    """Writes claim_differences.svg and claim_arms.svg. Exits where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("figures need matplotlib: pip install matplotlib") from None
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "claim"  # the same results draw the same file
    directory.mkdir(parents=True, exist_ok=True)
    _differences(found, directory / "claim_differences.svg")
    _arms(found, directory / "claim_arms.svg")


def _differences(found: Mapping, path: Path) -> None:
    """Points by which the second arm is better, with intervals; right of the line speaks for the paper."""
    from matplotlib import pyplot

    rows = found["differences"][::-1]
    figure, axes = pyplot.subplots(figsize=(9, 0.6 + 0.3 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        low, high = row["interval"] or (row["mean"], row["mean"])
        colour = "tab:gray" if low <= 0 <= high else ("tab:green" if low > 0 else "tab:red")
        axes.plot([100 * low, 100 * high], [place, place], color=colour)
        axes.plot(100 * row["mean"], place, "o", color=colour)
    names = [row["asks"] + (f" ({row['group']})" if row["group"] else "") for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("points, with 95 % intervals over clips")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _arms(found: Mapping, path: Path) -> None:
    """Answers of each form, by whether training asked such questions; a dot for every seed, a mark for the deaf."""
    from matplotlib import pyplot

    rows = [row for row in found["rows"] if row["scored"] == "questions"]
    names = list(dict.fromkeys(row["run"] for row in rows))
    groups = list(dict.fromkeys(row["group"] for row in rows))
    figure, axes = pyplot.subplots(figsize=(9, 0.8 + 0.36 * len(names)), layout="constrained")
    for row in rows:
        place = names.index(row["run"]) + 0.38 * groups.index(row["group"])
        colour = ("tab:blue", "tab:orange")[groups.index(row["group"]) % 2]
        axes.barh(place, 100 * row["mean"], 0.36, color=colour, alpha=0.6)
        axes.plot(
            [100 * value for value in row["seeds"].values()], [place] * len(row["seeds"]), "k.", markersize=4
        )
        axes.plot(100 * row["deaf"], place, "|", color="tab:red", markersize=10)
    axes.set_yticks([place + 0.19 for place in range(len(names))], names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("right answers, %; dots: seeds; red: the deaf model")
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=c, alpha=0.6) for c in ("tab:blue", "tab:orange")]
    axes.legend(handles[: len(groups)], groups, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
