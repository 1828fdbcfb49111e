"""Plot: figures that say the right numbers, look alike each time, and leave the user's matplotlib alone."""

import json
import re
import string
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from builders import refused
from mien import _files
from mien.data import datasets
from mien.errors import DataError, OutputError, RunError
from mien.evaluation.metrics import compute_metrics
from mien.labels import EMOTIONS
from mien.reports import plots
from mien.training import recipes, runs

NASTY = (
    "$\\frac{$",
    "a_b^c",
    "<&>\"'",
    "line\nbreak\t",
    "\U0001f600 glad",
    "快乐",
    "سعيد",
    "\udcff",
    "",
    "x" * 300,
    "\x00",
    "-->",
)


def rows(count: int, *, rate: bool = True) -> list[dict[str, float]]:
    """A history as trainings have it: validation loss turns up again."""
    random = np.random.default_rng(count)
    epochs = np.arange(1, count + 1)
    loss = 1.45 * np.exp(-3 * epochs / count) + 0.35 + random.normal(0, 0.01, count)
    val_loss = 1.1 * np.exp(-5 * epochs / count) + 0.95 + 0.25 * (epochs / count) ** 2
    return [
        {
            "epoch": float(epoch),
            "loss": float(loss[epoch - 1]),
            "accuracy": float(1 - loss[epoch - 1] / 2.6),
            "val_loss": float(val_loss[epoch - 1]),
            "val_accuracy": float(1 - val_loss[epoch - 1] / 2.9),
            "learning_rate": 0.001 * (1 - float(epoch) / (count + 1)) if rate else 0.001,
        }
        for epoch in epochs
    ]


def report(classes: int = 7, n: int = 700, *, names: tuple[str, ...] = (), absent: int | None = None) -> dict:
    random = np.random.default_rng(classes)
    weights = random.uniform(0.1, 1, classes)
    if absent is not None:
        weights[absent] = 0
    truth = random.choice(classes, n, p=weights / weights.sum())
    logits = random.normal(0, 1.2, (n, classes))
    logits[np.arange(n), truth] += 2.5
    chances = np.exp(logits)
    chances /= chances.sum(axis=1, keepdims=True)
    labels = names or (EMOTIONS if classes == 7 else tuple(f"own class {i}" for i in range(classes)))
    # As JSON brings it back: lists for tuples.
    made = json.loads(json.dumps(compute_metrics(chances, truth, labels).to_dict()))
    return made | {"split": "val", "data": "archive (4).zip"}


def faces(count: int, size: int = 48) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 1), np.uint8)


def said(path: Path) -> list[str]:
    """The texts of an SVG, which stand as comments beside their outlines."""
    return [text.strip() for text in re.findall(r"<!--(.*?)-->", path.read_text(encoding="utf-8"), re.DOTALL)]


def check_files(paths: list[Path], *names: str) -> None:
    assert [path.name for path in paths] == [f"{name}.{end}" for name in names for end in ("png", "svg")]
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
                assert round(image.info["dpi"][0]) == 150
                assert set(image.info) == {"dpi"}
                assert min(image.size) > 150
                assert max(image.size) < 8000
        else:
            ET.fromstring(path.read_bytes())
            text = path.read_text(encoding="utf-8")
            assert "date>" not in text
            assert str(path.parent) not in text
        assert sorted(path.parent.glob(".*")) == []


@pytest.fixture
def layouts(monkeypatch):
    """Watch every figure as it is saved: its texts lie on the page and none covers another."""
    seen = []
    save = plots._save_figure

    def watch(figure: Figure, to: Path, stem: str, *, tight: bool = True) -> list[Path]:
        paths = save(figure, to, stem, tight=tight)
        edge = figure.get_tightbbox() if tight else figure.bbox_inches
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        # Labels of ticks that are not drawn stay behind in the artist tree.
        ticks = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _ticks(axis)}
        texts = [text for text in texts if text in ticks or not _is_tick(text, figure)]
        boxes = [text.get_window_extent() for text in texts]
        for text, box in zip(texts, boxes, strict=True):
            assert box.x0 >= edge.x0 * 150 - 1, text
            assert box.x1 <= edge.x1 * 150 + 1, text
            assert box.y0 >= edge.y0 * 150 - 1, text
            assert box.y1 <= edge.y1 * 150 + 1, text
        flat = [index for index, text in enumerate(texts) if text.get_rotation() in (0, 90)]
        edges = np.array([boxes[index].extents for index in flat]) + np.array([1, 1, -1, -1])
        low, high = edges[:, None, :2], edges[:, None, 2:]
        covers = ((low < high.swapaxes(0, 1)) & (low.swapaxes(0, 1) < high)).all(axis=2)
        first, second = np.nonzero(np.triu(covers, 1))
        assert [
            (texts[flat[a]].get_text(), texts[flat[b]].get_text()) for a, b in zip(first, second, strict=True)
        ] == []
        seen.append(len(texts))
        return paths

    monkeypatch.setattr(plots, "_save_figure", watch)
    yield seen
    assert seen


