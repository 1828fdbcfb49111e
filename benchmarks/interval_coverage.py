"""How often 95 % intervals contain the true accuracy if the images of a person are alike.

    python benchmarks/interval_coverage.py

Each simulated split has 20 images of each person. The accuracy of a person is drawn from a beta distribution
with mean 0.7 and a correlation of 0.15 within a person. The intervals are by group (cluster bootstrap) and by
image (Wilson).
"""

import argparse

import numpy as np

from mien.evaluation import clusters, metrics

MEAN, CORRELATION, IMAGES = 0.7, 0.15, 20


def main() -> None:
    """Simulate, count and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    spread = 1 / CORRELATION - 1
    print("| persons | by group | by image |\n|---|---|---|")
    for persons in (3, 5, 10, 20, 50, 100):
        random = np.random.default_rng([options.seed, persons])
        groups = np.repeat(np.arange(persons), IMAGES)
        hits = np.zeros(2)
        for repeat in range(options.repeats):
            accuracy = random.beta(MEAN * spread, (1 - MEAN) * spread, persons)
            right = random.random(len(groups)) < accuracy[groups]
            by_group = clusters.share_interval(right, groups, seed=repeat)
            by_image = metrics.wilson_interval(float(right.sum()), len(right))
            hits += [low <= MEAN <= high for low, high in (by_group, by_image)]
        group, image = hits / options.repeats
        print(f"| {persons} | {group:.0%} | {image:.0%} |", flush=True)


if __name__ == "__main__":
    main()
