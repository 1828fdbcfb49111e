"""Print the faces of a photo, and save a copy with their emotions marked.

python examples/photo.py photo.jpg marked.png
"""

import argparse

from PIL import Image

import mien
from mien.vision import annotation, images

parser = argparse.ArgumentParser(description="Print the faces of a photo, and save a marked copy.")
parser.add_argument("photo")
parser.add_argument("marked", help="the file of the copy, such as marked.png")
options = parser.parse_args()
try:
    prediction = mien.predict(options.photo)
    for face in prediction.faces:
        print(f"{face.emotion} {face.confidence:.0%} at {face.box.left}, {face.box.top}", *face.flags)
        print("  " + ", ".join(f"{name} {score:.0%}" for name, score in face.scores.items()))
    marked = annotation.draw(images.read(options.photo), prediction.faces)
    Image.fromarray(marked).save(options.marked)
except (mien.MienError, OSError, ValueError) as error:  # the last two: the copy cannot be written
    parser.error(str(error))
