"""Tests deploy/prometheus: the alert rules by promtool, each query of the dashboard, and a real Prometheus that scrapes a real
collector with a token, before and after its own restart.

python tests/prometheus.py HOST_HARNESS
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/browser"))

from ports import free_port  # noqa: E402
from scene import Scene  # noqa: E402

FOLDER = ROOT / "deploy/prometheus"
TOKEN = "readers-of-the-metrics"
PATIENCE = 60
# What Prometheus adds itself.
OWN = {"up"}
WORDS = {"sum", "by", "rate", "increase", "min", "max", "count", "and", "on", "time", "offset", "le", "topk", "bottomk", "delta"}


def program(name):
    installed = shutil.which(name) or str(ROOT / "target/promtool/usr/bin" / name)
    assert Path(installed).is_file(), f"found no {name}: `cargo xtask test` unpacks it"
    return installed


def promtool(*arguments):
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"promtool {arguments}:\n{done.stdout}{done.stderr}"
    return done.stdout


def queries(dashboard):
    """Each query of the dashboard, with something in the place of its variables."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "5m").replace("$tenant", ".*")


def metrics_of(query):
    """The names of metrics in a query."""
    query = re.sub(r'"[^"]*"', "", query)
    query = re.sub(r"\b(by|on)\s*\([^)]*\)|\{[^}]*\}|\[[^\]]*\]|offset\s+\w+", "", query)
    return set(re.findall(r"\b[a-z][a-z0-9_:]*\b(?!\s*\()", query)) - WORDS


def check_files(folder):
    """The configuration is accepted, each alert is tested, and no query asks for what the collector does not have."""
    for file in ("prometheus.yml", "alerts.yml", "alerts_test.yml"):
        shutil.copy(FOLDER / file, folder)
    Path(folder, "collector.token").write_text(TOKEN)
    promtool("check", "config", str(Path(folder, "prometheus.yml")))
    promtool("test", "rules", str(Path(folder, "alerts_test.yml")))
    text = (FOLDER / "alerts.yml").read_text()
    alerts, tested = set(re.findall(r"- alert: (\w+)", text)), (FOLDER / "alerts_test.yml").read_text()
    for alert in alerts:
        assert tested.count(f"alertname: {alert}") >= 2, f"{alert} has no test that fires and one that is quiet"
        assert f"| `{alert}` |" in (FOLDER / "README.md").read_text(), f"README.md does not name {alert}"
    for page in re.findall(r"docs: (\S+)", text):
        file, _, anchor = page.partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(), re.M)
        anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in anchors, f"{page} leads nowhere: {sorted(anchors)}"
    for part in ("summary", "action", "docs"):
        assert text.count(f"{part}: ") == len(alerts), f"each alert has its {part}"

    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    asked = list(queries(dashboard))
    assert len(asked) > 15, asked
    rules = [{"record": f"query:number_{number}", "expr": query} for number, query in enumerate(asked)]
    file = Path(folder, "dashboard.yml")
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(asked)} rules found" in promtool("check", "rules", str(file))
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.M))
    for query in [*asked, *re.findall(r"expr: (.+)", text)]:
        names = {re.sub(r"_bucket$", "", name) for name in metrics_of(query)}
        assert names and names <= documented | OWN, f"{query}: docs/metrics.md has no {names - documented - OWN}"
    places = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24 and panel["title"], panel
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not places & cells, f"{panel['title']} lies over another panel"
        places |= cells
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    print(f"{len(alerts)} alerts and {len(asked)} queries of the dashboard are good")
    return alerts, asked


@contextmanager
def prometheus(folder):
    """A running Prometheus: a function that asks its HTTP interface."""
    port = free_port()
    flags = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with open(Path(folder, "prometheus.log"), "a") as log:
        process = subprocess.Popen([program("prometheus"), *flags], stderr=log, stdout=log)

    def ask(path, **parameters):
        url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            # It answers 503 while it starts.
            assert error.code == 503, (url, error.read())
        except (urllib.error.URLError, ConnectionError):
            pass
        return None

    try:
        yield ask
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for(condition, what):
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {PATIENCE} s: {what}"
        time.sleep(0.2)
    return found


def check_scrape(scene, folder, alerts, asked):
    """A real Prometheus with the configuration of deploy, which reads more often."""
    file = Path(folder, "prometheus.yml")
    text = file.read_text().replace("127.0.0.1:9464", scene.url.removeprefix("http://"))
    file.write_text(re.sub(r"_interval: 1m", "_interval: 1s", text))
    value = lambda ask, query: [float(one["value"][1]) for one in (ask("query", query=query) or {"result": []})["result"]]
    with prometheus(folder) as ask:
        wait_for(lambda: value(ask, 'up{job="host-harness"}') == [1.0], "Prometheus reads the collector")
        scores = wait_for(lambda: value(ask, "collector_score_percent"), "there are scores")
        assert len(scores) == 27 and all(0 < score < 100 for score in scores), scores
        series = {one["__name__"] for one in ask("series", **{"match[]": '{job="host-harness"}'})}
        documented = set(re.findall(r"^\| `(collector_\w+)` \| (?:counter|gauge)", (ROOT / "docs/metrics.md").read_text(), re.M))
        missing = documented - series - {"collector_notices_total", "collector_sink_free_bytes"}
        # A state in a file has no fleet.
        missing = {name for name in missing if not name.startswith(("collector_fleet", "collector_shards"))}
        assert not missing, f"Prometheus has no {missing}"

        def rules():
            groups = (ask("rules") or {"groups": []})["groups"]
            found = [rule for group in groups for rule in group["rules"]]
            return found if found and all(rule["health"] != "unknown" for rule in found) else None

        found = wait_for(rules, "the rules are evaluated")
        assert {rule["name"] for rule in found} == alerts, found
        bad = [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok"]
        assert not bad, bad
        waits_for = {"FeedLeftOut": "pending", "CredentialEndsSoon": "firing", "OutboxFull": "pending", "NoCollectionForADay": "pending"}
        states = lambda: {rule["name"]: rule["state"] for rule in rules() or []}
        wait_for(lambda: waits_for.items() <= states().items(), f"{waits_for}, found {states()}")
        for query in asked:
            assert ask("query", query=query) is not None, query
        read = value(ask, "count_over_time(up[10m])")[0]
    # After its restart, Prometheus has what it read before, and reads on.
    with prometheus(folder) as ask:
        wait_for(lambda: (value(ask, "count_over_time(up[10m])") or [0])[0] > read, "Prometheus reads on after a restart")
    # A wrong token is seen as a collector that is down.
    Path(folder, "collector.token").write_text("wrong")
    with prometheus(folder) as ask:
        wait_for(lambda: value(ask, 'up{job="host-harness"}') == [0.0], "a wrong token is refused")
    print(f"Prometheus read {len(series)} metrics of a collector, and evaluated {len(found)} alerts")


def main(harness):
    with tempfile.TemporaryDirectory() as folder:
        alerts, asked = check_files(folder)
        with Scene(harness, TOKEN) as scene:
            check_scrape(scene, folder, alerts, asked)


if __name__ == "__main__":
    main(sys.argv[1])
