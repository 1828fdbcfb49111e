"""Pages of audits and comparisons, and the charts in all pages."""

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from builders import refused
from html_pages import Page, without_pictures
from mien.data import audit, synthetic
from mien.data.datasets import Dataset, Split
from mien.errors import OutputError
from mien.evaluation import comparison
from mien.evaluation.evaluation import Point
from mien.labels import EMOTIONS
from mien.reports import charts, pages, rendering

BAD = "<script>alert(1)</script> $x^2$ & =1+1 \"q\" 'r' \u202e\udcff"


def faces(seed: int, count: int) -> Split:
    images = synthetic.sample(count, seed=seed, size=48)[0]
    files = tuple(f"train/{BAD} {place}.png" for place in range(count))
    return Split("train", images, np.arange(count) % 7, None, files)


def audited(**splits: Split) -> audit.AuditReport:
    whole = Dataset(f"faces {BAD}", EMOTIONS, splits.get("train"), splits.get("val"), splits.get("test"))
    return audit.inspect(whole)


def compared(only_a: int, only_b: int, both: int) -> tuple[comparison.Comparison, Split]:
    """Compare two models that part on some of the images, of three classes with hostile names."""
    names = ("x", BAD, "z")
    n = only_a + only_b + both
    truth = np.arange(n) % 3
    a, b = truth.copy(), truth.copy()
    b[:only_a] = (truth[:only_a] + 1) % 3
    a[only_a : only_a + only_b] = (truth[only_a : only_a + only_b] + 1) % 3
    images = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1), np.uint8)
    split = Split("val", images, truth, None, tuple(f"{BAD}{place}.png" for place in range(n)))
    sides = [
        comparison.SidePredictions(name, names, np.eye(3)[said] * 0.7 + 0.1)
        for name, said in ((f"one {BAD}", a), ("other", b))
    ]
    return comparison.compare(*sides, split, labels=names, data=f"faces {BAD}"), split


