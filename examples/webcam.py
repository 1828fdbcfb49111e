"""Show a camera with the emotions of the people in front of it; press q to stop.

python examples/webcam.py           the first camera
python examples/webcam.py film.mp4  a film instead
"""

import sys

import cv2

import mien
from mien.vision import annotation

camera = cv2.VideoCapture(sys.argv[1] if len(sys.argv) > 1 else 0)
predictor = mien.Predictor(model="fast")
while True:
    there, frame = camera.read()
    if not there:
        break
    picture = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    faces = predictor.image(picture).faces
    print(*(f"{face.emotion} {face.confidence:.0%}" for face in faces), sep=", ", flush=True)
    if "--headless" not in sys.argv:
        cv2.imshow("mien", cv2.cvtColor(annotation.draw(picture, faces), cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) == ord("q"):
            break
camera.release()
