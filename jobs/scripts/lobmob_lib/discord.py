"""Messages of the bot."""

from __future__ import annotations

import os
import re
import ssl
import time

import httpx2
from lobwife_client.transport import is_address

_API = "https://discord.com/api/v10"
_TIMEOUT_SECONDS = 10
_TRIES = 3
_MOST_WAIT_SECONDS = 5.0
_LONGEST = 2000


class DiscordError(Exception):
    """A message was not posted; the sentence holds no secret."""


def configured() -> bool:
    return bool(os.environ.get("DISCORD_BOT_TOKEN"))


def post(channel: str, text: str) -> None:
    """Post to a channel or thread; nobody is mentioned. Raises DiscordError."""
    token = os.environ.get("DISCORD_BOT_TOKEN", "").strip()
    base = (os.environ.get("DISCORD_API_URL") or _API).rstrip("/")
    if not re.fullmatch(r"[0-9]{1,20}", channel):
        raise DiscordError(f"Discord: {channel[:40]!r} is not a channel's number")
    if not re.fullmatch(r"[!-~]+", token):
        raise DiscordError("Discord: DISCORD_BOT_TOKEN is not one word")
    if not base.startswith(("https://", "http://")):
        raise DiscordError("Discord: DISCORD_API_URL must begin with https://")
    if re.search(r"[\s@]", base) or not is_address(base):
        raise DiscordError("Discord: DISCORD_API_URL can't be used as an address")
    body = {"content": text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…", "allowed_mentions": {"parse": []}}
    headers = {"Authorization": f"Bot {token}", "User-Agent": "DiscordBot (lobwife)"}
    try:
        with httpx2.Client(headers=headers, timeout=_TIMEOUT_SECONDS, verify=ssl.create_default_context()) as client:
            for left in reversed(range(_TRIES)):
                answer = client.post(f"{base}/channels/{channel}/messages", json=body)  # follows no redirects
                if answer.is_success:
                    return
                if not left or (answer.status_code != 429 and answer.status_code < 500):
                    raise DiscordError(f"Discord answered {answer.status_code}")
                time.sleep(_requested_wait(answer))
    except httpx2.RemoteProtocolError:
        raise DiscordError("Discord: the answer is not HTTP") from None
    except httpx2.RequestError as error:  # it may have been posted: not tried again
        raise DiscordError(f"Discord can't be reached: {type(error).__name__}") from None


def _requested_wait(answer: httpx2.Response) -> float:
    try:
        return min(max(float(answer.headers.get("Retry-After", "")), 0.1), _MOST_WAIT_SECONDS)
    except ValueError:
        return 0.5
