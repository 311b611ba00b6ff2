"""Judges the history of a trial, when everything is over: was every poll done in time, did anybody write a shard that another collector
had, did each committed event reach each sink in order, and did a tenant wait for another's trouble.

python tests/cluster/checker.py HISTORY
"""

import sys
import uuid
from bisect import bisect_right
from collections import Counter, defaultdict

import history

# Seconds. A lease, a renewal, and the time to give shards back, as in limits.rs; the first wait after a failed poll with its spread, and
# the first two after a result that the store did not take.
LEASE, RENEWAL, GIVING, BACKOFF, STORE_BACKOFF = 15, 3, 6, 38, 19
# A message that a dead server of NATS does not acknowledge, and the wait before it is sent again, as in limits.rs. Others elect a leader
# within 9 s, which is over by then.
ACKNOWLEDGEMENT = 12
# A busy machine, on top of all.
SLACK = 6
# Two clocks of one machine, which different programs read.
CLOCKS = 0.05
# As in host-harness/host/src/feed/poll.rs.
POLLS = uuid.UUID("8d2c9f0e-64b1-4c57-9a3d-1be077f526c4")

# By the first words of a fault: whom it may delay, all or a part of them (the scopes of its collector, of the one with its clock or of its
# tenants, the events for one sink), and for how many seconds a poll, and an event on its way; `None` if not at all. The seconds count from
# the begin of a fault of a collector, whose shards others take over, and from the end of other faults.
ALLOWED = {
    "a collector is killed": ("collector", LEASE + RENEWAL, LEASE + RENEWAL),
    "a collector is stopped": ("collector", LEASE + RENEWAL, LEASE + RENEWAL),
    "a collector is cut off": ("collector", LEASE + RENEWAL, LEASE + RENEWAL),
    # The collector sees within so many seconds that its clock went back, and plans its scopes anew, at most one and a half intervals away.
    "a clock is wrong": ("clock", 10, None),
    "the primary is killed": ("all", RENEWAL, RENEWAL),
    "the standby is killed": ("all", RENEWAL, RENEWAL),
    "the disk of the primary is full": ("all", STORE_BACKOFF, STORE_BACKOFF),
    "a server of NATS is killed": ("stream", None, ACKNOWLEDGEMENT),
    "the receiver is killed": ("receiver", None, RENEWAL),
    # A search for scopes that met the dead service waits, and leaves no row that says so.
    "the service is killed": ("all", BACKOFF, None),
    "the service does not answer one tenant": ("tenants", BACKOFF, None),
}


def poll_after(trial, row):
    """The id of the poll that began with this row of its scope: the time in it is when the poll was due, and never goes back."""
    time = max(row["next"], row["id_time"] + 1)
    feed = row["tenant"].replace("tenant", "feed")
    return str(uuid.uuid5(uuid.uuid5(POLLS, trial["salt"]), f"{feed}\n{row['scope']}\n{time}"))


class Fault:
    """A fault, from its begin until all scopes were polled again."""

    def __init__(self, line):
        self.words, self.begin, self.healed, self.settled = line["fault"], line["at"], None, float("inf")
        self.collector, self.tenants = line.get("collector"), line.get("tenants", [])
        rules = [rule for words, rule in ALLOWED.items() if self.words.startswith(words)]
        if len(rules) != 1:
            sys.exit(f"the checker does not know the fault {self.words!r}")
        self.concerns, self.poll, self.event = rules[0]

    def overlaps(self, begin, end):
        return begin < self.settled and end > self.begin


class Leases:
    """Who held each shard when, and what is wrong with that."""

    def __init__(self):
        self.holder, self.epoch, self.changes = {}, {}, defaultdict(list)

    def change(self, line):
        shard, epoch = line["shard"], line["epoch"]
        before = self.epoch.get(shard, 0)
        if epoch != before + (1 if line["is_held"] else 0):
            yield f"the shard {shard} went from the epoch {before} to {epoch}"
        self.epoch[shard], self.holder[shard] = epoch, line["who"] if line["is_held"] else None
        self.changes[shard].append((line["at"], self.holder[shard]))

    def between(self, shard, begin, end):
        """The changes of a shard's holder in a time."""
        changes = self.changes[shard]
        first = bisect_right(changes, begin, key=lambda change: change[0])
        return changes[first : bisect_right(changes, end, key=lambda change: change[0])]

    def holders(self, shard, begin, end):
        """Everybody who had a shard in a time; `None` among them if nobody had it for a while."""
        changes = self.changes[shard]
        before = bisect_right(changes, begin, key=lambda change: change[0])
        return {who for _, who in [*changes[max(before - 1, 0) : before], *self.between(shard, begin, end)]}


