"""Who asked: a word counts by who says it, and what is not believed reaches nobody."""

import asyncio
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine_exporter import semconv
from engine_exporter.api_keys import add_key
from engine_exporter.config import ExporterConfig, from_environment
from engine_exporter.identity import TEXT_LIMIT, Identity, Source, clean_header, settle
from engine_exporter.jwt_claims import KEPT_LIMIT, JwtClaims, TokenRules
from engine_exporter.semconv import Trust
from engine_exporter.testing import FakeVllm, exporter_for_tests, post
from engine_exporter.trusted_peers import TrustedPeers
from engine_exporter.vllm_middleware import FleetmeterMiddleware

CHAT = {"model": "base", "stream": True}
HEADERS = {"team_header": "X-Team", "app_header": "X-App", "user_header": "X-User", "mode_header": "X-Mode"}


def served(keys=None, **config):
    bench = exporter_for_tests(keys, **config)
    engine = FakeVllm(bench)
    return bench, engine, FleetmeterMiddleware(engine, bench.exporter)


def asked(app, headers=None, body=None, **named):
    return asyncio.run(post(app, body={**CHAT, **(body or {})}, headers=headers, **named))


def who(row):
    return row.get(semconv.TEAM), row.get(semconv.APP), row.get(semconv.IDENTITY_TRUST)


def test_headers_of_an_unknown_sender_are_ignored_and_kept_from_the_engine():
    bench, engine, app = served(**HEADERS, trusted_peers=["10.0.0.0/8"])
    asked(app, {"x-team": "red", "x-user": "ann", "x-mode": "batch", "x-other": "stays"})
    assert who(bench.row) == (None, None, None)
    assert bench.row[semconv.MODE] == "live"
    assert {name for name, _ in engine.scopes[0]["headers"]}.isdisjoint({b"x-team", b"x-user", b"x-mode"})
    assert (b"x-other", b"stays") in engine.scopes[0]["headers"]


def test_a_header_that_is_named_without_any_proof_is_not_believed_and_the_log_says_so():
    bench, _, app = served(**HEADERS)
    asked(app, {"x-team": "red"})
    assert who(bench.row) == (None, None, None)
    _, problems = from_environment({"FLEETMETER__ENGINE_EXPORTER__TEAM_HEADER": "x-team"})
    assert "trusted_peers" in problems[0]


@pytest.mark.parametrize(
    ("client", "believed"),
    [
        (("10.1.2.3", 4000), True),
        (("::ffff:10.1.2.3", 4000), True),
        (("fd00::7%eth0", 4000), True),
        (("11.0.0.1", 4000), False),
        (("10.1.2.3", 0), False),  # uvicorn took it from X-Forwarded-For
        (("not an address", 1), False),
        (None, False),
    ],
)
def test_a_peer_is_believed_by_the_address_of_its_connection_alone(client, believed):
    bench, _, app = served(**HEADERS, trusted_peers=["10.0.0.0/8", "fd00::/8"])
    asked(app, {"x-team": "red", "x-app": "rag"}, client=client)
    assert who(bench.row) == (("red", "rag", "trusted_header") if believed else (None, None, None))


def test_a_shared_secret_proves_the_gateway_and_reaches_nobody_else():
    bench, engine, app = served(**HEADERS, trusted_header_secret="s3cret")
    asked(app, {"x-team": "red", "x-fleetmeter-secret": "s3cret"})
    asked(app, {"x-team": "red", "x-fleetmeter-secret": "wrong"})
    asked(app, {"x-team": "red"})
    assert [row.get(semconv.TEAM) for row in bench.rows] == ["red", None, None]
    assert all(b"x-fleetmeter-secret" not in dict(scope["headers"]) for scope in engine.scopes)
    assert b"x-team" in dict(engine.scopes[0]["headers"]) and b"x-team" not in dict(engine.scopes[1]["headers"])


def test_all_proofs_that_are_configured_must_hold():
    peers = TrustedPeers(["10.0.0.0/8"], "s", False)
    assert peers.allows(("10.0.0.1", 1), b"s")
    assert not peers.allows(("10.0.0.1", 1), None) and not peers.allows(("9.0.0.1", 1), b"s")


def test_a_header_that_comes_twice_with_two_values_says_nothing():
    bench, _, app = served(**HEADERS, trust_any_peer=True)

    async def go():
        scope_headers = [(b"x-team", b"red"), (b"x-team", b"blue")]

        async def doubled(scope, receive, send):
            await app({**scope, "headers": [*scope["headers"], *scope_headers]}, receive, send)

        await post(doubled, body=CHAT)

    asyncio.run(go())
    assert who(bench.row) == (None, None, None)


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_of_a_key_header_that_comes_twice_the_first_is_charged_as_it_is_the_one_that_vllm_checks(tmp_path, name):
    add_key(tmp_path / "keys.yaml", "sk-red", "red")
    add_key(tmp_path / "keys.yaml", "sk-blue", "blue")
    start = b"Bearer " if name == b"authorization" else b""
    assert sent_twice([(name, start + b"sk-red"), (name, start + b"junk")], tmp_path / "keys.yaml") == "red"
    assert sent_twice([(name, start + b"sk-red"), (name, start + b"sk-blue")], tmp_path / "keys.yaml") == "red"
    assert sent_twice([(name, start + b"junk"), (name, start + b"sk-red")], tmp_path / "keys.yaml") is None


