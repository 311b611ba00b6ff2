"""Reads the simulated service with Microsoft's own packages and compares with the events of `poll`.

python tests/azure_sdk.py HOST_HARNESS
"""

import json
import os
import subprocess
import sys
import tempfile

from azure.identity import ClientSecretCredential
from azure.mgmt.security import SecurityCenter


def of_the_sdk(about, tenant):
    """`(id, current, max)` of all scores and controls of a tenant."""
    credential = ClientSecretCredential(
        tenant["tenant_id"],
        tenant["client_id"],
        tenant["client_secret"],
        authority=about["url"],
        disable_instance_discovery=True,
        connection_verify=about["ca_file"],
    )
    for subscription in tenant["subscriptions"]:
        client = SecurityCenter(
            credential,
            subscription,
            base_url=about["url"],
            credential_scopes=[about["audience"] + "/.default"],
            connection_verify=about["ca_file"],
        )
        yield from client.secure_scores.list()
        yield from client.secure_score_controls.list(expand="definition")


def figures(item):
    item = item.as_dict()
    score = item["properties"]["score"] if "properties" in item else item
    return item["id"].lower(), float(score["current"]), float(score["max"])


def of_the_plugin(harness, about):
    """The same from the events."""
    lines = [
        "[network]",
        f"ca_file = {json.dumps(about['ca_file'])}",
        f"allow = [{json.dumps(about['url'])}]",
        'allow_addresses = ["127.0.0.0/8"]',
    ]
    environment = dict(os.environ)
    for index, tenant in enumerate(about["tenants"]):
        environment[f"SECRET_{index}"] = tenant["client_secret"]
        lines += [
            "[[feed]]",
            f'id = "feed-{index}"',
            f'tenant = "tenant-{index}"',
            "[feed.settings]",
            f"client_key = {json.dumps(tenant['client_id'])}",
            f'client_secret = {{ env = "SECRET_{index}" }}',
            f"token_url = {json.dumps(tenant['tenant_id'])}",
            f"subscription_id = {json.dumps(tenant['subscriptions'])}",
            f"authority = {json.dumps(about['url'])}",
            f"endpoint = {json.dumps(about['url'])}",
            f"audience = {json.dumps(about['audience'])}",
        ]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write("\n".join(lines))
        file.flush()
        polled = subprocess.run([harness, "poll", "-c", file.name], env=environment, stdout=subprocess.PIPE, check=True)
    for line in polled.stdout.splitlines():
        event = json.loads(line)
        score = event["unmapped"]["score"]
        yield event["finding_info"]["uid"], float(score["current"]), float(score["max"])


def main(harness):
    service = subprocess.Popen([harness, "simulate", "--json"], stdout=subprocess.PIPE)
    try:
        about = json.loads(service.stdout.readline())
        sdk = sorted(figures(item) for tenant in about["tenants"] for item in of_the_sdk(about, tenant))
        plugin = sorted(of_the_plugin(harness, about))
    finally:
        service.terminate()
        service.wait()
    if not sdk or sdk != plugin:
        sys.exit(f"the SDK read {len(sdk)} items and the plugin {len(plugin)}; they differ in {set(sdk) ^ set(plugin)}")
    print(f"the SDK and the plugin read the same {len(sdk)} scores and controls")


main(sys.argv[1])
