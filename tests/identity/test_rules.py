"""The pure rules of identity: claims, names, roles, membership, what is kept of a login."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError
from specola.identity import auth_state, usernames
from specola.identity.claims import ClaimError, groups_of
from specola.identity.issuer.limiter import MOST_KEYS, Limiter
from specola.identity.model import IdentitySection, Role
from specola.identity.roles import ROLE_SCOPES, Membership, hub_roles, membership


@pytest.mark.parametrize(
    ("claims", "groups"),
    [
        ({}, ()),
        ({"wlcg.groups": ["/ml-infn/gpu", "/ml-infn"]}, ("ml-infn", "ml-infn/gpu")),
        ({"groups": ["ml-infn/gpu"], "wlcg.groups": ["/ml-infn/gpu"]}, ("ml-infn/gpu",)),
        ({"entitlements": ["urn:geant:x.org:group:ml:gpu:role=member#iam.x.org"]}, ("ml/gpu",)),
        ({"eduperson_entitlement": ["urn:geant:x.org:group:a%20b", "urn:mace:dir:common-lib-terms"]}, ("a b",)),
        ({"entitlements": ["https://x.org/group:a", "urn::group:a", "nothing"]}, ()),
    ],
)
def test_the_three_forms_of_groups(claims: dict[str, object], groups: tuple[str, ...]) -> None:
    """Leading slash, none, or a URN: one spelling comes out, from userinfo and id token alike."""
    assert groups_of(claims, {}) == groups_of({}, claims) == groups


@pytest.mark.parametrize("claim", ["wlcg.groups", "groups", "entitlements", "eduperson_entitlement"])
@pytest.mark.parametrize("value", ["physics", {"a": 1}, None, 3, [3], [["physics"]]])
def test_a_claim_in_another_form_is_refused(claim: str, value: object) -> None:
    """The error names the claim, and not what was in it."""
    with pytest.raises(ClaimError) as error:
        groups_of({claim: value}, {})
    assert claim in error.value.detail
    assert "physics" not in error.value.detail


@pytest.mark.parametrize("name", ["", "/", "  ", "x" * 300, "a\nb"])
def test_a_name_that_can_be_no_group_is_refused(name: str) -> None:
    with pytest.raises(ClaimError):
        groups_of({"groups": [name]}, {})


@pytest.mark.parametrize("name", ["anna", "a", "a.b-c_d9", "a" * 64])
def test_ordinary_names_are_accepted(name: str) -> None:
    assert usernames.check(name) == name
    assert usernames.usable(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("root", "reserved"),
        ("systemd-network", "reserved"),
        ("anna@cern.ch", "e-mail"),
        ("Anna", "capital"),
        ("a" * 200, "200 characters"),
        ("9a", "cannot have"),
        ("a b", "cannot have"),
        ("../x", "cannot have"),
        ("anna\n", "cannot have"),
        ("é", "cannot have"),
        ("", "did not send"),
        (None, "did not send"),
        (["anna"], "did not send"),
    ],
)
def test_other_names_are_refused_with_the_way_out(name: object, why: str) -> None:
    with pytest.raises(usernames.NameRefused) as error:
        usernames.check(name)
    assert why in error.value.detail
    assert "Ask the operator" in error.value.detail


def test_roles_are_given_to_the_groups_that_declare_them() -> None:
    roles = {one["name"]: one for one in hub_roles({"physics": [Role.USER], "ops": [Role.USER, Role.ADMIN]})}
    assert set(roles) == {"specola-user", "specola-instructor", "specola-accountant", "specola-admin"}
    assert roles["specola-user"]["groups"] == ["ops", "physics"]
    assert roles["specola-admin"]["groups"] == ["ops"]
    assert roles["specola-instructor"]["groups"] == []


def test_no_role_can_enter_servers_or_read_tokens() -> None:
    """Not even an administrator gets into somebody's server, or at anybody's auth_state."""
    for role, scopes in ROLE_SCOPES.items():
        for scope in scopes:
            assert not scope.startswith(("access:servers", "admin:", "inherit", "tokens", "all")), (role, scope)
        assert ("custom:specola:admin" in scopes) == (role is Role.ADMIN)


def test_membership_is_claims_and_rosters_of_declared_groups() -> None:
    """The token is the reason when both say so; undeclared groups do not count."""
    groups = {"physics": ([Role.USER], ["anna"]), "course": ([Role.USER], ["anna"]), "ops": ([Role.ADMIN], ["marco"])}
    found = membership("anna", ["physics", "elsewhere"], groups)
    assert found == (Membership("course", "roster"), Membership("physics", "token"))
    assert membership("ugo", ["elsewhere"], groups) == ()


@pytest.mark.parametrize(
    "url", ["http://iam.example.org/", "iam.example.org", "https://u@x.org/", "https://x.org/?a=1", "https://x.org/#a"]
)
def test_an_issuer_is_an_https_url(url: str) -> None:
    values = {"kind": "iam", "issuer": url, "client_id": "x", "client_secret": {"env": "X"}}
    with pytest.raises(ValidationError):
        TypeAdapter(IdentitySection).validate_python(values)


@pytest.mark.parametrize("url", ["https://iam.example.org", "https://iam.example.org/", "http://127.0.0.1:9/x"])
def test_an_issuer_is_kept_character_by_character(url: str) -> None:
    """A slash at the end counts; http is for loopback."""
    values = {"kind": "oidc", "issuer": url, "client_id": "x", "client_secret": {"env": "X"}}
    assert TypeAdapter(IdentitySection).validate_python(values).issuer == url


def test_merging_keeps_the_refresh_token_and_the_keys_of_others() -> None:
    old = {"refresh_token": "r1", "access_token": "a1", "broker": 7, "specola": {"confirmed": 1}}
    new = {"access_token": "a2", "specola": {"confirmed": 2}}
    merged = auth_state.merge(old, new)
    assert merged == {"refresh_token": "r1", "access_token": "a2", "broker": 7, "specola": {"confirmed": 2}}


def test_a_late_writer_does_not_bring_old_tokens_back() -> None:
    """What was confirmed later wins, whoever writes last."""
    late = {"refresh_token": "r1", "specola": {"confirmed": 1}}
    kept = {"refresh_token": "r2", "specola": {"confirmed": 2}}
    merged = auth_state.merge(kept, late)
    assert merged is not None
    assert merged["refresh_token"] == "r2"
    assert auth_state.merge(None, late) == late
    assert auth_state.merge(late, None) == late
    assert auth_state.merge(None, None) is None


def test_an_ended_right_keeps_nothing_that_opens_a_door() -> None:
    state = {"access_token": "a", "refresh_token": "r", "id_token": "i", "expires_at": 1, "specola": {"subject": "s"}}
    assert auth_state.gone(state, "why") == {"specola": {"subject": "s", "gone": "why"}}
    again = auth_state.merge(
        auth_state.gone(state, "why") | {"specola": {"confirmed": 9, "gone": "x"}}, {"specola": {"confirmed": 1}}
    )
    assert again == {"specola": {"confirmed": 1}}


@pytest.mark.parametrize(("life", "expected"), [(60, 160.0), (None, 100.0), ("60", 100.0), (True, 100.0)])
def test_a_token_without_a_known_life_is_not_trusted_to_live(life: object, expected: float) -> None:
    state = auth_state.with_tokens({}, {"access_token": "a", "expires_in": life, "scope": 3}, 100.0)
    assert state["expires_at"] == expected
    assert auth_state.is_fresh(state, 100.0) == (life == 60 and life is not True)


def test_wrong_passwords_are_forgotten_after_the_window() -> None:
    now = [0.0]
    limiter = Limiter(tries=2, window=10, clock=lambda: now[0])
    for _ in range(2):
        assert limiter.wait("anna", "here") == 0
        limiter.wrong("anna", "here")
    assert limiter.wait("anna", "here") == 10
    assert limiter.wait("anna", "there") == limiter.wait("marco", "here") == 0
    now[0] = 10.5
    assert limiter.wait("anna", "here") == 0


def test_the_limiter_does_not_grow_without_bound() -> None:
    limiter = Limiter()
    for number in range(MOST_KEYS + 5):
        limiter.wrong(f"n{number}", "here")
    assert len(limiter._wrong) == MOST_KEYS
