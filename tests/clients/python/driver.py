"""What the drivers of Python clients share: commands on standard input, events on standard output, one JSON object per
line (tests/lib/client-driver.js)."""

import json
import sys
import threading

_lock = threading.Lock()


def tell(event, **members):
    with _lock:
        sys.stdout.write(json.dumps({"event": event, **members}) + "\n")
        sys.stdout.flush()


def commands():
    for line in sys.stdin:
        yield json.loads(line)


def tell_channel_event(channel, event, data):
    """Tells what a client got on a channel. `data` is the text, or what the client made of it."""
    parsed = json.loads(data) if isinstance(data, str) and data.startswith(("{", "[")) else data
    if event == "pusher_internal:subscription_succeeded":
        members = parsed["presence"]["ids"] if "presence" in (parsed or {}) else None
        tell("subscribed", channel=channel, **({"members": sorted(members)} if members is not None else {}))
    elif event == "pusher:subscription_error":
        tell("refused", channel=channel, text=parsed["error"])
    elif event == "pusher_internal:member_added":
        tell("added", channel=channel, id=parsed["user_id"])
    elif event == "pusher_internal:member_removed":
        tell("removed", channel=channel, id=parsed["user_id"])
    elif event == "pusher:cache_miss":
        tell("cache_miss", channel=channel)
    elif not event.startswith(("pusher:", "pusher_internal:")):
        tell("message", channel=channel, name=event, data=data if isinstance(data, str) else json.dumps(data))
