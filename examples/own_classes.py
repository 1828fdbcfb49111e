"""Train a model for your own classes from few images, starting from the model in the package.

The folder has one folder of face images a class: faces/smile/1.png, faces/frown/1.png, …

python examples/own_classes.py faces/ runs/mine         starts from the model default
python examples/own_classes.py faces/ runs/mine fast    starts from the smaller model
"""

import sys

import mien

folder, out, base = [*sys.argv[1:], "default"][:3]
faces = mien.load_dataset(folder)
print({split.name: len(split) for split in faces.splits}, faces.labels)
run = mien.train(faces, base=base, out=out)
found = mien.evaluate(run.path, data=faces, split="test").evaluation
low, high = found.accuracy_interval
print(f"accuracy on {found.n} test images: {found.accuracy:.1%} ({low:.1%} to {high:.1%})")
