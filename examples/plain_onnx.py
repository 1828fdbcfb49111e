"""Predict the emotion of a cropped face with ONNX Runtime alone; mien is not needed.

mien export default --format onnx --to model.onnx
python examples/plain_onnx.py model.onnx face.png
"""

import argparse
import json

import numpy as np
import onnxruntime
from PIL import Image

parser = argparse.ArgumentParser(description="Predict the emotion of a cropped face with ONNX Runtime.")
parser.add_argument("model", help="a file that mien export --format onnx wrote")
parser.add_argument("face", help="an image of a cropped face")
options = parser.parse_args()
try:
    session = onnxruntime.InferenceSession(options.model, providers=["CPUExecutionProvider"])
    image = Image.open(options.face).convert("L")
except Exception as error:  # the errors of ONNX Runtime have no base class of their own
    parser.error(str(error))
metadata = session.get_modelmeta().custom_metadata_map
if "mien.card" not in metadata:
    parser.error(f"{options.model} is not a model of mien")
card = json.loads(metadata["mien.card"])
head, answer = next(iter(card["heads"].items()))
size = card["size"]
face = image.resize((size, size), Image.Resampling.BILINEAR)
pixels = np.asarray(face, np.uint8).reshape(1, size, size, 1)  # 0..255; the model rescales
probabilities = session.run([answer["output"]], {"images": pixels})[0][0]
for label, probability in zip(card["labels"], probabilities, strict=True):
    print(f"{label:10} {probability:.3f}")
