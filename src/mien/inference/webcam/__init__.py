"""A camera in, faces with emotions out, as they happen.

    with webcam.Live(webcam.camera("0"), predict.Predictor()) as live:
        for look in live:
            print(look.time, [(person.track, person.emotion) for person in look.people], look.latency)

The newest picture wins: while one is looked at, the camera goes on, and of what it gave meanwhile only the
last picture is looked at next. So an answer is never older than one look, however slow looking is.
"""

from mien.errors import MissingExtra

try:
    # The camera needs it, and here alone its absence is told.
    import av  # noqa: F401
except ImportError as error:
    raise MissingExtra("webcam", "video") from error

from mien.inference.webcam.capture import Frames, camera, play
from mien.inference.webcam.live import Live, Look, Slot
from mien.inference.webcam.window import Window

__all__ = ["Frames", "Live", "Look", "Slot", "Window", "camera", "play"]
