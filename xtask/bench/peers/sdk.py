"""Polls with Microsoft's own packages, maps what they give, and writes the events: a peer of `poll` and `run`.

python sdk.py ABOUT THREADS: ABOUT is the line that `simulate --json` prints, and THREADS the number of polls in flight.
"""

import json
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from azure.core.pipeline.transport import RequestsTransport
from azure.identity import ClientSecretCredential
from azure.mgmt.security.v2020_01_01 import SecurityCenter

import normalize


def main(file, threads):
    with open(file, encoding="utf-8") as text:
        about = json.load(text)
    for tenant in about["tenants"]:
        poll_tenant(about, tenant, threads)


def poll_tenant(about, tenant, threads):
    credential = ClientSecretCredential(
        tenant["tenant_id"],
        tenant["client_id"],
        tenant["client_secret"],
        authority=about["url"],
        disable_instance_discovery=True,
        connection_verify=about["ca_file"],
    )
    local = threading.local()

    def poll(subscription):
        # A client belongs to one subscription. The connections belong to the thread, and stay open.
        if not hasattr(local, "transport"):
            local.transport = RequestsTransport(connection_verify=about["ca_file"])
        client = SecurityCenter(
            credential,
            subscription,
            base_url=about["url"],
            credential_scopes=[about["audience"] + "/.default"],
            transport=local.transport,
        )
        # `serialize` gives the items with the names of the service again, which `raw_data` needs.
        scores = [item.serialize(keep_readonly=True) for item in client.secure_scores.list()]
        controls = [
            item.serialize(keep_readonly=True) for item in client.secure_score_controls.list(expand="definition")
        ]
        context = {
            "feed": "feed-0",
            "tenant": "tenant-0",
            "scope": {"id": subscription, "tenant_id": tenant["tenant_id"]},
            "poll_id": str(uuid.uuid4()),
            "time": int(time.time() * 1000),
        }
        context["poll_uuid"] = uuid.UUID(context["poll_id"])
        return "".join(normalize.line(event) + "\n" for event in normalize.events(scores, controls, context))

    with ThreadPoolExecutor(threads) as pool:
        for lines in pool.map(poll, tenant["subscriptions"]):
            sys.stdout.write(lines)


main(sys.argv[1], int(sys.argv[2]))
