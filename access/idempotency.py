"""POSTs that may be sent again: with the same `Idempotency-Key` they are executed once.

The answer is kept in the transaction of what the request did, so that neither is there without the other, and a repeat
that comes meanwhile waits for that transaction. What was refused has changed nothing, and its key is free again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import timedelta

from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.http.response import HttpResponseBase

from access.models import CALLER_LENGTH, KeptAnswer
from access.roles import RULES, entry_of
from core.callers import caller_of
from core.errors import Invalid, TooLarge, Unprocessable
from core.rest import JSON
from core.timestamps import utc_now

HEADER = "Idempotency-Key"
REPEATED = "Idempotent-Replayed"
KEPT_FOR = timedelta(hours=24)
_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
_META_NAME = "HTTP_IDEMPOTENCY_KEY"  # `request.headers` would copy all headers of every request
_BATCH = 1000


def answer_once(request: HttpRequest, answer: Callable[[], HttpResponseBase]) -> HttpResponseBase:
    """Return the answer, or the kept one of a request that is repeated; raises Invalid, TooLarge, Unprocessable.

    Only POST, with a key, on routes whose answer may be kept; the gate has admitted the caller.
    """
    key = request.META.get(_META_NAME)
    if key is None or not _is_kept(request):
        return answer()
    if not _KEY.fullmatch(key):
        raise Invalid(f"{HEADER} must be 1 to 255 characters of ASCII without blanks, such as a UUID")
    digest = _digest(request)  # reads the body: not within the transaction
    caller, now = caller_of(request), utc_now()
    name = caller.identity or f"address {caller.address}"
    if len(name) > CALLER_LENGTH:  # one of Kubernetes may have 339 characters
        name = hashlib.sha256(name.encode()).hexdigest()
    with transaction.atomic():
        KeptAnswer.objects.filter(caller=name, key=key, created_at__lte=now - KEPT_FOR).delete()
        kept, is_new = KeptAnswer.objects.get_or_create(
            caller=name, key=key, defaults={"digest": digest, "created_at": now}
        )
        if not is_new:
            return _kept_answer(kept, digest)
        response = answer()
        if response.status_code >= 400 or not isinstance(response, HttpResponse):
            transaction.set_rollback(True)
            return response
        body = response.content.decode()
        KeptAnswer.objects.filter(pk=kept.pk).update(status=response.status_code, body=body)
    return response


def trim() -> int:
    """Remove the answers that were kept for long enough; return how many."""
    removed = 0
    while True:
        old = KeptAnswer.objects.filter(created_at__lte=utc_now() - KEPT_FOR)
        with transaction.atomic():
            count, _ = KeptAnswer.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:_BATCH])).delete()
        removed += count
        if count < _BATCH:
            return removed


def _is_kept(request: HttpRequest) -> bool:
    match = request.resolver_match
    rule = RULES.get(entry_of("POST", match.route)) if request.method == "POST" and match is not None else None
    return rule is not None and rule.keeps_answer


def _digest(request: HttpRequest) -> str:
    try:
        body = request.body
    except RequestDataTooBig:
        raise TooLarge("the body is larger than 1 MiB") from None
    except UnreadablePostError:
        raise Invalid("invalid JSON") from None
    return hashlib.sha256(b"\0".join((request.get_full_path().encode(), body))).hexdigest()


def _kept_answer(kept: KeptAnswer, digest: str) -> HttpResponse:
    if kept.digest != digest:
        raise Unprocessable(f"this {HEADER} was used for another request in the last 24 hours: send a new one")
    response = HttpResponse(kept.body, status=kept.status, content_type=JSON)
    response[REPEATED] = "true"
    return response
