"""Judges OCSF events against the official 1.8.0 schema: python tests/judge.py FILE..., or events on standard input.

Assessment Finding (99402001) belongs to an extension whose definition is not public. It is judged as a Compliance
Finding, with the four keys that name the class replaced and nothing else.
"""

import json
import statistics
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

COMPLIANCE_FINDING = 2003
ASSESSMENT_FINDING = 99402001


def validator():
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0")).get_class_schema("compliance_finding", ["cloud"])
    return Draft202012Validator(schema)


def as_compliance_finding(event):
    if event.get("class_uid") != ASSESSMENT_FINDING:
        return event
    activity = event["type_uid"] - ASSESSMENT_FINDING * 100
    if activity != event["activity_id"]:
        raise ValueError(f"type_uid {event['type_uid']} does not fit activity_id {event['activity_id']}")
    caption = event["type_name"].removeprefix("Assessment Finding: ")
    named = {
        "class_uid": COMPLIANCE_FINDING,
        "class_name": "Compliance Finding",
        "type_uid": COMPLIANCE_FINDING * 100 + activity,
        "type_name": f"Compliance Finding: {caption}",
    }
    return {**event, **named}


def main(files):
    judge, sizes, bad = validator(), [], 0
    streams = [open(file, "rb") for file in files] or [sys.stdin.buffer]
    for stream in streams:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n") or b"\r" in line:
                print(f"{stream.name}:{number}: not one event a line")
                bad += 1
            event = as_compliance_finding(json.loads(line))
            sizes.append(len(line) - 1)
            for error in judge.iter_errors(event):
                print(f"{stream.name}:{number}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
                bad += 1
    if not sizes:
        sys.exit("no events to judge")
    print(f"{len(sizes)} events judged, {bad} faults; size: median {statistics.median(sizes):.0f}, most {max(sizes)} bytes")
    sys.exit(1 if bad else 0)


main(sys.argv[1:])
