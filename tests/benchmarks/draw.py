"""The table and the picture of README from the result of cost.py.

python tests/benchmarks/draw.py cost.json [cost.png]
"""

import json
import sys
from collections import defaultdict

import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter, ScalarFormatter

COLOURS = {
    "propagator": "C3",
    "eigen": "C0",
    "scipy eigh (evd)": "C2",
    "abTEM Bloch": "C4",
    "torch matrix_exp": "C1",
}
STYLES = {"forward": "o-", "gradient": "s--"}


def read(path):
    """One dictionary a row: what was noted, and the least time in ms."""
    with open(path) as file:
        rows = json.load(file)["benchmarks"]
    return [{**row["extra_info"], "ms": 1e3 * row["stats"]["min"]} for row in rows if row["extra_info"]]


def picked(rows, **wanted):
    """The rows that have all of some values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def each(row):
    """ms per orientation."""
    return row["ms"] / row["orientations"]


def table(rows):
    """Markdown: one line a frame, times per orientation."""
    columns = ("frame", "beams", "R(√I)", "forward", "dense", "ratio", "gradient", "dense", "ratio", "peak")
    print("|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|")
    found = defaultdict(dict)
    for row in picked(rows, series="beams"):
        found[row["frame"]][row["what"], row["contender"]] = row
    for frame, by in found.items():
        fast, dense = by["forward", "propagator"], by["forward", "eigen"]
        cells = [
            frame,
            f"{fast['beams']:.0f}, {dense['beams']:.0f}",
            f"{fast['error']:.4f}, {dense['error']:.4f}",
        ]
        for what in STYLES:
            times = [each(by[what, name]) for name in ("propagator", "eigen")]
            cells += [f"{times[0]:.3g} ms", f"{times[1]:.3g} ms", f"{times[1] / times[0]:.0f}"]
        print("|", " | ".join([*cells, f"{fast['rate'] / fast['peak']:.0%}"]), "|")
    print()
    for row in rows:
        if str(row["what"]).startswith("rows"):
            print(
                f"{row['what']}: {row['frame']}, {row['reflections']} reflections: {each(row):.3g} ms per orientation"
            )


def curves(axes, rows, place):
    """Time per orientation of every contender and kind over a number of the row, log-log."""
    for what, style in STYLES.items():
        for contender, colour in COLOURS.items():
            points = sorted((place(row), each(row)) for row in picked(rows, what=what, contender=contender))
            if points:
                axes.loglog(*zip(*points, strict=True), style, color=colour, label=f"{contender}, {what}")
    axes.set_ylabel("ms per orientation")
    axes.legend(fontsize=7)


def against_beams(axes, rows):
    """Over a number of beams that grows as the cell does, whatever a method takes of them, with guides for the eye."""
    rows = [row for row in picked(rows, series="beams") if "Å" in row["frame"]]
    curves(axes, rows, lambda row: row["near"])
    sizes = sorted({row["near"] for row in rows})
    for power, start in ((2, 0.01), (3, 1.0)):
        guide = [start * (n / sizes[0]) ** power for n in sizes]
        axes.loglog(sizes, guide, ":", color="grey")
        axes.text(sizes[-1], guide[-1], f" $N^{power}$", color="grey", va="center")
    axes.set(xlabel="beams with |S| < 0.02 Å⁻¹", title="crystals of 150 to 2000 Å³, wedges of 800 Å")


def against_frames(axes, rows):
    """Value and gradient of some frames of urea on one and on two cores."""
    for nproc, style in ((1, "s--"), (2, "s-")):
        points = sorted((row["frames"], row["ms"] / 1e3) for row in picked(rows, series="frames", nproc=nproc))
        if points:
            axes.loglog(*zip(*points, strict=True), style, color="C3", label=f"{nproc} core{'s' * (nproc > 1)}")
    axes.set(xlabel="frames", ylabel="s", title="urea, value and gradient")
    axes.legend(fontsize=7)


def main(result, picture="cost.png"):
    """Print the table and draw the picture."""
    rows = read(result)
    table(rows)
    figure, panels = plt.subplots(1, 3, figsize=(13.5, 4.4), layout="constrained")
    against_beams(panels[0], rows)
    curves(panels[1], picked(rows, series="thickness"), lambda row: row["thickness"])
    panels[1].set(xlabel="greatest thickness of a wedge, Å", title="crystal of 400 Å³")
    against_frames(panels[2], rows)
    for axes in panels:
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
