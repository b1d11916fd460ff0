"""The page of a run: numbered lines, search that leads somewhere, steps, the reason of a failure, comparison."""

from __future__ import annotations

import pathlib
import re
import time
from concurrent.futures import ThreadPoolExecutor

import gevent
import pytest
from django.conf import LazySettings
from django.test import Client

from events.readers import readers
from jobs import services
from jobs.execution import output, output_files, output_shipping, runs
from jobs.execution.runs import Ending, Process
from jobs.models import Alert, JobRun, State, Trigger
from tests.support.installation import wait_for
from tests.support.pages import text

pytestmark = pytest.mark.django_db
MANY = "".join(f"line {number} of many\n" for number in range(1, 10_001))


@pytest.fixture(autouse=True)
def state(tmp_path: pathlib.Path, settings: LazySettings) -> None:
    settings.STATE_DIR = tmp_path
    settings.ALERT_URLS = ("json://127.0.0.1/secret",)
    services.define_job(fields={"name": "import", "script": "hello.py", "schedule": "@daily"}, actor="t")


def write_output(run: JobRun, printed: str, times: str = "") -> None:
    """Write what a run's supervisor would have, and bring it to where it is read."""
    path = output_files.output_path(run.pk)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(printed)
    path.with_name(f"{path.name}.times").write_text(times)
    output_shipping.shipper().take_in(run.pk)


def ended_run(printed: str, state: str = State.FAILED, code: int = 3, *, times: str = "") -> JobRun:
    """A run that printed something and ended so."""
    run = runs.request_run(name="import", trigger=Trigger.OPERATOR, requested_by="olga")
    assert runs.record_start(run, Process(1, 1, "a boot"))
    write_output(run, printed, times)
    runs.record_end(run, Ending(state, exit_code=code, duration=2.0, output_bytes=len(printed)))
    run.refresh_from_db()
    return run


def page_of(run: JobRun, query: str = "") -> str:
    return f"/admin/jobs/jobrun/{run.pk}/change/{query}"


def numbers(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="L(\d+)"', page)]


def test_the_reason_of_a_failure_is_one_line_on_pages_in_rest_and_in_alerts(operator_client: Client) -> None:
    run = ended_run("reading\n\033[31mcannot open /data/yesterday.csv\033[0m\n\n::endgroup::\n")
    reason = "exit 3 · cannot open /data/yesterday.csv"
    assert run.note == reason
    assert operator_client.get(f"/api/v1/runs/{run.pk}").json()["note"] == reason
    assert f"failed ({reason})" in Alert.objects.get().body
    for path in (page_of(run), f"/admin/jobs/job/{run.job_id}/change/", "/admin/jobs/job/", "/admin/jobs/jobrun/"):
        assert reason in text(operator_client, path), path


def test_a_run_that_printed_nothing_has_its_exit_code_for_a_reason() -> None:
    assert ended_run("").note == "exit 3"
    assert ended_run("fine\n", State.SUCCESS, 0).note == ""
    assert ended_run("x" * 5000).note.endswith("…")


def test_a_long_output_is_numbered_to_its_end_and_any_line_has_an_address(operator_client: Client) -> None:
    run = ended_run(MANY, State.SUCCESS, 0)
    shown = numbers(text(operator_client, page_of(run)))
    assert (shown[-1], len(shown)) == (10_000, 2000)
    around = text(operator_client, page_of(run, "?line=5000"))
    assert 5000 in numbers(around)
    assert "line 5000 of many" in around
    assert numbers(text(operator_client, page_of(run, "?line=1")))[0] == 1
    assert numbers(text(operator_client, page_of(run, "?line=999999")))[-1] == 10_000


def test_a_page_of_5_mb_of_output_is_small_and_ends_with_its_last_line(operator_client: Client) -> None:
    run = ended_run(("x" * 99 + "\n") * 50_000 + "the end\n", State.SUCCESS, 0)
    page = text(operator_client, page_of(run))
    assert "the end" in page
    assert max(numbers(page)) == 50_001
    assert len(page) < 500_000


def test_a_search_counts_all_hits_and_each_leads_to_its_line(operator_client: Client) -> None:
    run = ended_run(MANY, State.SUCCESS, 0)
    page = text(operator_client, page_of(run, "?find=OF+MANY"))
    assert "10000 lines with “OF MANY”; the first 200." in page
    assert '?find=OF%20MANY&amp;line=200#L200"' in page
    assert "No line has “lobster”." in text(operator_client, page_of(run, "?find=lobster"))


def test_the_first_error_is_a_click_away(operator_client: Client) -> None:
    run = ended_run(f"{MANY}Traceback (most recent call last):\nValueError: no\n")
    answer = operator_client.get(f"/admin/jobs/jobrun/{run.pk}/error/")
    assert answer["Location"] == page_of(run, "?line=10001#L10001")
    calm = ended_run("all quiet\n")
    assert operator_client.get(f"/admin/jobs/jobrun/{calm.pk}/error/")["Location"] == page_of(calm)


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        ("3 errors in terrors\n::error::no disk\n", 2),
        ("fine\nACCESS DENIED\n", 2),
        ("it can't go on\n", 1),
        ("unfailed\n", None),
    ],
)
def test_an_error_is_a_whole_word_in_any_case(operator_client: Client, printed: str, line: int | None) -> None:
    run = ended_run(printed)
    answer = operator_client.get(f"/admin/jobs/jobrun/{run.pk}/error/")
    assert answer["Location"] == page_of(run, f"?line={line}#L{line}" if line else "")