@pytest.mark.parametrize("header", ["authorization", "x-token"])
def test_of_two_tokens_the_first_is_charged(keys_file, signer, header):
    red, blue = (b"Bearer " + token(signer, team=team).encode() for team in ("red", "blue"))
    config = {"jwt_keys_file": keys_file, "jwt_header": header}
    name = header.encode()
    assert sent_twice([(name, red), (name, blue)], **config) == "red"
    assert sent_twice([(name, red), (name, b"Bearer junk")], **config) == "red"


def sent_twice(headers, keys=None, **config):
    """The team of a request that carries these headers."""
    bench, _, app = served(keys, **config)

    async def doubled(scope, receive, send):
        await app({**scope, "headers": [*scope["headers"], *headers]}, receive, send)

    asyncio.run(post(doubled, body=CHAT))
    return bench.row.get(semconv.TEAM)


@pytest.fixture(scope="module")
def signer():
    return ec.generate_private_key(ec.SECP256R1())


def public(signer):
    return (
        signer.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def token(signer, seconds=600, algorithm="ES256", **claims):
    return jwt.encode({"exp": time.time() + seconds, **claims}, signer, algorithm=algorithm, headers={"kid": "k1"})


@pytest.fixture
def keys_file(tmp_path, signer):
    path = tmp_path / "idp.pem"
    path.write_text(public(signer))
    return path


def test_a_tokens_claims_say_team_application_and_user(keys_file, signer):
    bench, _, app = served(jwt_keys_file=keys_file, hash_salt="pepper", jwt_team_claim="org.team")
    asked(app, {"authorization": f"Bearer {token(signer, org={'team': ['red']}, app='rag', sub='ann')}"})
    assert who(bench.row) == ("red", "rag", "verified")
    assert len(bench.row[semconv.USER_HASH]) == 16
    assert semconv.API_KEY_HASH not in bench.row


def test_a_jwks_is_read_as_an_identity_provider_serves_it(tmp_path, signer):
    path = tmp_path / "jwks.json"
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(signer.public_key()))
    path.write_text(json.dumps({"keys": [{**key, "kid": "k1", "use": "sig", "alg": "ES256"}]}))
    claims = JwtClaims(path, TokenRules(("ES256",)))
    assert claims.problem is None
    assert claims.identify(token(signer, team="red").encode()).team == "red"


def bad_tokens(signer):
    other = ec.generate_private_key(ec.SECP256R1())
    return {
        "expired": token(signer, seconds=-600, team="red"),
        "of another key": token(other, team="red"),
        "without an end": jwt.encode({"team": "red"}, signer, algorithm="ES256"),
        "for somebody else": token(signer, team="red", iss="us", aud="other"),
        "of another issuer": token(signer, team="red", iss="them", aud="vllm"),
        "unsigned": jwt.encode({"team": "red", "exp": time.time() + 60}, None, algorithm="none"),
        "signed with the public key as a secret": forged(signer),
        "torn": token(signer, team="red")[:-5],
        "nonsense": "ey.ey.ey",
        "endless": "ey" + "a" * 40_000 + ".b.c",
    }


def forged(signer):
    import base64
    import hashlib
    import hmac

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"team": "red", "iss": "us", "aud": "vllm", "exp": time.time() + 60}
    text = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (text + b"." + part(hmac.digest(public(signer).encode(), text, hashlib.sha256))).decode()


def test_a_token_that_is_not_all_right_says_nothing(keys_file, signer):
    bench, _, app = served(jwt_keys_file=keys_file, jwt_issuer="us", jwt_audience="vllm")
    bad = bad_tokens(signer)
    for text in bad.values():
        asked(app, {"authorization": f"Bearer {text}"})
    asked(app, {"authorization": f"Bearer {token(signer, team='red', iss='us', aud='vllm')}"})
    teams = [row.get(semconv.TEAM) for row in bench.rows]
    assert dict(zip([*bad, "good"], teams, strict=True)) == {**dict.fromkeys(bad), "good": "red"}
    assert bench.exporter.faults_count == 0


def test_a_token_is_verified_once_and_forgotten_when_it_expires(keys_file, signer):
    now = time.time()
    clock = [now]
    claims = JwtClaims(keys_file, TokenRules(("ES256",), leeway_seconds=0), lambda: clock[0])
    text = token(signer, seconds=60, team="red").encode()
    assert claims.identify(text) is claims.identify(text)
    clock[0] = now + 61
    claims.reading.all = []
    assert claims.identify(text).team is None


