"""Messages of the bot."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request

_API = "https://discord.com/api/v10"
_TIMEOUT_SECONDS = 10
_TRIES = 3
_MOST_WAIT_SECONDS = 5.0
_LONGEST = 2000


class DiscordError(Exception):
    """A message was not posted; the sentence holds no secret."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token along: it ends as the error that it is here."""

    def redirect_request(self, *_: object) -> None:
        return None


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
    body = {"content": text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…", "allowed_mentions": {"parse": []}}
    headers = {
        "Authorization": f"Bot {token}",
        "Content-Type": "application/json",
        "User-Agent": "DiscordBot (lobwife)",
    }
    opener = urllib.request.build_opener(_NoRedirects())
    for left in reversed(range(_TRIES)):
        try:
            request = urllib.request.Request(  # noqa: S310 the scheme was checked
                f"{base}/channels/{channel}/messages", json.dumps(body).encode(), headers, method="POST"
            )
            with opener.open(request, timeout=_TIMEOUT_SECONDS):
                return
        except urllib.error.HTTPError as error:
            if left and (error.code == 429 or error.code >= 500):
                time.sleep(_asked_wait(error))
                continue
            raise DiscordError(f"Discord answered {error.code}") from None
        except OSError as error:  # it may have been posted: not tried again
            raise DiscordError(f"Discord can't be reached: {getattr(error, 'reason', error)}") from None
        except (ValueError, http.client.InvalidURL):  # its own words may hold a password
            raise DiscordError("Discord: DISCORD_API_URL can't be used as an address") from None
        except http.client.HTTPException:
            raise DiscordError("Discord: the answer is not HTTP") from None


def _asked_wait(error: urllib.error.HTTPError) -> float:
    try:
        return min(max(float(error.headers.get("Retry-After", "")), 0.1), _MOST_WAIT_SECONDS)
    except ValueError:
        return 0.5