def _ticks(axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high and tick.label1.get_visible() and axis.axes.axison
    ]


def _is_tick(text: Text, figure: Figure) -> bool:
    axes = [each for one in figure.axes for each in (one.xaxis, one.yaxis)]
    every = [tick for axis in axes for tick in (*axis.majorTicks, *axis.minorTicks)]
    return any(text in (tick.label1, tick.label2) for tick in every)


# History


@pytest.mark.parametrize(("count", "best"), [(1, 1), (25, 12), (300, 300), (25, None)])
def test_history_of_any_length_says_what_ships(tmp_path, layouts, count, best):
    made = rows(count)
    check_files(plots.draw_history(made, tmp_path, title="quick-1", best=best), "loss", "accuracy")
    texts = said(tmp_path / "loss.svg")
    assert f"validation {made[-1]['val_loss']:.3f}" in texts
    assert "Loss, quick-1" in texts
    assert ("used" in texts) == (best is not None)
    ticks = [int(text) for text in texts if text.isdecimal()]
    assert ticks[0] == 1
    assert max(ticks) <= count
    accuracy = said(tmp_path / "accuracy.svg")
    assert f"training {made[-1]['accuracy']:.1%}" in accuracy
    if best:
        row = made[best - 1]
        assert (
            f"epoch {best} of {count} selected: "
            f"training {row['accuracy']:.1%}, validation {row['val_accuracy']:.1%}" in accuracy
        )


def test_learning_rate_has_a_strip_only_if_it_changes(tmp_path):
    for rate in (True, False):
        plots.draw_history(rows(9, rate=rate), tmp_path, title="r")
        assert any(text.startswith("learning rate") for text in said(tmp_path / "loss.svg")) == rate


@pytest.mark.parametrize(
    "changes",
    [
        {4: {"val_loss": np.inf}, 6: {"val_loss": np.nan}, 11: {"val_loss": np.nan, "loss": np.inf}},
        {0: {"loss": 4e4}, 5: {"loss": 1e30}},
        {3: {"val_loss": 1e300}},
        {index: {"loss": np.nan, "val_loss": np.inf, "accuracy": np.nan} for index in range(12)},
        {index: {"loss": 0.0, "val_loss": 0.0, "accuracy": 1.0, "val_accuracy": 1.0} for index in range(12)},
        {index: {"loss": 2e6, "val_loss": 2e6, "accuracy": 0.0, "val_accuracy": 0.0} for index in range(12)},
        {2: {"learning_rate": np.inf}},
        {0: {"loss": 60.0}},
    ],
    ids=["gaps", "log", "huge", "nothing", "perfect", "flat", "rate", "skewed"],
)
def test_history_survives_wild_values(tmp_path, layouts, changes):
    made = rows(12)
    for index, change in changes.items():
        made[index] |= change
    check_files(plots.draw_history(made, tmp_path, title="wild", best=12), "loss", "accuracy")
    wild = any(not abs(value) < 1e38 for row in made for key, value in row.items() if key.endswith("loss"))
    texts = said(tmp_path / "loss.svg")
    assert ("× infinite or not a number" in texts) == wild
    end = made[-1]["val_loss"]
    assert f"validation {plots.format_decimal(end)}" in texts


def test_a_lone_epoch_between_gaps_is_still_seen(tmp_path, monkeypatch):
    made = rows(60)
    for index in (29, 31):
        made[index]["val_loss"] = float("inf")
    marked = []

    def look(figure: Figure, to: Path, stem: str) -> list[Path]:
        marked.extend(
            (stem, float(x))
            for line in figure.axes[0].lines
            if line.get_marker() == "o"
            for x in np.asarray(line.get_xdata())
        )
        return []

    monkeypatch.setattr(plots, "_save_figure", look)
    plots.draw_history(made, tmp_path, title="gaps")
    assert marked == [("loss", 31.0)]


