"""A window with the picture, the faces in it and what they show; Tk and Pillow, nothing else."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from mien import _files
from mien.errors import InputError
from mien.inference.webcam.live import Live, Look, Slot
from mien.vision import annotation

if TYPE_CHECKING:
    from types import TracebackType

_GROUND, _INK, _FAINT = "#1c1c1e", "#f2f2f2", "#a5a5aa"
_POLL = 8  # milliseconds between two glances at whether there is something new to show
_SPAN = 1.0  # seconds over which shown pictures are counted
# Tcl aborts the program when an interpreter of its is deleted by another thread than its own, as Python's
# collector of cycles may; so those of closed windows are kept.
_KEPT: list[Any] = []
_LARGEST = 0.9  # share of the screen that the window takes at first, at most


class Window:
    """A window that shows what a `Live` sees. q and Esc close it, s saves what it shows.

    Args:
        title: Its title.
        folder: Where s saves to.

    Raises:
        InputError: There is no display, or this Python has no Tk.
    """

    def __init__(self, title: str = "mien", *, folder: str | os.PathLike[str] = ".") -> None:
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError:
            raise InputError("a window needs Tk, which this Python lacks; install python3-tk") from None
        try:
            root = tkinter.Tk(className="mien")
        except tkinter.TclError:
            raise InputError("a window needs a display, and there is none") from None
        _KEPT.append(root)
        self.folder, self._root, self._photos = Path(folder), root, ImageTk
        self._shown: Look | None = None
        self._marked: Image.Image | None = None
        self._places = annotation.Places()
        self._photo: Any = None
        self._said, self._said_until = "", 0.0
        self._times: deque[float] = deque()
        self._latency = 0.0
        self._fault: BaseException | None = None
        self._build(tkinter, title)

    def run(self, live: Live, *, on_look: Callable[[Look], None] | None = None) -> None:
        """Show what is seen until the pictures end or the window is closed.

        Args:
            live: Entered by the caller, and stopped here when the window closes.
            on_look: Called with everything that is seen, in another thread.
        """
        looks: Slot[Look] = Slot()

        def work() -> None:
            try:
                for look in live:
                    if on_look is not None:
                        on_look(look)
                    looks.put(look)
            except BaseException as error:  # raised again in the thread of the window
                self._fault = error
            finally:
                looks.close()

        worker = threading.Thread(target=work, name="mien-look", daemon=True)
        worker.start()
        self._root.after(_POLL, self._poll, looks)
        try:
            self._root.mainloop()
        finally:
            live.stop()
            worker.join(timeout=5)
            self._photo = None
            self._root.destroy()
        if self._fault is not None:
            raise self._fault

    def _build(self, tkinter: Any, title: str) -> None:
        root = self._root
        root.title(title)
        root.configure(background=_GROUND)
        root.minsize(360, 240)
        bar = tkinter.Frame(root, background=_GROUND)
        bar.pack(side="bottom", fill="x")
        text = {"background": _GROUND, "font": ("TkDefaultFont", 11), "padx": 10, "pady": 6}
        self._status = tkinter.Label(bar, text="waiting for the camera", foreground=_INK, **text)
        self._status.pack(side="left")
        tkinter.Label(bar, text="s save   q quit", foreground=_FAINT, **text).pack(side="right")
        self._picture = tkinter.Label(root, background=_GROUND, borderwidth=0)
        self._picture.pack(side="top", fill="both", expand=True)
        for key in ("q", "Q", "<Escape>"):
            root.bind(key, lambda event: root.quit())
        for key in ("s", "S"):
            root.bind(key, lambda event: self._save())
        root.protocol("WM_DELETE_WINDOW", root.quit)
        # Tk would print what a callback raises, Ctrl-C as well, and go on.
        root.report_callback_exception = self._failed

    def _failed(self, kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
        self._fault = error
        self._root.quit()

    def _poll(self, looks: Slot[Look]) -> None:
        look = looks.take(0)
        if look is not None:
            self._show(look)
        elif looks.closed:
            self._root.quit()
            return
        self._root.after(_POLL, self._poll, looks)

    def _show(self, look: Look) -> None:
        marks = [
            annotation.mark(
                person.face.box,
                person.emotion,
                person.confidence,
                before=f"{person.track}: ",
                uncertain=person.uncertain,
                classes=tuple(person.smoothed),
            )
            for person in look.people
        ]
        self._shown, self._marked = (
            look,
            Image.fromarray(annotation.draw(look.pixels, marks, places=self._places)),
        )
        fitted = self._fitted(self._marked)
        if self._photo is None or (self._photo.width(), self._photo.height()) != fitted.size:
            self._photo = self._photos.PhotoImage(fitted, master=self._root)
            self._picture.configure(image=self._photo)
        else:
            self._photo.paste(fitted)
        now = time.monotonic()
        self._times.append(now)
        while now - self._times[0] > _SPAN and len(self._times) > 2:
            self._times.popleft()
        rate = (len(self._times) - 1) / (now - self._times[0]) if now > self._times[0] else 0.0
        # Averaged, or the last digit could not be read.
        behind = now - look.captured
        self._latency += (behind - self._latency) * (0.2 if self._latency else 1)
        count = len(look.people)
        faces = "1 face" if count == 1 else f"{count or 'no'} faces"
        words = f"{rate:.0f} frames a second   {1000 * self._latency:.0f} ms behind   {faces}"
        self._status.configure(text=self._said if now < self._said_until else words)

    def _fitted(self, picture: Image.Image) -> Image.Image:
        """Scale a picture to the window; the window takes the first one's size."""
        if self._photo is None:
            root = self._root
            room = _LARGEST * root.winfo_screenwidth(), _LARGEST * root.winfo_screenheight()
            scale = min(1.0, room[0] / picture.width, room[1] / picture.height)
            bar = self._status.master.winfo_reqheight()
            width, height = round(picture.width * scale), round(picture.height * scale)
            root.geometry(f"{max(360, width)}x{max(240, height + bar)}")
            wide, high = width, height
        else:
            wide, high = self._picture.winfo_width(), self._picture.winfo_height()
        scale = min(wide / picture.width, high / picture.height)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)

    def _save(self) -> None:
        """Save the picture that is shown, with its marks, under a name that nothing has yet."""
        if self._marked is None:
            return
        stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
        names = [
            self.folder / f"mien-{stamp}{extra}.png" for extra in ("", *(f"-{n}" for n in range(2, 100)))
        ]
        path = next(name for name in names if not name.exists())
        picture = self._marked
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _files.fill(path, lambda place: picture.save(place, "PNG"))
            self._said = f"saved as {path.name}"
        except OSError as error:
            self._said = f"{path.name} cannot be saved: {_files.reason(error)}"
        self._said_until = time.monotonic() + 2
        self._status.configure(text=self._said)
