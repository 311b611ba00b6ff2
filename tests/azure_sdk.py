"""Reads the simulated service with Microsoft's own packages and compares with the events of `poll`; signs in with each kind of
credential and compares what the packages and `poll` sent.

python tests/azure_sdk.py HOST_HARNESS
"""

import asyncio
import datetime
import json
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from pathlib import Path

from azure.core.pipeline.transport import AsyncioRequestsTransport
from azure.identity import CertificateCredential, ClientSecretCredential, WorkloadIdentityCredential
from azure.identity.aio import CertificateCredential as AsyncCertificateCredential
from azure.mgmt.security import SecurityCenter
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

# A token of another identity provider: nobody here looks at its signature.
FEDERATED = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.c2lnbmVk"


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


def of_the_plugin(harness, about, credential='client_secret = {{ env = "SECRET_{index}" }}'):
    """The same from the events, signed in with this setting."""
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
            credential.format(index=index),
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


def certificate():
    """PEM of a new key and of a certificate for it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "application")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    signed = builder.not_valid_after(now + datetime.timedelta(days=365)).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + signed.public_bytes(serialization.Encoding.PEM)


def sign_ins(about):
    """What the service got with the requests for tokens so far."""
    trust = ssl.create_default_context(cafile=about["ca_file"])
    with urllib.request.urlopen(about["url"] + "/simulator/sign-ins", context=trust) as answer:
        return json.load(answer)


def sent_by(about, client):
    """What the service got last, after a client signed in."""
    client()
    return sign_ins(about)[-1]


def compared(ours, theirs, about):
    """Compares the plugin's request with those of the packages' clients; gives the claims."""
    fields = {"client_assertion", "client_assertion_type", "client_id", "grant_type", "scope"}
    assert set(ours["form"]) == fields, ours["form"]
    for other in theirs:
        # MSAL asks for facts about a user, whom there is none of.
        assert set(other["form"]) - {"client_info"} == fields, other["form"]
        assert all(ours["form"][name] == other["form"][name] for name in fields), (ours["form"], other["form"])
    return ours["claims"], [other["claims"] for other in theirs]


def same_certificate(harness, about, tenant, file):
    """The packages' two clients, of which one signs RS256 and one PS256, and the plugin."""
    scope = about["audience"] + "/.default"
    options = {"authority": about["url"], "disable_instance_discovery": True, "connection_verify": about["ca_file"]}
    arguments = (tenant["tenant_id"], tenant["client_id"], str(file))

    async def asynchronous():
        transport = AsyncioRequestsTransport(connection_verify=about["ca_file"])
        async with AsyncCertificateCredential(*arguments, transport=transport, **options) as credential:
            await credential.get_token(scope)

    theirs = [
        sent_by(about, lambda: CertificateCredential(*arguments, **options).get_token(scope)),
        sent_by(about, lambda: asyncio.run(asynchronous())),
    ]
    setting = f"client_certificate = {{{{ file = {json.dumps(str(file))} }}}}"
    ours = sent_by(about, lambda: list(of_the_plugin(harness, {**about, "tenants": [tenant]}, setting)))
    assert [one["header"]["alg"] for one in [*theirs, ours]] == ["RS256", "PS256", "PS256"]
    assert ours["header"]["x5t#S256"] == theirs[1]["header"]["x5t#S256"].rstrip("="), ours["header"]
    claims, others = compared(ours, theirs, about)
    assert set(claims) == set().union(*others), (claims, others)
    for other in others:
        for name in ["aud", "iss", "sub"]:
            assert claims[name] == other[name], (name, claims, other)
        for name in {"nbf", "iat", "exp"} & set(other):
            assert isinstance(claims[name], int) and isinstance(other[name], (int, float)), (name, claims, other)
        uuid.UUID(claims["jti"]), uuid.UUID(other["jti"])
    lives = [one["exp"] - one.get("iat", one.get("nbf")) for one in [claims, *others]]
    assert lives[0] == lives[1] <= lives[2], lives


def same_token_file(harness, about, tenant, file):
    """The packages' client and the plugin send the same token."""
    credential = WorkloadIdentityCredential(
        tenant_id=tenant["tenant_id"],
        client_id=tenant["client_id"],
        token_file_path=str(file),
        authority=about["url"],
        disable_instance_discovery=True,
        connection_verify=about["ca_file"],
    )
    theirs = sent_by(about, lambda: credential.get_token(about["audience"] + "/.default"))
    setting = f"federated_token_file = {json.dumps(str(file))}"
    ours = sent_by(about, lambda: list(of_the_plugin(harness, {**about, "tenants": [tenant]}, setting)))
    compared(ours, [theirs], about)
    assert ours == theirs, (ours, theirs)


def main(harness):
    with tempfile.TemporaryDirectory() as folder:
        pem, token = Path(folder, "application.pem"), Path(folder, "token")
        pem.write_bytes(certificate())
        token.write_text(FEDERATED)
        arguments = ["--certificate", str(pem), "--federated-token", str(token)]
        service = subprocess.Popen([harness, "simulate", "--json", *arguments], stdout=subprocess.PIPE)
        try:
            about = json.loads(service.stdout.readline())
            sdk = sorted(figures(item) for tenant in about["tenants"] for item in of_the_sdk(about, tenant))
            plugin = sorted(of_the_plugin(harness, about))
            same_certificate(harness, about, about["tenants"][1], pem)
            same_token_file(harness, about, about["tenants"][2], token)
        finally:
            service.terminate()
            service.wait()
    if not sdk or sdk != plugin:
        sys.exit(f"the SDK read {len(sdk)} items and the plugin {len(plugin)}; they differ in {set(sdk) ^ set(plugin)}")
    print(f"the SDK and the plugin read the same {len(sdk)} scores and controls")
    print("the SDK and the plugin sign in with the same fields and claims")


main(sys.argv[1])
