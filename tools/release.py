"""Build, check and describe a release of the last commit: `make release`.

python tools/release.py [--root FOLDER]

It needs only Python and git. It installs its tools in build/release, so a second call is quick. The result is
in dist: wheel, sdist, SBOM (CycloneDX) and SHA256SUMS. docs/release.md describes the steps.
"""

import argparse
import email
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

#: Files of the wheel that need no entry in release-parts.json: mien's own source code, and metadata.
_SOURCES = (
    "*.py",
    "*.j2",
    "*/py.typed",
    "*/LICENSE",
    "*.dist-info/*",
    "mien/release/*.mjs",
    "mien/server/templates/*.css",
    *(f"mien/web/*.{kind}" for kind in ("js", "css", "html", "json", "svg", "webmanifest")),
)
#: Run by the tools' Python, which has the library.
_CHECK_SBOM = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
with open(sys.argv[1], encoding="utf-8") as file:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read())
sys.exit(None if error is None else str(error))
"""


class ReleaseError(Exception):
    """What is wrong, and what to do, in one sentence."""


@dataclass(frozen=True)
class Commit:
    """What is released.

    Args:
        root: The top folder of the clone.
        sha: The name of the commit.
        seconds: Its time, in seconds since 1970: the time of all files in the wheel and the sdist.
        version: mien's version in it.
    """

    root: Path
    sha: str
    seconds: int
    version: str

    @property
    def work(self) -> Path:
        """Return the folder of what is installed and built on the way."""
        return self.root / "build" / "release"

    @property
    def wheel(self) -> str:
        """Return the name of the wheel."""
        return f"mien-{self.version}-py3-none-any.whl"

    @property
    def sdist(self) -> str:
        """Return the name of the sdist."""
        return f"mien-{self.version}.tar.gz"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the release and return the exit code: 0, or 2 with a sentence on stderr."""
    parser = argparse.ArgumentParser(description="Build, check and describe a release of the last commit.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the clone")
    root = parser.parse_args(arguments).root.resolve()
    try:
        release(root)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"release: '{error.filename}': {error.strerror}; make room or change its rights", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("release: stopped; dist is as before", file=sys.stderr)
        return 130
    return 0


def release(root: Path) -> None:
    """Build, check and describe the release of the last commit of `root` into its folder dist.

    Raises:
        ReleaseError: The clone cannot be released, or a step failed.
    """
    steps = _Steps(8)
    with steps("check the commit and the changelog"):
        commit = find_commit(root)
        check_changelog((root / "CHANGELOG.md").read_text(encoding="utf-8"), commit.version)
    run = _Runner(commit)
    built = commit.work / "built"
    shutil.rmtree(built, ignore_errors=True)
    with steps("install the tools"):
        tools = _install_tools(commit, run)
    with steps("build wheel and sdist twice, in two folders"):
        build_twice(commit, run, tools, built)
    with steps("build the wheel from the sdist"):
        _build_from_sdist(commit, run, tools, built)
    with steps("check the descriptions with twine"):
        files = [str(built / commit.wheel), str(built / commit.sdist)]
        run("twine check", [str(tools), "-m", "twine", "check", "--strict", *files])
    with steps("download what mien needs"):
        wheels = _download(commit, run, tools, built / commit.wheel)
    with steps("install offline, and predict"):
        python = _install_offline(commit, run, tools, wheels)
        _predict(commit, run, python)
    with steps("write SBOM and checksums"):
        _describe(commit, run, tools, python, built)
        names = _publish(commit, built)
    print(f"\nmien {commit.version}, commit {commit.sha[:12]}:")
    for name in names:
        print(f"  dist/{name}  {(root / 'dist' / name).stat().st_size:,} bytes")


