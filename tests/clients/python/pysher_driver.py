"""Pysher, driven by a test. It signs by itself, with the app's secret."""

import json

import pysher

from driver import commands, tell, tell_channel_event


class Client(pysher.Pusher):
    # All events of all channels come through here.
    def _connection_handler(self, event_name, data, channel_name):
        tell_channel_event(channel_name, event_name, data)


def main():
    client = None
    for command in commands():
        match command["do"]:
            case "connect":
                client = Client(
                    command["key"],
                    secret=command["secret"],
                    user_data={"user_id": "agent", "user_info": {"name": "Agent"}},
                    custom_host=command["host"],
                    port=command["port"],
                    secure=False,
                    reconnect_interval=1,
                    auto_sub=True,
                )
                connection = client.connection
                connection.bind("pusher:connection_established", lambda data: tell("connected", **json.loads(data)))
                connection.bind("pusher:error", lambda data: tell("error", code=str(data["code"]), text=data["message"]))
                client.connect()
            case "subscribe":
                client.subscribe(command["channel"])
            case "unsubscribe":
                client.unsubscribe(command["channel"])
            case "trigger":
                client.channel(command["channel"]).trigger(command["name"], json.loads(command["data"]))
            case "disconnect":
                client.disconnect(timeout=0)  # its thread sometimes never ends
                tell("disconnected")


main()
