"""The embedded data set: faces drawn from action units.

Grey faces of the seven emotions, each painted from some seventy numbers: the action units that show its
emotion, a head, a pose and a light. They let everything in mien run and be tested without a photograph.
What a model reaches on drawn faces says nothing about real ones.
"""

from mien.data.synthetic.action_units import PROTOTYPES, Actions, Prototype
from mien.data.synthetic.canvas import paint
from mien.data.synthetic.face_landmarks import landmarks
from mien.data.synthetic.faces import Face, Head, Light, View, describe
from mien.data.synthetic.generation import LABEL_NOISE, face, sample, write_archive

__all__ = [
    "LABEL_NOISE",
    "PROTOTYPES",
    "Actions",
    "Face",
    "Head",
    "Light",
    "Prototype",
    "View",
    "describe",
    "face",
    "landmarks",
    "paint",
    "sample",
    "write_archive",
]
