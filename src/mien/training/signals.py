"""Stop when asked: SIGINT and SIGTERM become a saved state and an exit code.

Python handles a signal only between two of its own instructions, and a training step is one call into
native code that may take longer than a machine waits before it kills. So a thread watches too: when the
training has not reached the end of its step in time, the thread saves the newest state that was kept in
memory, which is the one after the last step that took long, and ends the process.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mien._text import make_printable

#: Seconds a step may go on after a signal before the state after the step before it is saved.
GRACE = 4.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Shows the cursor again, for a progress bar may have hidden it; what to do follows.
_FAREWELL = "\x1b[?25h\nmien: stopped inside a long step, and saved; go on with: "


class Stop:
    """Whether a signal asked the training to stop.

    Args:
        save_last: Saves the newest state in memory; called from another thread.
        again: The command that goes on, for the farewell.
    """

    def __init__(self, save_last: Callable[[], None], again: str) -> None:
        self.signal_number = 0
        self._save_last = save_last
        # A folder's name may hold what moves the cursor.
        self._again = make_printable(again)
        self._reached = threading.Event()

    def __bool__(self) -> bool:
        return self.signal_number != 0

    def reached(self) -> None:
        """Say that the training has seen the signal and will save by itself."""
        self._reached.set()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; the training sees it at the end of its step."""
        self.signal_number = number

    def watch(self, wakeup: socket.socket) -> None:
        """Wait for a signal's byte on `wakeup`, give the step its time, then save and end the process."""
        received = wakeup.recv(1)
        while received and received[0] not in _SIGNALS:
            received = wakeup.recv(1)
        if not received or self._reached.wait(GRACE):
            return
        self._save_last()
        os.write(2, f"{_FAREWELL}{self._again}\n".encode(errors="backslashreplace"))
        os._exit(128 + received[0])


@contextmanager
def listen(save_last: Callable[[], None], again: str) -> Iterator[Stop]:
    """Listen for SIGINT and SIGTERM while the block runs; elsewhere than in the main thread, do nothing."""
    stop = Stop(save_last, again)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    old_handlers = {number: signal.signal(number, stop.handle) for number in _SIGNALS}
    old_wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=stop.watch, args=(reader,), daemon=True, name="mien-signals")
    watcher.start()
    try:
        yield stop
    finally:
        stop.reached()
        signal.set_wakeup_fd(old_wakeup)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        writer.close()  # ends the watcher's wait
        watcher.join()
        reader.close()
