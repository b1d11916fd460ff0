"""A page of another site, in a real browser, against a service on loopback."""

from __future__ import annotations

import functools
import http.server
import pathlib
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, StorageState

from tests.support.browser import leave
from tests.support.installation import Installation

# What a page can send without being allowed to: forms and fetches without a preflight.
ATTACK = """<!DOCTYPE html><title>Evil</title>
<form id="form" method="post" enctype="text/plain" action="{api}/api/v1/tasks" target="frame">
<input name='{{"name": "by a form", "pad": "' value='"}}'></form><iframe name="frame"></iframe>
<script>
const attack = async () => {{
  const sent = {{method: "POST", mode: "no-cors", credentials: "include", body: '{{"name": "by fetch"}}'}};
  const send = (path, options) => fetch("{api}" + path, options).catch(() => "an answer that may not be seen");
  navigator.sendBeacon("{api}/api/v1/tasks", '{{"name": "by beacon"}}');
  await send("/api/v1/tasks", sent);
  await send("/api/jobs/task-manager/disable", {{...sent, body: ""}});
  await send("/api/v1/service-token", {{...sent, body: '{{"service": "lobwife"}}'}});
  let read = "nothing";
  try {{ read = await (await fetch("{api}/api/v1/tasks")).text(); }} catch (error) {{ read = "refused"; }}
  document.title = read;
}};
</script>"""


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context()
    yield made
    leave(made)


@pytest.fixture
def evil(server: Installation, tmp_path: pathlib.Path) -> Iterator[str]:
    """The address of a page on another port of loopback: the same site, another origin."""
    (tmp_path / "index.html").write_text(ATTACK.format(api=f"http://127.0.0.1:{server.web_port}"))
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *arguments: None})
    handler = functools.partial(quiet, directory=str(tmp_path))
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    yield f":{site.server_address[1]}/index.html"
    site.shutdown()
    site.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("has_session", [False, True])
def test_a_page_of_another_origin_changes_and_reads_nothing(
    server: Installation, context: BrowserContext, signed_in: StorageState, evil: str, host: str, has_session: bool
) -> None:
    if has_session:
        context.add_cookies(signed_in["cookies"])  # type: ignore[arg-type]
    page = context.new_page()
    before = server.get("/api/v1/tasks").json, server.get("/api/jobs/task-manager").json
    page.goto(f"http://{host}{evil}")
    page.evaluate("attack()")
    page.evaluate("document.getElementById('form').submit()")
    page.wait_for_function(
        "document.querySelector('iframe').contentDocument === null"
    )  # the answer is another origin's
    assert page.title() == "refused"
    assert (server.get("/api/v1/tasks").json, server.get("/api/jobs/task-manager").json) == before


def test_the_services_own_page_may_call_it(server: Installation, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"http://localhost:{server.web_port}/admin/login/")
    status = page.evaluate(
        "async () => (await fetch('/api/v1/tasks', {method: 'POST', body: JSON.stringify({name: 'own'})})).status"
    )
    assert status == 201
