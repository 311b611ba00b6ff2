"""Runs the trial of three collectors on one database, and lets the checker judge its history.

python tests/cluster HOST_HARNESS [--seconds N] [--seed N] [--together] [--history FILE] [--mutations]
"""

import argparse
import concurrent.futures
import copy
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import altered
import checker
import history
from trial import Trial

# Safeguards that can be taken out, each with the fault that needs it, and the kind of fault that the checker then finds. The program takes
# the first two out itself, in a build for tests.
SAFEGUARDS = {
    "fence": ("stop_collector", "stale write"),
    "late-acknowledgement": ("kill_receiver", "lost event"),
    "synchronous-standby": ("kill_primary", "event without a commit"),
}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("harness", type=Path)
    parser.add_argument("--seconds", type=int, default=0, help="time for faults; every kind comes at least once")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--together", action="store_true", help="lets a fault of a collector and another one go on at the same time")
    parser.add_argument("--faults", default="", help="names of faults in faults.py; all by default")
    parser.add_argument("--tenants", type=int, default=24)
    parser.add_argument("--subscriptions", type=int, default=1, help="scopes of each tenant")
    parser.add_argument("--interval", type=int, default=5, help="seconds between two polls of a scope")
    parser.add_argument("--history", type=Path, help="file that keeps the history; if the trial fails, the collectors' logs lie beside")
    parser.add_argument("--without", default="", choices=["", *SAFEGUARDS], help="a safeguard that is taken out")
    parser.add_argument("--mutations", action="store_true", help="takes each safeguard out: the checker must notice")
    options = parser.parse_args()
    options.harness = options.harness.resolve()
    return options


def tried(options, path):
    """Runs one trial, which leaves its history."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        trial = Trial(folder, options, history.History(path))
        try:
            trial.start()
            trial.run()
            trial.rest()
        except BaseException:
            for one in trial.collectors:
                print(f"--- {one.name}\n{one.words()[-4000:]}", file=sys.stderr)
                if options.history:
                    options.history.with_name(f"{options.history.stem}-{one.name}.log").write_text(one.words())
            raise
        finally:
            trial.end()


def noticed(options, folder, safeguard):
    """Takes a safeguard out, and returns the kinds of fault that the checker finds then."""
    options, path = copy.copy(options), Path(folder, f"{safeguard}.ndjson")
    options.without, options.faults, options.seconds = safeguard, SAFEGUARDS[safeguard][0], 0
    tried(options, path)
    return checker.Check(history.read(path)).judge()


def mutations(options, folder):
    """Takes each safeguard out, all in trials of their own at the same time: a trial waits more than it works."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        trials = {safeguard: pool.submit(noticed, options, folder, safeguard) for safeguard in SAFEGUARDS}
    for safeguard, trial in trials.items():
        found, expected = trial.result(), SAFEGUARDS[safeguard][-1]
        print(f"without {safeguard}: {', '.join(f'{kind}: {count}' for kind, count in found.items())}", flush=True)
        if expected not in found:
            sys.exit(f"the checker does not see that the {safeguard} is missing, expected: {expected}")


def main():
    options = arguments()
    # Whoever ends the trial ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("the trial was ended"))
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.mutations:
            return mutations(options, folder)
        path = options.history or Path(folder, "history.ndjson")
        tried(options, path)
        checker.main(path)
        # Reads the history some ten times.
        if path.stat().st_size < 100 << 20:
            altered.main(path)


main()
