"""The model, the detector and the threads that answer requests.

Photos go to threads, because nearly all of their time is the detector's. Small images that are cropped faces
go to a `Batcher`, and so do the arrays of the Open Inference Protocol. All answers equal those of serial
calls of `mien.Predictor` and `Model.run` bit for bit.
"""

import asyncio
import functools
import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien._tables import rounded
from mien.errors import ImageError
from mien.inference import image_files
from mien.inference.predictor import Predictor
from mien.models.model_files import BATCH_SIZE, Model
from mien.server.batching import Batcher
from mien.server.metrics import Metrics
from mien.server.payloads import Options, Upload, check_image
from mien.server.settings import Settings
from mien.types import Prediction, Problem
from mien.vision import images
from mien.vision.detectors import Detection, Detector, TiledDetector

#: Begin of the names of the threads that compute.
THREADS = "mien-serve"
#: Bytes and pixels up to which an image that is one face goes to the batcher; larger ones would hold up the
#: others.
_SMALL, _SMALL_PIXELS = 1 << 14, 1 << 18
#: Images of one batch, and predictors with other options that are kept.
_BATCH, _KEPT = 64, 32
T = TypeVar("T")
Kind = Literal["PNG", "JPEG"]


#: Whether somebody still waits for what the current thread computes: its `abandoned` is an event.
_thread = threading.local()


class _Abandoned(Exception):
    """Nobody waits for an answer any more."""


def _abandonable(detector: Detector) -> Detector:
    """Return a detector that ends between two parts of a large image if nobody waits for it."""
    if not isinstance(detector, TiledDetector):
        return detector
    detect = detector.detect

    def find(image: NDArray[np.uint8], smallest: float) -> list[Detection]:
        abandoned: threading.Event | None = getattr(_thread, "abandoned", None)
        if abandoned is not None and abandoned.is_set():
            raise _Abandoned
        return detect(image, smallest)

    return replace(detector, detect=find)


