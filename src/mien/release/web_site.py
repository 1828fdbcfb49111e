"""Write a web site that finds and classifies faces in the visitor's browser, from static files.

    web_site.write(model, "site")          # then: python -m http.server --directory site

The site holds the page in the folder `web` of the package, the model, the three networks of the detector
MTCNN, and the files of onnxruntime-web, which runs them in WebAssembly. onnxruntime-web is an npm package of
139 MB, of which a site needs 14.3 MB; it is not part of mien.
"""

import base64
import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from mien import __version__, _files
from mien.data import synthetic
from mien.data.image_cache import default_folder
from mien.errors import InputError, MissingExtra, ModelError, OutputError
from mien.models import model_files
from mien.models.card import Card, Parity
from mien.models.model_files import Model
from mien.release import exporters
from mien.release.exporters import Agreement, Exported
from mien.vision.detectors import mtcnn

#: Version of onnxruntime-web, and the sha512 of its npm package as npm states it.
RUNTIME = "1.30.0"
PACKAGE_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
#: The files of the package that a site needs, and the sha256 of each.
RUNTIME_FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
#: Largest difference between a probability in WebAssembly and in Python with which an int8 file is exported.
TOLERANCE = 1e-3
#: Synthetic faces to compare on; as many noise images are added.
IMAGES = 128
#: The file that makes a folder a site; it is written last.
MANIFEST = "site.json"
#: Version of the manifest; it increases when a key changes its meaning or is removed.
SCHEMA = 1
#: The folder of the page.
PAGE = Path(__file__).parents[1] / "web"
#: Seconds that npm and Node.js may take.
_FETCH_LIMIT, _COMPARE_LIMIT = 600, 300
_MODE = 'data-mode="server"'

Progress = Callable[[int, int], None]


def write(
    source: Model,
    to: str | os.PathLike[str],
    *,
    ort: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write a static web site with a model, and compare its answers in WebAssembly with those in Python.

    An int8 model stays int8 if no probability differs by more than `TOLERANCE`. Else the site gets the same
    network in float32, which needs Keras. Without Node.js nothing can run in WebAssembly. Then an int8 model
    of mien's package stays int8, because the tests compare it. Another one stays int8 if it answers within
    the tolerance without fused operations too, because these are the known cause of differences.

    Args:
        source: The model.
        to: The folder; it must be new, empty, or a site that this function wrote.
        ort: A folder with the files of onnxruntime-web, or the unpacked npm package; None fetches the package
            with npm and keeps the files in the cache folder of the user.
        progress: Called with (images compared, images in all).

    Returns:
        The site, and the comparison; `parity.images` is 0 if there was none.

    Raises:
        InputError: The folder has other files; or onnxruntime-web cannot be fetched, is another version or
            damaged.
        ModelError: A float32 model answers differently in WebAssembly.
        MissingExtra: The network must be exported in float32, and Keras is not installed.
        OutputError: A file cannot be written.
    """
    site = Path(to)
    _check_folder(site)
    runtime = runtime_files(ort)
    chosen = _choose(source, runtime, progress)
    files = {
        **_page(),
        **{f"ort/{name}": (runtime / name).read_bytes() for name in RUNTIME_FILES},
        **{f"models/{name}.onnx": (mtcnn.FOLDER / f"{name}.onnx").read_bytes() for name in mtcnn.SHA256},
        "models/model.onnx": chosen.content,
        model_files.CARD: model_files.to_json(chosen.card).encode(),
        **_licences(),
    }
    (site / MANIFEST).unlink(missing_ok=True)
    with _files.writing(site):
        for name, content in files.items():
            _files.write(site / name, content)
        _files.write(site / MANIFEST, _manifest(chosen, files))
    return Exported(site, chosen.parity, chosen.agreement)


def runtime_files(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return a folder with the files of onnxruntime-web, after a check of their hashes.

    Args:
        folder: The folder, or that of the unpacked npm package, which has them in `dist`; None for the cache
            folder of the user, where npm fetches them once.

    Raises:
        InputError: They do not exist, are of another version, or cannot be fetched.
    """
    if folder is not None:
        for place in (Path(folder), Path(folder) / "dist", Path(folder) / "package" / "dist"):
            if all((place / name).is_file() for name in RUNTIME_FILES):
                _check_runtime(place)
                return place
        raise InputError(
            f"--ort {os.fspath(folder)!r} does not have the files {', '.join(RUNTIME_FILES)}; name the "
            f"folder of the npm package onnxruntime-web {RUNTIME}"
        )
    cached = default_folder() / f"onnxruntime-web-{RUNTIME}"
    if all((cached / name).is_file() for name in RUNTIME_FILES):
        with contextlib.suppress(InputError):  # a damaged copy is fetched again
            _check_runtime(cached)
            return cached
    _fetch(cached)
    return cached


def _check_runtime(folder: Path) -> None:
    for name, expected in RUNTIME_FILES.items():
        try:
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(
                f"{str(folder / name)!r} cannot be read: {_files.reason(error)}; check it"
            ) from None
        if digest != expected:
            raise InputError(
                f"{str(folder / name)!r} is not the file of onnxruntime-web {RUNTIME}: its sha256 is "
                f"{digest}, not {expected}; get it with: npm pack onnxruntime-web@{RUNTIME}"
            )


def _fetch(to: Path) -> None:
    """Get the npm package and keep the files that a site needs."""
    package = f"onnxruntime-web@{RUNTIME}"
    by_hand = (
        f"run npm pack {package} on a machine with Node.js, unpack the file, and name its folder with --ort"
    )
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"a web site needs {package}, and npm is not installed to fetch it; {by_hand}")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", package, "--ignore-scripts", "--loglevel=error"]
        command += ["--pack-destination", folder]
        try:
            subprocess.run(  # noqa: S603 - the arguments are constants
                command, check=True, capture_output=True, timeout=_FETCH_LIMIT, cwd=folder
            )
            (archive,) = Path(folder).glob("*.tgz")
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace")
            lines = [re.sub("^npm (error|ERR!)", "", line).strip() for line in said.splitlines()]
            # The first lines have the code, the call, and the path or the address.
            reason = ", ".join([line for line in lines if line][:4]) or str(error).rstrip(".")
            raise InputError(f"npm cannot fetch {package}: {reason[:300]}; {by_hand}") from None
        content = archive.read_bytes()
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        if digest != PACKAGE_SHA512:
            raise InputError(
                f"the package {package} that npm fetched has the sha512 {digest}, not {PACKAGE_SHA512}; "
                "check the registry that npm uses"
            )
        with tarfile.open(archive) as files:
            for name in RUNTIME_FILES:
                member = files.extractfile(f"package/dist/{name}")
                assert member is not None
                _files.write(to / name, member.read())
    _check_runtime(to)


