"""Runs the examples: python tests/examples HOST_HARNESS [PART OF A NAME]...

Each trial takes the configuration of examples/ with other paths and ports, sends the events of the real collector through
the pipeline, and compares them at the other end. Pipelines that Debian and PyPI lack have a receiver in their place.
"""

import concurrent.futures
import sys
import tempfile
import time
import traceback
from pathlib import Path

import fluent_bit
import logrotate
import opentelemetry_collector
import rsyslog
import service_manager
import splunk
import stage
import syslog_ng
import tenzir
import vector

MODULES = [syslog_ng, rsyslog, tenzir, vector, fluent_bit, opentelemetry_collector, splunk, logrotate, service_manager]


def tried(name, trial, harness):
    """Runs one trial, and returns whether it passed, with its words."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="examples-") as folder:
        folder = Path(folder)
        stage.begin()
        try:
            words, passed = trial(harness, stage.Service(harness, folder), folder), True
        except Exception as error:
            cause = error if isinstance(error, stage.Fault) else traceback.format_exc()
            words, passed = f"FAILED: {cause}\n{stage.last_words(folder)}", False
        finally:
            stage.end()
    return passed, f"{name}: {words} ({time.monotonic() - began:.0f} s)"


def main(harness, *parts):
    harness = Path(harness).resolve()
    trials = {
        f"{module.__name__} {trial.__name__}".replace("_", "-"): trial for module in MODULES for trial in module.TRIALS
    }
    if not tenzir.PROGRAM.exists():
        print("the trials in Tenzir did not run: tests/requirements-detect.txt is not installed in target/python-detect")
    chosen = {name: trial for name, trial in trials.items() if not parts or any(part in name for part in parts)}
    passed = 0
    # They mostly wait: for polls, for files and for each other's end.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = [pool.submit(tried, name, trial, harness) for name, trial in chosen.items()]
        for done in concurrent.futures.as_completed(running):
            good, words = done.result()
            passed += good
            print(words, flush=True)
    print(f"{passed} passed, {len(chosen) - passed} failed")
    sys.exit(0 if chosen and passed == len(chosen) else 1)


main(*sys.argv[1:])
