"""Tables to draw, and what a finished picture shows: colours at places, texts and their boxes."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from abc_dask.analysis.plots import colors

ABSENT = to_rgb(colors.ABSENT)
WHITE = (1.0, 1.0, 1.0)


def table(n=3000, terms=5, seed=0):
    """Cells in clusters on a line, one term each; the gene is the number of the term."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, terms, n)
    return pd.DataFrame(
        {
            "x": codes * 10 + rng.normal(0, 1, n),
            "y": rng.normal(0, 1, n),
            "Gene": codes.astype("f4"),
            "class": pd.Categorical.from_codes(codes, [f"{k:02d} Class" for k in range(terms)]),
        }
    )


def at(picture, ax, x, y):
    """Give the colour of the finished picture at a place of the data."""
    picture.canvas.draw()
    image = np.asarray(picture.canvas.buffer_rgba())
    column, row = ax.transData.transform((x, y))
    return tuple(image[image.shape[0] - 1 - int(row), int(column), :3] / 255)


def close(one, other):
    return np.allclose(one, other, atol=2 / 255)


def drawn_texts(picture):
    """Give every text that is drawn, with its box in pixels."""
    found = {}
    draw = Text.draw

    def record(text, renderer):
        found[text] = text.get_window_extent(renderer)
        draw(text, renderer)

    with mock.patch.object(Text, "draw", record):
        picture.canvas.draw()
    return [(t.get_text(), box) for t, box in found.items() if t.get_text() and t.get_visible()]


def check_texts(picture):
    """Every text lies within the picture, and none upon another."""
    width, height = picture.canvas.get_width_height()
    boxes = [(text, box) for text, box in drawn_texts(picture) if text != "\N{EN DASH}"]
    assert boxes
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = a.x1 <= b.x0 + 2 or b.x1 <= a.x0 + 2 or a.y1 <= b.y0 + 2 or b.y1 <= a.y0 + 2
        assert apart, f"{one!r} and {other!r}"
    return {text.replace("\n", " ") for text, _ in boxes}


LONG = "a very long name of a kind of cells, such as people write when nobody stops them from it"


def statistics(groups, genes, seed=0, name="{:02d} Class"):
    rng = np.random.default_rng(seed)
    index = [name.format(k) for k in range(groups)]
    columns = [f"Gene{k}" for k in range(genes)]
    mean = pd.DataFrame(rng.random((groups, genes)) * 6, index, columns)
    return mean, pd.DataFrame(rng.random((groups, genes)), index, columns)
