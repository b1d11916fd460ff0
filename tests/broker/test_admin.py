"""The broker in the admin: what operators see and do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from urllib.parse import urlencode

import pytest

from tests.support.broker_rig import Rig
from tests.support.browser import chromium, leave
from tests.support.installation import Answer


class Operator:
    """A signed-in person with a browser's cookies and form tokens."""

    def __init__(self, rig: Rig, name: str, password: str) -> None:
        self.rig = rig
        self.cookies: dict[str, str] = {}
        self.post("/admin/login/", username=name, password=password)
        assert "sessionid" in self.cookies

    def get(self, path: str) -> Answer:
        return self._keep(self.rig.get(path, headers=self._headers()))

    def post(self, path: str, **fields: str) -> Answer:
        page = self.get(path).body.decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None, page
        body = urlencode({"csrfmiddlewaretoken": token[1], **fields}).encode()
        headers = {**self._headers(), "Content-Type": "application/x-www-form-urlencoded"}
        return self._keep(self.rig.request("POST", path, body, headers=headers))

    def _headers(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    def _keep(self, answer: Answer) -> Answer:
        for name, value in SimpleCookie(answer.headers.get("set-cookie", "")).items():
            self.cookies[name] = value.value
        return answer


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("admin"), DJANGO_SUPERUSER_PASSWORD="pass-word-9")
    made.manage("createsuperuser", "--noinput", "--username", "boss", "--email", "a@b.example")
    made.python(
        "import django; django.setup()\n"
        "from django.contrib.auth.models import Permission, User\n"
        "user = User.objects.create_user('viewer', password='pass-word-9', is_staff=True)\n"
        "user.user_permissions.set(Permission.objects.filter(codename__startswith='view_'))\n"
    )
    made.start_web()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def boss(rig: Rig) -> Operator:
    return Operator(rig, "boss", "pass-word-9")


@pytest.fixture(scope="module")
def viewer(rig: Rig) -> Operator:
    return Operator(rig, "viewer", "pass-word-9")


TASKS, LEGACY = "/admin/broker/taskregistration/", "/admin/broker/legacyregistration/"


def test_registrations_of_both_kinds_are_ended_and_renewed_after_a_confirmation(rig: Rig, boss: Operator) -> None:
    number = rig.task("repo", name="A registered task")
    rig.post("/api/tasks/legacy/register", {"repos": ["repo"]})
    for path, key, shown in ((TASKS, str(number), f"T{number}"), (LEGACY, "legacy", "legacy")):
        assert rig.token(shown).status == 200
        page = boss.get(path).body.decode()
        assert "repo" in page
        asked = boss.post(path, action="end", _selected_action=key)
        assert asked.status == 200
        assert "Yes, end them" in asked.body.decode()
        assert rig.token(shown).status == 200
        assert boss.post(path, action="end", _selected_action=key, confirmed="yes").status == 302
        assert "is ended, not active" in rig.token(shown).json["error"]
        assert rig.audit(f"?task_id={shown}&action=task_deregistered")[0]["identity"] == "boss"
        assert boss.post(path, action="register_again", _selected_action=key, confirmed="yes").status == 302
        assert rig.token(shown).status == 200


def test_who_may_only_look_can_only_look(rig: Rig, viewer: Operator) -> None:
    number = rig.task("repo")
    assert "register_again" not in viewer.get(TASKS).body.decode()
    viewer.post(TASKS, action="end", _selected_action=str(number), confirmed="yes")
    assert rig.token(f"T{number}").status == 200


def test_the_audit_is_searchable_and_read_only(rig: Rig, boss: Operator) -> None:
    number = rig.task("other")
    rig.token(f"T{number}")
    path = "/admin/broker/tokenaudit/"
    entry = rig.audit(f"?task_id=T{number}")[0]
    page = boss.get(f"{path}?{urlencode({'q': entry['token_sha256']})}").body.decode()
    assert f"T{number}" in page
    assert "Token audit: 1\n" in page
    assert "Token audit: 0\n" in boss.get(f"{path}?q=nothing-like-it").body.decode()
    assert boss.get(f"{path}add/").status == 403
    assert boss.get(f"{path}{entry['id']}/delete/").status == 403
    assert 'name="_save"' not in boss.get(f"{path}{entry['id']}/change/").body.decode()


