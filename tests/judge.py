"""Judges OCSF events against the official schema of their version and class: python tests/judge.py [--every] FILE..., or events on
standard input. With --every, a version or a class of the plugin's settings without an event is a fault, too.

Assessment Finding (99402001) belongs to an extension whose definition is not public. It is judged as a Compliance
Finding, with the four keys that name the class replaced and nothing else.
"""

import collections
import functools
import json
import pathlib
import statistics
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

COMPLIANCE_FINDING = 2003
ASSESSMENT_FINDING = 99402001
CLASSES = {COMPLIANCE_FINDING: "compliance_finding", 2004: "detection_finding"}
SETTINGS = pathlib.Path(__file__).parent.parent / "guest/src/settings.schema.json"


@functools.cache
def validator(version, class_uid):
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version)).get_class_schema(CLASSES[class_uid], ["cloud"])
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


def misplaced(schema, node, value, path):
    """Yields the paths of attributes under `unmapped` that the schema has: they belong outside it."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    if isinstance(value, list) and "items" in node:
        for item in value:
            yield from misplaced(schema, node["items"], item, path)
    elif isinstance(value, dict) and "properties" in node:
        for name, inner in value.items():
            if name in node["properties"]:
                yield from misplaced(schema, node["properties"][name], inner, f"{path}/{name}")
    else:
        yield path


def faults(event):
    judge = validator(event["metadata"]["version"], event["class_uid"])
    for error in judge.iter_errors(event):
        yield f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"
    for path in misplaced(judge.schema, judge.schema, event["unmapped"], "unmapped"):
        yield f"{path}: the schema has this attribute"


def main(arguments):
    every = arguments[:1] == ["--every"]
    files = arguments[1:] if every else arguments
    kinds, sizes, bad = collections.Counter(), [], 0
    streams = [open(file, "rb") for file in files] or [sys.stdin.buffer]
    for stream in streams:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n") or b"\r" in line:
                print(f"{stream.name}:{number}: not one event a line")
                bad += 1
            event = json.loads(line)
            kinds[event["metadata"]["version"], event["class_name"]] += 1
            sizes.append(len(line) - 1)
            for fault in faults(as_compliance_finding(event)):
                print(f"{stream.name}:{number}: {fault}")
                bad += 1
    if not sizes:
        sys.exit("no events to judge")
    if every:
        settings = json.loads(SETTINGS.read_text())["properties"]
        classes = [name.replace("-", " ").title() for name in settings["class"]["enum"]]
        for kind in ((version, name) for version in settings["ocsf_version"]["enum"] for name in classes):
            print(f"{kind[0]} {kind[1]}: {kinds[kind]} events")
            bad += not kinds[kind]
    print(f"{len(sizes)} events judged, {bad} faults; size: median {statistics.median(sizes):.0f}, most {max(sizes)} bytes")
    sys.exit(1 if bad else 0)


main(sys.argv[1:])