def test_an_audit_is_the_golden_page(golden: Callable[[str, str], None], tmp_path: Path) -> None:
    train = faces(1, 42)
    train.images[:16] = np.arange(16)[:, None, None, None]  # blank
    val = replace(faces(2, 14), name="val")
    val.images[:2] = train.images[20:22]
    report = audited(train=train, val=val)
    pages.write_audit_page(report, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    cases = [case for finding in report.findings for case in finding.cases[: pages._MOST_CASES]]
    assert page.tags.count("img") == sum(len(case.images[: pages._MOST_IMAGES]) for case in cases)
    assert page.tags.count("svg") == 3
    assert "<script>alert(1)</script>" in page.text
    assert "\u202e" not in text
    first = Image.open(io.BytesIO(base64.b64decode(page.addresses[0].partition(",")[2])))
    assert (np.asarray(first) == report.material.images[report.findings[0].cases[0].images[0], :, :, 0]).all()
    golden("audit.html", without_pictures(text))


def test_an_audit_without_findings_or_without_contrast_has_a_page() -> None:
    blank = replace(faces(1, 7), images=np.zeros((7, 48, 48, 1), np.uint8))
    assert Page(pages.render_audit(audited(train=blank))).tags.count("svg") == 0
    assert Page(pages.render_audit(audited(train=blank, val=replace(faces(2, 7), name="val")))).tags
    clean = replace(audited(train=faces(3, 14)), findings=())
    assert "img" not in Page(pages.render_audit(clean)).tags


def test_a_comparison_is_the_golden_page(golden: Callable[[str, str], None], tmp_path: Path) -> None:
    found, split = compared(60, 20, 220)
    found = replace(found, warnings=(f"a warning {BAD}",), notes=(f"a note {BAD}",))
    pages.write_comparison_page(found, split, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("img") == pages._MOST_DISAGREEMENTS + 20
    assert f"{found.accuracy.a:.1%}" in page.text
    assert re.search(r"\b36\b", page.text)
    golden("comparison.html", without_pictures(text))


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    found, split = compared(2, 1, 3)
    with refused(OutputError, tmp_path):
        pages.write_comparison_page(found, split, tmp_path)


def test_a_template_that_lacks_a_value_is_an_error() -> None:
    with refused(UndefinedError, "root"):
        rendering.render("audit.html.j2")


# Charts


def test_the_chart_of_differences_has_round_numbers_and_points_at_their_place() -> None:
    found, split = compared(60, 20, 220)
    drawn = str(pages.render_comparison(found, split))
    axis = re.findall(r'<line class="(?:axis|grid)" x1="([\d.]+)"', drawn)
    numbers = re.findall(
        r'<text class="end" x="([\d.]+)" y="\d+" text-anchor="middle">([+\d.\u2212]+)</text>', drawn
    )
    assert [place for place, _ in numbers] == axis
    values = [float(text.replace("\u2212", "-")) for _, text in numbers]
    assert len(values) >= 3
    assert 0 in values
    assert values == sorted(values)
    step = values[1] - values[0]
    assert np.diff(values) == pytest.approx(step)
    assert f"{step:g}".strip("0.").replace(".", "") in {"1", "2", "25", "5"}
    circles = [float(x) for x in re.findall(r'<circle [^>]*cx="([\d.]+)"', drawn)]
    shares = [100 * each.recall.difference for each in found.per_class.values()]
    assert circles == pytest.approx(np.interp(shares, values, [float(place) for place in axis]), abs=0.2)
    # The text of the chart has the pixels of the page if the page is 400 wide.
    assert 'viewBox="0 0 360 ' in drawn


def test_classes_that_begin_alike_stay_different_in_the_chart() -> None:
    names = ("surprised, pleasantly", "surprised, unpleasantly", "other <b>")
    drawn = charts.recall_differences(dict.fromkeys(names, (0.1, (0.0, 0.2), False)))
    assert len(set(re.findall(r"</title>([^<]+)</text>", drawn))) == 3
    assert re.findall(r"<title>([^<]+)</title>", drawn) == [*names[:2], "other &lt;b&gt;"]


def test_ticks_are_round_and_neither_few_nor_many() -> None:
    assert charts.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert charts.ticks(0.1, 1) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert charts.ticks(-0.13, 0.13, 7) == pytest.approx([-0.1, -0.05, 0, 0.05, 0.1])
    random = np.random.default_rng(0)
    for low, high in np.sort(random.uniform(-2, 2, (300, 2))):
        found = np.array(charts.ticks(low, high))
        assert 3 <= len(found) <= 6 or high - low < 1e-6
        assert found[0] >= low - 1e-9
        assert found[-1] <= high + 1e-9
        step = found[1] - found[0]
        assert np.diff(found) == pytest.approx(step)
        unit = step / 10 ** np.floor(np.log10(step) + 1e-9)
        assert min(abs(unit - size) for size in (1, 2, 2.5, 5)) < 1e-6
        first = charts.axis_start(low, high)
        assert first <= low + 1e-9
        assert charts.ticks(first, high)[0] == pytest.approx(first, abs=1e-9)


@pytest.mark.parametrize("low", [0.0, 0.13, 0.325, 0.5, 0.71, 0.93, 1.0])
def test_axes_of_a_chart_begin_with_a_number_and_have_round_ones(low: float) -> None:
    points = [
        Point(coverage=share, n=1, threshold=0.5, accuracy=1 - share * (1 - low), interval=(low, 1.0))
        for share in (0.1, 0.5, 1.0)
    ]
    drawn = charts.coverage_curve(points, "a chart")
    texts = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(end|middle)">([\d.]+)</text>', drawn)
    up = [float(text) for _, _, anchor, text in texts if anchor == "end"]
    across = [float(text) for _, _, anchor, text in texts if anchor == "middle"]
    assert across == [0, 20, 40, 60, 80, 100]
    assert up == sorted(up)
    assert up[0] <= 100 * low
    assert up[-1] == 100
    assert len(set(np.round(np.diff(up), 6))) == 1
    # The lowest number is at the foot of the axis, and numbers are right of the title of the axis.
    foot = max(float(y) for x, y, anchor, _ in texts if anchor == "end")
    assert foot == pytest.approx(8 + 260 + 4, abs=0.1)
    places = [float(x) for x, _, anchor, _ in texts if anchor == "end"]
    assert min(places) - 4 * 7.5 > 10, "four digits of 13 pixels have room beside the title"