class Service:
    """Answers the requests of one server process.

    Args:
        model: A loaded model with one thread for each batch.
        detector: A face detector that threads can share.
        settings: The settings of the server.
        metrics: Where batches are counted.
        processes: Number of processes of the server, which share the cores.
    """

    def __init__(
        self, model: Model, detector: Detector, settings: Settings, metrics: Metrics, *, processes: int = 1
    ) -> None:
        self.model, self.settings = model, settings
        self.detector = _abandonable(detector)
        self.threads = settings.threads_of(processes)
        self._photos = ThreadPoolExecutor(self.threads, THREADS)
        self._crops: Batcher[Upload, Prediction | Problem | None] = Batcher(
            self._predict_crops, f"{THREADS}-crops", most=_BATCH, on_batch=metrics.batches.observe
        )
        self._arrays: Batcher[NDArray[np.uint8], dict[str, NDArray[np.float32]]] = Batcher(
            self._run_arrays, f"{THREADS}-arrays", most=BATCH_SIZE, on_batch=metrics.batches.observe
        )
        self.predictor = functools.lru_cache(_KEPT)(self._predictor)

    def start(self) -> None:
        """Start the threads, and predict one image, so that the first request is not slower than others."""
        self._crops.start()
        self._arrays.start()
        self.predictor(Options()).image(np.zeros((96, 96, 3), np.uint8))

    def close(self) -> None:
        """End the threads, after what they compute now, for which nobody waits any more."""
        self._photos.shutdown(wait=False, cancel_futures=True)
        self._crops.close()
        self._arrays.close()

    def _predictor(self, options: Options) -> Predictor:
        """Return the predictor of a request's options.

        Raises:
            ModelError: The model does not have the head.
            InputError: A number is out of range.
        """
        return Predictor(
            self.model,
            detector=self.detector,
            head=options.head,
            balance=options.balance,
            smallest=options.min_face,
            whole_image=options.whole_image,
        )

    async def predict(self, uploads: Sequence[Upload], options: Options) -> list[Prediction | Problem]:
        """Return the prediction of each image, or a problem if it cannot be read.

        Raises:
            MienError: As `Predictor` raises for the options.
        """
        predictor = self.predictor(options)
        if options.whole_image and all(len(each.content) <= _SMALL for each in uploads):
            found = await self._crops.run(predictor, uploads)
        else:
            found = [None] * len(uploads)
        work = (
            self._in_thread(self._photo, predictor, upload)
            for upload, item in zip(uploads, found, strict=True)
            if item is None
        )
        rest = iter(await asyncio.gather(*work))
        return [next(rest) if item is None else item for item in found]

    async def frame(self, content: bytes, options: Options) -> Prediction | Problem:
        """Return the prediction of one frame of a stream, or a problem if it cannot be read."""
        (found,) = await self.predict([Upload("image", content)], options)
        return found

    async def annotate(self, upload: Upload, options: Options, kind: Kind) -> bytes:
        """Return an image with its faces marked, as the bytes of a file.

        Raises:
            ImageError: The image cannot be read.
        """
        return await self._in_thread(self._marked, self.predictor(options), upload, kind)

    async def run_model(
        self, crops: NDArray[np.uint8], heads: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Return by head the probabilities `(n, labels)` of crops `(n, size, size, 1)`."""
        if len(crops) > BATCH_SIZE:
            return await self._in_thread(functools.partial(self.model.run_heads, heads=heads), crops)
        (found,) = await self._arrays.run(tuple(heads), [crops])
        return found

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        abandoned = threading.Event()

        def work() -> T:
            _thread.abandoned = abandoned
            return function(*arguments)

        try:
            # A future that is cancelled before a thread takes it is never computed.
            return await asyncio.get_running_loop().run_in_executor(self._photos, work)
        finally:
            abandoned.set()

    def _photo(self, predictor: Predictor, upload: Upload) -> Prediction | Problem:
        try:
            check_image(upload.content, self.settings.limits, predictor.smallest)
            return predictor.image(upload.content, name=upload.name)
        except ImageError as error:
            return Problem(upload.name, str(error))
        except MemoryError:
            return Problem(upload.name, "the image needs more memory than there is; shrink it first")

    def _predict_crops(
        self, predictor: Predictor, uploads: list[Upload]
    ) -> list[Prediction | Problem | None]:
        """Return the prediction of each image, or None if it is too large to be computed among others."""
        answers: list[Prediction | Problem | None] = [None] * len(uploads)
        taken = []
        for number, upload in enumerate(uploads):
            try:
                if check_image(upload.content, self.settings.limits) <= _SMALL_PIXELS:
                    taken.append(number)
            except ImageError as error:
                answers[number] = Problem(upload.name, str(error))
        found = predictor.images(uploads[number].content for number in taken)
        for number, item in zip(taken, found, strict=True):
            answers[number] = replace(item, source=uploads[number].name)
        return answers

    def _run_arrays(
        self, heads: tuple[str, ...], crops: list[NDArray[np.uint8]]
    ) -> list[dict[str, NDArray[np.float32]]]:
        answers = self.model.run_heads(np.concatenate(crops), heads=heads)
        ends = np.cumsum([len(each) for each in crops])[:-1]
        parts = zip(*(np.split(found, ends) for found in answers.values()), strict=True)
        return [dict(zip(answers, part, strict=True)) for part in parts]

    def _marked(self, predictor: Predictor, upload: Upload, kind: Kind) -> bytes:
        check_image(upload.content, self.settings.limits, predictor.smallest)
        found = predictor.image(upload.content, name=upload.name)
        marked = image_files.mark(images.picture(upload.content), found)
        file = io.BytesIO()
        if kind == "JPEG":
            Image.fromarray(marked).save(file, kind, quality=image_files.QUALITY)
        else:
            Image.fromarray(marked).save(file, kind, compress_level=1)
        return file.getvalue()


def document(item: Prediction | Problem) -> dict[str, Any]:
    """Return a prediction as `mien predict --json` prints it."""
    found: dict[str, Any] = rounded(item.to_dict())
    return found