def test_ends_that_meet_are_moved_apart(tmp_path, layouts):
    made = rows(10)
    made[-1] |= {"val_loss": made[-1]["loss"], "val_accuracy": made[-1]["accuracy"]}
    plots.draw_history(made, tmp_path, title="meeting")
    assert len(layouts) == 2


def test_history_draws_the_columns_it_has(tmp_path):
    made = [{"loss": 1.0 / epoch} for epoch in (1, 2, 3)]
    check_files(plots.draw_history(made, tmp_path, title="bare", best=3), "loss")
    assert "epoch 3 of 3 selected: training 0.333" in said(tmp_path / "loss.svg")


def test_history_refuses_what_it_cannot_show(tmp_path):
    with refused(RunError):
        plots.draw_history([], tmp_path, title="empty")
    with refused(RunError, 9, "1 to 3"):
        plots.draw_history(rows(3), tmp_path, title="r", best=9)
    with refused(RunError, "epoch 1"):
        plots.draw_history(rows(1), tmp_path, title="r", best=2)
    assert list(tmp_path.iterdir()) == []


# Confusion


@pytest.mark.parametrize(
    ("classes", "names", "absent"),
    [
        (2, ("with a mask", "$without$ a mask"), None),
        (7, (), 1),
        (12, NASTY, 3),
        (14, (), None),
        (28, (), 4),
        (45, (), 3),
    ],
)
def test_confusion_of_any_size_stays_legible(tmp_path, layouts, classes, names, absent):
    made = report(classes, 40 * classes, names=names, absent=absent)
    check_files(plots.draw_confusion_matrix(made, tmp_path, name="val"), "confusion-val")
    texts = said(tmp_path / "confusion-val.svg")
    assert "Confusion, val" in texts
    assert f"{40 * classes:,} images of archive (4).zip" in texts
    low, high = made["accuracy_interval"]
    assert f"accuracy {made['accuracy']:.1%} (95% interval {low:.1%} to {high:.1%})" in texts
    assert ("share of the row" in texts) == (classes == 45)
    assert ("no images" in texts) == (absent is not None and classes < 45)
    for index, row in enumerate(made["confusion"]):
        total = sum(row)
        assert f"{total:,}" in texts
        if total and classes < 26:
            assert f"{row[index]:,}" in texts
            assert f"{row[index] / total:.0%}" in texts
        elif total and classes < 40:
            assert f"{100 * row[index] / total:.0f}" in texts
            assert "%" not in "".join(text for text in texts if "accuracy" not in text)


def test_large_counts_shrink_and_then_give_way_to_percents(tmp_path, layouts):
    made = report(7)
    for factor, shown in ((1000, True), (10**12, False)):
        larger = made | {"confusion": [[count * factor for count in row] for row in made["confusion"]]}
        plots.draw_confusion_matrix(larger, tmp_path, name="big")
        texts = said(tmp_path / "confusion-big.svg")
        assert (f"{larger['confusion'][0][0]:,}" in texts) == shown
        assert f"{made['per_class']['angry']['recall']:.0%}" in texts
        assert ("in each cell: percent of the row" in texts) == (not shown)


def test_many_classes_have_every_so_many_named_and_a_page_of_sane_size(tmp_path, layouts):
    check_files(plots.draw_confusion_matrix(report(120, 700), tmp_path, name="many"), "confusion-many")
    texts = said(tmp_path / "confusion-many.svg")
    assert "own class 0" in texts
    assert "own class 1" not in texts