def find_commit(root: Path) -> Commit:
    """Return the last commit of the clone `root`.

    Raises:
        ReleaseError: There is no git, clone or commit, or files are changed.
    """
    if shutil.which("git") is None:
        raise ReleaseError("git is not installed, and a release is made from a commit; install git")
    found = _git(root, "rev-parse", "--show-toplevel", "HEAD").split("\n")
    if len(found) < 2 or Path(found[0]).resolve() != root:
        raise ReleaseError(
            f"'{root}' is not the top folder of a git clone with a commit; run make release in a clone"
        )
    changed = [line[3:] for line in _git(root, "status", "--porcelain", "--untracked-files=no").splitlines()]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ReleaseError(
            f"'{changed[0]}'{more} changed since the last commit; commit the change, or undo it"
        )
    text = (root / "src" / "mien" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if version is None:
        raise ReleaseError("'src/mien/__init__.py' has no line __version__ = \"X.Y.Z\"; add it")
    return Commit(root, found[1], int(_git(root, "log", "-1", "--format=%ct")), version[1])


def check_changelog(text: str, version: str) -> None:
    """Check that a final `version` has a dated section, and that no line waits for a section.

    Raises:
        ReleaseError: One of them is missing. Development versions such as 0.2.0.dev0 need neither.
    """
    if re.search(r"dev|a|b|rc", version):
        return
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", text, re.MULTILINE):
        raise ReleaseError(
            f"CHANGELOG.md has no heading '## {version} (YYYY-MM-DD)'; add the section of this version"
        )
    waiting = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if waiting and "- " in waiting[1]:
        raise ReleaseError(
            f"CHANGELOG.md has lines under 'Unreleased'; move them to the section of {version}"
        )


def build_twice(commit: Commit, run: "_Runner", tools: Path, built: Path) -> None:
    """Build wheel and sdist into `built`, and again in another folder, and compare all bytes.

    The second build has another path, umask, time zone, locale and hash seed.

    Raises:
        ReleaseError: A build failed, or the bytes differ.
    """
    source = commit.work / "source"
    shutil.rmtree(source, ignore_errors=True)
    _export(commit, source)
    command = [str(tools), "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d"]
    run("the build", [*command, str(built)], folder=source)
    other = {"TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    with tempfile.TemporaryDirectory(prefix="mien-release-") as folder:
        second = Path(folder) / "the same commit in another folder"
        mask = os.umask(0o077)
        try:
            _export(commit, second)
            run("the second build", [*command, str(Path(folder) / "built")], folder=second, variables=other)
        finally:
            os.umask(mask)
        for name in (commit.sdist, commit.wheel):
            if (Path(folder) / "built" / name).read_bytes() != (built / name).read_bytes():
                raise ReleaseError(
                    f"two builds of '{name}' differ; compare 'build/release/source' with a second build"
                )


def _build_from_sdist(commit: Commit, run: "_Runner", tools: Path, built: Path) -> None:
    """Build the wheel from the sdist with pip, as `pip install` does, and compare it."""
    with tempfile.TemporaryDirectory(prefix="mien-release-") as folder:
        options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir"]
        command = [
            str(tools),
            "-m",
            "pip",
            "wheel",
            *options,
            "--wheel-dir",
            folder,
            str(built / commit.sdist),
        ]
        run("pip wheel of the sdist", command, offline=True)
        if (Path(folder) / commit.wheel).read_bytes() != (built / commit.wheel).read_bytes():
            raise ReleaseError(
                "the sdist gives another wheel than the commit; compare its files with those of the commit"
            )


def _export(commit: Commit, folder: Path) -> None:
    """Write the files of the commit to `folder`."""
    folder.mkdir(parents=True)
    _git(commit.root, "checkout-index", "--all", f"--prefix={folder}{os.sep}")


def _install_tools(commit: Commit, run: "_Runner") -> Path:
    """Return the Python of an environment with the tools, which is made again if their versions change."""
    needs = commit.root / "tools" / "release-requirements.txt"
    return _environment(
        commit.work / "tools", run, needs.read_text(encoding="utf-8"), ["--requirement", str(needs)]
    )


def _environment(folder: Path, run: "_Runner", needs: str, arguments: list[str]) -> Path:
    """Return the Python of an environment with pip and the packages of `arguments`."""
    python, ready = _python(folder), folder / "ready.txt"
    wanted = f"Python {sys.version}\n{needs}"
    if not (ready.is_file() and python.exists() and ready.read_text(encoding="utf-8") == wanted):
        venv.create(folder, clear=True, with_pip=True, symlinks=os.name != "nt")
        run(
            "the installation of the tools",
            [str(python), "-m", "pip", "install", "--quiet", *arguments],
            advice="check the network",
        )
        ready.write_text(wanted, encoding="utf-8")
    return python


def _download(commit: Commit, run: "_Runner", tools: Path, wheel: Path) -> Path:
    """Return a folder with the wheels of everything that `wheel` needs, and `wheel` itself."""
    wheels, ready = commit.work / "wheels", commit.work / "wheels" / "ready.txt"
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        needs = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    wanted = "\n".join([f"Python {sys.version}", *(line for line in needs if "extra ==" not in line)])
    if not (ready.is_file() and ready.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(wheels, ignore_errors=True)
        command = [str(tools), "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
        run("the download", [*command, "--dest", str(wheels), str(wheel)], advice="check the network")
        ready.write_text(wanted, encoding="utf-8")
    for old in wheels.glob("mien-*.whl"):
        old.unlink()
    shutil.copy(wheel, wheels)
    return wheels


def _install_offline(commit: Commit, run: "_Runner", tools: Path, wheels: Path) -> Path:
    """Return the Python of a new environment in which mien is installed from `wheels` alone."""
    folder = commit.work / "fresh"
    # Without pip, because the SBOM lists what is installed.
    venv.create(folder, clear=True, with_pip=False, symlinks=os.name != "nt")
    python = _python(folder)
    pip = [str(tools), "-m", "pip", "--python", str(python)]
    options = ["--quiet", "--no-index", "--find-links", str(wheels)]
    run("the offline installation", [*pip, "install", *options, f"mien=={commit.version}"], offline=True)
    run("pip check", [*pip, "check"], offline=True)
    return python


def _predict(commit: Commit, run: "_Runner", python: Path) -> None:
    """Predict the four drawn faces of the picture in the documentation, outside of the clone."""
    picture = commit.work / "source" / "docs" / "pictures" / "faces.png"
    mien = str(python.with_name("mien.exe" if os.name == "nt" else "mien"))
    shown = run("mien --version", [mien, "--version"], folder=commit.work, offline=True)
    if commit.version not in shown.split():
        raise ReleaseError(
            f"mien --version printed '{shown.strip()}', not {commit.version}; look at the wheel"
        )
    answer = json.loads(
        run("mien predict", [mien, "predict", str(picture), "--json"], folder=commit.work, offline=True)
    )
    faces = count_faces(answer)
    if faces != 4:
        raise ReleaseError(
            f"the installed mien found {faces} of the 4 faces in docs/pictures/faces.png; look at the wheel"
        )


def count_faces(answer: Any) -> int:
    """Return how many faces are in a document of `mien predict --json`."""
    return sum(len(image["faces"]) for image in answer)


def _describe(commit: Commit, run: "_Runner", tools: Path, python: Path, built: Path) -> None:
    """Write the SBOM of the environment of `python`, with the parts that no environment lists."""
    listed = commit.work / "environment.json"
    command = [
        str(tools),
        "-m",
        "cyclonedx_py",
        "environment",
        "--output-reproducible",
        "--output-file",
        str(listed),
    ]
    run("cyclonedx-py", [*command, str(python)])
    site = next(path.parent for path in python.parents[1].rglob("mien") if (path / "__init__.py").is_file())
    files = {path.relative_to(site).as_posix(): path for path in site.rglob("*") if path.is_file()}
    parts = json.loads((commit.root / "tools" / "release-parts.json").read_text(encoding="utf-8"))["parts"]
    with zipfile.ZipFile(built / commit.wheel) as archive:
        check_parts([name for name in archive.namelist() if not name.endswith("/")], parts)
    sbom = complete(json.loads(listed.read_text(encoding="utf-8")), parts, files)
    sbom["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": _sha256(built / commit.wheel)}]
    path = built / f"mien-{commit.version}.cdx.json"
    path.write_text(json.dumps(sbom, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    run("the check of the SBOM", [str(tools), "-c", _CHECK_SBOM, str(path)])


def check_parts(names: Sequence[str], parts: Sequence[Mapping[str, Any]]) -> None:
    """Check that each file `names` of the wheel is source code, or in the list of parts.

    Raises:
        ReleaseError: A file is neither.
    """
    patterns = [*_SOURCES, *(pattern for part in parts if part["of"] == "mien" for pattern in part["files"])]
    for name in names:
        if not _fits(name, patterns):
            raise ReleaseError(
                f"'{name}' is in the wheel but not in the SBOM; describe it in tools/release-parts.json"
            )


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(PurePosixPath(name).match(pattern) for pattern in patterns)


def complete(
    listed: dict[str, Any], parts: Sequence[Mapping[str, Any]], files: Mapping[str, Path]
) -> dict[str, Any]:
    """Return the SBOM of an environment with mien as its subject and with `parts`.

    Args:
        listed: The document that cyclonedx-py wrote, version 1.6.
        parts: The entries of release-parts.json. A part whose package is not installed is left out.
        files: The files of site-packages by name, with `/`.

    Returns:
        The document. No path of this machine is in it.
    """
    sbom: dict[str, Any] = json.loads(json.dumps(listed))
    components = sbom["components"]
    mien = next(each for each in components if each["name"] == "mien")
    components.remove(mien)
    mien.pop("externalReferences", None)
    mien["purl"] = f"pkg:pypi/mien@{mien['version']}"
    sbom["metadata"]["component"] = mien
    for each in components:
        for reference in each.get("externalReferences", []):
            if reference["url"].startswith("file:"):
                each["externalReferences"] = [
                    kept for kept in each["externalReferences"] if kept is not reference
                ]
    by_name = {each["name"]: each for each in [*components, mien]}
    for part in parts:
        holder = by_name.get(part["of"])
        if holder is None:
            continue
        found = [name for name in sorted(files) if _fits(name, part["files"])]
        if not found:
            continue
        held = [
            {
                "type": "file",
                "bom-ref": f"file:{name}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": _sha256(files[name])}],
            }
            for name in found
        ]
        reference = f"{part['component']['name']} in {part['of']}"
        components.append({**part["component"], "bom-ref": reference, "components": held})
        depends = next(each for each in sbom["dependencies"] if each["ref"] == holder["bom-ref"])
        depends["dependsOn"] = sorted([*depends.get("dependsOn", []), reference])
        sbom["dependencies"].append({"ref": reference})
    return sbom


def _publish(commit: Commit, built: Path) -> list[str]:
    """Put the files and their checksums into dist, in place of earlier ones, and return their names."""
    dist = commit.root / "dist"
    dist.mkdir(exist_ok=True)
    for old in (*dist.glob("mien-*"), dist / "SHA256SUMS"):
        old.unlink(missing_ok=True)
    names = sorted([commit.wheel, commit.sdist, f"mien-{commit.version}.cdx.json"])
    for name in names:
        shutil.copy(built / name, dist / name)
    sums = "".join(f"{_sha256(dist / name)}  {name}\n" for name in names)
    (dist / "SHA256SUMS").write_text(sums, encoding="utf-8", newline="\n")
    return [*names, "SHA256SUMS"]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return done.stdout.rstrip("\n")


class _Runner:
    """Runs commands with the commit's time, and keeps what they print in build/release/log.txt."""

    def __init__(self, commit: Commit) -> None:
        self.seconds = commit.seconds
        self.log = commit.work / "log.txt"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text(f"mien {commit.version}, commit {commit.sha}\n", encoding="utf-8")

    def __call__(
        self,
        what: str,
        command: list[str],
        *,
        folder: Path | None = None,
        variables: Mapping[str, str] | None = None,
        offline: bool = False,
        advice: str = "read",
    ) -> str:
        """Run `command` and return what it prints to stdout.

        Raises:
            ReleaseError: It failed; the sentence names `what` and the log.
        """
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MIEN_"))
        }
        if offline:
            environment = {key: value for key, value in environment.items() if not key.startswith("PIP_")}
            environment["PIP_CONFIG_FILE"] = os.devnull
        environment |= {
            "SOURCE_DATE_EPOCH": str(self.seconds),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **(variables or {}),
        }
        done = subprocess.run(  # noqa: S603
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n{done.stdout}{done.stderr}")
        if done.returncode:
            also = "" if advice == "read" else f"{advice}, and "
            raise ReleaseError(f"{what} failed with exit code {done.returncode}; {also}read '{self.log}'")
        return done.stdout


class _Steps:
    """Prints each step with its number, and its seconds when it is done."""

    def __init__(self, n: int) -> None:
        self.n, self.step, self.began = n, 0, 0.0

    def __call__(self, what: str) -> "_Steps":
        self.step += 1
        print(f"[{self.step}/{self.n}] {what} ...", end="", flush=True)
        return self

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, kind: object, *_: object) -> None:
        print(" failed" if kind else f" {time.monotonic() - self.began:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
