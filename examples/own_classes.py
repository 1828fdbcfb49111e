"""Train a model for your own classes from few images, starting from the model in the package.

The folder has one folder of face images a class: faces/smile/1.png, faces/frown/1.png, …

python examples/own_classes.py faces/ runs/mine         starts from the model default
python examples/own_classes.py faces/ runs/mine fast    starts from the smaller model
"""

import argparse

import mien

parser = argparse.ArgumentParser(description="Train a model for your own classes from few images.")
parser.add_argument("faces", help="a folder with one folder of face images a class")
parser.add_argument("run", help="the folder of the training, such as runs/mine")
parser.add_argument("base", nargs="?", default="default", help="the model to start from: default or fast")
options = parser.parse_args()
try:
    faces = mien.load_dataset(options.faces)
    print({split.name: len(split) for split in faces.splits}, faces.labels)
    run = mien.train(faces, base=options.base, out=options.run)
    found = mien.evaluate(run.path, data=faces, split="test").evaluation
except mien.MienError as error:
    parser.error(str(error))
low, high = found.accuracy_interval
print(f"accuracy on {found.n} test images: {found.accuracy:.1%} ({low:.1%} to {high:.1%})")
