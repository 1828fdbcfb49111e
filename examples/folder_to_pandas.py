"""Turn a folder of photos into a pandas data frame with one row a face, and count the emotions.

python examples/folder_to_pandas.py photos/
"""

import argparse
import sys

import pandas as pd

import mien

parser = argparse.ArgumentParser(description="Turn photos into a data frame with one row a face.")
parser.add_argument("photos", help="a folder of photos")
options = parser.parse_args()
rows = []
try:
    for item in mien.predict_files(options.photos):
        if isinstance(item, mien.Problem):
            print(f"skipped {item.source}: {item.reason}", file=sys.stderr)
        else:
            rows += item.rows()
except mien.MienError as error:
    parser.error(str(error))
if not rows:
    parser.error("no image could be read")
faces = pd.DataFrame(rows)
print(faces[["source", "emotion", "confidence", "flags"]])
sure = faces[~faces["flags"].fillna("").str.contains("uncertain")]
print(sure["emotion"].value_counts())
