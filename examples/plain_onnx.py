"""Predict the emotion of a cropped face with ONNX Runtime alone; mien is not needed.

mien export default --format onnx --to model.onnx
python examples/plain_onnx.py model.onnx face.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, image = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
card = json.loads(session.get_modelmeta().custom_metadata_map["mien.card"])
head, answer = next(iter(card["heads"].items()))
size = card["size"]
face = Image.open(image).convert("L").resize((size, size), Image.Resampling.BILINEAR)
pixels = np.asarray(face, np.uint8).reshape(1, size, size, 1)  # 0..255; the model rescales
probabilities = session.run([answer["output"]], {"images": pixels})[0][0]
for label, probability in zip(card["labels"], probabilities, strict=True):
    print(f"{label:10} {probability:.3f}")
