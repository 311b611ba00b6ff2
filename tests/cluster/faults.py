"""The faults of a trial. Each takes the trial and a source of chance, brings itself about, and ends when its cause is gone."""

import signal
import time


def kill_collector(trial, chance):
    """A collector is killed, and started again when others have its shards."""
    one = trial.chosen(chance)
    with trial.fault("a collector is killed", one):
        one.kill()
        trial.until(lambda: trial.is_taken_from(one), "the shards of the dead are taken over")
        one.start()


def stop_collector(trial, chance):
    """A collector is stopped with polls in flight and a commit on its way, for longer than its lease, and goes on."""
    one = trial.chosen(chance)
    with trial.fault("a collector is stopped", one):
        before = one.words().count("did not reach the store for")
        # The commits of these seconds reach the database when others have the shards.
        one.turn("silent")
        time.sleep(3)
        # The answers of the service come while the collector is stopped: it wakes in the middle of these polls.
        with trial.service_lock:
            trial.service.signal(signal.SIGSTOP)
            time.sleep(1.5)
            one.signal(signal.SIGSTOP)
            trial.service.signal(signal.SIGCONT)
        trial.until(lambda: trial.is_taken_from(one), "the shards of one that is stopped are taken over")
        one.turn("open")
        time.sleep(chance.uniform(0, 4))
        one.signal(signal.SIGCONT)
        trial.until(lambda: one.words().count("did not reach the store for") > before, "the collector that was stopped says so")


def cut_collector_off(trial, chance):
    """A collector reaches the service and not the store, for longer than its lease."""
    one, way = trial.chosen(chance), chance.choice(["closed", "silent"])
    with trial.fault(f"a collector is cut off from the store ({way})", one):
        one.turn(way)
        trial.until(lambda: trial.is_taken_from(one), "the shards of one that is cut off are taken over")
        time.sleep(chance.uniform(0, 4))
        one.turn("open")


def kill_primary(trial, chance):
    """The primary is killed, the standby takes its place, and the killed server becomes its standby."""
    is_silent = chance.choice([True, False])
    number = trial.database.servers.index(trial.database.primary)
    with trial.fault("the primary is killed" + (", and its machine answers nobody" if is_silent else "")) as fault:
        if not trial.database.is_synchronous:
            # The standby does not follow at once, and nobody waits for it.
            trial.database.way().turn("silent")
            time.sleep(3)
        if is_silent:
            for one in trial.collectors:
                one.relays[number].turn("silent")
        trial.database.fail_over()
        fault.heal()
        trial.settle()
        trial.database.rebuild()
        for one in trial.collectors if is_silent else []:
            one.relays[number].turn("closed")
            one.relays[number].turn("open")


def kill_standby(trial, chance):
    """The standby is killed. Commits wait until whoever looks after the servers tells the primary to go on alone."""
    with trial.fault("the standby is killed"):
        trial.database.standby.kill()
        time.sleep(chance.uniform(1, 4))
        trial.database.wait_for_standby(False)
        trial.database.rebuild()


def kill_stream_server(trial, chance):
    """A server of NATS is killed, and started again."""
    one = chance.choice(trial.stream.servers)
    with trial.fault("a server of NATS is killed") as fault:
        one.kill()
        time.sleep(chance.uniform(2, 5))
        one.start()
        # The others go on without a whole stream.
        fault.heal()
        trial.until(trial.stream.is_whole, "the stream has three replicas")


def kill_receiver(trial, chance):
    """The receiver of the sink `http` is killed, and started again."""
    with trial.fault("the receiver is killed"):
        trial.receiver.kill()
        time.sleep(chance.uniform(1, 4))
        trial.receiver.start()


def kill_service(trial, chance):
    """The service is killed, and started again."""
    with trial.fault("the service is killed"), trial.service_lock:
        trial.service.kill()
        time.sleep(chance.uniform(0.5, 2))
        trial.service.start()


def skew_clock(trial, chance):
    """The clock of a collector is wrong by an hour for a while."""
    clocks = [one for one in trial.collectors if one.has_clock]
    if not clocks:
        return trial.leave_out("no clock is skewed: found no libfaketime, expected Debian's package in target/faketime")
    one, hours = trial.chosen(chance, clocks), chance.choice([-1, 1])
    with trial.fault(f"a clock is wrong by {hours:+d} h", one):
        one.set_clock(hours * 3_600)
        time.sleep(chance.uniform(6, 10))
        one.set_clock(0)


def fill_disk(trial, chance):
    """The disk of the primary's tables is full for a while."""
    primary = trial.database.primary
    if not primary.is_mounted:
        return trial.leave_out("no disk is filled: only root can mount one that is small enough")
    with trial.fault("the disk of the primary is full"):
        ballast = primary.disk / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
        time.sleep(chance.uniform(4, 7))
        ballast.unlink()
        if not primary.runs():
            primary.start()


def silence_tenant(trial, chance):
    """The service does not answer one tenant."""
    with trial.fault("the service does not answer one tenant", tenants=["tenant-0"]):
        trial.apart.signal(signal.SIGSTOP)
        time.sleep(chance.uniform(8, 12))
        trial.apart.signal(signal.SIGCONT)


# Those of collectors, and those of everything else: one of each may go on at the same time.
COLLECTORS = [kill_collector, stop_collector, cut_collector_off]
OTHERS = [
    kill_primary,
    kill_standby,
    kill_stream_server,
    kill_receiver,
    kill_service,
    skew_clock,
    fill_disk,
    silence_tenant,
]
