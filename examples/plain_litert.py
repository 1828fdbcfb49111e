"""Predict the emotion of a cropped face with LiteRT alone, as on a phone; mien is not needed.

mien export default --format litert --to model.tflite
python examples/plain_litert.py model.tflite face.png
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

model, image = sys.argv[1:]
labels = Path(model).with_name("labels.txt").read_text(encoding="utf-8").splitlines()
interpreter = Interpreter(model_path=model)
source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
interpreter.allocate_tensors()
_, height, width, _ = source["shape"]
face = Image.open(image).convert("L").resize((width, height), Image.Resampling.BILINEAR)
pixels = np.asarray(face, np.float32).reshape(1, height, width, 1)  # 0..255; the model rescales
interpreter.set_tensor(source["index"], pixels)
interpreter.invoke()
probabilities = interpreter.get_tensor(target["index"])[0]
for label, probability in zip(labels, probabilities, strict=True):
    print(f"{label:10} {probability:.3f}")
