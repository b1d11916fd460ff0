"""Look up prices: a program of its own. On stdin it gets lines of JSON: an id, a model, a time, tokens.

For each it answers a line with the id and the price in US dollars, null for a model that the list does not have.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from decimal import Decimal
from typing import Any

from genai_prices import Usage, calc_price


def price(report: dict[str, Any]) -> Decimal | None:
    """Return the price of a report; None when there is none for its model."""
    cached = report["cache_read_tokens"] + report["cache_write_tokens"]
    usage = Usage(
        input_tokens=report["input_tokens"] + cached,
        output_tokens=report["output_tokens"],
        cache_read_tokens=report["cache_read_tokens"],
        cache_write_tokens=report["cache_write_tokens"],
    )
    at = datetime.fromisoformat(report["at"])
    provider, slash, model = report["model"].rpartition("/")
    choices = [(report["model"], None), *([(model, provider), (model, None)] if slash else [])]
    for name, provider_id in choices:
        try:
            return calc_price(usage, name, provider_id=provider_id, genai_request_timestamp=at).total_price
        except (LookupError, ValueError):
            continue
    return None


if __name__ == "__main__":
    for line in sys.stdin:
        report = json.loads(line)
        usd = price(report)
        print(json.dumps({"id": report["id"], "usd": None if usd is None else str(usd)}))
