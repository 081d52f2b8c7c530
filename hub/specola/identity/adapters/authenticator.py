"""JupyterHub's authenticator (tested against JupyterHub 6.1.1 and oauthenticator 17.4).

It is the only owner of refresh tokens. What a look at the issuer may find about somebody:

| found | session | servers and clusters |
|---|---|---|
| confirmed, in a declared group | goes on, groups as the issuer says now | go on |
| `invalid_grant`, or in no declared group | ends | stop |
| the issuer does not answer, or not credibly | goes on for `outage_grace` | the same |
| the access token ended and there is no refresh token | asks to log in | go on for `outage_grace` |

oauthenticator's own fetching is not used: it writes the issuer's answers into logs and errors, and logs people out
when the issuer cannot be reached.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NoReturn

from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import _deserialize_state
from tornado import web
from traitlets import Bool, Instance, default

from specola.core.errors import Forbidden, PublicError
from specola.identity import auth_state, usernames
from specola.identity.adapters.login_handlers import CallbackHandler, LoginHandler, nonce_of
from specola.identity.adapters.people import People
from specola.identity.adapters.provider import Provider, Refused, TokenExpired, Unreachable, Untrusted
from specola.identity.adapters.watch import Watch
from specola.identity.claims import groups_of
from specola.identity.model import IdentitySettings
from specola.identity.roles import Membership, membership

AWAY = "The login service does not answer at present. Your running servers go on; try to log in again in a minute."
NOT_CREDIBLE = "The login service's answer cannot be trusted, so nobody was logged in. Tell the operator."
TOO_LATE = "This login took too long or was used before. Start again from the facility's front page."
NOT_OURS = "The login service does not accept this facility as its client. Tell the operator."

Model = dict[str, Any]


class NotAMember(Forbidden):
    """Somebody in none of the groups that the facility serves."""

    reason = "no_group"


class Gone(Exception):
    """The right to use the facility has ended; the text says why."""


class LoginNeeded(Exception):
    """Only the person can go on from here."""


class SpecolaAuthenticator(GenericOAuthenticator):
    """Logs people in at one OpenID Connect issuer and watches over their membership."""

    settings = Instance(IdentitySettings, help="the issuer, our client there, and the declared groups").tag(config=True)

    # What the classes above leave open is decided here once.
    enable_auth_state = Bool(default_value=True).tag(config=True)
    manage_groups = Bool(default_value=True).tag(config=True)
    allow_all = Bool(default_value=True, help="everybody whom `authenticate` lets through").tag(config=True)
    auto_login = Bool(default_value=True).tag(config=True)
    enable_pkce = Bool(default_value=True).tag(config=True)
    refresh_pre_spawn = Bool(default_value=True).tag(config=True)
    auth_refresh_strict = Bool(default_value=True, help="also for requests with a token").tag(config=True)

    login_handler = LoginHandler
    callback_handler = CallbackHandler

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._provider: Provider | None = None
        self._people: People | None = None
        self.watch: Watch | None = None

    @default("client_id")
    def _default_client_id(self) -> str:
        return self.settings.client_id

    @default("scope")
    def _default_scope(self) -> list[str]:
        return list(self.settings.scopes)

    @default("oauth_callback_url")
    def _default_callback(self) -> str:
        return self.settings.callback_url

    @default("login_service")
    def _default_login_service(self) -> str:
        return "your experiment's identity"

    @default("reconcile_auth_state_hook")
    def _default_reconcile(self) -> Any:
        return lambda _self, model, existing: auth_state.merge(existing, model.get("auth_state"))

    @property
    def provider(self) -> Provider:
        """The back channel, made when it is first needed."""
        if self._provider is None:
            self._provider = Provider(self.settings)
        return self._provider

    @property
    def people(self) -> People:
        """The table of people, opened when it is first needed."""
        if self._people is None:
            self._people = People(self.settings.database)
        return self._people

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """Called by JupyterHub once, with its event loop running: the moment to start the watch."""
        self.watch = Watch(self, app)
        self.watch.start()
        return list(super().get_handlers(app))

    def normalize_username(self, username: str) -> str:
        """Nothing is made to fit: `Anna` and `anna` may be two people at the issuer."""
        return username

    def validate_username(self, username: str) -> bool:
        """JupyterHub's question, also asked for every known name at its start."""
        return usernames.usable(username)

    async def learn_endpoints(self) -> None:
        """Read the discovery document when that has not happened yet."""
        try:
            self.authorize_url = (await self.provider.metadata()).authorize
        except (Unreachable, Untrusted) as error:
            self._refuse_login(error)

    async def authenticate(self, handler: Any, _data: Any = None, **_: Any) -> Model:
        """Take a code from the callback, and answer who that is; or end in a page that says why not."""
        try:
            return await self._log_in(handler)
        except (Unreachable, Untrusted, Refused, TokenExpired, PublicError) as error:
            self._refuse_login(error)

    async def refresh_user(self, user: Any, _handler: Any = None, **_: Any) -> bool | Model:
        """Ask the issuer again: the new model, True to go on as before, or False to ask for a login."""
        async with self.lock(user.name):
            state = await user.get_auth_state()
            if not state:
                return False
            try:
                return await self._look_again(user, state)
            except LoginNeeded:
                self.log.info("%s has to log in again", user.name)
                over = self._grace_is_over(state)
                reason = "no confirmation"
            except Gone as error:
                over, reason = True, str(error)
            if over:
                await self._end(user, reason)
            return False

    def lock(self, name: str) -> asyncio.Lock:
        """Held by whoever reads or writes somebody's tokens."""
        return self._locks[name]

    async def _log_in(self, handler: Any) -> Model:
        answer = await self.provider.redeem(handler.get_argument("code"), _verifier(handler))
        claims = await self.provider.identity(answer.get("id_token"), nonce=nonce_of(handler.get_argument("state")))
        info = await self.provider.userinfo(answer["access_token"])
        if info["sub"] != claims["sub"]:
            raise Untrusted("userinfo of another subject")
        name = usernames.check(info.get(self.settings.username_claim, claims.get(self.settings.username_claim)))
        groups = self._groups(name, info, claims)
        who = {"issuer": self.settings.issuer, "subject": claims["sub"], "full_name": _full_name(info, name)}
        self.people.admit(name=name, **who | {"issuer": self.settings.known_as or self.settings.issuer})
        now = time.time()
        state = auth_state.with_tokens({}, answer, now)
        return _model(name, auth_state.confirmed(state, info, groups, now, **who))

    def _groups(self, name: str, info: Mapping[str, Any], claims: Mapping[str, Any]) -> tuple[Membership, ...]:
        """The declared groups that somebody is in; `NotAMember` when there is none."""
        claimed = groups_of(info, claims)
        found = membership(name, claimed, self.settings.groups)
        if not found:
            served = ", ".join(sorted(self.settings.groups)) or "none yet"
            has = ", ".join(claimed) or "none"
            raise NotAMember(
                "You are not in a group that may use this facility.",
                f"It serves these groups: {served}. Your login service says that you are in: {has}. "
                "Ask for membership at your experiment's identity service, or ask the operator of this facility.",
            )
        return found

    async def _look_again(self, user: Any, state: auth_state.State) -> bool | Model:
        known = auth_state.section(state)
        if "gone" in known:
            raise Gone(known["gone"])
        try:
            return await self._confirm(user, state)
        except Refused as error:
            if error.error == "invalid_grant":
                raise Gone("the issuer ended the session") from None
            self.log.warning("The issuer refuses to refresh tokens for this client: %s", error)
        except NotAMember:
            raise Gone("in none of the facility's groups any more") from None
        except PublicError as error:
            self.log.warning("Cannot use what the issuer says about %s: %s", user.name, error.reason)
        except (Unreachable, Untrusted, TokenExpired) as error:
            self.log.warning("Cannot ask the issuer about %s: %s", user.name, _brief(error))
        if self._grace_is_over(state):
            raise Gone("not confirmed by the issuer for too long")
        return True

    async def _confirm(self, user: Any, state: auth_state.State) -> Model:
        known, claims = auth_state.section(state), {}
        info = await self._userinfo(state)
        if info is None:
            if not state.get("refresh_token"):
                raise LoginNeeded
            answer = await self.provider.refresh(state["refresh_token"])
            state = auth_state.with_tokens(state, answer, time.time())
            # At once: the old token is worth nothing now, whatever happens next.
            await user.save_auth_state(state)
            if "id_token" in answer:
                claims = await self.provider.identity(answer["id_token"])
            info = await self.provider.userinfo(state["access_token"])
        if {info["sub"], claims.get("sub", info["sub"])} != {known["subject"]}:
            raise Untrusted("userinfo of another subject")
        groups = self._groups(user.name, info, claims)
        state = auth_state.confirmed(state, info, groups, time.time(), full_name=_full_name(info, user.name))
        await user.save_auth_state(state)
        return _model(user.name, state)

    async def _userinfo(self, state: auth_state.State) -> dict[str, Any] | None:
        """Userinfo by the access token that we have; None when that is not good any more."""
        if not auth_state.is_fresh(state, time.time()):
            return None
        try:
            return await self.provider.userinfo(state["access_token"])
        except TokenExpired:
            return None

    def _grace_is_over(self, state: auth_state.State) -> bool:
        last = float(auth_state.section(state).get("confirmed", 0))
        return last + self.settings.outage_grace < time.time()

    async def _end(self, user: Any, reason: str) -> None:
        self.log.warning("The right of %s to use the facility has ended: %s", user.name, reason)
        if self.watch is not None:
            # Read again: the look may have saved new tokens before it found the reason.
            self.watch.revoke_soon(user, await user.get_auth_state() or {}, reason)

    def _refuse_login(self, error: Exception) -> NoReturn:
        """End a login in a page; the log hears the reason and no secret."""
        status, text = _page(error)
        self.log.warning("Login refused: %s", _brief(error))
        raise web.HTTPError(status, text) from None


