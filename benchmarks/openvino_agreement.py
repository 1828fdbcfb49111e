"""Compare the answers of OpenVINO with those of ONNX Runtime, for shipped int8 models and for float32.

python benchmarks/openvino_agreement.py MODEL... --images 1000

MODEL is a shipped name or a model file; the package openvino must be installed. Faces are synthetic, and
noise images come after them.
"""

import argparse

import numpy as np
import openvino

import mien
from mien.data import synthetic

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("models", nargs="+")
parser.add_argument("--images", type=int, default=1000)
parser.add_argument(
    "--precision", default="f32", help="what OpenVINO computes in; it takes bf16 where it can"
)
options = parser.parse_args()

print("| model | images | same class | mean difference | largest difference |\n|---|---|---|---|---|")
for name in options.models:
    model = mien.load_model(name)
    size = model.card.size
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(model.content, b""), "CPU", {"INFERENCE_PRECISION_HINT": options.precision}
    )
    rng = np.random.default_rng(0)
    sets = {
        "faces": synthetic.sample(options.images, seed=0, size=size)[0],
        "noise": rng.integers(0, 256, (options.images, size, size, 1), np.uint8),
    }
    for kind, images in sets.items():
        answers = [compiled(images[start : start + 64]) for start in range(0, len(images), 64)]
        same, differences = [], []
        for head, stated in model.card.heads.items():
            ours = model.run(images, head=head)
            theirs = np.concatenate([each[stated.output] for each in answers])
            same.append(ours.argmax(1) == theirs.argmax(1))
            differences.append(np.abs(ours - theirs))
        print(
            f"| {name} ({model.card.precision}) | {len(images):,} {kind} | {np.mean(same):.1%} "
            f"| {np.mean(differences):.4f} | {np.max(differences):.3f} |"
        )
