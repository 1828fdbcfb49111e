"""The camera: newest picture first, whatever is slow, lost or in the way; and the window, looked at."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from builders import has_line, refused
from mien import cli
from mien.errors import InputError, MissingExtra
from mien.inference import video, webcam
from mien.inference.predictor import Predictor
from mien.inference.video_files import Clip
from mien.inference.webcam import Live, Slot
from mien.types import Prediction
from mien.vision import images

Pixels = NDArray[np.uint8]
HEAD = Image.fromarray(data.astronaut()).crop((130, 0, 330, 220))


def scene(left: int) -> Image.Image:
    picture = Image.new("RGB", (480, 300), (90, 110, 130))
    picture.paste(HEAD, (left, 50))
    return picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut moves to the right for a second and a half."""
    path = tmp_path_factory.mktemp("camera") / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=20, options={"crf": "16", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 480, 300, "yuv420p"
        for number in range(30):
            out.mux(stream.encode(av.VideoFrame.from_image(scene(20 + 4 * number))))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return video.make_predictor(look=320)


def plain(number: int) -> Callable[[], Pixels]:
    return lambda: np.full((30, 40, 3), number, np.uint8)


class Nobody:
    """A predictor that finds nobody, after what a test wants done meanwhile."""

    threshold = None

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    def image(self, pixels: Pixels, *, name: str, auto_rotate: bool) -> Prediction:
        self._meanwhile()
        return Prediction(name, pixels.shape[1], pixels.shape[0], ())


def wait_for(met: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.002)


# The newest picture


def test_a_slot_holds_the_newest_and_nothing_else() -> None:
    slot: Slot[int] = Slot()
    assert slot.take(0) is None
    for item in range(5):
        slot.put(item)
    assert slot.take(0) == 4
    assert slot.take(0.01) is None
    slot.put(7)
    slot.close()
    assert slot.take(10) == 7
    assert slot.closed
    assert slot.take(10) is None


def test_a_slow_look_is_followed_by_the_newest_picture_whatever_came_meanwhile() -> None:
    released = threading.Semaphore(1)

    def source() -> Iterator[tuple[None, Callable[[], Pixels]]]:
        for number in range(41):
            released.acquire()
            yield None, plain(number)

    def while_looking() -> None:
        wanted = live.captured + 10
        released.release(10)
        wait_for(lambda: live.captured >= min(41, wanted))

    live = Live(source(), Nobody(while_looking))  # type: ignore[arg-type]
    with live:
        looks = list(live)
    assert [look.number for look in looks] == [0, 10, 20, 30, 40]
    assert [int(look.pixels[0, 0, 0]) for look in looks] == [0, 10, 20, 30, 40]
    assert (live.captured, live.looked, live.problem) == (41, 5, None)


def test_a_slow_predictor_stays_a_look_behind_and_no_more() -> None:
    pictures = [(number / 50, plain(number)) for number in range(75)]
    live = Live(pictures, Nobody(lambda: time.sleep(0.25)))  # type: ignore[arg-type]
    with live:
        looks = list(live)
    assert len(looks) < 12
    assert looks[-1].number == 74
    # Looking at each in turn, the last would be 17 seconds behind.
    assert all(0.25 <= look.latency < 1.5 for look in looks)
    assert 0 < looks[-1].rate < 4.1


def test_only_what_is_looked_at_is_converted() -> None:
    converted = []

    def pixels(number: int) -> Callable[[], Pixels]:
        return lambda: (converted.append(number), plain(number)())[1]

    live = Live([(0.0, pixels(n)) for n in range(50)], Nobody(lambda: time.sleep(0.2)))  # type: ignore[arg-type]
    with live:
        looks = list(live)
    assert converted == [look.number for look in looks]
    assert converted[-1] == 49
    assert len(converted) < 50


# What is seen


def test_a_played_video_comes_at_its_own_times(clip: Path, predictor: Predictor) -> None:
    with Clip(clip) as opened, Live(webcam.play(opened.pictures()), predictor, name="clip") as live:
        begin = time.monotonic()
        looks = list(live)
        assert time.monotonic() - begin > 1.4
    assert live.captured == 30
    assert looks[-1].number == 29
    for look in looks:
        assert look.time >= look.number / 20 - 0.01
        (person,) = look.people
        assert (person.track, person.emotion) == (1, "happy")
        assert look.prediction.faces == (person.face,)
    lefts = [look.people[0].face.box.left for look in looks]
    assert lefts[-1] > lefts[0]
    document = json.loads(json.dumps(looks[0].to_dict()))
    assert (document["schema"], document["source"], document["width"]) == (1, "clip", 480)
    assert document["faces"][0]["track"] == 1
    assert document["faces"][0]["smoothed"]["emotion"] == "happy"


def test_a_mirror_turns_left_and_right(predictor: Predictor) -> None:
    picture = np.asarray(scene(20))
    (plainly,) = list(Live([(None, lambda: picture)], predictor).__enter__())
    (mirrored,) = list(Live([(None, lambda: picture)], predictor, mirror=True).__enter__())
    assert np.array_equal(mirrored.pixels, picture[:, ::-1])
    one, other = plainly.people[0].face.box, mirrored.people[0].face.box
    assert other.left == pytest.approx(480 - one.left - one.width, abs=6)
    assert other.top == pytest.approx(one.top, abs=6)


# What goes wrong


def test_a_camera_that_is_lost_ends_the_pictures_and_says_so() -> None:
    closed = threading.Event()

    def source() -> Iterator[tuple[None, Callable[[], Pixels]]]:
        try:
            yield None, plain(1)
            raise InputError("the camera is gone")
        finally:
            closed.set()

    with Live(source(), Nobody(lambda: None)) as live:  # type: ignore[arg-type]
        assert len(list(live)) == 1
    assert live.problem == "the camera is gone"
    assert closed.is_set()


def test_a_camera_that_falls_silent_counts_as_gone_and_holds_nothing_up() -> None:
    hanging = threading.Event()

    def source() -> Iterator[tuple[None, Callable[[], Pixels]]]:
        yield None, plain(1)
        hanging.wait(60)

    with Live(source(), Nobody(lambda: None), silence=0.3, name="it") as live:  # type: ignore[arg-type]
        assert len(list(live)) == 1
        assert live.problem
        assert has_line(live.problem, "it", 0.3)
        hanging.set()


def test_faults_are_raised_where_the_pictures_are_looked_at() -> None:
    def source() -> Iterator[tuple[None, Callable[[], Pixels]]]:
        yield None, plain(1)
        raise RuntimeError("a fault")

    with Live(source(), Nobody(lambda: None)) as live, pytest.raises(RuntimeError, match="a fault"):  # type: ignore[arg-type]
        list(live)

    def fail() -> None:
        raise ValueError("another")

    with Live([(None, plain(1))], Nobody(fail)) as live, pytest.raises(ValueError, match="another"):  # type: ignore[arg-type]
        list(live)


def test_leaving_ends_the_capture_in_the_middle_of_a_pause() -> None:
    live = Live([(0.0, plain(1)), (3600.0, plain(2))], Nobody(lambda: None))  # type: ignore[arg-type]
    with live:
        assert next(iter(live)).number == 0
    assert not live._thread.is_alive()
    assert list(live) == []


# Cameras


@pytest.fixture
def pattern(monkeypatch: pytest.MonkeyPatch) -> str:
    """FFmpeg's test pattern in the place of a camera; it is lost after half a second."""
    monkeypatch.setattr(webcam, "_SYSTEMS", {sys.platform: "lavfi"})
    monkeypatch.setattr(webcam, "_address", lambda system, name: name)
    return "testsrc=duration=0.5:size=320x240:rate=20"


def test_a_camera_gives_pictures_until_it_is_lost(pattern: str) -> None:
    frames = iter(webcam.camera(pattern))
    first = [next(frames) for _ in range(10)]
    with refused(InputError):
        next(frames)
    assert all(due is None for due, _ in first)
    seen = [pixels() for _, pixels in first]
    assert {each.shape for each in seen} == {(240, 320, 3)}
    assert all(each.std() > 20 for each in seen)


def test_the_command_ends_cleanly_when_the_camera_is_lost(
    pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without a dot, which would make it a file's name.
    assert cli.run(["webcam", "--headless", "--camera", pattern.replace("0.5", "500ms")]) == 3
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert lines
    assert all(line["faces"] == [] and line["width"] == 320 for line in lines)
    assert "testsrc" in captured.err


def test_what_cannot_be_opened_is_told_in_a_sentence(pattern: str) -> None:
    with refused(InputError, "nonsense!"):
        webcam.camera("nonsense!")
    with refused(InputError):
        webcam.camera("sine=duration=1")


class Unplugged:
    """A camera's container that loses its device after a picture, as FFmpeg tells it."""

    closed = False

    def __enter__(self) -> None: ...

    def __exit__(self, *given: object) -> None:
        self.closed = True

    def decode(self, *, video: int) -> Iterator[av.VideoFrame]:
        yield av.VideoFrame.from_image(scene(0))
        raise OSError(19, "No such device")


def test_a_camera_that_is_unplugged_is_told_and_closed() -> None:
    container = Unplugged()
    frames = webcam._pictures(container, "0")  # type: ignore[arg-type]
    assert next(frames)[1]().shape == (300, 480, 3)
    with refused(InputError, "'0'", "No such device"):
        next(frames)
    assert container.closed


def test_a_system_that_cannot_list_its_cameras_has_none() -> None:
    assert webcam._devices("no such system") == []


class Device:
    def __init__(self, name: str, description: str, kinds: list[str]) -> None:
        self.name, self.description, self.media_types = name, description, kinds


def test_cameras_are_found_by_number_name_and_part_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [
        Device("mic", "Microphone", ["audio"]),
        Device("0", "FaceTime HD", ["video"]),
        Device("1", "Logitech C920", ["video"]),
    ]
    monkeypatch.setattr("av.device.enumerate_input_devices", lambda system: devices)
    assert webcam._address("avfoundation", "0") == "0"
    assert webcam._address("avfoundation", "logitech") == "1"
    assert webcam._address("dshow", "1") == "video=1"
    assert webcam._address("dshow", "facetime") == "video=0"
    with refused(InputError, "'2'", "'FaceTime HD', 'Logitech C920'"):
        webcam._address("dshow", "2")
    with refused(InputError, "/dev/video97"):
        webcam._address("v4l2", "97")
    assert webcam._address("v4l2", "/dev/null") == "/dev/null"


def test_a_system_without_cameras_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    with refused(InputError, "plan9"):
        webcam.camera()


def test_a_camera_that_may_not_be_used_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(av, "open", refuse)
    with refused(InputError, "'0'", "permission"):
        webcam._open("/dev/video0", "v4l2", "0")


# The command


def mien(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
    known = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    return subprocess.Popen(
        [sys.executable, "-m", "mien", "webcam", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=known | variables,
    )


def test_headless_prints_a_prediction_a_line(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["webcam", "--camera", str(clip), "--headless", "--seconds", "1", "--look", "320"]) == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert lines
    for line in lines:
        assert line["time"] < 1.5
        assert line["frame"] < 20
        assert line["source"] == "clip.mp4"
        assert [face["track"] for face in line["faces"]] == [1]
        for score in line["faces"][0]["scores"].values():
            assert score == float(f"{score:.6g}")
    assert has_line(captured.err, 20)


def test_what_the_model_cannot_do_is_found_before_the_camera_opens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for wrong, named in (("--prior", "happ=1"), ("--group", "a=happ"), ("--head", "nope")):
        assert cli.run(["webcam", "--camera", "absent.mp4", wrong, named]) == 2
        said = capsys.readouterr().err
        assert named.removeprefix("a=").removesuffix("=1") in said
        assert "absent" not in said


@pytest.mark.parametrize("spoken", ["ascii", "utf-8:strict"])
def test_lines_are_json_whatever_the_terminal_speaks(clip: Path, spoken: str, tmp_path: Path) -> None:
    named = tmp_path / "😀\udcff.mp4"
    try:
        named.symlink_to(clip)
    except (OSError, UnicodeError):
        pytest.skip("this system knows no such name")
    options = ("--headless", "--seconds", "0.2", "--look", "64")
    out, err = mien("--camera", str(named), *options, PYTHONIOENCODING=spoken).communicate(timeout=100)
    assert json.loads(out.splitlines()[0])["source"] == named.name
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_cleanly(clip: Path, number: int, code: int, tmp_path: Path) -> None:
    longer = tmp_path / "long.mp4"
    with av.open(str(longer), "w") as out:
        stream: Any = out.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(300):
            out.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 64)))))
        out.mux(stream.encode())
    running = mien("--camera", str(longer), "--headless")
    assert running.stdout is not None
    first = running.stdout.readline()
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == code
    assert json.loads(first)["frame"] == 0
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_without_a_display_it_prints_lines_and_says_so(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert cli.run(["webcam", "--camera", str(clip), "--seconds", "0.2"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[0])["frame"] == 0
    assert "display" in captured.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--headless", "--json"], "--headless"),
        (["--seconds", "0"], "--seconds"),
        (["--smoothing", "-1"], "--smoothing"),
        (["--smoothing", "inf"], "--smoothing"),
        (["--max-gap", "nan"], "--max-gap"),
        (["--seconds", "inf"], "--seconds"),
        (["--look", "10"], "--look"),
        (["--min-confidence", "2"], "--min-confidence"),
        (["--camera", "nowhere.mp4"], "'nowhere.mp4'"),
        (["--camera", "97"], "97"),
        (["--camera", "no such camera"], "'no such camera'"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["webcam", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_pictures_end_after_so_many_seconds() -> None:
    frames = [(number / 10, plain(number)) for number in range(50)]
    assert len(list(webcam.limit(frames, 2.0))) == 20
    endless = ((None, plain(0)) for _ in iter(int, 1))
    begin = time.monotonic()
    assert list(webcam.limit(endless, 0.05))
    assert time.monotonic() - begin >= 0.05


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    monkeypatch.setitem(sys.modules, "av", None)
    with refused(MissingExtra, "mien[video]"):
        importlib.reload(webcam)


# The window


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A display that nobody sees."""
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("Xvfb is not installed")
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [server, "-displayfd", str(writer), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        pass_fds=(writer,),
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], 60)
        assert ready
        yield f":{os.read(reader, 16).decode().strip()}"
    finally:
        os.close(reader)
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def window(display: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> webcam.Window:
    monkeypatch.setenv("DISPLAY", display)
    return webcam.Window("test", folder=tmp_path / "saved")


def drive(window: webcam.Window, key: str, when: Callable[[], object], until: Callable[[], object]) -> None:
    """Press a key once `when` holds, again until `until` does: keys before a window has focus are lost."""
    pressed, end = 0.0, time.monotonic() + 120

    def act() -> None:
        nonlocal pressed
        assert time.monotonic() < end, f"{key} did nothing"
        if until():
            return
        if when() and time.monotonic() - pressed > 0.4:
            window._root.focus_force()
            window._root.update_idletasks()
            window._root.event_generate(key)
            pressed = time.monotonic()
        window._root.after(20, act)

    window._root.after(20, act)


def never() -> bool:
    return False


def standing() -> Iterator[tuple[None, Callable[[], Pixels]]]:
    """A camera before which somebody sits still."""
    picture = np.asarray(scene(100))
    while True:
        time.sleep(0.02)
        yield None, lambda: picture


def test_the_window_shows_faces_saves_and_closes(
    window: webcam.Window, predictor: Predictor, tmp_path: Path
) -> None:
    seen: list[webcam.Look] = []
    said: list[str] = []
    folder = tmp_path / "saved"

    def shown() -> bool:
        if len(said) < 1 and len(seen) >= 3:
            said.append(window._status.cget("text"))
        return bool(said)

    def saved_two() -> bool:
        done = folder.is_dir() and len(list(folder.glob("mien-*.png"))) >= 2
        if done and len(said) < 2:
            said.append(window._said)
        return done

    drive(window, "s", shown, saved_two)
    drive(window, "<Escape>", lambda: len(said) == 2, never)
    with Live(standing(), predictor) as live:
        window.run(live, on_look=seen.append)
    assert not live._thread.is_alive()
    assert re.search(r"\b1 face\b", said[0])
    saved = sorted(folder.iterdir())
    assert len(saved) >= 2
    assert "mien-" in said[1]
    picture = images.read(saved[0])
    assert picture.shape == (300, 480, 3)
    box = seen[0].people[0].face.box
    changed = (picture != np.asarray(scene(100))).any(axis=-1)
    assert changed[box.top : box.top + box.height, box.left].mean() > 0.9
    assert not changed[-40:].any()


def test_the_picture_fills_the_window_and_keeps_its_shape(
    window: webcam.Window, predictor: Predictor
) -> None:
    sizes: list[tuple[int, int]] = []

    def resized() -> bool:
        photo = window._photo
        size = (photo.width(), photo.height()) if photo is not None else None
        if size is not None and not sizes:
            sizes.append(size)
            window._root.geometry("700x560")
        elif size is not None and size[0] == 700:
            sizes.append(size)
        return len(sizes) > 1

    drive(window, "q", resized, never)
    with Live(standing(), predictor) as live:
        window.run(live)
    assert sizes[0] == (480, 300)
    assert sizes[1][0] == 700
    assert sizes[1][1] == pytest.approx(437.5, abs=1)


def test_the_window_closes_when_the_pictures_end(window: webcam.Window) -> None:
    with Live([(None, plain(3))], Nobody(lambda: None)) as live:  # type: ignore[arg-type]
        window.run(live)
    assert live.looked == 1


def test_faults_and_interrupts_come_out_of_the_window(display: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", display)

    def fail() -> None:
        raise ValueError("a fault")

    window = webcam.Window()
    with Live(standing(), Nobody(fail)) as live, pytest.raises(ValueError, match="a fault"):  # type: ignore[arg-type]
        window.run(live)

    def interrupt() -> None:
        raise KeyboardInterrupt

    window = webcam.Window()
    window._root.after(50, interrupt)
    with Live(standing(), Nobody(lambda: None)) as live, pytest.raises(KeyboardInterrupt):  # type: ignore[arg-type]
        window.run(live)


def test_a_picture_that_cannot_be_saved_is_told_in_the_window(
    display: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    (tmp_path / "file").write_text("")
    window = webcam.Window(folder=tmp_path / "file")
    window._save()
    said: list[str] = []

    def told() -> bool:
        if window._said:
            said.append(window._said)
        return bool(said)

    drive(window, "s", lambda: window._marked is not None, told)
    drive(window, "q", lambda: said, never)
    with Live(standing(), Nobody(lambda: None)) as live:  # type: ignore[arg-type]
        window.run(live)
    assert str(tmp_path / "file") in said[0]


def test_the_command_opens_a_window_and_sums_up(
    clip: Path, display: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    assert cli.run(["webcam", "--camera", str(clip), "--mirror", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["frames"] == 30
    assert 1 <= document["analyzed"] <= 30
    assert document["people"] == 1
    assert document["problem"] is None
    assert 0 < document["latency"] <= document["latency_95"]


def test_json_needs_the_window_it_sums_up(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert cli.run(["webcam", "--camera", str(clip), "--json"]) == 2
    assert "--headless" in capsys.readouterr().err


def test_a_python_without_tk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with refused(InputError, "python3-tk"):
        webcam.Window()


def test_faces_below_min_confidence_are_left_out(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["webcam", "--camera", str(clip), "--headless", "--seconds", "0.3", "--min-confidence"]
    for least, seen in (("0", True), ("1", False)):
        assert cli.run([*arguments, least]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert any(line["faces"] for line in lines) is seen