@dataclass(frozen=True)
class _Chosen:
    """The model file of a site."""

    content: bytes
    card: Card
    parity: Parity
    agreement: Agreement | None = None


def _choose(source: Model, runtime: Path, progress: Progress | None) -> _Chosen:
    """Return a model as it is, or in float32 if WebAssembly answers the int8 file differently."""
    images = _images(source.card.size)
    parity = _compare(source, runtime, images, progress)
    if parity.largest_difference <= TOLERANCE:
        return _Chosen(source.read(), source.card, parity)
    if source.card.precision == "float32":
        raise _unlike(source, parity)
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = exporters.convert(source, "onnx", Path(folder) / "model.onnx", progress=progress)
        except MissingExtra as error:
            raise MissingExtra(
                f"{source.card.name!r} in int8 answers up to {parity.largest_difference:.2g} differently in "
                "WebAssembly, and its export in float32",
                error.extra,
            ) from None
        network = model_files.load(made.path)
        parity = _compare(network, runtime, images, progress)
        if parity.largest_difference > TOLERANCE:
            raise _unlike(source, parity)
        return _Chosen(network.read(), network.card, parity, made.agreement)


def _unlike(source: Model, parity: Parity) -> ModelError:
    return ModelError(
        f"{source.card.name!r} answers up to {parity.largest_difference:.2g} differently in WebAssembly; at "
        f"most {TOLERANCE:g} is allowed, so nothing was written; please report it"
    )


def _images(size: int) -> npt.NDArray[np.uint8]:
    """Return synthetic faces and noise to compare on."""
    faces, _, _ = synthetic.sample(IMAGES, seed=0, size=size)
    noise = np.random.default_rng(0).integers(0, 256, faces.shape, np.uint8)
    return np.concatenate([faces, noise])


def _compare(model: Model, runtime: Path, images: npt.NDArray[np.uint8], progress: Progress | None) -> Parity:
    """Return how far a model's answers in WebAssembly are from those in Python."""
    node = shutil.which("node")
    if node is None and (model.card.precision == "float32" or model.path.parent == model_files.MODELS):
        return Parity(images=0, largest_difference=0.0, against="not compared: Node.js is not installed")
    expected = np.stack([*model.run_heads(images, progress=progress).values()])
    if node is None:
        unfused = model_files.of(model.read(), model.card, path=model.path, optimization="basic")
        found = np.stack([*unfused.run_heads(images).values()])
        against = "ONNX Runtime in Python without fused operations"
    else:
        found = _ask_node(node, model, runtime, images).reshape(expected.shape)
        against = f"onnxruntime-web {RUNTIME} in Node.js"
    return Parity(
        images=len(images), largest_difference=float(np.abs(found - expected).max()), against=against
    )


