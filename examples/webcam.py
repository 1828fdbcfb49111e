"""Show a camera with the emotions of the people in front of it; press q to stop.

python examples/webcam.py           the first camera
python examples/webcam.py film.mp4  a film instead
"""

import argparse

import cv2

import mien
from mien.vision import annotation

parser = argparse.ArgumentParser(description="Show a camera with the emotions of the people in front of it.")
parser.add_argument("film", nargs="?", help="a film instead of the first camera")
parser.add_argument("--headless", action="store_true", help="print the emotions, without a window")
options = parser.parse_args()
camera = cv2.VideoCapture(options.film or 0)
if not camera.isOpened():
    parser.error(f"{options.film or 'the first camera'} cannot be opened")
predictor = mien.Predictor(model="fast")
while True:
    there, frame = camera.read()
    if not there:
        break
    picture = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    faces = predictor.image(picture).faces
    print(*(f"{face.emotion} {face.confidence:.0%}" for face in faces), sep=", ", flush=True)
    if not options.headless:
        cv2.imshow("mien", cv2.cvtColor(annotation.draw(picture, faces), cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) == ord("q"):
            break
camera.release()
