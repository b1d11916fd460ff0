#!/usr/bin/env python3
"""Take the pictures of README: a demo fleet in a temporary folder, and the machine's Chromium. `make screenshots`."""

from __future__ import annotations

import pathlib
import sys
import tempfile
from dataclasses import dataclass
from typing import Literal

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser  # noqa: E402

from tests.support.browser import chromium, make_operator, sign_in, url  # noqa: E402
from tests.support.installation import Installation, wait_for  # noqa: E402

FOLDER = ROOT / "docs" / "screenshots"
MOST_BYTES = 150_000


@dataclass(frozen=True)
class Picture:
    """One page of the fleet, as one person sees it."""

    name: str
    path: str
    height: int
    scheme: Literal["light", "dark"] = "light"
    width: int = 1280


def pictures(fleet: Installation) -> list[Picture]:
    """Pages that show something: a task that was worked on, a job with failures among its runs, one of those."""
    with fleet.database() as database:
        done = "SELECT max(id) FROM tasks WHERE status = 'completed'"
        task = database.execute(done).fetchone()[0]
        failed = (
            "SELECT max(run.id) FROM jobs_jobrun AS run JOIN jobs_job AS job ON job.id = run.job_id"
            " WHERE job.name = 'nightly-import' AND run.state = 'failed' AND run.output_bytes > 0"
        )
        run = database.execute(failed).fetchone()[0]
    return [
        Picture("dashboard", "/admin/", 760),
        Picture("dashboard-dark", "/admin/", 760, "dark"),
        Picture("dashboard-phone", "/admin/", 844, width=390),
        Picture("job", "/jobs/review-prs", 900),
        Picture("run", f"/admin/jobs/jobrun/{run}/change/", 760),
        Picture("task", f"/admin/tasks/task/{task}/change/", 800),
    ]


def take(browser: Browser, fleet: Installation) -> None:
    """Each picture into FOLDER; ends with a sentence when one is too large for a page that people load."""
    page = browser.new_page()
    sign_in(page, fleet)
    cookies = page.context.storage_state()
    for each in pictures(fleet):
        size = {"width": each.width, "height": each.height}
        context = browser.new_context(storage_state=cookies, viewport=size, color_scheme=each.scheme)
        shown = context.new_page()
        shown.goto(url(fleet, each.path))
        target = FOLDER / f"{each.name}.png"
        shown.screenshot(path=target)
        context.close()
        print(f"{target.relative_to(ROOT)} {target.stat().st_size / 1000:.0f} kB")
        if target.stat().st_size > MOST_BYTES:
            sys.exit(f"{target.name} is larger than {MOST_BYTES // 1000} kB: show less of the page.")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lobwife-screenshots-") as folder:
        fleet = Installation(pathlib.Path(folder))
        try:
            fleet.manage("migrate", "-v0")
            fleet.manage("demo")
            fleet.manage("collectstatic", "--noinput", "-v0")
            make_operator(fleet)
            fleet.start_web()
            fleet.start_daemon()
            wait_for(lambda: fleet.get("/health").json["status"] == "ok")
            with chromium() as browser:
                take(browser, fleet)
        finally:
            fleet.stop()


if __name__ == "__main__":
    main()
