"""The official server SDK for Python, driven by a test (tests/lib/sdk-journey.js)."""

import json

import pusher

from driver import commands, tell


def call(client, command):
    match command["do"]:
        case "trigger":
            data = json.loads(command["data"])
            return client.trigger(command["channels"], command["name"], data, command.get("socket_id"))
        case "batch":
            return client.trigger_batch([{**event, "data": json.loads(event["data"])} for event in command["events"]])
        case "channels":
            return client.channels_info(command["prefix"], command["info"])
        case "channel":
            return client.channel_info(command["channel"], command["info"])
        case "users":
            return client.users_info(command["channel"])
        case "terminate":
            return client.terminate_user_connections(command["user"])
        case "authorize":
            return client.authenticate(command["channel"], command["socket_id"], command.get("member"))
        case "authenticate":
            return client.authenticate_user(command["socket_id"], command["user"])


def main():
    client = None
    for command in commands():
        if command["do"] == "open":
            client = pusher.Pusher(
                command["id"],
                command["key"],
                command["secret"],
                host=command["host"],
                port=command["port"],
                ssl=False,
                encryption_master_key_base64=command["encryption_key"],
            )
            continue
        try:
            tell("answer", value=call(client, command))
        except (pusher.errors.PusherError, ValueError) as error:
            tell("failed", text=str(error))


main()
