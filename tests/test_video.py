"""Made clips: true times, people who keep their numbers, damaged files, nothing done twice."""

import contextlib
import csv
import gc
import importlib
import importlib.util
import inspect
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet
from skimage import data

from builders import has_line, refused
from mien import _files, _tables, cli
from mien.cli import inference
from mien.errors import DataError, InputError, MissingExtra, OutputError, VideoError
from mien.inference import video
from mien.inference.predictor import Predictor
from mien.inference.video_files import Clip, Film
from mien.types import Box, Face
from mien.vision.tracking import Tracked

Pixels = NDArray[np.uint8]
WIDE, HIGH = 320, 180


def background() -> Image.Image:
    """A soft pattern that holds no face."""
    random = np.random.default_rng(3)
    coarse = random.integers(70, 180, (5, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((WIDE, HIGH), Image.Resampling.BICUBIC)


BACKGROUND = background()
HEAD = Image.fromarray(data.astronaut()).crop((150, 0, 310, 200)).resize((80, 100), Image.Resampling.LANCZOS)


def scene(*middles: tuple[int, int]) -> Pixels:
    """The astronaut's head at each place, the later ones in front."""
    picture = BACKGROUND.copy()
    for x, y in middles:
        picture.paste(HEAD, (x - 40, y - 50))
    return np.asarray(picture)


def make(
    path: Path,
    pictures: Sequence[Pixels],
    *,
    times: Sequence[int] | None = None,
    turned: int = 0,
    sound: str | None = None,
    codec: str = "libx264",
) -> Path:
    """A video file of `pictures`, shown at `times` in milliseconds; 25 a second where none are given."""
    stamps = times if times is not None else [40 * number for number in range(len(pictures))]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options={"crf": "12", "preset": "ultrafast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if turned:
            stream.set_display_rotation(turned)
        tone: Any = out.add_stream(sound, rate=16000) if sound else None
        for pixels, stamp in zip(pictures, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if tone is not None:
            length = 16 * (stamps[-1] + 40)
            wave = (8000 * np.sin(np.arange(length) * 440 * 2 * np.pi / 16000)).astype(np.int16)[None]
            for start in range(0, length, 1024):
                piece = av.AudioFrame.from_ndarray(wave[:, start : start + 1024], format="s16", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 16000, start, Fraction(1, 16000)
                out.mux(tone.encode(piece))
            out.mux(tone.encode())
    return path


def plain(count: int) -> list[Pixels]:
    """Pictures without a face that can be told apart: the whole picture brightens."""
    return [np.full((36, 64, 3), 40 + 4 * number, np.uint8) for number in range(count)]


def decoded(path: Path) -> list[video.Picture]:
    """Every picture of a file, with the times it has."""
    with Clip(path) as clip:
        return list(clip.pictures())


def damage(path: Path) -> tuple[int, list[str]]:
    """How many pictures of a file can be decoded, and what is told of the others."""
    with Clip(path) as clip:
        return len(list(clip.pictures())), clip.problems


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return video.make_predictor(look=320)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def crossing(folder: Path) -> Path:
    """Two who pass each other, one of them hidden for a moment; 25, then 12.5 frames a second; sound."""
    times = [40 * number for number in range(20)] + [800 + 80 * number for number in range(10)]
    pictures = [scene((60 + time // 8, 92), (260 - time // 8, 88)) for time in times]
    return make(folder / "crossing.mp4", pictures, times=times, sound="aac")


# Files


def test_times_are_the_files_own_at_any_spacing_and_start(tmp_path: Path) -> None:
    times = [500, 533, 600, 650, 683, 1750, 1800]
    for ending in (".mp4", ".mkv", ".mov", ".webm"):
        codec = "libvpx-vp9" if ending == ".webm" else "libx264"
        clip = make(tmp_path / f"uneven{ending}", plain(7), times=times, codec=codec)
        frames = decoded(clip)
        assert [round(1000 * frame.time) for frame in frames] == times
        assert [frame.number for frame in frames] == list(range(7))


@pytest.mark.parametrize("turned", [0, 90, 180, -90])
def test_pictures_stand_upright(tmp_path: Path, turned: int) -> None:
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:24, :32], upright[24:, 32:] = (250, 0, 0), (0, 250, 0)
    stored = np.rot90(upright, -turned // 90)
    (frame, *_) = decoded(make(tmp_path / "turned.mp4", [stored] * 3, turned=turned))
    assert frame.size == (64, 48)
    pixels = frame.pixels()
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels[4:20, 4:28].astype(int) - [250, 0, 0]).max() < 12
    assert np.abs(pixels[28:44, 36:60].astype(int) - [0, 250, 0]).max() < 12
    assert pixels[4:20, 36:60].max() < 12


def test_mirrored_pictures_are_mirrored_back() -> None:
    from mien.inference import video_files

    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    one = 65536
    assert (video_files._upright(image, (-one, 0, 0, one)) == image[:, ::-1]).all()
    assert (video_files._upright(image, (one, 0, 0, -one)) == image[::-1]).all()
    assert (video_files._upright(image, (0, one, one, 0)) == image.swapaxes(0, 1)).all()
    assert (video_files._upright(image, (0, -one, one, 0)) == np.rot90(image)).all()


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    (frame,) = decoded(path)
    assert frame.size == (85, 48)
    assert frame.pixels().shape == (48, 85, 3)


def test_bare_streams_without_timestamps_go_by_their_rate(tmp_path: Path) -> None:
    frames = decoded(make(tmp_path / "bare.h264", plain(10)))
    assert [frame.number for frame in frames] == list(range(10))
    gaps = np.diff([frame.time for frame in frames])
    assert gaps == pytest.approx(np.full(9, 0.04), abs=1e-3)


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_file_that_was_cut_off_gives_what_it_holds_and_says_so(tmp_path: Path, ending: str) -> None:
    random = np.random.default_rng(0)
    noisy = [random.integers(0, 255, (36, 64, 3), dtype=np.uint8) for _ in range(50)]
    whole = make(tmp_path / f"whole{ending}", noisy)
    if ending == ".mp4":  # the index, without which nothing can be read, comes first as it does on the web
        with av.open(str(whole)) as source:
            moved = tmp_path / "first.mp4"
            with av.open(str(moved), "w", options={"movflags": "faststart"}) as out:
                stream = out.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(source.streams.video[0]):
                    if packet.dts is not None:
                        packet.stream = stream
                        out.mux(packet)
        whole = moved
    cut = tmp_path / f"cut{ending}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert damage(whole) == (50, [])
    count, problems = damage(cut)
    assert 20 <= count < 40
    assert problems


def test_damage_in_the_middle_costs_some_frames_and_is_told(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noisy = [random.integers(0, 255, (36, 64, 3), dtype=np.uint8) for _ in range(50)]
    path = make(tmp_path / "damaged.mkv", noisy, codec="mpeg4")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = random.bytes(3000)
    path.write_bytes(content)
    count, problems = damage(path)
    assert 20 < count <= 50
    assert problems


def test_what_is_no_video_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    Image.new("RGB", (64, 48)).save(tmp_path / "photo.jpg")
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as out:
        tone: Any = out.add_stream("pcm_s16le", rate=16000)
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        piece.sample_rate = 16000
        out.mux(tone.encode(piece))
    for name in ("empty.mp4", "text.mp4", "list.m3u8", "photo.jpg", "sound.wav", "missing.mp4", "folder.mp4"):
        with refused(VideoError, name):
            video.track(tmp_path / name)


def mutated(tmp_path: Path, count: int) -> int:
    """Read that many damaged files; how many of them still gave a picture."""
    random = np.random.default_rng(7)
    pictures = [random.integers(0, 255, (36, 64, 3), dtype=np.uint8) for _ in range(8)]
    codecs = {".mp4": "libx264", ".mkv": "mpeg4", ".avi": "mpeg4", ".ts": "libx264", ".webm": "libvpx-vp9"}
    whole = [make(tmp_path / f"whole{ending}", pictures, codec=codecs[ending]) for ending in codecs]
    read = 0
    for number in range(count):
        source = whole[number % len(whole)]
        content = bytearray(source.read_bytes())
        for _ in range(int(random.integers(1, 12))):
            place = int(random.integers(0, len(content)))
            content[place : place + int(random.integers(1, 9))] = random.bytes(int(random.integers(0, 9)))
        path = tmp_path / f"mutated{source.suffix}"
        path.write_bytes(content[: int(random.integers(1, len(content))) if number % 3 == 0 else None])
        with contextlib.suppress(VideoError), Clip(path) as clip:
            for picture in clip.pictures():
                assert picture.pixels().shape == (*picture.size[::-1], 3)
                read += picture.number == 0
    return read


def test_mutated_files_give_pictures_or_one_sentence(tmp_path: Path) -> None:
    assert mutated(tmp_path, 100) > 30


@pytest.mark.slow
def test_many_mutated_files_give_pictures_or_one_sentence(tmp_path: Path) -> None:
    assert mutated(tmp_path, 10_000) > 3000


def test_a_file_of_which_nothing_can_be_decoded_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "gone.mkv", plain(10), codec="mpeg4")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as source:
        places = [(p.pos, p.size) for p in source.demux(video=0) if p.size]
    for place, size in places:
        content[place + 5 : place + size] = bytes(size - 5)
    path.write_bytes(content)
    with refused(VideoError, "gone.mkv"):
        decoded(path)


def test_pictures_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "small.mp4", plain(2))
    monkeypatch.setattr("mien.vision.images.MAX_PIXELS", 64 * 36 - 1)
    with refused(VideoError, 64, 36):
        video.track(path)


def test_pictures_are_let_go_as_they_are_read(crossing: Path) -> None:
    """Without waiting for the collector, or an hour of video would fill the memory between its runs."""
    gc.collect()
    gc.disable()
    try:
        with Clip(crossing) as clip:
            for picture in clip.pictures():
                picture.pixels()
            del picture
            kept = sum(isinstance(each, av.VideoFrame) for each in gc.get_objects())
    finally:
        gc.enable()
    assert kept <= 2  # the first of each rotation


# Choosing frames


def looked(path: Path, **options: Any) -> list[int]:
    with video.track(path, **options) as reading:
        return [frame.number for frame in reading]


def test_every_and_rate_choose_frames_by_number_and_by_time(tmp_path: Path, predictor: Predictor) -> None:
    even = make(tmp_path / "even.mp4", plain(20))
    assert looked(even, predictor=predictor) == list(range(20))
    assert looked(even, predictor=predictor, every=7) == [0, 7, 14]
    assert looked(even, predictor=predictor, rate=5) == [0, 5, 10, 15]
    assert looked(even, predictor=predictor, rate=1000) == list(range(20))
    times = [100, 110, 120, 400, 610, 620, 1150, 1300]
    uneven = make(tmp_path / "uneven.mp4", plain(8), times=times)
    assert looked(uneven, predictor=predictor, rate=5) == [0, 3, 4, 6, 7]
    with video.track(even, predictor=predictor, every=7, between=True) as reading:
        frames = list(reading)
    assert [frame.number for frame in frames if frame.analyzed] == [0, 7, 14]
    assert len(frames) == 20


@pytest.mark.parametrize(
    "options",
    [{"every": 0}, {"rate": 0.0}, {"rate": float("nan")}, {"every": 2, "rate": 5.0}, {"max_gap": -1.0}],
)
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        video.track(tmp_path / "none.mp4", **options)
    with refused(InputError, "look", 10):
        video.make_predictor(look=10)


# People


def test_two_who_cross_keep_their_numbers_in_a_clip(crossing: Path, predictor: Predictor) -> None:
    with video.track(crossing, predictor=predictor) as reading:
        frames = list(reading)
    assert reading.problems == []
    places: dict[int, list[tuple[float, int]]] = {}
    for frame in frames:
        for person in frame.people:
            box = person.face.box
            places.setdefault(person.track, []).append((frame.time, box.left + box.width // 2))
    assert set(places) == {1, 2}
    courses = sorted((course[0][1], course[-1][1], len(course)) for course in places.values())
    assert courses[0][0] < 100 < 220 < courses[0][1]
    assert courses[1][1] < 100 < 220 < courses[1][0]
    hidden = [frame for frame in frames if len(frame.people) == 1]
    assert hidden
    assert all(len(frame.lost) == 1 for frame in hidden)


def test_boxes_lie_on_the_faces_at_full_size_though_the_search_is_smaller(
    tmp_path: Path, predictor: Predictor
) -> None:
    clip = make(tmp_path / "one.mp4", [scene((150, 90))] * 3)
    large = video.make_predictor(look=640)
    with (
        video.track(clip, predictor=video.make_predictor(look=200)) as small,
        video.track(clip, predictor=large) as full,
    ):
        for one, other in zip(small, full, strict=True):
            (a,), (b,) = one.people, other.people
            assert abs(a.face.box.left - b.face.box.left) <= 4
            assert abs(a.face.box.width - b.face.box.width) <= 6


def test_a_video_without_a_face_has_frames_and_no_people(tmp_path: Path, predictor: Predictor) -> None:
    clip = make(tmp_path / "empty.mp4", [scene()] * 4)
    with video.track(clip, predictor=predictor) as reading:
        assert [frame.people for frame in reading] == [()] * 4


def person(track: int, emotion: str, confidence: float = 0.9, *, uncertain: bool = False) -> Tracked:
    scores = dict.fromkeys(("angry", "happy", "sad"), (1 - confidence) / 2) | {emotion: confidence}
    return Tracked(track, Face(Box(0, 0, 10, 10), 0.9, scores), scores, uncertain)


def test_people_are_summed_up_by_time_and_not_by_frames() -> None:
    people = video.People()
    people.add(0.0, [person(1, "happy")])
    people.add(0.5, [person(1, "happy", 0.7), person(2, "sad")])
    people.add(2.0, [])
    people.add(3.0, [person(1, "angry")])
    people.add(3.1, [person(1, "angry")])
    one, two = people.end(4.0)
    assert (one.track, one.frames, one.first, one.last, one.changes) == (1, 4, 0.0, 4.0, 1)
    assert one.emotions == pytest.approx({"happy": 2.0, "angry": 1.0})
    assert list(one.emotions) == ["happy", "angry"]
    assert one.seconds == pytest.approx(3.0)
    assert one.confidence == pytest.approx((0.9 + 0.7 + 0.9 + 0.9) / 4)
    assert [(span.begin, span.end, span.emotion) for span in one.spans] == [(0, 2, "happy"), (3, 4, "angry")]
    assert (two.seconds, two.frames, two.changes) == (1.5, 1, 0)
    assert json.loads(json.dumps(one.to_dict()))["emotions"] == {"happy": 2.0, "angry": 1.0}
    assert video.People().end(1.0) == ()


def test_uncertain_stretches_of_a_person_are_kept_apart() -> None:
    people = video.People()
    for second, uncertain in ((0.0, False), (1.0, True), (2.0, True), (3.0, False)):
        people.add(second, [person(1, "happy", 0.6, uncertain=uncertain)])
    (one,) = people.end(4.0)
    assert [(span.begin, span.end, span.uncertain) for span in one.spans] == [
        (0.0, 1.0, False),
        (1.0, 3.0, True),
        (3.0, 4.0, False),
    ]
    assert (one.changes, one.emotions) == (0, {"happy": 4.0})
    assert [span["uncertain"] for span in one.to_dict()["spans"]] == [False, True, False]


# Writing


def test_a_film_has_the_times_the_length_and_the_sound_of_its_clip(crossing: Path, tmp_path: Path) -> None:
    for ending in (".mp4", ".mkv"):
        to = tmp_path / f"copy{ending}"
        with Clip(crossing) as clip, Film(to, clip) as film:
            for picture in clip.pictures(on_packet=film.copy):
                film.add(picture.pts, picture.pixels())
            assert not to.exists()
            film.keep()
        assert [each.name for each in tmp_path.iterdir() if "partial" in each.name] == []
        before, after = decoded(crossing), decoded(to)
        assert [frame.time for frame in after] == pytest.approx([f.time for f in before], abs=1e-3)
        assert sound_of(to) == sound_of(crossing)[ending == ".mkv" :]
        with av.open(str(to)) as one, av.open(str(crossing)) as other:
            assert one.duration == pytest.approx(other.duration, abs=60_000)
        for one, other in itertools.islice(zip(before, after, strict=True), 0, 30, 9):
            assert np.abs(one.pixels().astype(int) - other.pixels()).mean() < 4


def sound_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.size]


def test_odd_sizes_and_times_that_stand_still_are_written_too(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", plain(4))
    with Clip(clip) as source, Film(tmp_path / "odd.mp4", source) as film:
        unit = source.stream.time_base
        for stamp in (0, 0, 100, 50):
            film.add(int(Fraction(stamp, 1000) / unit), np.full((35, 63, 3), 90, np.uint8))
        film.keep()
    frames = decoded(tmp_path / "odd.mp4")
    assert frames[0].size == (64, 36)
    assert len(frames) == 4


def test_films_that_cannot_be_written_are_refused(tmp_path: Path, crossing: Path) -> None:
    with Clip(crossing) as clip:
        with refused(VideoError, "film.txt", ".mp4"):
            Film(tmp_path / "film.txt", clip)
        with (
            Film(tmp_path / "film.webm", clip) as film,
            refused(VideoError, "aac", ".mkv"),
        ):
            film.add(0, scene())
        (tmp_path / "file").write_text("")
        with Film(tmp_path / "file" / "film.mp4", clip) as film, pytest.raises(InputError):
            film.add(0, scene())
        with Film(tmp_path / "none.mp4", clip) as film:
            film.keep()
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_hidden_faces_leave_nothing_to_recognise_and_the_rest_as_it_is() -> None:
    pixels = scene((150, 90))
    box = Box(120, 50, 60, 80)
    hidden = video.hide(pixels, [box, Box(310, 170, 10, 10)])
    inside = np.s_[50:130, 120:180]
    assert (pixels == scene((150, 90))).all()
    assert (hidden[:, :100] == pixels[:, :100]).all()
    grey = hidden[inside].astype(float).mean(axis=2)
    before = pixels[inside].astype(float).mean(axis=2)
    edges = [np.abs(np.diff(image, axis=0)).mean() for image in (grey, before)]
    assert edges[0] < 0.4 * edges[1]
    assert not video.make_predictor(look=320).image(hidden).faces


# Resuming


def faces_of(frames: Sequence[video.Frame]) -> list[tuple[int, tuple[Tracked, ...]]]:
    return [(frame.number, frame.people) for frame in frames]


def test_a_stopped_reading_goes_on_and_gives_what_an_unbroken_one_gives(
    crossing: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = video.fingerprint(crossing)
    with video.track(crossing, predictor=predictor) as reading:
        unbroken = faces_of(list(reading))
    path = tmp_path / "journal"
    with (
        video.open_log(path, facts, resume=True) as log,
        video.track(crossing, predictor=predictor, log=log) as reading,
    ):
        list(itertools.islice(reading, 17))
    path.write_bytes(path.read_bytes()[:-5])  # as a kill in the middle of a line leaves it
    asked: list[str] = []
    image = predictor.image
    monkeypatch.setattr(Predictor, "image", lambda self, *a, **k: asked.append(k["name"]) or image(*a, **k))
    with (
        video.open_log(path, facts, resume=True) as log,
        video.track(crossing, predictor=predictor, log=log) as reading,
    ):
        assert log.known == 16
        assert faces_of(list(reading)) == unbroken
        log.delete()
    assert asked == [f"crossing.mp4:{number}" for number in range(16, 30)]
    assert not path.exists()


def test_a_log_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with video.open_log(path, {"bytes": 1}, resume=False) as log:
        log.add({"frame": 0, "faces": []})
    with refused(InputError, "--bytes"):
        video.open_log(path, {"bytes": 2}, resume=True)
    with video.open_log(path, {"bytes": 1}, resume=True) as log:
        assert log.known == 1
        log.add({"frame": 1, "faces": []})
    with video.open_log(path, {"bytes": 1}, resume=True) as log:
        assert log.known == 2
        assert log.take() == (0, ())
        assert [log.take(), log.take()] == [(1, ()), None]
    with video.open_log(path, {"bytes": 2}, resume=False) as log:
        assert log.known == 0
        assert log.take() is None
    assert not path.exists()
    path.write_bytes(b'{"by')
    with video.open_log(path, {"bytes": 1}, resume=True) as log:
        assert log.known == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        video.open_log(tmp_path / "file" / "log", {}, resume=False)


def test_a_log_that_does_not_fit_the_frames_is_refused(
    crossing: Path, predictor: Predictor, tmp_path: Path
) -> None:
    with video.open_log(tmp_path / "log", {}, resume=False) as log:
        log.add({"frame": 7, "faces": []})
    with (
        video.open_log(tmp_path / "log", {}, resume=True) as log,
        video.track(crossing, predictor=predictor, log=log) as tracked,
        refused(VideoError),
    ):
        list(tracked)


# Tables


def table(path: Path, labels: Sequence[str]) -> _tables.Table:
    return _tables.Table(path, video.columns(labels), video._TYPES)


def add(to: _tables.Table, frame: video.Frame) -> None:
    for person in frame.people:
        to.add(video.document(frame, person), [video.row(frame, person)])


def test_rows_are_the_same_in_each_format(tmp_path: Path, crossing: Path, predictor: Predictor) -> None:
    labels = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    with contextlib.ExitStack() as stack:
        writers = {
            kind: stack.enter_context(table(tmp_path / "rows" / f"a.{kind}", labels))
            for kind in ("csv", "jsonl", "parquet")
        }
        reading = stack.enter_context(video.track(crossing, predictor=predictor, every=3))
        expected = []
        for frame in reading:
            expected += [video.row(frame, person) for person in frame.people]
            for writer in writers.values():
                add(writer, frame)
        assert all("partial" in each.name for each in (tmp_path / "rows").iterdir())
        for writer in writers.values():
            writer.keep()
    assert sorted(each.name for each in (tmp_path / "rows").iterdir()) == ["a.csv", "a.jsonl", "a.parquet"]
    assert len(expected) > 10
    found = parquet.read_table(tmp_path / "rows" / "a.parquet")
    doubles = [name for name in found.schema.names if str(found.schema.field(name).type) == "double"]
    assert doubles == ["time"]
    assert found.to_pylist() == [
        {
            name: float(np.float32(value)) if isinstance(value, float) and name != "time" else value
            for name, value in each.items()
        }
        for each in expected
    ]
    with (tmp_path / "rows" / "a.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert read == [
        {
            name: f"{value:.6g}" if isinstance(value, float) and value <= 1 else str(value)
            for name, value in each.items()
        }
        for each in expected
    ]
    lines = [json.loads(line) for line in (tmp_path / "rows" / "a.jsonl").read_text().splitlines()]
    for line, each in zip(lines, expected, strict=True):
        assert (line["frame"], line["time"], line["track"]) == (each["frame"], each["time"], each["track"])
        assert line["box"] == {name: each[name] for name in ("left", "top", "width", "height")}
        assert line["scores"] == {name: float(f"{each[name]:.6g}") for name in labels}
        smoothed = {name: float(f"{each[f'smoothed_{name}']:.6g}") for name in labels}
        assert line["smoothed"]["scores"] == smoothed
        assert line["emotion"] == each["emotion"]


def test_parquet_is_written_in_groups(
    tmp_path: Path, crossing: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien._tables._GROUP", 4)
    labels = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    with (
        table(tmp_path / "rows.parquet", labels) as rows,
        video.track(crossing, predictor=predictor, every=5) as reading,
    ):
        count = 0
        for frame in reading:
            add(rows, frame)
            count += len(frame.people)
        rows.keep()
    file = parquet.ParquetFile(tmp_path / "rows.parquet")
    assert file.metadata.num_rows == count
    assert file.metadata.num_row_groups > 1
    file.close()


def test_rows_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with refused(InputError, "rows.xml"):
        table(tmp_path / "rows.xml", ["a"])
    (tmp_path / "file").write_text("")
    for kind in ("csv", "parquet"):
        with refused(OutputError, f"rows.{kind}"):
            table(tmp_path / "file" / f"rows.{kind}", ["a"])
    (tmp_path / "taken.csv").mkdir()
    with table(tmp_path / "taken.csv", ["a"]) as rows, refused(OutputError, "taken"):
        rows.keep()


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with refused(MissingExtra, "mien[parquet]"):
        table(tmp_path / "rows.parquet", ["a"])


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for name in [name for name in sys.modules if name.startswith("mien.inference.video")]:
        monkeypatch.delitem(sys.modules, name)
    with refused(MissingExtra, "mien[video]"):
        importlib.import_module("mien.inference.video")


@pytest.mark.parametrize(
    "words", [["--to", "a.csv"], ["--to", "a.jsonl"], ["--to", "a.parquet"], ["--save", "a.mp4"]]
)
def test_a_full_disk_is_told_in_a_sentence(
    words: list[str], crossing: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        assert command(crossing, *words, "--look", 200) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert words[1] in capsys.readouterr().err
    assert all(each.suffix == ".log" for each in away.iterdir())


# The timeline


def showing(track: int, *spans: tuple[float, float, str]) -> dict[str, Any]:
    """What JSON holds of a person who shows these emotions from when to when."""
    people = video.People()
    for begin, end, emotion in spans:
        people.add(begin, [person(track, emotion)])
        people.add(end, [])
    return people.end(spans[-1][1])[0].to_dict()


def test_a_timeline_is_drawn_whatever_people_show(tmp_path: Path) -> None:
    from mien.reports import plots

    flicker = [(number / 9, (number + 1) / 9, ("happy", "sad", "angry")[number % 3]) for number in range(600)]
    people = [
        showing(1, (0, 20, "happy"), (25, 70, "sad")),
        showing(2, *flicker),
        *(showing(track, (track, track + 3, "angry")) for track in range(3, 18)),
    ]
    first, second = (
        plots.draw_timeline(people, tmp_path / to, name="course", begin=0.0, end=70.0, title="a.mp4")
        for to in "ab"
    )
    assert [path.name for path in first] == ["course.png", "course.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    for length in (0.5, 5000.0):
        assert plots.draw_timeline([], tmp_path / "d", name="none", begin=0.0, end=length)[0].is_file()
    with refused(DataError):
        plots.draw_timeline(people, tmp_path, name="course", begin=1.0, end=1.0)


def test_a_timeline_hatches_uncertain_stretches_and_explains_that(tmp_path: Path) -> None:
    from mien.reports import plots

    def drawn(*, uncertain: bool) -> str:
        people = video.People()
        people.add(0.0, [person(1, "happy")])
        people.add(5.0, [person(1, "happy", 0.4, uncertain=uncertain)])
        course = [each.to_dict() for each in people.end(10.0)]
        _, svg = plots.draw_timeline(course, tmp_path, name=f"course-{uncertain}", begin=0.0, end=10.0)
        return svg.read_text(encoding="utf-8")

    sure, doubted = drawn(uncertain=False), drawn(uncertain=True)
    assert "<pattern" not in sure
    assert "uncertain" not in sure
    assert "<pattern" in doubted
    assert "<!-- uncertain -->" in doubted
    assert "<!-- happy? -->" in doubted


def test_columns_of_a_timeline_take_what_fills_them_most_and_keep_gaps() -> None:
    from mien.reports import plots

    spans = [
        (0.0, 450.0, "happy", False),
        (450.0, 450.2, "sad", False),
        (450.2, 500.0, "happy", False),
        (500.0, 550.0, "happy", True),
        (600.0, 900.0, "sad", False),
    ]
    joined = plots._thin_out(spans, 0.0, 900.0)
    assert joined == [
        (0.0, 500.0, "happy", False),
        (500.0, 550.0, "happy", True),
        (600.0, 900.0, "sad", False),
    ]


# The command


def command(*words: object) -> int:
    return cli.run(["video", *(str(word) for word in words)])


def test_the_command_writes_all_that_is_wanted(
    crossing: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["rows.csv", "rows.jsonl", "rows.parquet", "film.mp4", "course.png"]
    names = ["--to", "--to", "--to", "--save", "--timeline"]
    words = [word for pair in zip(names, files, strict=True) for word in pair]
    assert command(crossing, *words, "--look", 200, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert sorted(each.name for each in away.iterdir()) == sorted([*files, "course.svg"])
    assert sorted(document["files"]) == sorted([*files, "course.svg"])
    assert document["frames"] == document["analyzed"] == 30
    assert [person["track"] for person in document["people"]] == [1, 2]
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == document["faces"] == sum(person["frames"] for person in document["people"])
    for person in document["people"]:
        assert sum(person["emotions"].values()) == pytest.approx(person["seconds"], abs=0.01)
    assert document["end"] == pytest.approx(1.6, abs=0.05)
    assert len(decoded(Path("film.mp4"))) == 30
    assert sound_of(Path("film.mp4")) == sound_of(crossing)
    assert document["problems"] == []


def test_the_command_tells_people_in_a_table(
    crossing: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(crossing, "--look", 320, "--every", 2) == 0
    out = capsys.readouterr().out
    assert "15 of 30 frames analyzed" in out
    assert list(away.iterdir()) == []


def test_the_command_prints_the_rows_it_writes(
    crossing: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (crossing, "--look", 200, "--every", 5)
    for kind in ("csv", "jsonl"):
        assert command(*words, f"--{kind}", "--to", f"rows.{kind}") == 0
        captured = capsys.readouterr()
        assert captured.out == Path(f"rows.{kind}").read_text()
        assert len(captured.out.splitlines()) > 6


def test_a_video_without_a_face_gives_no_rows(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(away / "empty.mp4", [scene()] * 3)
    words = ("--to", "rows.csv", "--look", 320, "--timeline", "course.png")
    assert command("empty.mp4", *words) == 0
    assert has_line(capsys.readouterr().out, "empty.mp4", 3)
    assert len(Path("rows.csv").read_text().splitlines()) == 1


def test_a_broken_video_gives_what_it_holds_and_exits_with_3(
    away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make(away / "whole.mkv", [scene((100 + 4 * number, 90)) for number in range(20)])
    content = whole.read_bytes()
    Path("cut.mkv").write_bytes(content[: len(content) // 2])
    assert command("cut.mkv", "--to", "rows.jsonl", "--look", 320) == 3
    captured = capsys.readouterr()
    assert 2 <= len(Path("rows.jsonl").read_text().splitlines()) < 20
    assert captured.err


def test_a_saved_film_hides_every_face_and_holds_the_last_look_between(crossing: Path, away: Path) -> None:
    assert command(crossing, "--save", "plain.mp4", "--look", 320, "--every", 4) == 0
    assert command(crossing, "--save", "hidden.mp4", "--look", 320, "--blur") == 0
    before, drawn, hidden = (decoded(path) for path in (crossing, Path("plain.mp4"), Path("hidden.mp4")))
    assert len(before) == len(drawn) == len(hidden)
    finder = video.make_predictor(look=320).detector
    assert [len(finder.find(each.pixels(), smallest=20)) for each in hidden[::5]] == [0] * 6
    marked = [
        np.abs(a.pixels().astype(int) - b.pixels()).max() > 100 for a, b in zip(before, drawn, strict=True)
    ]
    assert all(marked)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.mp4"], "none.mp4"),
        (["note.txt"], "note.txt"),
        (["clip.mp4", "--blur"], "--save"),
        (["clip.mp4", "--save", "x.mp4", "--blur", "--every", "2"], "--blur"),
        (["clip.mp4", "--resume"], "--to"),
        (["clip.mp4", "--timeline", "x.gif"], ".png"),
        (["clip.mp4", "--to", "x.csv", "--to", "x.csv"], "--to"),
        (["clip.mp4", "--to", "x.xml"], "x.xml"),
        (["clip.mp4", "--csv", "--jsonl"], "--csv"),
        (["clip.mp4", "--save", "clip.mp4"], "--save"),
        (["clip.mp4", "--save", "x/../clip.mp4"], "--save"),
        (["clip.mp4", "--fps", "inf"], "--fps"),
        (["clip.mp4", "--smoothing", "nan"], "--smoothing"),
        (["clip.mp4", "--fps", "0"], "--fps"),
        (["clip.mp4", "--every", "2", "--fps", "5"], "--fps"),
        (["clip.mp4", "--every", "0"], "--every"),
        (["clip.mp4", "--look", "10"], "--look"),
        (["clip.mp4", "--max-gap", "-1"], "--max-gap"),
        (["clip.mp4", "--min-confidence", "nan"], "--min-confidence"),
        (["clip.mp4", "--detector", "eyes"], "'eyes'"),
        (["clip.mp4", "--model", "none"], "'none'"),
        (["clip.mp4", "--save", "x.txt"], "x.txt"),
    ],
)
def test_bad_input_gives_one_sentence_and_exits_with_2(
    away: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(away / "clip.mp4", plain(2))
    Path("note.txt").write_text("a note")
    assert command(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert sorted(each.name for each in away.iterdir()) == ["clip.mp4", "note.txt"]


def test_after_a_kill_the_command_goes_on_and_gives_the_same_bytes(
    away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [(90 + 2 * number, 90) for number in range(50)]
    make(away / "clip.mp4", [scene(place) for place in places], sound="aac")
    options = ["--look", "200", "--to"]
    assert command("clip.mp4", *options, "whole.csv", "--save", "whole.mp4", "--json") == 0
    unbroken = json.loads(capsys.readouterr().out)
    words = ["clip.mp4", *options, "rows.csv", "--save", "film.mp4", "--resume", "--json"]
    process = subprocess.Popen([sys.executable, "-m", "mien", "video", *words], stderr=subprocess.DEVNULL)
    log = Path(".rows.csv.log")
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 10):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not Path("rows.csv").exists()
    assert command(*words) == 0
    captured = capsys.readouterr()
    assert max(map(int, re.findall(r"\b\d+\b", captured.err))) >= 10, "the frames of the earlier run"
    resumed = json.loads(captured.out)
    assert Path("rows.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert [each.pts for each in decoded(Path("film.mp4"))] == [
        each.pts for each in decoded(Path("whole.mp4"))
    ]
    assert resumed["people"] == unbroken["people"]
    assert sorted(each.name for each in away.iterdir() if not each.name.startswith("whole")) == [
        *("clip.mp4", "film.mp4", "rows.csv")
    ]


def test_what_an_earlier_run_left_is_given_up_only_with_a_word(
    away: Path, crossing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".rows.csv.log").write_text("{}\n")
    assert command(crossing, "--to", "rows.csv", "--look", 320, "--every", 9, "--resume") == 2
    assert "--model" in capsys.readouterr().err
    assert command(crossing, "--to", "rows.csv", "--look", 320, "--every", 9) == 0
    assert "--resume" in capsys.readouterr().err


def test_the_command_has_the_defaults_of_the_function() -> None:
    of_command = inspect.signature(inference.video).parameters
    of_room = inspect.signature(video.track).parameters
    assert of_command["look"].default == video.LOOK
    assert of_command["every"].default == of_room["every"].default
    assert of_command["fps"].default == of_room["rate"].default
    assert of_command["max_gap"].default == of_room["max_gap"].default
    assert of_command["smoothing"].default == of_room["smoothing"].default


@pytest.mark.parametrize(
    "line",
    [
        b'{"x":1}\n',
        b"\0\0\n",
        b'{"frame":1,"faces":[{"box":{}}]}\n',
        b'{"frame":1,"faces":[{"box":{"left":0,"top":0,"width":1,"height":1},'
        b'"detected":1,"scores":{},"flags":[]}]}\n',
    ],
)
def test_a_damaged_log_continues_before_the_damage(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log"
    with video.open_log(path, {}, resume=False) as log:
        log.add({"frame": 0, "faces": []})
    with path.open("ab") as file:
        file.write(line + b'{"frame":2,"faces":[]}\n')
    with video.open_log(path, {}, resume=True) as again:
        assert (again.damaged, again.known) == (True, 1)
        assert (again.take(), again.take()) == ((0, ()), None)


def test_two_runs_do_not_share_a_log(tmp_path: Path) -> None:
    with (
        video.open_log(tmp_path / "log", {}, resume=False),
        refused(InputError, "log"),
    ):
        video.open_log(tmp_path / "log", {}, resume=False)


def test_no_other_run_writes_any_of_the_files(
    crossing: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = _tables.lock(away / ".film.mp4.log")
    try:
        assert command(crossing, "--to", "rows.csv", "--save", "film.mp4", "--every", 9) == 2
    finally:
        _files.let_go(lock)
    assert "film.mp4" in capsys.readouterr().err
    assert not list(away.iterdir())


def test_no_other_name_of_the_video_is_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = make(tmp_path / "clip.mp4", plain(3))
    before = clip.read_bytes()
    Path("deep").mkdir()
    Path("link").symlink_to(".")
    Path("other.mp4").hardlink_to("clip.mp4")
    for name in ("deep/../clip.mp4", "link/clip.mp4", "other.mp4"):
        assert command("clip.mp4", "--save", name) == 2
        assert "--save" in capsys.readouterr().err
    for words in (["--to", "x.csv", "--to", "link/x.csv"], ["--to", "x.csv", "--to", "x.csv"]):
        assert command("clip.mp4", *words) == 2
    assert clip.read_bytes() == before


def test_any_name_is_shown_on_a_strict_terminal(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", plain(3))
    try:
        named = clip.rename(tmp_path / "\udcff.mp4")
    except (OSError, UnicodeError):
        pytest.skip("this system knows no such name")
    words = [sys.executable, "-m", "mien", "video", str(named)]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=strict)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert "\\udcff.mp4" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "missing", "said"),
    [
        (["--timeline", "people.png"], "matplotlib", "--timeline"),
        (["--to", "rows.parquet"], "pyarrow", "mien[parquet]"),
        (["--save", "film.gif"], "none", "film.gif"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_before_the_work(
    arguments: list[str],
    missing: str,
    said: str,
    away: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == missing else real(name, *rest)
    )
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(video, "track", lambda *_, **__: pytest.fail("the work was begun"))
    (away / "film.mp4").write_bytes(b"x")
    assert cli.run(["video", "film.mp4", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_faces_below_min_confidence_are_left_out(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(away / "clip.mp4", [scene((100, 90))] * 2)
    for least, faces in (("0", 2), ("1", 0)):
        assert command("clip.mp4", "--min-confidence", least, "--json") == 0
        assert json.loads(capsys.readouterr().out)["faces"] == faces
