"""Probes of the issuer of identities, over the network as the hub reaches it."""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from specola.facility.doctor.finding import Findings, Patient, ill, needs_file, not_tried, well
from specola.facility.runtime import Runtime
from specola.identity.model import EmbeddedIdentity

DISCOVERY = ".well-known/openid-configuration"
NEEDED = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
LONGEST = 200
"""characters of an issuer's name that are worth printing"""
SKEW = 60.0
"""seconds by which tokens may seem to come from the future before logins fail"""


async def issuer(who: Patient) -> Findings:
    """The discovery document is there, names the configured issuer to the letter, and offers what a login needs."""
    if who.runtime is None:
        return [needs_file()]
    if not _reachable(who):
        return [not_tried("the embedded issuer runs when the facility is up")]
    url, expected = _addresses(who.runtime)
    try:
        answer = await _get(url)
        document = answer.json() if answer.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
        return [
            ill(f"{url} does not answer ({why}): nobody new can log in", "look at identity.issuer and at the network")
        ]
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return [ill(f"{url} holds no discovery document (status {answer.status_code})", "look at identity.issuer")]
    return _judged(document, expected, url)


def _judged(document: dict[str, Any], expected: str, url: str) -> Findings:
    named = document.get("issuer")
    if named != expected:
        problem = f"{url} names another issuer than {expected}: every login would be refused"
        known = isinstance(named, str) and len(named) < LONGEST
        return [ill(problem, f"set identity.issuer to exactly {named}" if known else "ask the operator of the issuer")]
    missing = [name for name in NEEDED if not isinstance(document.get(name), str)]
    if missing:
        return [ill(f"{url} leaves out {', '.join(missing)}", "ask the operator of the issuer")]
    found = [well(f"{expected} answers, and is what its discovery document says")]
    if "S256" not in document.get("code_challenge_methods_supported", ["S256"]):
        found.append(ill("the issuer does not offer PKCE with S256", "ask the operator of the issuer"))
    return found


async def clock(who: Patient) -> Findings:
    """The clock of this machine against that of the issuer: tokens carry times."""
    if who.runtime is None:
        return [needs_file()]
    if isinstance(who.runtime.facility.identity, EmbeddedIdentity):
        return [not_tried("one machine has one clock")]
    try:
        answer = await _get(_addresses(who.runtime)[0])
        there = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError):
        return [not_tried("the issuer does not tell its time")]
    apart = time.time() - there
    if abs(apart) > SKEW:
        return [ill(f"this clock is {apart:+.0f} s from the issuer's: logins fail", "set the clock (NTP)")]
    return [well(f"within {SKEW:.0f} s of the issuer's")]


def _reachable(who: Patient) -> bool:
    return who.runtime is not None and (who.up or not isinstance(who.runtime.facility.identity, EmbeddedIdentity))


def _addresses(runtime: Runtime) -> tuple[str, str]:
    """Where the discovery document is for this machine, and the issuer that it must name."""
    identity = runtime.facility.identity
    if isinstance(identity, EmbeddedIdentity):
        return runtime.issuer_back_channel + DISCOVERY, runtime.issuer_url
    return f"{identity.issuer.rstrip('/')}/{DISCOVERY}", identity.issuer


async def _get(url: str) -> httpx.Response:
    # the certificates of the system, as the hub uses them
    async with httpx.AsyncClient(trust_env=False, timeout=10, verify=ssl.create_default_context()) as client:
        return await client.get(url)