class Check:
    def __init__(self, lines):
        self.faults, self.found, self.leases = {}, Counter(), Leases()
        self.words, self.worst = [], defaultdict(lambda: [0.0, 0.0])
        self.committed = [line for line in lines if "number" in line and "who" in line]
        self.committed.sort(key=lambda line: line["number"])
        self.came = sorted((line for line in lines if line["what"] == "came"), key=lambda line: line["at"])
        self.trial = self.rest = self.over = None
        for line in lines:
            match line["what"]:
                case "trial":
                    self.trial = line
                case "over":
                    self.over = line["at"]
                case "rest":
                    self.rest = line
                case "fault":
                    self.faults[line["number"]] = Fault(line)
                case "healed":
                    self.faults[line["number"]].healed = line["at"]
                case "settled":
                    self.faults[line["number"]].settled = line["at"]
        if None in (self.trial, self.rest, self.over):
            sys.exit("the history does not tell of a whole trial")
        # By the minute: a trial of hours has hundreds of faults, and millions of events to hold against them.
        self.minutes = defaultdict(list)
        for fault in self.faults.values():
            for minute in range(int(fault.begin // 60), int(min(fault.settled, self.over) // 60) + 1):
                self.minutes[minute].append(fault)
        self.scopes = {tuple(scope) for scope in self.trial["scopes"]}

    def tell(self, kind, words):
        self.found[kind] += 1
        if self.found[kind] <= 5:
            self.words.append(f"{kind}: {words}")

    def judge(self):
        self.writes()
        self.polls()
        self.deliveries()
        if self.rest["held"] or self.rest["waiting"]:
            self.tell("rest", f"{self.rest['held']} shards are held and {self.rest['waiting']} events wait after the end")
        return self.found

    def writes(self):
        """Every row was written by whoever held its shard: no stale write, and no two leases at once."""
        for line in self.committed:
            if line["what"] == "lease":
                for words in self.leases.change(line):
                    self.tell("lease", words)
            elif (holder := self.leases.holder.get(line["shard"])) != line["who"]:
                words = f"{line['who']} wrote a {line['what']} of {line['tenant']} in the shard {line['shard']}, which {holder} held"
                self.tell("stale write", words)

    def bases(self, first):
        """No poll is written that began before the last written one of its scope: what that one wrote would be lost."""
        rows, seen = defaultdict(list), {}
        for line in self.committed:
            scope = line.get("tenant"), line.get("scope")
            if line["what"] == "row":
                rows[scope].append(line)
            elif line["what"] == "queued" and (came := first.get((line["sink"], line["uid"]))) and seen.get(scope) != came["poll"]:
                seen[scope] = came["poll"]
                # The last row is the poll's own. It began with the one before, or with a time that its collector chose.
                if came["poll"] in {poll_after(self.trial, row) for row in rows[scope][-20:-2]}:
                    self.tell("stale poll", f"a poll of {scope[0]} was written that began before the last one, at {line['at']:.1f}")

    def beside(self, begin, end):
        """The faults that went on in a time."""
        minutes = range(int(begin // 60), int(end // 60) + 1)
        return {fault for minute in minutes for fault in self.minutes[minute] if fault.overlaps(begin, end)}

    def unexplained(self, tenant, shard, begin, end, of, sink=None):
        """The seconds of a delay that no fault explains, neither one of everybody's nor one of the tenant's own collector or of the
        event's own sink."""
        if end - begin <= SLACK:
            return 0.0
        excuses = []
        for fault in self.beside(begin, end):
            if (own := of(fault)) is None:
                continue
            if fault.concerns == "tenants" and tenant not in fault.tenants:
                continue
            if fault.concerns in self.trial["sinks"] and fault.concerns != sink:
                continue
            if fault.concerns == "collector":
                # Those whose shards it had; others take them over, however long it is away.
                if fault.collector in self.leases.holders(shard, fault.begin, fault.begin):
                    excuses.append((fault.begin, fault.begin + own))
            elif fault.concerns == "clock":
                # Those, too, that the collector took over meanwhile.
                if fault.collector in self.leases.holders(shard, fault.begin, fault.healed):
                    excuses.append((fault.begin, fault.healed + own + 1.5 * self.trial["interval"]))
            else:
                excuses.append((fault.begin, fault.healed + own))
        # A shard on its way: it was not worked on before its holder changed, and the next one reads its rows.
        excuses += [(at - GIVING - RENEWAL, at + RENEWAL) for at, _ in self.leases.between(shard, begin - RENEWAL, end + GIVING + RENEWAL)]
        unexplained, reached = 0.0, begin
        for start, stop in sorted(excuses):
            unexplained += max(min(start, end) - reached, 0)
            reached = max(reached, min(stop, end))
        return unexplained + max(end - reached, 0)

    def note(self, begin, end, late, place):
        """Keeps the longest delay beside each fault that was there."""
        for name in {fault.words for fault in self.beside(begin, end)} or ["no fault"]:
            self.worst[name][place] = max(self.worst[name][place], late)

    def polls(self):
        """Every scope is polled when it is due, but for the delays that the faults of its own collector or tenant explain."""
        rows, began = defaultdict(list), self.trial["at"]
        for line in self.committed:
            if line["what"] == "row":
                rows[line["tenant"], line["scope"]].append(line)
        if set(rows) != self.scopes:
            self.tell("poll", f"{len(rows)} scopes were polled, expected {len(self.scopes)}")
        interval = self.trial["interval"]
        for (tenant, scope), lines in rows.items():
            shard = lines[0]["shard"]
            for before, after in zip(lines, [*lines[1:], {"at": self.over, "ends": True}]):
                if after["at"] < began or before["at"] >= after["at"]:
                    continue
                # A clock that is wrong writes times that are wrong: they count no more than an interval, or a wait after a failure.
                furthest = before["at"] + (BACKOFF * 2 if "outcome" in before else interval * 1.5)
                due = max(min(before["next"] / 1000, furthest), before["at"])
                late = after["at"] - due
                if "ends" not in after:
                    self.note(max(before["at"], due), after["at"], late, 0)
                unexplained = self.unexplained(tenant, shard, due, after["at"], lambda fault: fault.poll)
                if unexplained > SLACK:
                    self.tell("late poll", f"{tenant} was polled {late:.1f} s late at {after['at']:.1f}, {unexplained:.1f} s of it without a reason")
        self.polls_done = sum(len(lines) for lines in rows.values())

    def deliveries(self):
        """Each committed event reaches each sink, in the order of its scope, under one uid, and leaves the outbox afterwards."""
        first, bodies, findings = {}, {}, {}
        order = defaultdict(list)
        self.repeats = 0
        for line in self.came:
            key = line["sink"], line["uid"]
            if key in first:
                self.repeats += 1
            else:
                first[key] = line
                order[line["sink"], line["tenant"], line["scope"]].append(line["uid"])
            if bodies.setdefault(line["uid"], line["digest"]) != line["digest"]:
                self.tell("repeat", f"{line['uid']} came with two bodies")
            if findings.setdefault((line["scope"], line["poll"], line["finding"]), line["uid"]) != line["uid"]:
                self.tell("repeat", f"{line['finding']} of one poll of {line['tenant']} came with two uids")
        self.bases(first)
        queued, expected = {}, defaultdict(list)
        for line in self.committed:
            key = line.get("sink"), line.get("uid")
            if line["what"] == "queued":
                queued[key] = line
                expected[line["sink"], line["tenant"], line["scope"]].append(line["uid"])
                if (came := first.get(key)) is None:
                    self.tell("lost event", f"{line['uid']} of {line['tenant']} never came to {line['sink']}")
                    continue
                late = came["at"] - line["at"]
                self.note(line["at"], came["at"], late, 1)
                of = (lambda fault: fault.event), line["sink"]
                unexplained = self.unexplained(line["tenant"], line["shard"], line["at"], came["at"], *of)
                if unexplained > SLACK:
                    words = f"an event of {line['tenant']} took {late:.1f} s to {line['sink']}, {unexplained:.1f} s of it without a reason"
                    self.tell("late event", words)
            elif line["what"] == "gone":
                came = first.get(key)
                if came is not None and came["at"] > line["at"] + CLOCKS:
                    early = came["at"] - line["at"]
                    self.tell("early acknowledgement", f"{line['uid']} left the outbox {early:.2f} s before {line['sink']} had it")
        for key in first.keys() - queued.keys():
            self.tell("event without a commit", f"{key[1]} of {first[key]['tenant']} came to {key[0]}, and the database does not know it")
        for key, uids in expected.items():
            if [uid for uid in order[key] if (key[0], uid) in queued] != [uid for uid in uids if (key[0], uid) in first]:
                self.tell("order", f"the events of {key[1]} came to {key[0]} in another order than they were committed")
        self.events = len(queued)

    def summary(self):
        yield f"{self.polls_done} polls of {len(self.scopes)} scopes, {self.events} events to {len(self.trial['sinks'])} sinks, {self.repeats} repeats"
        for words, (poll, event) in sorted(self.worst.items()):
            yield f"  {words}: a poll was at most {poll:.1f} s late, and an event {event:.1f} s on its way"


def main(path):
    check = Check(history.read(path))
    found = check.judge()
    for line in check.summary():
        print(line)
    if found:
        sys.exit("\n".join([*check.words, ", ".join(f"{kind}: {count}" for kind, count in found.items())]))


if __name__ == "__main__":
    main(sys.argv[1])