def _verifier(handler: Any) -> str:
    verifier = _deserialize_state(handler.get_state_cookie()).get("code_verifier")
    if not verifier:
        raise Refused("invalid_grant")
    return str(verifier)


def _page(error: Exception) -> tuple[int, str]:
    """Status and text of the page that ends a login."""
    if isinstance(error, PublicError):
        return error.status, f"{error.title} {error.detail}"
    if isinstance(error, Unreachable):
        return HTTPStatus.SERVICE_UNAVAILABLE, AWAY
    if isinstance(error, Refused):
        late = error.error == "invalid_grant"
        return (HTTPStatus.FORBIDDEN, TOO_LATE) if late else (HTTPStatus.BAD_GATEWAY, NOT_OURS)
    return HTTPStatus.BAD_GATEWAY, NOT_CREDIBLE


def _brief(error: Exception) -> str:
    detail = error.reason if isinstance(error, PublicError) else str(error)
    return f"{type(error).__name__} {detail}".strip()


def _full_name(info: Mapping[str, Any], name: str) -> str:
    full = info.get("name")
    return full[:255] if isinstance(full, str) and full.strip() else name


def _model(name: str, state: auth_state.State) -> Model:
    groups = [group["group"] for group in auth_state.section(state)["groups"]]
    return {"name": name, "admin": None, "groups": groups, "auth_state": state}