def test_cell_text_stands_out_on_every_colour():
    def luminance(colour) -> float:
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    inks = set()
    for share in np.linspace(0, 1, 201):
        colour = matplotlib.colormaps["Blues"](float(share))
        ink = plots._readable(colour)
        light, dark = sorted((luminance(colour), float(ink == "white")), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
        inks.add(ink)
    assert inks == {"black", "white"}


@pytest.mark.parametrize(
    "broken",
    [{}, {"labels": []}, {"confusion": [[1, 2]]}, {"confusion": [[0.5] * 7] * 7}, {"labels": ["one"]}],
)
def test_confusion_refuses_what_is_no_report(tmp_path, broken):
    with refused(DataError):
        plots.draw_confusion_matrix(report() | broken if broken else {}, tmp_path, name="val")
    assert list(tmp_path.iterdir()) == []


def test_figures_tell_no_path(tmp_path):
    made = report() | {"data": "/srv/someone/secret/faces.zip"}
    plots.draw_confusion_matrix(made, tmp_path, name="val")
    text = (tmp_path / "confusion-val.svg").read_text(encoding="utf-8")
    assert "secret" not in text
    assert "700 images of faces.zip" in text


# Reliability


@pytest.mark.parametrize("bins", [1, 15, 100])
def test_reliability_shows_bins_and_error(tmp_path, layouts, bins):
    random = np.random.default_rng(3)
    chances = random.dirichlet(np.full(7, 0.3), 900)
    truth = np.array([random.choice(7, p=row) for row in chances])
    made = compute_metrics(chances, truth, EMOTIONS, bins=bins).to_dict()
    check_files(plots.draw_reliability(made, tmp_path, name="test"), "reliability-test")
    texts = said(tmp_path / "reliability-test.svg")
    assert f"Reliability, test: ECE {made['ece']:.3f}" in texts
    assert "900 images" in texts
    if bins == 15:
        assert {str(each["n"]) for each in made["reliability"] if each["n"]} <= set(texts)


def test_reliability_colours_only_what_is_beyond_chance(tmp_path, monkeypatch):
    colours = []

    def look(figure: Figure, to: Path, stem: str) -> list[Path]:
        colours.extend(line.get_color() for line in figure.axes[0].lines if line.get_marker() == "o")
        return []

    monkeypatch.setattr(plots, "_save_figure", look)
    bins = [
        {"n": 1000, "confidence": 0.2, "accuracy": 0.5},
        {"n": 1000, "confidence": 0.5, "accuracy": 0.49},
        {"n": 0, "confidence": None, "accuracy": None},
        {"n": 1000, "confidence": 0.9, "accuracy": 0.5},
    ]
    plots.draw_reliability({"reliability": bins, "n": 3000, "ece": 0.24}, tmp_path, name="x")
    assert colours == [plots._BLUE, plots._SOFT, plots._VERMILION]


def test_reliability_needs_bins(tmp_path):
    with refused(DataError):
        plots.draw_reliability(report() | {"reliability": []}, tmp_path, name="val")


# Samples


@pytest.mark.parametrize("size", [1, 5, 48, 100, 300])
def test_samples_show_every_pixel_beside_its_change(tmp_path, layouts, size):
    before = faces(14, size)
    after = 255 - before
    labels = [EMOTIONS[index // 2] for index in range(14)]
    check_files(plots.draw_samples(before, after, labels, tmp_path), "samples")
    grid = plots._lay_out_sheet(14, size)
    drawn = np.asarray(Image.open(tmp_path / "samples.png").convert("L"))
    assert drawn.shape == (grid.height, grid.width)
    for place in (0, 13):
        left, top = grid.corner(place)
        face = drawn[top : top + grid.face, left : left + grid.face]
        start = left + grid.face + 6
        other = drawn[top : top + grid.face, start : start + grid.face]
        assert np.abs(face.astype(int) + other - 255).max() <= 2
        if size <= 144:
            whole = before[place, ..., 0].repeat(grid.face // size, 0).repeat(grid.face // size, 1)
            assert (face == whole).all()
    assert set(EMOTIONS) | {"before", "after", "14 images"} <= set(said(tmp_path / "samples.svg"))


def test_samples_shorten_names(tmp_path, layouts):
    before = faces(len(NASTY), 8)
    check_files(plots.draw_samples(before, before, NASTY, tmp_path), "samples")
    assert any(re.fullmatch(r"x+…x+", text) for text in said(tmp_path / "samples.svg"))


def test_samples_of_many_classes_are_thinned_out(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "_MOST_PAIRS", 24)
    before = faces(600, 2)
    labels = [f"c{index}" for index in range(600)]
    check_files(plots.draw_samples(before, before, labels, tmp_path), "samples")
    texts = said(tmp_path / "samples.svg")
    assert {"24 of 600 images", "c0", "c599"} <= set(texts)
    assert len([text for text in texts if re.fullmatch(r"c\d+", text)]) == 24


@pytest.mark.parametrize(
    ("before", "after", "labels"),
    [
        (faces(2), faces(3), ["a", "b"]),
        (faces(2), faces(2), ["a"]),
        (faces(0), faces(0), []),
        (faces(2) / 255, faces(2) / 255, ["a", "b"]),
        (faces(2)[..., 0], faces(2)[..., 0], ["a", "b"]),
        (faces(2)[:, :9], faces(2)[:, :9], ["a", "b"]),
    ],
)
def test_samples_refuse_what_is_no_pairs(tmp_path, before, after, labels):
    with pytest.raises(DataError):
        plots.draw_samples(before, after, labels, tmp_path)


# A run's figures


def make_run(folder: Path, *splits: str) -> runs.Run:
    made = runs.create(recipes.get("quick"), {}, out=folder / "quick-1")
    full = [row | dict.fromkeys(runs.CLOCKS, 1.0) for row in rows(5)]
    made.write_history(full)
    made.update(shipped={"epoch": 4, "of": 5})
    for split in splits:
        _files.write(made.evaluation / f"{split}.json", json.dumps(report()).encode())
    return made


def test_run_draws_all_it_finds(tmp_path):
    made = make_run(tmp_path, "val", "test")
    names = ("loss", "accuracy", "confusion-test", "reliability-test", "confusion-val", "reliability-val")
    paths = plots.draw_run(made)
    check_files(paths, *names)
    assert {path.parent for path in paths} == {made.figures}
    assert any(text.startswith("epoch 4 of 5 selected") for text in said(made.figures / "loss.svg"))
    assert "Loss, quick-1" in said(made.figures / "loss.svg")


def test_run_shows_two_faces_of_each_class_that_has_them(tmp_path):
    made = make_run(tmp_path)
    labels = np.array([1, 0, 1, 1, 1], np.int64)
    split = datasets.Split(name="train", images=faces(5), labels=labels, votes=None, files=tuple("abcde"))
    data = datasets.Dataset(root="faces", labels=("calm", "tense", "none"), train=split, val=None, test=None)
    assert [path.name for path in plots.draw_run(made, data)[-2:]] == ["samples.png", "samples.svg"]
    texts = said(made.figures / "samples.svg")
    assert [texts.count(name) for name in ("calm", "tense", "none")] == [1, 2, 0]
    empty = datasets.Dataset(root="faces", labels=("calm",), train=None, val=split, test=None)
    assert plots.draw_run(made, empty)[-1].name == "accuracy.svg"


def test_run_that_ships_nothing_yet_has_a_history(tmp_path):
    made = make_run(tmp_path)
    facts = {name: part for name, part in made.facts().items() if name != "shipped"}
    _files.write(made.path / "run.json", json.dumps(facts).encode())
    check_files(plots.draw_run(made), "loss", "accuracy")
    assert "5 epochs" in said(made.figures / "loss.svg")


def test_run_names_a_damaged_report(tmp_path):
    made = make_run(tmp_path, "val", "test")
    (made.evaluation / "test.json").write_text("{", encoding="utf-8")
    with refused(RunError, "test.json"):
        plots.draw_run(made)


# Files, and the user's matplotlib


def draw_all(to: Path) -> dict[str, bytes]:
    paths = plots.draw_history(rows(6), to, title="same", best=3)
    paths += plots.draw_confusion_matrix(report(), to, name="val")
    paths += plots.draw_reliability(report(), to, name="val")
    paths += plots.draw_samples(faces(3), faces(3), ["a", "b", "c"], to)
    return {path.name: path.read_bytes() for path in paths}


def test_equal_numbers_give_equal_files_whatever_the_user_has_set(tmp_path):
    first = draw_all(tmp_path / "a")
    wild = {
        "text.usetex": True,
        "font.size": 30,
        "figure.facecolor": "black",
        "savefig.bbox": "tight",
        "svg.hashsalt": None,
        "svg.fonttype": "none",
        "axes.grid": True,
        "image.cmap": "jet",
    }
    with matplotlib.rc_context(wild):
        before = dict(matplotlib.rcParams.copy())
        second = draw_all(tmp_path / "b")
        assert dict(matplotlib.rcParams.copy()) == before
    assert len(first) == 10
    assert first == second


def test_threads_draw_the_same_and_leave_the_settings_alone(tmp_path):
    before = dict(matplotlib.rcParams.copy())
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda name: plots.draw_history(rows(6), tmp_path / name, title="t"), "abcd"))
    assert len({tuple(path.read_bytes() for path in paths) for paths in drawn}) == 1
    assert dict(matplotlib.rcParams.copy()) == before


def test_pyplot_and_the_backend_stay_untouched(tmp_path):
    code = """
import sys, warnings
warnings.simplefilter("error")
from pathlib import Path
import matplotlib
before = matplotlib.rcParams._get("backend")
from mien.reports import plots
plots.draw_history([{"epoch": 1.0, "loss": 1.0, "val_loss": 2.0}], Path(sys.argv[1]), title="x")
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams._get("backend") is before
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)


def test_without_matplotlib_the_extra_is_named():
    code = """
import sys
sys.modules["matplotlib"] = None
from mien.errors import MissingExtra
try:
    from mien.reports import plots
except MissingExtra as error:
    assert error.extra == "plot"
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    assert 'pip install "mien[plot]"' in done.stdout


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "nul\0"])
def test_a_name_stays_in_its_folder(tmp_path, name):
    with refused(DataError):
        plots.draw_reliability(report(), tmp_path, name=name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OutputError):
        plots.draw_history(rows(2), tmp_path / "file", title="x")
    assert (tmp_path / "file").read_bytes() == b"mine"


