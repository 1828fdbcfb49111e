"""Turn a folder of photos into a pandas data frame with one row a face, and count the emotions.

python examples/folder_to_pandas.py photos/
"""

import sys

import pandas as pd

import mien

rows = []
for item in mien.predict_files(sys.argv[1]):
    if isinstance(item, mien.Problem):
        print(f"skipped {item.source}: {item.reason}", file=sys.stderr)
    else:
        rows += item.rows()
faces = pd.DataFrame(rows)
print(faces[["source", "emotion", "confidence", "flags"]])
sure = faces[~faces["flags"].fillna("").str.contains("uncertain")]
print(sure["emotion"].value_counts())
