"""The plugin's mapping of one poll at first sight, without a state: the members of docs/events.md that need no memory.

python normalize.py INPUT prints the events as one line, a JSON array. Then each line of standard input is a number of calls;
the answer is a line with the nanoseconds of processor time that these calls took.

Left out, all to the gain of this program: the size limit, unknown properties with a name of the plugin's own, and the spelling
of items.
"""

import json
import sys
import time
import uuid
import zlib

OWN = {"id", "name", "type", "properties"}
MAPPED = {"assessmentDefinitions", "displayName", "description"}


def events(scores, controls, context):
    """The events of both lists, each with items as the service gives them."""
    parents = {}
    for item in scores:
        event = event_of(item, False, context, parents)
        points = item["properties"].get("score") or {}
        parents[event["finding_info"]["uid"]] = (event["metadata"]["uid"], points.get("max"))
        yield event
    for item in controls:
        yield event_of(item, True, context, parents)


def event_of(item, is_control, context, parents):
    properties = item["properties"]
    points = properties.get("score") or {}
    current, maximum = points.get("current"), points.get("max")
    has_points = current is not None and maximum is not None
    uid = item["id"].lower()
    title = (properties.get("displayName") or item["name"])[:256]
    status = status_of(properties, is_control, current, maximum)
    severity = severity_of(status[0], is_control, current, maximum)
    workflow = {3: (1, "New"), 1: (4, "Resolved")}.get(status[0], status)
    detail = detail_of(properties, points)
    noun = "Secure Score Control" if is_control else "Secure Score"
    raw = json.dumps(item, separators=(",", ":"), ensure_ascii=False)
    digest = zlib.crc32(raw.encode())
    event_uid = str(uuid.uuid5(context["poll_uuid"], f"{uid}\n{digest:08x}\n1"))
    scope = context["scope"]
    resource = "/subscriptions/" + scope["id"]

    finding = {
        "uid": uid,
        "title": f"{noun}: {title}",
        "types": [noun + "s"],
        "data_sources": ["Microsoft Defender for Cloud"],
        "last_seen_time": context["time"],
    }
    unmapped = {key: value for key, value in item.items() if key not in OWN}
    for key, value in properties.items():
        if value is not None and key != "displayName" and key != "definition":
            unmapped[key] = value
    score_name = item["name"]
    if is_control:
        segments = item["id"].split("/")
        score_name = segments[6] if len(segments) > 6 else "unknown"
        parent = uid.split("/securescorecontrols/")[0]
        parent_uid, parent_maximum = parents.get(parent, (None, None))
        unmapped["parent"] = parent
        if parent_uid:
            finding["related_events"] = [{"uid": parent_uid, "type_uid": 9940200101}]
        if has_points:
            derived = unmapped["derived"] = {"points_at_stake": round(maximum - current, 10)}
            if parent_maximum:
                derived["potential_increase_percent"] = round((maximum - current) * 100 / parent_maximum, 2)
    unmapped["name"] = item["name"]
    unmapped["type"] = item["type"]
    unmapped["score_model"] = "control-based"
    unmapped["change"] = {"reason": "baseline"}
    if definition := properties.get("definition"):
        inner = definition.get("properties") or {}
        analytic = {
            "uid": definition.get("name"),
            "name": inner.get("displayName"),
            "type_id": 1,
            "type": "Rule",
            "category": (inner.get("source") or {}).get("sourceType"),
        }
        finding["analytic"] = {key: value for key, value in analytic.items() if value is not None}
        if inner.get("description"):
            finding["desc"] = inner["description"]
        unmapped["definition"] = {key: value for key, value in definition.items() if key not in OWN}
        unmapped["definition"].update((key, value) for key, value in inner.items() if key not in MAPPED)

    return {
        "class_uid": 99402001,
        "class_name": "Assessment Finding",
        "category_uid": 2,
        "category_name": "Findings",
        "type_uid": 9940200101,
        "type_name": "Assessment Finding: Create",
        "activity_id": 1,
        "activity_name": "Create",
        "time": context["time"],
        "severity_id": severity[0],
        "severity": severity[1],
        "status_id": workflow[0],
        "status": workflow[1],
        "status_detail": detail,
        "message": f"{noun} '{title}': {status[1]}. {detail}",
        "metadata": {
            "version": "1.8.0",
            "uid": event_uid,
            "correlation_uid": context["poll_id"],
            "tenant_uid": scope["tenant_id"],
            "product": {
                "name": "Microsoft Defender for Cloud",
                "vendor_name": "Microsoft",
                "feature": {"name": "Secure Score"},
            },
            "profiles": ["cloud"],
            "extensions": [{"name": "databee", "uid": "994", "version": "1.0.0"}],
            "labels": ["feed:" + context["feed"], "tenant:" + context["tenant"]],
            "original_event_uid": item["id"],
            "event_code": item["type"],
            "log_name": noun + "s",
            "log_provider": "Azure Resource Manager",
            "log_version": "2020-01-01",
            "log_format": "JSON",
        },
        "cloud": {
            "provider": "Azure",
            "account": {
                "uid": scope["id"],
                **({"name": scope["name"]} if scope.get("name") else {}),
                "type_id": 13,
                "type": "Azure Subscription",
            },
            "org": {"uid": scope["tenant_id"]},
        },
        "finding_info": finding,
        "compliance": {
            "control": title,
            "standards": [f"Microsoft Defender for Cloud Secure Score ({score_name})"],
            "status_id": status[0],
            "status": status[1],
        },
        "resources": [
            {
                "uid": resource,
                **({"name": scope["name"]} if scope.get("name") else {}),
                "type": "Microsoft.Resources/subscriptions",
                "role_id": 1,
                "role": "Target",
            }
        ],
        "observables": [{"name": "resources[0].uid", "type_id": 10, "type": "Resource UID", "value": resource}],
        "unmapped": unmapped,
        "raw_data": raw,
        "raw_data_size": len(raw.encode()),
    }