# Words


@given(st.text(max_size=80), st.integers(1, 40))
def test_shortened_text_keeps_its_ends(text, most):
    short = plots.shorten(text, most)
    assert len(short) <= max(most, 1)
    if len(text) <= most:
        assert short == text
    else:
        start, _, end = short.partition("…") if "…" not in text else (short[:0], "", "")
        assert text.startswith(start)
        assert text.endswith(end)


@given(st.text(max_size=30))
def test_plain_text_is_one_drawable_line(text):
    line = plots.make_drawable(text)
    assert line.isprintable()
    assert {ord(character) for character in line} <= plots._known() | {ord(" ")}
    assert plots.make_drawable(line) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("angry", "angry"),
        ("two\n lines\t", "two lines"),
        ("\udcff", "\\udcff"),
        ("\x07bell", "\\x07bell"),
        ("naïve–ñ", "naïve–ñ"),
        ("Wütend ярость θυμός", "Wütend ярость θυμός"),
        ("\U000f0000", "\\U000f0000"),
    ],
)
def test_plain_text_escapes_what_no_font_has(text, line):
    assert plots.make_drawable(text) == line


def test_a_script_is_drawn_if_a_listed_font_has_it(monkeypatch):
    monkeypatch.setattr(plots, "_known", lambda: frozenset(map(ord, "angry")))
    assert plots.make_drawable("怒") == "\\u6012"
    monkeypatch.setattr(plots, "_known", lambda: frozenset(map(ord, "angry怒")))
    assert plots.make_drawable("怒") == "怒"


