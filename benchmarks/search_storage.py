"""Measure Optuna's storages as a search of mien uses them: milliseconds for each trial.

    python benchmarks/search_storage.py --trials 50 --epochs 8

A trial chooses five settings, reports each epoch, asks whether to prune and is told its result. The storages
take turns. The journal is the one of `mien tune`, with mien's lock; `symlink` is Optuna's own lock.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from mien.training import recipes, search_spaces, tuning


def storage(kind: str, folder: Path) -> Any:
    if kind == "sqlite":
        return f"sqlite:///{folder / 'study.db'}"
    journal = folder / f"{kind}.log"
    journal.touch()
    lock = tuning._JournalLock(journal) if kind == "journal" else None
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))


def run_trial(study: optuna.Study, epochs: int) -> None:
    trial = study.ask()
    for key, each in search_spaces.default(recipes.get("quick")).items():
        trial.suggest_float(key, each.low, each.high, log=each.log)
    for epoch in range(1, epochs + 1):
        trial.report(0.5 + 0.01 * epoch, epoch)
        trial.should_prune()
    study.tell(trial, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    spent: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        studies = {
            kind: optuna.create_study(
                storage=storage(kind, Path(folder)),
                study_name="mien",
                sampler=optuna.samplers.RandomSampler(seed=0),
                pruner=optuna.pruners.HyperbandPruner(max_resource=options.epochs),
            )
            for kind in ("journal", "symlink", "sqlite")
        }
        studies["memory"] = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(options.trials):
            for kind, study in studies.items():
                wall, cpu = time.perf_counter(), time.process_time()
                run_trial(study, options.epochs)
                spent.setdefault(kind, []).append((time.perf_counter() - wall, time.process_time() - cpu))
    for kind, each in spent.items():
        walls, cpus = (sorted(pair[side] for pair in each) for side in (0, 1))
        wall, cpu = (1000 * times[len(times) // 2] for times in (walls, cpus))
        print(f"{kind:8} median {wall:7.1f} ms, CPU {cpu:6.1f} ms a trial")


if __name__ == "__main__":
    main()
