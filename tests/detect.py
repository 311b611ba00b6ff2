"""Runs the queries of docs/detect.md that Python can run, on the events of the recordings: python tests/detect.py.

Tenzir runs each TQL query. pySigma reads each Sigma rule and converts it to Splunk's language, and this script matches
the rule with the events. tests/detections.rs runs the jq queries, and checks the rest of the page.
"""

import collections
import datetime
import json
import operator
import pathlib
import re
import subprocess
import sys
import tempfile

from sigma.backends.splunk import SplunkBackend
from sigma.collection import SigmaCollection
from sigma.conditions import ConditionAND, ConditionFieldEqualsValueExpression, ConditionNOT, ConditionOR
from sigma.types import SigmaCompareExpression, SigmaFieldReference, SigmaNumber, SigmaString, SpecialChars

ROOT = pathlib.Path(__file__).parent.parent
TENZIR = pathlib.Path(sys.executable).parent / "tenzir"
LINES = "the two lines below"
COMPARISONS = {"LT": operator.lt, "LTE": operator.le, "GT": operator.gt, "GTE": operator.ge}


class Detection:
    def __init__(self, section):
        self.name, rest = section.split("\n", 1)
        finds = re.search(r"\nFinds: (.*?)\.(?: Does not find: (.*?)\.)?\n", rest, re.DOTALL)
        results = re.findall(rf"(?:`([a-z0-9.-]+)`|({LINES},)) (\d+)", finds[1])
        self.finds = {name or LINES: int(count) for name, _, count in results}
        self.other = re.findall(r"`([^`]+)`", finds[2] or "")
        self.blocks = dict(re.findall(r"\n```([a-z]+)\n(.*?)\n```", rest, re.DOTALL))


def recordings():
    found = {}
    for file in sorted((ROOT / "tests/cassettes").glob("*.expected.json")):
        name = file.name.removesuffix(".expected.json")
        found[name] = json.loads(file.read_text()).get("events", [])
        for event in found[name]:
            # Events of several recordings have the same uid.
            event["metadata"]["labels"].append(f"recording:{name}")
    return {name: events for name, events in found.items() if events}


def origin(event):
    labels = event.get("metadata", {}).get("labels", [f"recording:{LINES}"])
    return next(label.removeprefix("recording:") for label in labels if label.startswith("recording:"))


def tenzir(query, events, now):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "events.ndjson")
        file.write_text("".join(json.dumps(event) + "\n" for event in events))
        query = query.replace("now()", datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime("%FT%TZ"))
        pipeline = f'from_file "{file}" {{ read_ndjson }}\n{query}\nwrite_ndjson'
        done = subprocess.run([TENZIR, pipeline], capture_output=True, text=True)
        if done.returncode or "error:" in done.stderr:
            sys.exit(f"{pipeline}\n{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def values(event, path):
    """Returns the value of a member, or its items if it is a list."""
    for name in path.split("."):
        event = event.get(name) if isinstance(event, dict) else None
    return event if isinstance(event, list) else [event]


def matches(condition, event):
    if isinstance(condition, ConditionAND):
        return all(matches(part, event) for part in condition.args)
    if isinstance(condition, ConditionOR):
        return any(matches(part, event) for part in condition.args)
    if isinstance(condition, ConditionNOT):
        return not matches(condition.args[0], event)
    assert isinstance(condition, ConditionFieldEqualsValueExpression), condition
    found = [value for value in values(event, condition.field) if value is not None]
    return any(equals(condition.value, value, event) for value in found)


def equals(wanted, value, event):
    if isinstance(wanted, SigmaCompareExpression):
        return COMPARISONS[wanted.op.name](value, wanted.number.number)
    if isinstance(wanted, SigmaFieldReference):
        return value in values(event, wanted.field)
    if isinstance(wanted, SigmaNumber):
        return value == wanted.number
    assert isinstance(wanted, SigmaString), wanted
    parts = (".*" if part is SpecialChars.WILDCARD_MULTI else re.escape(part) for part in wanted.s)
    return re.fullmatch("".join(parts), value, re.IGNORECASE) is not None


def main():
    page = (ROOT / "docs/detect.md").read_text()
    all_events = recordings()
    whole = [event for events in all_events.values() for event in events]
    detections = [Detection(section) for section in re.split(r"\n### \d+\. ", page)[1:]]
    faults, ran = [], collections.Counter()

    def judge(detection, language, found, expected):
        ran[language] += 1
        if found != expected:
            faults.append(f"{detection.name}: {language}: found {found}, expected {expected}")

    for detection in detections:
        lines = [json.loads(line) for line in detection.blocks.get("ndjson", "").splitlines()]
        query = detection.blocks["tql"]
        if "summarize" in query:
            for name in [*detection.finds, *detection.other]:
                # A day and three hours after the first poll of all recordings.
                found, _ = tenzir(query, all_events[name], 1_790_000_000 + 27 * 3_600)
                judge(detection, f"tql on {name}", len(found), detection.finds.get(name, 0))
        else:
            found, warnings = tenzir(query, lines or whole, 0)
            judge(detection, "tql", dict(collections.Counter(map(origin, found))), detection.finds)
            if warnings:
                faults.append(f"{detection.name}: tql: {warnings}")
        if rule := detection.blocks.get("yaml"):
            collection = SigmaCollection.from_yaml(rule)
            converted = SplunkBackend().convert(collection)
            assert len(converted) == 1, converted
            condition = collection.rules[0].detection.parsed_condition[0].parsed
            found = [event for event in lines or whole if matches(condition, event)]
            judge(detection, "sigma", dict(collections.Counter(map(origin, found))), detection.finds)

    print("\n".join(faults))
    sums = collections.Counter()
    for language, count in ran.items():
        sums[language.split()[0]] += count
    print(f"{len(detections)} detections: {dict(sums)} runs, {len(faults)} faults")
    sys.exit(1 if faults or not detections else 0)


main()