def test_a_task_is_found_by_its_number_in_registrations_and_audit(rig: Rig, boss: Operator) -> None:
    number = rig.task("repo", slug="called-otherwise")
    rig.task("repo")
    rig.token("called-otherwise")
    for text in (f"T{number}", str(number)):
        assert "Registrations: 1\n" in boss.get(f"{TASKS}?q={text}").body.decode()
    assert "called-otherwise" in boss.get(f"/admin/broker/tokenaudit/?q=T{number}").body.decode()


def test_a_list_shows_the_first_repositories_and_the_entry_all(rig: Rig, boss: Operator) -> None:
    number = rig.task(*[f"repo-{n}" for n in range(9)])
    assert "repo-4 and 4 more" in boss.get(f"{TASKS}?q=T{number}").body.decode()
    assert "repo-7, repo-8" in boss.get(f"{TASKS}{number}/change/").body.decode()


def test_an_entry_of_the_audit_is_in_words(rig: Rig, boss: Operator) -> None:
    number = rig.task("repo")
    rig.token(f"T{number}")
    entry = rig.audit(f"?task_id=T{number}")[0]
    page = boss.get(f"/admin/broker/tokenaudit/{entry['id']}/change/").body.decode()
    for words in (
        f"Token T{number}",
        "contents: write, pull_requests: write",
        entry["timestamp"][:19].replace("T", " "),
    ):
        assert words in page


def test_a_service_that_an_operator_adds_gets_its_token_until_it_is_taken_off(rig: Rig, boss: Operator) -> None:
    path = "/admin/broker/allowedservice/"
    assert rig.post("/api/v1/service-token", {"service": "reporter"}).status == 403
    assert boss.post(f"{path}add/", name="reporter", note="").status == 302
    token = rig.post("/api/v1/service-token", {"service": "reporter"}).json["token"]
    with rig.database() as database:
        (key,) = database.execute("SELECT id FROM broker_allowedservice").fetchone()
    assert boss.post(f"{path}{key}/delete/", post="yes").status == 302
    assert rig.post("/api/v1/service-token", {"service": "reporter"}).status == 403
    rig.tick()
    assert rig.github.token(f"token {token}") is None


def test_the_apps_state_says_what_is_known_and_no_page_holds_a_token(rig: Rig, boss: Operator) -> None:
    rig.token(f"T{rig.task('repo')}")
    assert boss.get("/admin/broker/githubstate/").headers["location"] == "/admin/broker/githubstate/1/change/"
    state = boss.get("/admin/broker/githubstate/1/change/").body.decode()
    assert "org" in state
    assert "4999" in state
    pages = [boss.get(path).body.decode() for path in (TASKS, LEGACY, "/admin/broker/tokenaudit/", "/admin/")]
    for token in rig.github.tokens:
        assert all(token.text not in page for page in [state, *pages])


def test_broker_pages_fit_a_desk_and_a_phone(rig: Rig, boss: Operator) -> None:
    rig.task("repo", "other", name="A task with a long name " * 3)
    wide, errors = {}, []
    with chromium() as browser:
        context = browser.new_context()
        base = f"http://127.0.0.1:{rig.api_port}"
        context.add_cookies([{"name": "sessionid", "value": boss.cookies["sessionid"], "url": base}])
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("taskregistration", "legacyregistration", "tokenaudit", "githubstate", "allowedservice"):
            page.goto(f"{base}/admin/broker/{name}/")
            assert page.locator("#content h1").is_visible()
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 900})
                if page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") > 0:
                    wide[name] = width
        leave(context)
    assert wide == {}
    assert errors == []
