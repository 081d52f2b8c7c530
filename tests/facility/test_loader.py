"""facility.yaml: what is valid, and that everything else is refused with file, line, path and what is allowed."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from specola.core.errors import FacilityError, StateError
from specola.core.section import SecretRef
from specola.facility import shape
from specola.facility.loader import load, load_text
from specola.facility.model import Facility
from specola.gpu.model import CondorPool, NvmlPool, SimulatedPool, SlurmPool
from specola.identity.model import EmbeddedIdentity, IamIdentity, Role

EXAMPLES = Path(__file__).parents[2] / "examples"


def complaints(text: str) -> list[str]:
    with pytest.raises(FacilityError) as caught:
        load_text(textwrap.dedent(text), "f.yaml")
    return caught.value.complaints


def valid(text: str) -> Facility:
    return load_text(textwrap.dedent(text), "f.yaml")


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_is_the_facility_of_the_defaults(text: str) -> None:
    assert load_text(text, "f.yaml") == Facility()


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_every_example_is_valid(name: str) -> None:
    assert load(EXAMPLES / name).name


def test_the_demo_has_people_of_every_sort() -> None:
    """A handful of people, three groups of physicists and teachers, operators, and one who may not come in."""
    demo = load(EXAMPLES / "demo.yaml")
    assert isinstance(demo.identity, EmbeddedIdentity)
    people = {person.name: person.groups for person in demo.identity.people}
    assert people == {
        "anna": ("cms",),
        "marco": ("cms",),
        "luca": ("ml-infn",),
        "giulia": ("instructors", "cms"),
        "dora": ("operators",),
        "otto": ("theory",),
    }
    assert set(demo.groups) == {"cms", "ml-infn", "instructors", "operators"}
    assert Role.ADMIN in demo.groups["operators"].roles
    assert demo.groups["cms"].scaleout.max_workers == 8
    assert demo.groups["ml-infn"].scaleout.max_workers == 4
    assert "demonstration" in demo.notices[0].text
    assert {name: type(pool) for name, pool in demo.gpu.pools.items()} == {"a100": SimulatedPool}


@pytest.mark.parametrize(
    ("name", "kind"), [("single-gpu", NvmlPool), ("condor-gpu", CondorPool), ("slurm-gpu", SlurmPool)]
)
def test_there_is_an_example_of_each_way_to_gpus(name: str, kind: type) -> None:
    assert {type(pool) for pool in load(EXAMPLES / f"{name}.yaml").gpu.pools.values()} == {kind}


def test_identity_without_a_kind_is_the_embedded_one() -> None:
    facility = valid("identity: {people: [{name: eva, full_name: Eva, groups: [a]}]}")
    assert isinstance(facility.identity, EmbeddedIdentity)
    assert facility.identity.people[0].groups == ("a",)


def test_an_empty_facility_has_no_gpus() -> None:
    assert Facility().gpu.pools == {}


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        ("A100-40GB", "[3g, 2g, 1g, 1g]"),
        ("A30-24GB", "[2g, 1g, 1g]"),
        ("H200-141GB", "[whole]"),
        ("B200-180GB", "[7g]"),
    ],
)
def test_a_layout_that_fits_on_a_card_is_taken(model: str, layout: str) -> None:
    text = f"gpu: {{pools: {{a: {{actuator: simulated, model: {model}, layout: {layout}}}}}}}"
    assert isinstance(valid(text).gpu.pools["a"], SimulatedPool)


def test_an_issuer_is_kept_to_the_letter() -> None:
    text = "identity: {kind: oidc, issuer: 'https://iam.example.org', client_id: x, client_secret: {env: IAM}}"
    identity = valid(text).identity
    assert isinstance(identity, IamIdentity)
    assert identity.issuer == "https://iam.example.org"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 90),
        ("0", 0),
        ("90 s", 90),
        ("30 min", 1800),
        ("30min", 1800),
        ("2 h", 7200),
        ("1.5 h", 5400),
        ("1 d", 86400),
    ],
)
def test_durations_are_seconds_or_have_a_unit(written: str, seconds: int) -> None:
    assert valid(f"servers: {{idle_limit: {written}}}").servers.idle_limit == seconds


@pytest.mark.parametrize(
    ("written", "gib"),
    [
        ("16", 16.0),
        ("0.5", 0.5),
        ("16 GiB", 16.0),
        ("16GiB", 16.0),
        ("1 TiB", 1024.0),
        ("1 GB", 1e9 / 2**30),
        ("1 TB", 1e12 / 2**30),
    ],
)
def test_sizes_are_gib_or_have_a_unit(written: str, gib: float) -> None:
    assert valid(f"servers: {{memory_gib: {written}}}").servers.memory_gib == pytest.approx(gib)


DURATION = "must be a duration: whole seconds, or a number with s, min, h or d, as in `30 min`"
SIZE = "must be a size: a number of GiB, or a number with GiB, TiB, GB or TB, as in `16 GiB`"
BY_REFERENCE = "a secret is given by reference only: {file: /path} or {env: NAME}"
GROUP_KEYS = "allowed: roles, members, memory_gib, cores, gpu, scaleout"

POOL = "gpu:\n  pools:\n    a:\n      "

BAD = {
    "an unknown model of GPU": (
        POOL + "actuator: nvml\n      model: A100-40G\n",
        "f.yaml:5: gpu.pools.a.model: unknown value `A100-40G` (did you mean `A100-40GB`?); allowed: A30-24GB, ",
    ),
    "an unknown actuator": (
        POOL + "actuator: simulatd\n",
        "f.yaml:4: gpu.pools.a.actuator: unknown actuator `simulatd` (did you mean `simulated`?); allowed: simulated, ",
    ),
    "no actuator": (
        POOL + "model: A30-24GB\n",
        "f.yaml:3: gpu.pools.a.actuator: is required; allowed: simulated, nvml, condor, slurm, device-plugin, dra, mig",
    ),
    "a key of another actuator": (
        POOL + "actuator: nvml\n      model: A30-24GB\n      cards: 2\n",
        "f.yaml:6: gpu.pools.a.cards: unknown key; allowed: model, groups, actuator, devices, create",
    ),
    "a pool that is a path": (
        "gpu: {pools: {../a: {actuator: nvml, model: A30-24GB}}}\n",
        "f.yaml:1: gpu.pools.../a: must match ^[A-Za-z0-9]",
    ),
    "a pool of an unknown group": (
        POOL + "actuator: nvml\n      model: A30-24GB\n      groups: [fisics]\n",
        "f.yaml:6: gpu.pools.a.groups[0]: unknown group `fisics` (did you mean `physics`?); allowed: physics",
    ),
    "the name of a profile for a shape": (
        POOL + "actuator: simulated\n      model: A100-40GB\n      layout:\n        - 3g\n        - 1g.5gb\n",
        "f.yaml:8: gpu.pools.a.layout[1]: is a name that depends on the driver; write the shape `1g` (of one A100",
    ),
    "a shape of another model": (
        POOL + "actuator: slurm\n      model: A30-24GB\n      shapes: [7g]\n",
        "f.yaml:6: gpu.pools.a.shapes[0]: unknown shape `7g`; allowed: 1g, 1g+me, 2g, 2g+me, 4g, whole (of one A30",
    ),
    "more slices than slots": (
        POOL + "actuator: dra\n      model: A100-40GB\n      layout: [7g, 1g]\n",
        "f.yaml:6: gpu.pools.a.layout: does not fit: one A100-40GB has 8 slots, and these slices take 9",
    ),
    "slices that cannot lie side by side": (
        POOL + "actuator: dra\n      model: A100-40GB\n      layout: [4g, 4g]\n",
        "f.yaml:6: gpu.pools.a.layout: does not fit: these slices cannot lie side by side on one A100-40GB",
    ),
    "a layout of nothing": (
        POOL + "actuator: simulated\n      model: A100-40GB\n      layout: []\n",
        "f.yaml:6: gpu.pools.a.layout: is empty (leave it out to have slices made on demand)",
    ),
    "a guarantee above the most": (
        "groups:\n  physics:\n    gpu: {guaranteed_slots: 9, max_slots: 8}\n",
        "f.yaml:3: groups.physics.gpu.guaranteed_slots: is more than max_slots",
    ),
    "a typo": (
        "servers:\n  idel_limit: 3\n",
        "f.yaml:2: servers.idel_limit: unknown key (did you mean `idle_limit`?); allowed: idle_limit, ",
    ),
    "a typo at the top": ("\nserver: {}\n", "f.yaml:2: server: unknown key (did you mean `servers`?); allowed: name, "),
    "a key of a group": (
        "groups:\n  cms:\n    role: []\n",
        f"f.yaml:3: groups.cms.role: unknown key (did you mean `roles`?); {GROUP_KEYS}",
    ),
    "a key of a kind": (
        "identity:\n  kind: embedded\n  persons: []\n",
        "f.yaml:3: identity.persons: unknown key; allowed: kind, people, access_token_life",
    ),
    "nothing near": ("zzzz: 1\n", "f.yaml:1: zzzz: unknown key; allowed: name, identity, groups"),
    "a size for a duration": ("servers:\n  idle_limit: 30 GiB\n", f"f.yaml:2: servers.idle_limit: {DURATION}"),
    "half a second": ("servers:\n  idle_limit: 0.5\n", f"f.yaml:2: servers.idle_limit: {DURATION}"),
    "yes for a duration": ("servers:\n  idle_limit: true\n", f"f.yaml:2: servers.idle_limit: {DURATION}"),
    "less than nothing": (
        "servers:\n  idle_limit: -1\n",
        "f.yaml:2: servers.idle_limit: must be greater than or equal to 0",
    ),
    "MB for a size": ("groups:\n  cms:\n    memory_gib: 16MB\n", f"f.yaml:3: groups.cms.memory_gib: {SIZE}"),
    "a duration for a size": ("homes:\n  quota_gib: 3 h\n", f"f.yaml:2: homes.quota_gib: {SIZE}"),
    "a list for a size": ("homes:\n  quota_gib: [3]\n", f"f.yaml:2: homes.quota_gib: {SIZE}"),
    "endless": ("homes:\n  quota_gib: .inf\n", f"f.yaml:2: homes.quota_gib: {SIZE}"),
    "too large for a number": ("homes:\n  quota_gib: 1e999\n", f"f.yaml:2: homes.quota_gib: {SIZE}"),
    "no size at all": ("homes:\n  quota_gib: 0\n", "f.yaml:2: homes.quota_gib: must be greater than 0"),
    "an unknown group": (
        "groups: {cms: {}, ml: {}}\nscaleout:\n  sites:\n    here:\n      groups:\n        - cms\n        - cmss\n",
        "f.yaml:7: scaleout.sites.here.groups[1]: unknown group `cmss` (did you mean `cms`?); allowed: cms, ml",
    ),
    "a group beside the default ones": (
        "scaleout: {sites: {here: {groups: [cms]}}}\n",
        "f.yaml:1: scaleout.sites.here.groups[0]: unknown group `cms`; allowed: physics",
    ),
    "a group with a slash": (
        "groups:\n  /cms: {}\n",
        "f.yaml:2: groups./cms: a group is written without the slash in front, as in `cms` or `cms/higgs`",
    ),
    "a key in brackets": ("servers: {'[key]': 1}\n", "f.yaml:1: servers.[key]: unknown key; allowed: idle_limit, "),
    "a group without a name": ("groups: {'': {}}\n", "f.yaml:1: groups.…: a group is written without the slash"),
    "a person's group with a slash": (
        "identity: {people: [{name: a, full_name: A, groups: [/cms]}]}\n",
        "f.yaml:1: identity.people[0].groups[0]: a group is written without the slash in front",
    ),
    "two people of one name": (
        "identity:\n  people:\n    - {name: a, full_name: A}\n    - {name: a, full_name: B}\n",
        "f.yaml:2: identity.people: two people have the same login name",
    ),
    "an unknown role": (
        "groups:\n  cms:\n    roles: [usr]\n",
        "f.yaml:3: groups.cms.roles[0]: unknown value `usr` (did you mean `user`?); allowed: user, instructor, ",
    ),
    "an unknown level": (
        "notices:\n  - text: x\n    level: WARN\n",
        "f.yaml:3: notices[0].level: unknown value `WARN` (did you mean `warning`?); allowed: info, warning",
    ),
    "an unknown kind": (
        "identity:\n  kind: iamm\n",
        "f.yaml:2: identity.kind: unknown kind `iamm` (did you mean `iam`?); allowed: embedded, iam, oidc",
    ),
    "a kind that is no text": (
        "identity: {kind: [iam]}\n",
        "f.yaml:1: identity.kind: unknown kind; allowed: embedded, iam, oidc",
    ),
    "a missing key": (
        "identity:\n  kind: iam\n  client_id: x\n  client_secret: {env: X}\n",
        "f.yaml:1: identity.issuer: is required: issuer URL, exactly as in its discovery document",
    ),
    "a key twice": (
        "groups:\n  cms: {}\n  ml: {}\n  cms: {}\n",
        "f.yaml:4: groups.cms: written twice; the first is on line 2",
    ),
    "text for a number": ("groups:\n  cms: {cores: '4'}\n", "f.yaml:2: groups.cms.cores: must be a number"),
    "yes for a number": (
        "scaleout: {max_workers: true}\n",
        "f.yaml:1: scaleout.max_workers: must be a whole number",
    ),
    "a part of a worker": ("scaleout: {max_workers: 1.5}\n", "f.yaml:1: scaleout.max_workers: must be a whole number"),
    "a number for text": ("notices:\n  - text: 3\n", "f.yaml:2: notices[0].text: must be text"),
    "text for yes or no": ("subdomains: maybe\n", "f.yaml:1: subdomains: must be true or false"),
    "a mapping for a list": ("notices: {text: x}\n", "f.yaml:1: notices: must be a list, as in [a, b]"),
    "a list for a mapping": ("servers: [1]\n", "f.yaml:1: servers: must be a mapping; allowed keys: idle_limit, "),
    "a list for named things": (
        "groups: [cms]\n",
        "f.yaml:1: groups: must be a mapping of keys to values: groups that ",
    ),
    "text for identity": ("identity: iam\n", "f.yaml:1: identity: must be a mapping"),
    "an empty group": (
        "groups:\n  cms:\n",
        "f.yaml:2: groups.cms: is empty (leave it out for the defaults); must be a mapping",
    ),
    "a name with capitals": ("name: Demo\n", "f.yaml:1: name: must match ^[a-z][a-z0-9-]{0,30}$: short name"),
    "a relative path": ("homes: {path: homes}\n", "f.yaml:1: homes.path: must be an absolute path"),
    "an issuer over http": (
        "identity: {kind: iam, issuer: 'http://iam.example.org/', client_id: x, client_secret: {env: X}}",
        "f.yaml:1: identity.issuer: the issuer must be reached over https",
    ),
    "an escape hatch without class": (
        "jupyterhub: {cleanup_servers: 1}\n",
        "f.yaml:1: jupyterhub.cleanup_servers: must ",
    ),
    "an escape hatch without trait": (
        "jupyterhub: {JupyterHub: 3}\n",
        "f.yaml:1: jupyterhub.JupyterHub: must be a mapping",
    ),
    "an escape hatch with code": ("jupyterhub: exec\n", "f.yaml:1: jupyterhub: must be a mapping"),
    "a trait that is none": ("jupyterhub: {Spawner: {a-b: 1}}\n", "f.yaml:1: jupyterhub.Spawner.a-b: must match "),
    "a whole document of text": ("specola\n", "f.yaml:1: must be a mapping of keys, as in `name: specola`"),
    "a tab": ("servers:\n\tidle_limit: 3\n", "f.yaml:2: a tab cannot indent; use spaces"),
    "an open brace": (
        "name: x\nservers: {idle_limit: 3\n",
        "f.yaml:2: not YAML: expected ',' or '}', but got '<stream end>'",
    ),
    "two documents": ("name: a\n---\nname: b\n", "f.yaml:2: one document only; `---` may not come twice"),
    "an anchor": ("name: &x demo\n", "f.yaml:1: anchors and aliases are not used here; write the value out"),
    "a merge": ("servers:\n  <<: {}\n", "f.yaml:2: servers: merge keys (`<<`) are not used here; write them out"),
    "a tag": ("name: !!python/name:os.system x\n", "f.yaml:1: name: tags (`!…`) are not used here"),
    "a key that is a list": ("? [a]\n: 1\n", "f.yaml:1: a key must be a single word"),
    "a bell": ("name: a\nservers: \a\n", "f.yaml:2: a character that no text file holds"),
    "no character": ('name: "\\UFFFFFFFF"\n', "f.yaml:1: an escape that is no character"),
    "half a character": ('name: "\\ud800"\n', "f.yaml:1: name: half of a surrogate pair"),
    "bottomless": ("[" * 100, "f.yaml:1: nested too deeply"),
    "a key of spaces": ("'a b': 1\n", "f.yaml:1: …: unknown key; allowed: name"),
}


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_line_path_and_what_is_allowed(text: str, expected: str) -> None:
    found = complaints(text)
    assert len(found) == 1, found
    assert found[0].startswith(expected)


SECRETS = {
    "in clear": ("identity:\n  kind: iam\n  client_secret: hunter2\n", 3, "identity.client_secret"),
    "as a key": ("identity:\n  kind: iam\n  client_secret: {hunter2}\n", 3, "identity.client_secret"),
    "as two keys": ("identity:\n  kind: iam\n  client_secret: {hunter2: 1, hunter2: 2}\n", 3, "identity.client_secret"),
    "as a list": ("identity:\n  kind: iam\n  client_secret: [hunter2]\n", 3, "identity.client_secret"),
    "under another name": ("identity:\n  kind: iam\n  client_secret: {value: hunter2}\n", 3, "identity.client_secret"),
    "beside a reference": (
        "identity:\n  kind: iam\n  client_secret: {file: /x, env: hunter-2}\n",
        3,
        "identity.client_secret",
    ),
    "given twice": ("identity:\n  kind: iam\n  client_secret: {file: /x, env: HUNTER}\n", 3, "identity.client_secret"),
    "where none belongs": ("identity:\n  people: []\n  client_secret: hunter2\n", 3, "identity.client_secret"),
    "at the top": ("api_token: hunter2\n", 1, "api_token"),
    "in the escape hatch": (
        "jupyterhub:\n  GenericOAuthenticator:\n    client_secret: hunter2\n",
        3,
        "jupyterhub.GenericOAuthenticator.client_secret",
    ),
    "deep in the escape hatch": (
        "jupyterhub:\n  JupyterHub:\n    services:\n      - name: x\n        api_token: hunter2\n",
        5,
        "jupyterhub.JupyterHub.services[0].api_token",
    ),
    "as a list of keys": (
        "jupyterhub: {ConfigurableHTTPProxy: {auth_tokens: [hunter2]}}",
        1,
        "jupyterhub.ConfigurableHTTPProxy.auth_tokens",
    ),
}


@pytest.mark.parametrize(("text", "line", "place"), SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_in_clear_is_refused_and_never_repeated(text: str, line: int, place: str) -> None:
    found = complaints(text)
    assert f"f.yaml:{line}: {place}: {BY_REFERENCE}" in found
    assert "hunter" not in "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "client_secret: *hunter2",
        "client_secret: &hunter2 x",
        "client_secret: !hunter2 x",
        "client_secret: !hunter2!x y",
        "client_secret: %hunter2",
        "client_secret: hunter2: hunter2",
        "client_secret: 'hunter2",
        'client_secret: "\\hunter2"',
        "client_secret: @hunter2",
        "client_secret: {hunter2",
        "- hunter2",
        "name: {x: hunter2}",
        "name: Hunter2hunter2",
        "notices: [{level: [hunter2]}]",
    ],
)
def test_what_is_not_understood_is_not_repeated(text: str) -> None:
    assert "hunter" not in "\n".join(complaints(text)).lower()


def test_a_password_in_a_url_is_a_secret_in_clear() -> None:
    found = complaints("jupyterhub:\n  JupyterHub:\n    db_url: postgresql://hub:hunter2@db/hub\n")
    assert found == ["f.yaml:3: jupyterhub.JupyterHub.db_url: a URL may not carry a password"]


def test_the_escape_hatch_takes_what_only_sounds_like_a_secret() -> None:
    traits = (
        "{token_url: 'https://x', cookie_secret_file: /x, oauth_token_expires_in: 3, token: 0, password: {file: /x}}"
    )
    assert valid(f"jupyterhub: {{A: {traits}}}").jupyterhub["A"]["token_url"] == "https://x"


def test_every_complaint_of_a_file_comes_at_once_in_the_order_of_lines() -> None:
    found = complaints("""\
        name: Demo
        servers:
          idle_limit: 30 GiB
          idel_limit: 3
        groups:
          cms: {role: [user]}
          cms: {}
        scaleout:
          sites: {here: {groups: [cmss]}}
        jupyterhub: {A: {secret: x}}
        """)
    assert [line.split(": ")[1] for line in found] == [
        "name",
        "servers.idle_limit",
        "servers.idel_limit",
        "groups.cms.role",
        "groups.cms",
        "scaleout.sites.here.groups[0]",
        "jupyterhub.A.secret",
    ]
    assert [int(line.split(":")[1]) for line in found] == [1, 3, 4, 6, 7, 9, 10]


def test_words_of_older_yaml_stay_text() -> None:
    """`no`, `on`, `1:30`, `010` and dates are what was written, not booleans, minutes, octals and dates."""
    traits = "{a: no, b: on, c: 1:30, d: 2026-01-01, e: 010, f: 1_000, g: 0x10, h: ~, i: true, j: -1.5e1, k: !!int x}"
    assert valid(f"jupyterhub: {{A: {traits}}}").jupyterhub["A"] == {
        "a": "no", "b": "on", "c": "1:30", "d": "2026-01-01", "e": 10, "f": "1_000", "g": "0x10", "h": None, "i": True,
        "j": -15.0, "k": "x",
    }  # fmt: skip


def test_a_union_without_kinds_has_no_members() -> None:
    assert shape.members(shape.bare(int | str)) == {}


def test_a_secret_is_read_where_the_reference_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    monkeypatch.setenv("IAM_SECRET", "hunter3")
    assert SecretRef(file=tmp_path / "secret").read().get_secret_value() == "hunter2"
    assert SecretRef(env="IAM_SECRET").read().get_secret_value() == "hunter3"


def test_a_secret_that_is_nowhere_is_named_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IAM_SECRET", raising=False)
    with pytest.raises(StateError, match="environment variable IAM_SECRET holds no secret"):
        SecretRef(env="IAM_SECRET").read()
    with pytest.raises(StateError, match="cannot read the secret file /nonexistent: No such file"):
        SecretRef(file=Path("/nonexistent")).read()


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FacilityError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_a_file_that_is_not_text_says_where(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"name: demo\n# \xff\n")
    with pytest.raises(FacilityError, match=r"f\.yaml:2: not UTF-8 text"):
        load(tmp_path / "f.yaml")


def test_a_file_is_named_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("\nnam: demo\n")
    with pytest.raises(FacilityError, match=rf"^{tmp_path}/f\.yaml:2: nam: "):
        load(tmp_path / "f.yaml")


WORDS = st.sampled_from(
    [
        *Facility.model_fields,
        "kind",
        "pools",
        "actuator",
        "nvml",
        "model",
        "layout",
        "A30-24GB",
        "1g",
        "iam",
        "embedded",
        "people",
        "client_secret",
        "file",
        "groups",
        "here",
        "sites",
    ]
)
SCALARS = st.one_of(WORDS, st.integers(), st.booleans(), st.none(), st.floats(), st.text(max_size=5))
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4)
)


def never_breaks(text: str) -> None:
    found = None
    try:
        assert isinstance(load_text(text, "f.yaml"), Facility)
    except FacilityError as error:
        found = error.complaints
    assert found is None or (found and all(line.startswith("f.yaml:") and "\n" not in line for line in found))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.sampled_from("abn :-#{}[]&*!|>'\"%@`,?\n\t\\~<=.0123456789"), max_size=60))
@example("? ")
@example("- - -")
def test_any_text_is_a_facility_or_is_refused(text: str) -> None:
    never_breaks(text)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=40))
def test_any_unicode_is_a_facility_or_is_refused(text: str) -> None:
    never_breaks(text)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(WORDS, DOCUMENTS, max_size=5))
def test_any_document_is_a_facility_or_is_refused(data: dict[str, object]) -> None:
    never_breaks(yaml.safe_dump(data, allow_unicode=False))
