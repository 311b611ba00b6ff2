"""Alters the history of a trial that passed, each time by one fault that the checker must find.

python tests/cluster/altered.py HISTORY
"""

import sys

import checker
import history


def histories(lines):
    """Altered histories, each with the kind of fault that it has."""
    trial = next(line for line in lines if line["what"] == "trial")
    came = [line for line in lines if line["what"] == "came"]
    # The first tenant's service is silent for a while, which explains a long delay.
    others = [line for line in came if line["tenant"] != "tenant-0"]
    one = others[len(others) // 2]

    def without(gone):
        return [line for line in lines if not gone(line)]

    def changed(old, **fields):
        return [line | fields if line is old else line for line in lines]

    yield "lost event", without(lambda line: line is one)
    own = [line for line in came if (line["sink"], line["scope"]) == (one["sink"], one["scope"])]
    yield "order", changed(own[-1], at=own[0]["at"] - 1)
    yield "repeat", [*lines, one | {"digest": "another", "at": one["at"] + 1}]
    yield "repeat", [*lines, one | {"uid": "another", "at": one["at"] + 1}]
    yield "event without a commit", without(lambda line: line["what"] == "queued" and line["uid"] == one["uid"])
    gone = next(line for line in lines if line["what"] == "gone" and (line["sink"], line["uid"]) == (one["sink"], one["uid"]))
    yield "early acknowledgement", changed(gone, at=one["at"] - 1)
    yield "late event", changed(one, at=one["at"] + 300)

    def throughout(words, collector=None):
        """A fault that goes on all the time, and for as long as an event is late."""
        number, over = len(lines), next(line["at"] for line in lines if line["what"] == "over") + 300
        begin = {"what": "fault", "at": trial["at"], "fault": words} | ({"collector": collector} if collector else {})
        return [line | {"number": number} for line in (begin, {"what": "healed", "at": over}, {"what": "settled", "at": over})]

    # Neither a fault of the other sink nor one of a collector that has nothing to do with the tenant explains a delay.
    received = next(line for line in came if line["sink"] == "receiver" and line["tenant"] == one["tenant"] and line["at"] > one["at"])
    yield "late event", [*changed(received, at=received["at"] + 300), *throughout("a server of NATS is killed")]
    rows = [line for line in lines if line["what"] == "row" and line["tenant"] == one["tenant"]]
    # Nearly the whole trial: faults of its own collector and of everybody explain parts of it.
    late = {line["number"] for line in rows if line["at"] > trial["at"]}
    unpolled = without(lambda line: line.get("who") and line["number"] in late)
    yield "late poll", unpolled
    yield "late poll", [*unpolled, *throughout("a clock is wrong by +1 h", "four")]
    yield "poll", without(lambda line: line["what"] == "row" and line["tenant"] == one["tenant"])
    other = next(line["who"] for line in lines if line["what"] == "lease" and line["who"] != rows[-1]["who"])
    yield "stale write", changed(rows[-1], who=other)
    lease = [line for line in lines if line["what"] == "lease" and line["is_held"]][-1]
    yield "lease", changed(lease, epoch=lease["epoch"] - 1)
    # The last poll of a scope, as if it had begun with what the one before the last one but one left.
    events = [line for line in lines if line["what"] == "queued" and line["tenant"] == one["tenant"]]
    last = {line["uid"]: line for line in came if line["tenant"] == one["tenant"]}[events[-1]["uid"]]["poll"]
    stale = checker.poll_after(trial, rows[-5])
    yield "stale poll", [line | {"poll": stale} if line.get("poll") == last else line for line in lines]
    rest = next(line for line in lines if line["what"] == "rest")
    yield "rest", changed(rest, waiting=1)


def main(path):
    lines = history.read(path)
    kinds = [kind for kind, altered in histories(lines) if kind not in checker.Check(altered).judge()]
    if kinds:
        sys.exit(f"the checker does not find: {', '.join(kinds)}")
    print(f"the checker finds {sum(1 for _ in histories(lines))} altered histories out")


if __name__ == "__main__":
    main(sys.argv[1])
