"""The page of an exported site in headless Chromium: answers, files, keyboard, webcam and requests."""

import base64
import csv
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mien
from builders import encoded
from chromium import Chromium, Page
from mien.release import web_site
from mien.vision import images
from web_fixtures import astronaut, drawn_photo, needs_chromium

pytestmark = needs_chromium

READY = "document.getElementById('status').textContent === 'Ready.'"
FINISHED = "/ found\\.$/.test(document.getElementById('status').textContent)"


def text_of(page: Page, name: str) -> str:
    return str(page.run(f"document.getElementById({name!r}).textContent"))


def click(page: Page, name: str) -> None:
    page.run(f"document.getElementById({name!r}).click()")


@pytest.fixture
def page(browser: Chromium, address: str) -> Iterator[Page]:
    """The page with a loaded model."""
    opened = browser.page()
    opened.open(address)
    opened.wait(READY)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos, a picture without a face, and a damaged file, in the order of their names."""
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(astronaut()).save(folder / "=1+1.png")
    Image.fromarray(drawn_photo(2)).save(folder / "drawn.jpg", quality=92)
    Image.new("RGB", (80, 60), "white").save(folder / "empty <img src=x onerror=alert(1)>.png")
    (folder / "thesis.png").write_bytes(b"not an image")
    return sorted(folder.iterdir())


def analyse(page: Page, files: list[Path]) -> None:
    page.choose_files("#files", *files)
    page.wait(FINISHED)


def downloaded(page: Page, tmp_path: Path) -> list[dict[str, str]]:
    page.chromium.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    click(page, "download")
    end = time.monotonic() + 30
    while not (found := list(tmp_path.glob("*.csv"))) and time.monotonic() < end:
        time.sleep(0.05)
    return list(csv.DictReader(io.StringIO(found[0].read_text(encoding="utf-8"))))


def test_the_csv_is_that_of_python(
    page: Page, files: list[Path], predictor: mien.Predictor, tmp_path: Path, address: str
) -> None:
    analyse(page, files)
    found = downloaded(page, tmp_path)
    expected = [row for file in files[:3] for row in predictor.image(file, name=file.name).rows()]
    assert list(found[0]) == list(mien.types.Prediction.columns(predictor.names))
    assert [row["source"] for row in found] == [row["source"].replace("=1+1", "'=1+1") for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row["emotion"] == other.get("emotion", "")
        assert row["flags"] == other.get("flags", "")
        for name, value in other.items():
            if isinstance(value, float):
                assert float(row[name]) == pytest.approx(value, abs=0.05)
            elif isinstance(value, int):
                assert abs(int(row[name]) - value) <= 1
    assert page.run("document.querySelector('article:last-child h3').textContent") == "thesis.png"
    assert page.run("document.querySelector('article:last-child .warning').textContent")
    assert "1 file cannot be read" in text_of(page, "status")
    assert "<img src=x onerror=alert(1)>" in text_of(page, "cards")
    assert not page.errors
    own = (address, f"blob:{address}")
    assert page.requests
    assert [request for request in page.requests if not request.startswith(own)] == []


def test_settings_change_the_answers(page: Page, files: list[Path], predictor: mien.Predictor) -> None:
    analyse(page, files[1:2])
    labels = list(predictor.names)
    for head, balance in (("fer2013", None), ("fer2013", 0.0), ("ferplus", 1.0)):
        page.run(f"(head => {{ head.value = {head!r}; head.onchange(); }})(document.getElementById('head'))")
        if balance is not None:
            page.run(
                f"(one => {{ one.value = {balance}; one.oninput(); }})(document.getElementById('balance'))"
            )
            time.sleep(0.4)  # the page waits for the end of the movement
        page.wait(FINISHED)
        python = mien.Predictor(head=head, balance=balance, detector=predictor.detector)
        shares = page.run("[...document.querySelectorAll('.share')].map(each => parseInt(each.textContent))")
        expected = [100 * face.scores[label] for face in python.image(files[1]).faces for label in labels]
        assert shares == pytest.approx(expected, abs=6)
    click(page, "whole")
    page.wait(FINISHED)
    page.wait("document.querySelectorAll('article .bars').length === 1")
    assert not page.errors


def test_results_can_be_removed(page: Page, files: list[Path]) -> None:
    analyse(page, files)
    assert page.run("document.querySelectorAll('article').length") == 4
    click(page, "clear")
    assert page.run("document.querySelectorAll('article, #table-body tr').length") == 0
    assert page.run("document.activeElement.id") == "results"
    analyse(page, files[:1])
    assert page.run("document.querySelectorAll('article').length") == 1


def heads(page: Page) -> list[str]:
    return list(page.run("[...document.querySelectorAll('article h3')].map(each => each.textContent)"))


def test_a_folder_can_be_dropped_and_chosen(page: Page, files: list[Path], tmp_path: Path) -> None:
    album = tmp_path / "album"
    (album / "more").mkdir(parents=True)
    for place in ("b.png", "more/a.png", ".hidden.png", "notes.txt"):
        (album / place).write_bytes(files[0].read_bytes())
    expected = ["album/b.png: 1 face", "album/more/a.png: 1 face"]
    page.drop(album)
    page.wait(FINISHED)
    assert heads(page) == expected
    click(page, "clear")
    page.choose_files("#folder", album)
    page.wait(FINISHED)
    assert heads(page) == expected
    assert not page.errors


def test_a_photo_can_be_pasted(page: Page, files: list[Path]) -> None:
    data = base64.b64encode(files[0].read_bytes()).decode()
    page.run(
        f"""(() => {{
            const bytes = Uint8Array.from(atob("{data}"), (letter) => letter.charCodeAt(0));
            const clipboard = new DataTransfer();
            clipboard.items.add(new File([bytes], "image.png", {{ type: "image/png" }}));
            const facts = {{ clipboardData: clipboard, bubbles: true }};
            document.body.dispatchEvent(new ClipboardEvent("paste", facts));
        }})()"""
    )
    page.wait(FINISHED)
    assert heads(page) == ["pasted 1.png: 1 face"]


def decoded(page: Page, content: bytes) -> np.ndarray:
    """Return the pixels that the page reads from a file."""
    data = base64.b64encode(content).decode()
    found = page.run(
        f"""(async () => {{
            const {{ decode }} = await import("./assets/decode.js");
            const bytes = Uint8Array.from(atob("{data}"), (letter) => letter.charCodeAt(0));
            const {{ pixels, width, height }} = await decode(new Blob([bytes]));
            let text = "";
            for (const value of pixels.data) text += String.fromCharCode(value);
            return [width, height, btoa(text)];
        }})()"""
    )
    return np.frombuffer(base64.b64decode(found[2]), np.uint8).reshape(found[1], found[0], 3)


def in_colour(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, np.newaxis], 3, axis=2)


def test_files_have_the_pixels_of_python(page: Page) -> None:
    photo = Image.fromarray(astronaut()).resize((90, 70))
    clear = photo.convert("RGBA")
    clear.putalpha(Image.new("L", photo.size, 0))
    files = {
        "colour": encoded(photo),
        "grey": encoded(photo.convert("L")),
        "palette": encoded(photo.convert("P")),
        "opaque": encoded(photo.convert("RGBA")),
        "transparent": encoded(clear),
        "webp": encoded(photo, "WEBP", lossless=True),
        "bmp": encoded(photo, "BMP"),
        "gif": encoded(photo.convert("P"), "GIF"),
    }
    for name, content in files.items():
        assert np.array_equal(decoded(page, content), in_colour(images.read(content))), name


def test_jpeg_files_have_the_orientation_and_pixels_of_python(page: Page) -> None:
    photo = Image.fromarray(astronaut()).crop((150, 0, 310, 200))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for options in ({"quality": 95, "subsampling": 0}, {"quality": 80}):
            content = encoded(photo, "JPEG", exif=exif, **options)
            found, expected = decoded(page, content), images.read(content)
            assert found.shape == expected.shape
            difference = np.abs(found.astype(int) - expected)
            assert (difference.max(), difference.mean()) <= (3, 0.3), (orientation, options)


def test_a_colour_profile_changes_no_pixel(page: Page) -> None:
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    photo = Image.fromarray(astronaut()).resize((60, 60))
    plain, profiled = encoded(photo), encoded(photo, icc_profile=lab.tobytes())
    assert np.array_equal(decoded(page, profiled), decoded(page, plain))


def test_the_page_works_with_the_keyboard(page: Page) -> None:
    reached = []
    for _ in range(12):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.tagName"))
    assert reached[:9] == [
        *("A", "SUMMARY", "choose-files", "choose-folder", "camera-switch", "head", "balance", "whole"),
        reached[8],
    ]
    page.run("document.getElementById('camera-switch').focus()")
    page.press("Enter", text="\r")
    page.wait("!document.getElementById('camera').hidden")
    page.press("Enter", text="\r")
    page.wait("document.getElementById('camera').hidden")


def test_every_control_has_a_name(page: Page, files: list[Path]) -> None:
    analyse(page, files[:1])
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "slider", "checkbox", "switch", "combobox", "image", "region", "heading"}
    seen = set()
    for node in nodes:
        role = node.get("role", {}).get("value")
        if node.get("ignored") or role not in roles:
            continue
        seen.add(role)
        assert node.get("name", {}).get("value"), node
    assert {"button", "link", "slider", "checkbox", "combobox", "image", "heading"} <= seen
    assert page.run("document.getElementById('status').getAttribute('role')") == "status"


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_nothing_is_wider_than_the_window(page: Page, files: list[Path], width: int) -> None:
    page.resize(width)
    analyse(page, files)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(
        """[...document.querySelectorAll(".bars li")].map((row) => {
            row.classList.add("best");
            const share = row.querySelector(".share");
            share.textContent = "100%";
            return share.scrollWidth <= share.clientWidth;
        })"""
    ) == [True] * (7 * page.run("document.querySelectorAll('.bars').length"))


def test_the_webcam_is_answered(page: Page, address: str, tmp_path: Path) -> None:
    click(page, "camera-switch")
    page.wait("document.getElementById('camera-now').textContent.startsWith('happy')")
    page.wait("document.getElementById('camera-rate').textContent.includes('answers a second')")
    assert page.run("document.querySelectorAll('#camera-picture .box').length") == 1
    assert "happy" in page.run("document.getElementById('timeline').getAttribute('aria-label')")
    page.run("window.blank = Object.assign(document.createElement('canvas'), { width: 720, height: 140 })")
    page.wait("document.getElementById('timeline').toDataURL() !== blank.toDataURL()")
    click(page, "camera-switch")
    page.wait("document.getElementById('camera').hidden")
    found = downloaded(page, tmp_path)
    assert found[0]["source"].startswith("webcam ")
    assert {row["emotion"] for row in found if row["face"]} == {"happy"}
    assert not page.errors
    own = (address, f"blob:{address}")
    assert [request for request in page.requests if not request.startswith(own)] == []


def test_the_policy_forbids_other_hosts_in_page_and_worker(page: Page) -> None:
    for where in ("http://127.0.0.1:9/", "https://example.org/"):
        assert page.run(f"fetch({where!r}).then(() => 'sent', () => 'refused')") == "refused"
    inside = page.run(
        """new Promise((resolve) => {
            const answers = "() => postMessage('sent'), () => postMessage('refused')";
            const code = `fetch("http://127.0.0.1:9/").then(${answers})`;
            const worker = new Worker(URL.createObjectURL(new Blob([code])));
            worker.onmessage = ({ data }) => resolve(data);
        })"""
    )
    assert inside == "refused"
    assert any("Content Security Policy" in error for error in page.errors)


def test_texts_are_in_one_file_and_all_are_used() -> None:
    texts = (web_site.PAGE / "strings.js").read_text(encoding="utf-8")
    block = texts.partition("export const STRINGS = {")[2].partition("\n};")[0]
    keys = set(re.findall(r"^  (\w+):", block, re.MULTILINE))
    sources = [path for path in web_site.PAGE.iterdir() if path.suffix in (".js", ".html")]
    others = "".join(path.read_text(encoding="utf-8") for path in sources if path.name != "strings.js")
    used = {*re.findall(r"STRINGS\.(\w+)", others), *re.findall(r'data-text="(\w+)"', others)}
    assert keys == used
    page = (web_site.PAGE / "index.html").read_text(encoding="utf-8")
    shown = re.sub(r"<(title|noscript)>.*?</\1>", "", page)
    assert re.findall(r">\s*([^<\s][^<]*)<", shown.partition("<body>")[2]) == []


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2, 1.4.3)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_the_contrast_of_wcag_aa() -> None:
    style = (web_site.PAGE / "style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    for block in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6});", block))
        for text in ("text", "soft", "accent", "warning"):
            for ground in ("ground", "panel"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["text"], colours["note"]) >= 4.5
        assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
        for name in ("line", "note-line"):
            assert contrast(colours[name], colours["ground"]) >= 3 or name == "note-line"
        for number in range(7):
            assert contrast(colours[f"tint-{number}"], colours["track"]) >= 2.5
            assert contrast(colours[f"tint-{number}"], colours["panel"]) >= 3