def test_a_search_in_a_long_output_gives_others_a_turn_at_each_piece(
    operator_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended_run("handled a request in 23 ms, 0 errors\n" * 60_000)
    monkeypatch.setattr(time, "sleep", gevent.sleep)  # as in web
    turns = list[int]()

    def serve_others() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    others = gevent.spawn(serve_others)
    try:
        answer = operator_client.get(f"/admin/jobs/jobrun/{run.pk}/error/")
    finally:
        others.kill()
    assert answer["Location"] == page_of(run)
    assert len(turns) >= 8  # 2 MB in pieces of 256 KiB


def test_groups_are_steps_that_fold_and_errors_are_marked(operator_client: Client) -> None:
    run = ended_run("::group::Build <b>\ncompiling\n::endgroup::\n::error::no <i>disk</i>\nhttps://example.com/x\n")
    page = text(operator_client, page_of(run))
    assert "<details open><summary>" in page
    assert "Build &lt;b&gt;" in page
    assert '<li><a href="?line=1#L1">Build &lt;b&gt;</a></li>' in page
    assert re.search(r'class="line is-error" id="L4">.*no &lt;i&gt;disk', page)
    assert 'href="https://example.com/x"' in page
    assert "<details" not in text(operator_client, f"/admin/jobs/jobrun/{run.pk}/live/").partition("<div")[0]


def test_lines_have_the_time_at_which_they_were_printed(operator_client: Client) -> None:
    run = ended_run("first\nsecond\n", State.SUCCESS, 0, times="0 1771243200\n6 1771243205\nbroken\n")
    page = text(operator_client, page_of(run))
    assert re.findall(r'data-at="([^"]*)"', page) == ["12:00:00", "12:00:05"]
    output.delete(run.pk)
    assert not output.times(run.pk)
    assert list(output_files.output_path(run.pk).parent.glob("*")) == []


def test_a_run_is_repeated_with_other_arguments(operator_client: Client) -> None:
    run = ended_run("no\n")
    operator_client.post(f"/admin/jobs/jobrun/{run.pk}/retry/", {"arguments": "--day 'last tuesday'"})
    again = JobRun.objects.latest("pk")
    assert (again.arguments, again.retry_of_id) == (["--day", "last tuesday"], run.pk)
    JobRun.objects.filter(pk=again.pk).update(state=State.SUCCESS)
    operator_client.post(f"/admin/jobs/jobrun/{again.pk}/retry/")
    assert JobRun.objects.latest("pk").arguments == ["--day", "last tuesday"]


def test_a_failure_is_compared_with_the_last_success(operator_client: Client) -> None:
    good = ended_run("reading\n14 rows\n", State.SUCCESS, 0)
    bad = ended_run("reading\ncannot open\n")
    assert f"/admin/jobs/jobrun/{bad.pk}/compare/" in text(operator_client, page_of(bad))
    page = text(operator_client, f"/admin/jobs/jobrun/{bad.pk}/compare/")
    assert f"Run {good.pk}" in page
    assert re.search(r'is-removed">-14 rows\s', page)
    assert re.search(r'is-added">\+cannot open\s', page)
    assert operator_client.get(f"/admin/jobs/jobrun/{good.pk}/compare/").status_code == 404


def started_run(printed: str) -> JobRun:
    """A run that is running, and has printed something."""
    run = runs.request_run(name="import", trigger=Trigger.OPERATOR, requested_by="olga")
    assert runs.record_start(run, Process(1, 1, "a boot"))
    write_output(run, printed)
    return run


def live(client: Client, run: JobRun, offset: int, seen: int | None) -> str:
    query = f"offset={offset}&line=2" if seen is None else f"offset={offset}&line=2&seen={seen}"
    return text(client, f"/admin/jobs/jobrun/{run.pk}/live/?{query}")


def print_once_somebody_waits(run: JobRun, printed: str) -> None:
    wait_for(lambda: not readers().is_empty())
    with output_files.output_path(run.pk).open("a") as file:
        file.write(printed)
    output_shipping.shipper().take_in(run.pk)


@pytest.mark.sqlite("output in files: tests/postgres/test_runners.py has it in the database")
def test_an_answer_waits_for_the_next_line_and_names_what_to_wait_for_then(operator_client: Client) -> None:
    run = started_run("one\n")
    assert "seen=4" in text(operator_client, page_of(run))
    with ThreadPoolExecutor(1) as pool:
        printed = pool.submit(print_once_somebody_waits, run, "two\nthr")
        answer = live(operator_client, run, offset=4, seen=4)
        printed.result()
    assert ">two\n</span>" in answer
    assert "offset=8&amp;line=3&amp;style=&amp;seen=11" in answer
    assert readers().is_empty()


def test_what_is_there_already_is_not_waited_for(operator_client: Client) -> None:
    run = started_run("one\ntwo\n")
    assert ">two\n</span>" in live(operator_client, run, offset=4, seen=4)
    assert ">two\n</span>" in live(operator_client, run, offset=4, seen=None)
    JobRun.objects.filter(pk=run.pk).update(state=State.SUCCESS)
    assert "hx-trigger" not in live(operator_client, run, offset=8, seen=8)


def test_where_too_many_wait_already_a_page_asks_now_and_then(operator_client: Client, settings: LazySettings) -> None:
    settings.WAITING_READERS = 0
    run = started_run("one\n")
    assert "load delay:5000ms" in live(operator_client, run, offset=4, seen=4)