def test_guessed_tokens_do_not_fill_the_memory_or_push_out_good_ones(keys_file, signer):
    claims = JwtClaims(keys_file, TokenRules(("ES256",)))
    good = token(signer, team="red").encode()
    claims.identify(good)
    for number in range(KEPT_LIMIT + 50):
        claims.reading.bad[str(number).encode()] = None
        if len(claims.reading.bad) > KEPT_LIMIT:
            claims.identify(b"eyJhbGciOiJFUzI1NiJ9.e30.%d" % number)
            break
    assert len(claims.reading.bad) <= KEPT_LIMIT + 1 and len(claims.reading.good) == 1


def test_keys_are_rotated_while_the_server_runs(keys_file, signer):
    claims = JwtClaims(keys_file, TokenRules(("ES256",)))
    old = token(signer, team="red").encode()
    assert claims.identify(old).team == "red"
    fresh = ec.generate_private_key(ec.SECP256R1())
    keys_file.write_text(public(fresh) + "\n")
    claims.refresh()
    assert claims.identify(old).team is None
    assert claims.identify(token(fresh, team="blue").encode()).team == "blue"
    keys_file.write_text("no keys at all")
    claims.refresh()
    assert "PEM" in claims.problem
    assert claims.identify(token(fresh, team="blue").encode()).team == "blue"


@pytest.mark.parametrize("algorithms", [["none"], ["RS256", "HS256"], ["RS257"]])
def test_unsafe_algorithms_are_refused(algorithms):
    with pytest.raises(ValidationError):
        ExporterConfig(jwt_algorithms=algorithms)


def test_the_body_says_the_user_and_where_configured_the_team():
    bench, _, app = served(hash_salt="pepper", body_team="metadata.team", body_app="metadata.app")
    asked(app, body={"user": "ann", "metadata": {"team": "red", "app": "rag", "other": 7}})
    assert who(bench.row) == ("red", "rag", "asserted")
    assert len(bench.row[semconv.USER_HASH]) == 16
    bench, _, app = served(hash_salt="pepper", body_team="user")
    asked(app, body={"user": "red"})
    assert who(bench.row) == ("red", None, "asserted") and semconv.USER_HASH not in bench.row


def test_users_are_hashed_unless_it_is_configured_otherwise():
    bench, _, app = served(plain_user_ids=True)
    asked(app, body={"user": " ann\n"})
    assert bench.row[semconv.USER_HASH] == "ann"
    assert bench.row[semconv.IDENTITY_TRUST] == "asserted"


@pytest.mark.parametrize(
    ("precedence", "team", "trust"),
    [
        (("trusted_header", "api_key"), "red", "trusted_header"),
        (("api_key", "trusted_header"), "search", "verified"),
        (("api_key",), "search", "verified"),
    ],
)
def test_precedence_says_whose_word_counts(tmp_path, precedence, team, trust):
    add_key(tmp_path / "keys.yaml", "sk-1", "search", "ranker")
    bench, _, app = served(tmp_path / "keys.yaml", **HEADERS, trust_any_peer=True, identity_precedence=precedence)
    asked(app, {"authorization": "Bearer sk-1", "x-team": "red"})
    found_team, app_name, found_trust = who(bench.row)
    assert (found_team, found_trust) == (team, trust)
    assert app_name == ("ranker" if team == "search" else None), "never the application of another team"
    assert semconv.API_KEY_HASH in bench.row


def test_an_application_is_taken_from_a_source_that_does_not_contradict_the_team():
    key = Identity("search", None, "abc", trust=Trust.VERIFIED)
    header = Identity(None, "rag", None, "ann")
    found = settle([(Source.API_KEY, key), (Source.TRUSTED_HEADER, header)])
    assert found == Identity("search", "rag", "abc", "ann", Trust.VERIFIED)


TEXT = st.one_of(st.none(), st.text(max_size=5))
IDENTITIES = st.builds(Identity, TEXT, TEXT, TEXT, TEXT, trust=st.none())


@given(st.dictionaries(st.sampled_from(Source), IDENTITIES), st.permutations(list(Source)))
def test_the_team_is_always_that_of_the_first_source_that_names_one(claims, order):
    found = settle([(source, claims.get(source)) for source in order])
    teams = [claims[source].team for source in order if source in claims and claims[source].team is not None]
    assert found.team == (teams[0] if teams else None)
    if found.app is not None:
        assert any(claim.app == found.app and claim.team in (None, found.team) for claim in claims.values())
    known = found.team is not None or found.user is not None
    assert (found.trust is not None) == known


@given(st.binary(max_size=400))
def test_any_bytes_of_a_header_become_storable_text_or_nothing(value):
    text = clean_header(value)
    assert text is None or (0 < len(text) <= TEXT_LIMIT and text.isprintable() and text.encode())
