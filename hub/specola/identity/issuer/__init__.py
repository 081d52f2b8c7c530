"""The embedded issuer: a real OpenID Connect provider for one machine, with a handful of people.

It issues what INDIGO IAM issues (facts of IAM v1.12, profile `wlcg`), so that what works with it works with IAM:
authorization code with PKCE S256, rotating refresh tokens, tokens signed with RS256.

    accounts.py   the people and their passwords        keys.py    the signing key and its JWKS
    store.py      SQLite: people, codes, tokens         grants.py  the rules of RFC 6749, 7636 and 9700
    tokens.py     claims and signed tokens              login.py   the login page
    handlers.py   the other endpoints                   app.py     all of it on one port

Nothing lives in memory only, apart from the count of wrong passwords: a killed issuer loses no session.
"""