@given(
    st.lists(
        st.text(st.sampled_from(string.ascii_letters + "\n\t \udcff快"), max_size=60),
        max_size=12,
        unique=True,
    )
)
def test_classes_never_look_alike(labels):
    shown = plots.shorten_names(labels, most=9)
    assert len(shown) == len(labels)
    assert len(set(shown)) == len(labels)


def test_names_that_shorten_alike_are_numbered():
    labels = ["aaaaaaaaaaXbbbbbbbbbb", "aaaaaaaaaaYbbbbbbbbbb", "c"]
    assert plots.shorten_names(labels, most=8) == ["aaaaa…bb (1)", "aaaaa…bb (2)", "c"]


def test_numbers_are_short():
    assert [plots.format_decimal(value) for value in (0.98765, 0, 1234567.0, 0.0001, np.inf, np.nan)] == [
        "0.988",
        "0.000",
        "1.2e+06",
        "0.0001",
        "infinite",
        "not a number",
    ]
    assert plots.format_percent(0.6543) == "65.4%"
    assert plots.format_percent(float("nan")) == "not a number"
    assert [plots.base_name(path) for path in ("/a/b.zip", "C:\\x\\y", "z/", "")] == ["b.zip", "y", "z", ""]


@given(st.integers(0, 10**12 - 1))
def test_brief_counts_fit_a_bar_and_tell_the_size(count):
    text = plots.format_count(count)
    assert len(text) <= 5
    value = float(text.rstrip("kMG")) * {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1)
    assert value == pytest.approx(count, rel=0.006)