def _ask_node(
    node: str, model: Model, runtime: Path, images: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Return the answers of all heads, `(heads * n * labels,)`, as WebAssembly computes them."""
    outputs = ",".join(head.output for head in model.card.heads.values())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "model.onnx").write_bytes(model.read())
        (place / "images").write_bytes(images.tobytes())
        script = Path(__file__).with_name("wasm_answers.mjs")
        paths = (script, runtime.resolve(), place / "model.onnx", place / "images")
        command = [node, *map(str, paths), str(model.card.size), outputs, str(place / "answers")]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPARE_LIMIT)  # noqa: S603
            answers = np.frombuffer((place / "answers").read_bytes(), "<f4")
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
            reason = said.splitlines()[-1] if said else str(error)
            raise ModelError(
                f"Node.js cannot run {model.card.name!r} in onnxruntime-web: {reason[:300]}; use Node.js 18 "
                "or later"
            ) from None
    if len(answers) != len(images) * len(model.card.heads) * len(model.card.labels):
        raise ModelError(f"onnxruntime-web answers {model.card.name!r} with {len(answers)} numbers")
    return answers


def _check_folder(site: Path) -> None:
    """Refuse a folder with files that are not those of a site."""
    if site.exists() and not site.is_dir():
        raise InputError(f"--to {str(site)!r} is a file; name a folder for the site")
    if site.is_dir() and any(site.iterdir()) and not _is_site(site):
        raise InputError(f"--to {str(site)!r} has files that are not of a site; name a new folder")


def _is_site(folder: Path) -> bool:
    """Return whether `write` wrote, or began to write, a folder."""
    return (folder / MANIFEST).is_file() or ((folder / "ort").is_dir() and (folder / "index.html").is_file())


def _page() -> dict[str, bytes]:
    """Return the files of the page, set to compute in the browser."""
    files = {}
    for path in sorted(PAGE.iterdir()):
        if path.name == "index.html":
            text = path.read_text(encoding="utf-8")
            if text.count(_MODE) != 1:
                raise OutputError(f"the package's file web/index.html has no {_MODE}; install mien again")
            files["index.html"] = text.replace(_MODE, 'data-mode="browser"').encode()
        elif path.is_file():
            files[f"assets/{path.name}"] = path.read_bytes()
    return files


def _licences() -> dict[str, bytes]:
    """Return the licences of everything in a site."""
    runtime = Path(onnxruntime.__file__).parent
    places = {
        "onnxruntime-LICENSE.txt": runtime / "LICENSE",
        "onnxruntime-ThirdPartyNotices.txt": runtime / "ThirdPartyNotices.txt",
        "mtcnn-LICENSE.txt": mtcnn.FOLDER / "LICENSE",
    }
    files = {f"licences/{name}": place.read_bytes() for name, place in places.items() if place.is_file()}
    try:
        own = importlib.metadata.distribution("mien").read_text("licenses/LICENSE")
    except importlib.metadata.PackageNotFoundError:
        own = None
    text = own or "mien: Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0\n"
    files["licences/mien-LICENSE.txt"] = text.encode()
    names = sorted(Path(name).name for name in files)
    links = "".join(f'<li><a href="{name}">{name}</a></li>\n' for name in names)
    head = '<!doctype html>\n<html lang="en">\n<title>Licences</title>\n<h1>Licences</h1>\n'
    page = f"{head}<ul>\n{links}</ul>\n"
    return files | {"licences/index.html": page.encode()}


def _manifest(chosen: _Chosen, files: dict[str, bytes]) -> bytes:
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "mien": __version__,
        "runtime": {"name": "onnxruntime-web", "version": RUNTIME, "folder": "ort/"},
        "model": {"file": "models/model.onnx", "card": model_files.CARD},
        "detector": {
            "name": "mtcnn",
            "files": [f"models/{name}.onnx" for name in mtcnn.SHA256],
            "crop": {"right": mtcnn.CROP.right, "down": mtcnn.CROP.down, "scale": mtcnn.CROP.scale},
        },
        "card": json.loads(model_files.to_json(chosen.card)),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"
