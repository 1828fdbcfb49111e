"""Find images that stand in a set more than once: equal, nearly so, or the same photograph cut otherwise.

found = duplicates.find(images)            # (n, s, s, 1) uint8
found.first                                # (n,): the first image with the same pixels
found.pairs, found.similarity              # images that are near, by the first of each
found.again(train, test)                   # which of train stand again in test

cut = duplicates.recut(test, train)        # larger, smaller, shifted, with a watermark
cut.one, cut.other, cut.likeness           # places in test, places in train
"""

from mien.data.duplicates.recrops import SAME, SMALLEST, Recuts, recut
from mien.data.duplicates.search import FLAT, NEAR, Duplicates, find

__all__ = ["FLAT", "NEAR", "SAME", "SMALLEST", "Duplicates", "Recuts", "find", "recut"]
