"""Print the faces of a photo, and save a copy with their emotions marked.

python examples/photo.py photo.jpg marked.png
"""

import sys

from PIL import Image

import mien
from mien.vision import annotation, images

source, target = sys.argv[1:]
prediction = mien.predict(source)
for face in prediction.faces:
    print(f"{face.emotion} {face.confidence:.0%} at {face.box.left}, {face.box.top}", *face.flags)
    print("  " + ", ".join(f"{name} {score:.0%}" for name, score in face.scores.items()))
Image.fromarray(annotation.draw(images.read(source), prediction.faces)).save(target)
