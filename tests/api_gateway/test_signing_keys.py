"""Keys that sign: published, then signing, then verifying, then retired; the same for every worker."""

import base64
import os
import secrets
import subprocess
import sys
import threading

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway_support import SEED
from ots_common.database import Database
from ots_gateway.access import Role
from ots_gateway.signing_keys import KeySet, Vault, publish, retire, sign_with

WAIT_S = 6.0


def command(accounts_url, *arguments, key=SEED):
    environment = {**os.environ, "DATABASE_URL": accounts_url, "JWT_SIGNING_KEY": key}
    return subprocess.run(
        [sys.executable, "-m", "ots_gateway.signing_keys", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def said(result):
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def jwks(gateway):
    answer = requests.get(gateway.url + "/.well-known/jwks.json", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    return {key["kid"]: key for key in answer.json()["keys"]}


def kid_of(token):
    return jwt.get_unverified_header(token)["kid"]


@pytest.fixture
def vault():
    """A master secret of its own, so that nobody else's keys are touched."""
    return Vault(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("="))


def test_the_key_set_verifies_tokens_and_holds_nothing_private(gateway):
    token = gateway.token(Role.VIEWER)
    keys = jwks(gateway)
    assert all(key.keys() == {"kty", "crv", "x", "kid", "alg", "use"} for key in keys.values())
    key = jwt.PyJWK(keys[kid_of(token)])
    assert jwt.decode(token, key, algorithms=["EdDSA"], audience="ai-ots")["name"] == "somebody"


def test_a_rotation_from_end_to_end(gateway, accounts_url):
    """Every token is good as long as its key is not retired; afterwards every worker refuses it."""
    old = gateway.token(Role.VIEWER)
    assert gateway.works(old)
    new_kid = said(command(accounts_url, "publish")).split()[1]
    gateway.within(WAIT_S, lambda: new_kid in jwks(gateway))
    early = command(accounts_url, "sign", new_kid)
    assert early.returncode == 1
    assert "wait until 300 s" in early.stderr
    said(command(accounts_url, "sign", new_kid, "--now"))
    gateway.keys.reload_after(0.0)
    token = gateway.token(Role.VIEWER)
    assert kid_of(token) == new_kid
    assert all(gateway.works(token) and gateway.works(old) for _ in range(8))
    body = {"username": "admin", "password": "wrong"}
    assert gateway.ask("POST", "/api/v1/auth/login", json=body).status_code == 401
    assert {kid_of(old), new_kid} <= jwks(gateway).keys()
    refused = command(accounts_url, "retire", kid_of(old))
    assert refused.returncode == 1
    assert "its last tokens live" in refused.stderr
    assert command(accounts_url, "retire", new_kid, "--now").returncode == 1
    said(command(accounts_url, "retire", kid_of(old), "--now"))
    gateway.within(WAIT_S, lambda: not any(gateway.works(old) for _ in range(8)))
    gateway.within(WAIT_S, lambda: kid_of(old) not in jwks(gateway))
    assert all(gateway.works(token) for _ in range(8))
    listed = said(command(accounts_url, "list")).splitlines()
    states = {line.split("\t")[0]: line.split("\t")[1] for line in listed[1:]}
    assert (states[kid_of(old)], states[new_kid]) == ("retired", "signing")
    written = gateway.database.rows("SELECT path FROM audit_log WHERE event = 'signing_key' ORDER BY entry_id")
    assert [row[0] for row in written][-3:] == ["signing_keys publish", "signing_keys sign", "signing_keys retire"]


def test_many_workers_make_one_first_key(accounts_url, vault):
    database = Database(accounts_url, application="tests", size=8)
    master = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    found = []
    threads = [threading.Thread(target=lambda: found.append(KeySet(database, master).signer().kid)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    database.close()


def test_one_signs(gateway, vault):
    first, second = publish(gateway.database, vault), publish(gateway.database, vault)
    assert sign_with(gateway.database, vault, None, now=True) == first
    assert sign_with(gateway.database, vault, None, now=True) == second
    rows = gateway.database.rows("SELECT kid, state FROM signing_keys WHERE sealed_under = %s", (vault.name,))
    assert dict(rows) == {first: "verifying", second: "signing"}
    retire(gateway.database, vault, first, 3600, now=True)


def test_keys_of_another_master_secret_are_none(gateway, vault):
    """A copy of the database signs nothing, and a new JWT_SIGNING_KEY ends every token."""
    kid = publish(gateway.database, vault)
    assert gateway.keys.find(kid) is None
    assert kid not in jwks(gateway)


def test_a_key_planted_in_the_table_is_no_key(gateway):
    """Whoever can write into the database, but lacks JWT_SIGNING_KEY, signs nothing."""
    mine, attacker = Ed25519PrivateKey.generate(), Vault(base64.urlsafe_b64encode(bytes(32)).decode())
    own = Vault(SEED)
    for kid, sealed in (
        ("planted", attacker.seal("planted", mine.private_bytes_raw())),
        # a row that does open, under another name
        ("renamed", bytes(_sealed_of(gateway, gateway.keys.signer().kid))),
        ("short", b"x"),
    ):
        gateway.database.execute(
            "INSERT INTO signing_keys (kid, algorithm, sealed_seed, sealed_under, state)"
            " VALUES (%s, 'EdDSA', %s, %s, 'verifying')",
            (kid, sealed, own.name),
        )
        try:
            gateway.keys.reload_after(0.0)
            assert gateway.keys.find(kid) is None
            assert kid not in jwks(gateway)
        finally:
            gateway.database.execute("DELETE FROM signing_keys WHERE kid = %s", (kid,))


def _sealed_of(gateway, kid):
    return gateway.database.rows("SELECT sealed_seed FROM signing_keys WHERE kid = %s", (kid,))[0][0]


def test_seeds_are_sealed(gateway):
    signer = gateway.keys.signer()
    sealed = bytes(_sealed_of(gateway, signer.kid))
    assert len(sealed) == 12 + 32 + 16
    assert signer.private.private_bytes_raw() not in sealed


def test_an_unknown_kid_is_looked_up_once_a_second_at_most(gateway):
    class Counting:
        asked = 0

        def rows(self, *arguments):
            self.asked += 1
            return gateway.database.rows(*arguments)

    counting = Counting()
    keys = KeySet(counting, SEED)
    for number in range(200):
        assert keys.find(f"unknown-{number}") is None
    assert counting.asked <= 3


@pytest.mark.parametrize("master", ["", "x", "A" * 42, "A" * 44, "not base64!" * 4])
def test_a_master_secret_that_is_none(master):
    with pytest.raises(ValueError, match="JWT_SIGNING_KEY must be"):
        Vault(master)


def test_the_command_says_what_is_wrong_in_one_line(accounts_url):
    unknown = command(accounts_url, "retire", "unknown", "--now")
    assert (unknown.returncode, unknown.stderr) == (1, "signing_keys: there is no such key\n")
    assert command(accounts_url, "list", key="x").stderr.startswith("signing_keys: JWT_SIGNING_KEY must be")