def status_of(properties, is_control, current, maximum):
    healthy, unhealthy = properties.get("healthyResourceCount"), properties.get("unhealthyResourceCount")
    if is_control and healthy is not None and unhealthy is not None:
        if unhealthy > 0:
            return 3, "Fail"
        return (1, "Pass") if healthy > 0 else (99, "Not Applicable")
    if current is None or maximum is None:
        return 0, "Unknown"
    if maximum <= 0:
        return 99, "Not Applicable"
    return (1, "Pass") if current >= maximum else (3, "Fail")


def severity_of(status_id, is_control, current, maximum):
    if status_id == 0:
        return 0, "Unknown"
    if status_id != 3 or current is None or maximum is None or maximum <= 0:
        return 1, "Informational"
    if is_control:
        stake = maximum - current
        return (4, "High") if stake >= 5 else (3, "Medium") if stake >= 2 else (2, "Low")
    return (3, "Medium") if current < 0.75 * maximum else (2, "Low")


def detail_of(properties, points):
    current, maximum, ratio = points.get("current"), points.get("max"), points.get("percentage")
    text = "No score"
    if current is not None and maximum is not None:
        text = f"Score {current} of {maximum}"
        if ratio is not None:
            percent = round(ratio * 100, 10)
            text += f" ({int(percent) if percent == int(percent) else percent} %)"
    healthy, unhealthy = properties.get("healthyResourceCount"), properties.get("unhealthyResourceCount")
    if healthy is not None and unhealthy is not None:
        others = properties.get("notApplicableResourceCount") or 0
        text += f"; Resources: {healthy} healthy, {unhealthy} unhealthy, {others} not applicable"
    return text


def line(event):
    """An event as it is written."""
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def main(path):
    with open(path, encoding="utf-8") as file:
        context = json.load(file)
    context["poll_uuid"] = uuid.UUID(context["poll_id"])

    def call():
        scores, controls = json.loads(context["scores"])["value"], json.loads(context["controls"])["value"]
        return events(scores, controls, context)

    print(json.dumps(list(call())), flush=True)
    for calls in sys.stdin:
        begun = time.process_time_ns()
        for _ in range(int(calls)):
            "\n".join(map(line, call())).encode()
        print(time.process_time_ns() - begun, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
