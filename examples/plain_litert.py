"""Predict the emotion of a cropped face with LiteRT alone, as on a phone; mien is not needed.

mien export default --format litert --to model.tflite    (or with --int8, a quarter of the size)
python examples/plain_litert.py model.tflite face.png
"""

import argparse
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

parser = argparse.ArgumentParser(description="Predict the emotion of a cropped face with LiteRT.")
parser.add_argument("model", help="a file that mien export --format litert wrote, beside its labels.txt")
parser.add_argument("face", help="an image of a cropped face")
options = parser.parse_args()
try:
    labels = Path(options.model).with_name("labels.txt").read_text(encoding="utf-8").splitlines()
    interpreter = Interpreter(model_path=options.model)
    image = Image.open(options.face).convert("L")
except (OSError, ValueError) as error:
    parser.error(str(error))
source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
interpreter.allocate_tensors()
_, height, width, _ = source["shape"]
face = image.resize((width, height), Image.Resampling.BILINEAR)
pixels = np.asarray(face, np.float32).reshape(1, height, width, 1)  # 0..255; the model rescales
interpreter.set_tensor(source["index"], pixels)
interpreter.invoke()
probabilities = interpreter.get_tensor(target["index"])[0]
for label, probability in zip(labels, probabilities, strict=True):
    print(f"{label:10} {probability:.3f}")
