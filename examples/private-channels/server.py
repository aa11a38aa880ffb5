"""A small web application with an auth endpoint for private and presence channels.

Usage: python3 server.py, then open http://127.0.0.1:8000. It needs the package `pusher` (pip install pusher).
"""

import json
import os
import re
import secrets
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pusher

HOST = os.environ.get('HOST', '127.0.0.1')
PORT = int(os.environ.get('PORT', '8000'))
KEY = os.environ.get('APP_KEY', 'app-key')
CURLEW_HOST = os.environ.get('CURLEW_HOST', '127.0.0.1')
CURLEW_PORT = int(os.environ.get('CURLEW_PORT', '6001'))

client = pusher.Pusher(
    app_id=os.environ.get('APP_ID', '1'),  # this SDK accepts digits only
    key=KEY,
    secret=os.environ.get('APP_SECRET', 'app-secret'),
    host=CURLEW_HOST,
    port=CURLEW_PORT,
    ssl=False,
)


def may_enter(user, channel):
    """Your application decides who may enter a channel."""
    return channel in (f'private-user-{user}', 'presence-room')


def authorize(user, socket_id, channel):
    if not user or not may_enter(user, channel):
        return None
    if not channel.startswith('presence-'):
        return client.authenticate(channel=channel, socket_id=socket_id)
    member = {'user_id': user, 'user_info': {'name': user}}
    return client.authenticate(channel=channel, socket_id=socket_id, custom_data=member)


# The sessions of your application. To keep the example short, there are no passwords.
sessions = {}

HERE = Path(__file__).parent
FILES = {
    '/': (HERE / 'index.html', 'text/html'),
    '/pusher.min.js': (HERE.parent / 'node_modules/pusher-js/dist/web/pusher.min.js', 'text/javascript'),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path not in FILES:
            return self.answer(404, 'there is nothing here')
        file, content_type = FILES[self.path]
        self.answer(200, file.read_bytes(), {'Content-Type': content_type})

    def do_POST(self):
        length = int(self.headers.get('Content-Length', '0'))
        if length > 10_000:
            return self.answer(413, 'too long')
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        handler = {'/login': self.login, '/pusher/auth': self.auth, '/message': self.message}.get(self.path)
        try:
            handler(form) if handler else self.answer(404, 'there is nothing here')
        except Exception as error:
            self.answer(500, str(error))

    def login(self, form):
        user = form.get('name', '')
        if not re.fullmatch('[a-z0-9]{1,20}', user):
            return self.answer(400, 'name: 1 to 20 of a-z and 0-9')
        session = secrets.token_hex(16)
        sessions[session] = user
        settings = {'user': user, 'key': KEY, 'host': CURLEW_HOST, 'port': CURLEW_PORT}
        self.answer(200, settings, {'Set-Cookie': f'session={session}; Path=/; HttpOnly; SameSite=Strict'})

    def auth(self, form):
        answer = authorize(self.user(), form.get('socket_id', ''), form.get('channel_name', ''))
        self.answer(*((200, answer) if answer else (403, 'you may not enter this channel')))

    def message(self, form):
        if not self.user():
            return self.answer(403, 'log in first')
        if not re.fullmatch('[a-z0-9]{1,20}', form.get('to', '')):
            return self.answer(400, 'to: the name of a user')
        data = {'from': self.user(), 'text': form.get('text', '')}
        client.trigger(f'private-user-{form["to"]}', 'message', data)
        self.answer(200, {})

    def user(self):
        cookie = SimpleCookie(self.headers.get('Cookie', ''))
        return sessions.get(cookie['session'].value) if 'session' in cookie else None

    def answer(self, status, body, headers=None):
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer((HOST, PORT), Handler)
print(f'http://{HOST}:{server.server_port}', flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    pass
