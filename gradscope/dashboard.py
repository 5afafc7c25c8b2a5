"""Shows a log directory in TensorBoard until it is interrupted."""

import logging
from pathlib import Path
from threading import Event

from tensorboard import program

from gradscope.errors import NothingStored


def serve(logdir: str) -> None:
    """Start TensorBoard on a free port, print the link, and wait for Ctrl-C.

    Raises:
        NothingStored: there is no such folder.
    """
    if not Path(logdir).is_dir():
        raise NothingStored(f"there is no folder {logdir!r}: give the one that `logdir=` or --logdir named")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    board = program.TensorBoard()
    board.configure(argv=[None, "--logdir", logdir, "--port", "0"])
    print(f"TensorBoard shows {logdir} at {board.launch()} (Ctrl-C ends it)", flush=True)
    try:
        Event().wait()
    except KeyboardInterrupt:
        print()
