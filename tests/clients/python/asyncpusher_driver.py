"""asyncpusher, driven by a test."""

import asyncio
import json

import aiohttp
import asyncpusher

from driver import commands, tell, tell_channel_event


def authenticator(url):
    async def authenticate(form):
        async with aiohttp.ClientSession() as session, session.post(url, data=form) as response:
            response.raise_for_status()
            return await response.json()

    return authenticate


class Client(asyncpusher.Pusher):
    # All events of all channels come through here.
    async def _handle_event(self, channel_name, event_name, data):
        tell_channel_event(channel_name, event_name, data)
        await super()._handle_event(channel_name, event_name, data)


async def obey(client, command):
    match command["do"]:
        case "subscribe":
            try:
                await client.subscribe(command["channel"])
            except aiohttp.ClientResponseError as error:
                tell("refused", channel=command["channel"], text=str(error))
        case "unsubscribe":
            await client.unsubscribe(command["channel"])
        case "trigger":
            data = json.loads(command["data"])
            await client.channels[command["channel"]].trigger({"event": command["name"], "data": data})
        case "disconnect":
            await client.disconnect()
            tell("disconnected")


async def main():
    loop = asyncio.get_running_loop()
    iterator = commands()
    client = None
    while (command := await loop.run_in_executor(None, next, iterator, None)) is not None:
        if command["do"] == "connect":
            client = Client(
                command["key"],
                custom_host=command["host"],
                custom_port=command["port"],
                secure=False,
                channel_authenticator=authenticator(command["auth"] + "/channel"),
                auto_sub=True,
            )

            async def connected(data):
                tell("connected", **data)

            client.connection.bind("pusher:connection_established", connected)
            await client.connect()
        else:
            await obey(client, command)


asyncio.run(main())
