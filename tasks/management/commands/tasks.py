"""`manage.py tasks list | show T42 | create NAME | requeue T42 … | cancel T42 … | take-away T42 …`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.core.management.base import CommandParser

from core.callers import Caller, Role
from core.console import OperatorCommand, add_json, operator, read_text
from core.errors import Invalid, LobwifeError
from core.rest import validate
from tasks import queries, services
from tasks.ids import parse_typed_id
from tasks.leases import services as leases
from tasks.models import Status
from tasks.questions.queries import question_as_json, questions_of
from tasks.schemas import NewTask

COLUMNS = ("task", "status", "type", "priority", "assigned to", "created", "name")
_CALLER = Caller("command line", Role.OPERATOR)
_EVENTS_SHOWN = 10
_MOST_LISTED = 500
_LONGEST_VALUE = 300


class Command(OperatorCommand):
    help = "List, show and create tasks; queue them again, cancel them, take them from their holders."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        self._add_list(commands.add_parser("list", help="tasks, newest first, or in the order of the queue"))
        show = commands.add_parser("show", help="a task with its questions and the newest of its history")
        show.add_argument("task", help="T42")
        self._add_create(commands.add_parser("create", help="create a task"))
        for name, words in (
            ("requeue", "queue tasks again; whoever works on them is told to stop"),
            ("cancel", "cancel tasks; their history stays"),
            ("take-away", "take tasks from their holders and queue them again"),
        ):
            changing = commands.add_parser(name, help=words)
            changing.add_argument("tasks", nargs="+", metavar="T42")
            if name == "take-away":
                changing.add_argument("--reason", default="", help="what the holder is told")
        for each in commands.choices.values():
            add_json(each)

    def _add_list(self, parser: CommandParser) -> None:
        parser.add_argument("--status", choices=Status.values, help="of this status alone")
        parser.add_argument("--type", help="of this type alone, such as swe")
        parser.add_argument("--priority", help="of this priority alone")
        parser.add_argument("--assigned-to", metavar="NAME", help="of this assignee alone")
        parser.add_argument("--repo", metavar="OWNER/NAME", help="with this repository alone")
        parser.add_argument("--search", metavar="WORDS", help="with these words in name, slug or assignee")
        parser.add_argument("--order", choices=queries.ORDERS, default=queries.ORDERS[0], help="newest first (default)")
        parser.add_argument("--limit", type=int, default=20, help=f"how many (20, at most {_MOST_LISTED})")

    def _add_create(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--body", metavar="FILE", help="Markdown for its note; - is stdin")
        parser.add_argument("--repo", dest="repos", action="append", metavar="OWNER/NAME", help="may be repeated")
        parser.add_argument("--depends-on", action="append", metavar="T42", help="may be repeated")
        for option in ("type", "priority", "model", "assigned-to", "slug", "workflow", "parent", "group", "not-before"):
            parser.add_argument(f"--{option}")
        parser.add_argument("--estimate-minutes", type=int)

    def act(self, **options: Any) -> int:
        action: str = options["action"]
        if action in ("list", "show", "create"):
            one: Callable[[dict[str, Any]], int] = {"list": self._list, "show": self._show, "create": self._create}[
                action
            ]
            return one(options)
        changes = {"requeue": self._requeue, "cancel": self._cancel, "take-away": self._take_away}
        return self._change(options, changes[action])

    # --- reading
    def _list(self, options: dict[str, Any]) -> int:
        names = ("status", "type", "priority", "assigned_to", "repo")
        where = queries.TaskFilter(q=options["search"], **{name: options[name] for name in names})
        limit = min(max(options["limit"], 0), _MOST_LISTED)
        page = queries.task_list(where, limit=limit, order=options["order"])
        if options["json"]:
            self.show_json(page.tasks)
            return 0
        self.show_table(COLUMNS, [_row(task) for task in page.tasks])
        if page.cursor is not None:
            self.say(f"There are more than {limit}: see --limit and the filters of `manage.py tasks list --help`.")
        return 0

    def _show(self, options: dict[str, Any]) -> int:
        number = _number(options["task"])
        task = queries.task_detail(services.get_task(number).pk) or {}
        questions = [question_as_json(each) for each in questions_of(number)]
        events = queries.task_events(number, limit=_EVENTS_SHOWN).events
        if options["json"]:
            self.show_json({**task, "questions": questions, "events": events})
            return 0
        fields = [(name, _as_text(value)) for name, value in task.items() if value not in (None, "", [])]
        self.show_table(("field", "value"), fields)
        if questions:
            self.stdout.write("\nQuestions")
            rows = [[each["id"], each["state"], each["asked_by"], each["text"], each["answer"]] for each in questions]
            self.show_table(("question", "state", "asked by", "text", "answer"), rows)
        self.stdout.write("\nHistory, newest first")
        rows = [[each["created_at"], each["event_type"], each["actor"], each["detail"]] for each in events]
        self.show_table(("when", "what", "who", "detail"), rows)
        return 0

    # --- writing
    def _create(self, options: dict[str, Any]) -> int:
        names = [name for name in NewTask.model_fields if name in options and name != "body"]
        sent = {name: options[name] for name in names if options[name] is not None}
        if options["body"] is not None:
            sent["body"] = read_text(options["body"])
        body = validate(NewTask, sent)
        fields = body.model_dump(exclude={"actor", "body"})
        task = services.create_task(fields=fields, body=body.body, actor=operator(), caller=_CALLER)
        if options["json"]:
            self.show_json(queries.task_detail(task.pk))
        else:
            self.stdout.write(f"{task.task_id} is {task.status}.")
        return 0

    def _change(self, options: dict[str, Any], change: Callable[[int, dict[str, Any]], str]) -> int:
        """Change each of the tasks; one that can't be doesn't keep the others from it."""
        numbers = [_number(text) for text in options["tasks"]]
        rows: list[dict[str, Any]] = []
        for number in numbers:
            try:
                sentence, is_done = change(number, options), True
            except LobwifeError as error:
                sentence, is_done = str(error), False
            status = queries.task_status(number)
            rows.append({"task_id": f"T{number}", "done": is_done, "status": status, "message": sentence})
        if options["json"]:
            self.show_json(rows)
        else:
            for row in rows:
                (self.stdout if row["done"] else self.stderr).write(row["message"])
        return 0 if all(row["done"] for row in rows) else self.error_code

    def _requeue(self, number: int, options: dict[str, Any]) -> str:
        changes = {"status": Status.QUEUED, "assigned_to": None, "assigned_at": None, "completed_at": None}
        services.update_task(task_id=number, changes=changes, actor=operator(), caller=_CALLER)
        return f"T{number} is queued."

    def _cancel(self, number: int, options: dict[str, Any]) -> str:
        detail = "Task cancelled by a command"
        services.cancel_task(task_id=number, actor=operator(), detail=detail, caller=_CALLER)
        return f"T{number} is cancelled."

    def _take_away(self, number: int, options: dict[str, Any]) -> str:
        lease = leases.take_away(task_id=number, actor=operator(), caller=_CALLER, reason=options["reason"])
        return f"T{number} was taken away from {lease.who}, and is queued."


def _number(text: str) -> int:
    number = parse_typed_id(text)
    if number is None:
        raise Invalid(f"the task is {text[:100]!r}: write it as T42")
    return number


def _row(task: dict[str, Any]) -> Sequence[object]:
    names = ("task_id", "status", "type", "priority", "assigned_to", "created_at", "name")
    return [task[name] for name in names]


def _as_text(value: Any) -> str:
    """Return a value in a line: of lists and objects what is in them."""
    if isinstance(value, list):
        return ", ".join(_as_text(each) for each in value)[:_LONGEST_VALUE]
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(each)}" for name, each in value.items() if each is not None)
    return str(value)
