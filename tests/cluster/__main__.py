"""Runs the trial of three collectors on one database, and lets the checker judge its history.

python tests/cluster HOST_HARNESS [--seconds N] [--seed N] [--history FILE] [--tenants N] [--interval N] [--only WORDS]
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

import altered
import checker
import history
from trial import Trial


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("harness", type=Path)
    parser.add_argument("--seconds", type=int, default=0, help="time for faults; every kind comes at least once")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--tenants", type=int, default=24)
    parser.add_argument("--subscriptions", type=int, default=1, help="scopes of each tenant")
    parser.add_argument("--interval", type=int, default=5, help="seconds between two polls of a scope")
    parser.add_argument("--faults", default="", help="names of faults in faults.py; all by default")
    parser.add_argument("--history", type=Path, help="file that keeps the history")
    parser.add_argument("--together", action="store_true", help="lets a fault of a collector and another one go on at the same time")
    parser.add_argument("--asynchronous-standby", action="store_true", help="lets no commit wait for the standby: the checker must find the loss")
    options = parser.parse_args()
    options.harness = options.harness.resolve()
    return options


def main():
    options = arguments()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = options.history or Path(folder, "history.ndjson")
        notes = history.History(path)
        trial = Trial(folder, options, notes)
        try:
            trial.start()
            trial.run()
            trial.rest()
        except BaseException:
            for one in trial.collectors:
                print(f"--- {one.name}\n{one.words()[-4000:]}", file=sys.stderr)
            raise
        finally:
            trial.end()
        checker.main(path)
        # Reads the history some ten times.
        if path.stat().st_size < 100 << 20:
            altered.main(path)


main()
