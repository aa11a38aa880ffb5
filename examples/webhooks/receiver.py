"""A receiver of webhooks: it verifies the signature and prints the events.

Usage: python3 receiver.py, then set the `url` of a webhook to http://127.0.0.1:8001/
It needs the package `pusher` (pip install pusher).
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pusher

HOST = os.environ.get('HOST', '127.0.0.1')
PORT = int(os.environ.get('PORT', '8001'))
KEY = os.environ.get('APP_KEY', 'app-key')
SECRETS = [os.environ.get('APP_SECRET', 'app-secret')]
if 'PREVIOUS_SECRET' in os.environ:  # while the secret is being changed
    SECRETS.append(os.environ['PREVIOUS_SECRET'])

clients = [pusher.Pusher(app_id='1', key=KEY, secret=secret, host=HOST) for secret in SECRETS]


def handle(event, time_ms):
    """Your application acts on an event. It may come twice, so doing this again must do no harm."""
    print(json.dumps({**event, 'time_ms': time_ms}, ensure_ascii=False), flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
        # The signature covers these bytes: do not parse the body and encode it again.
        body = self.rfile.read(int(self.headers.get('Content-Length', '0'))).decode()
        key = self.headers.get('X-Pusher-Key', '')
        signature = self.headers.get('X-Pusher-Signature', '')
        for client in clients:
            batch = client.validate_webhook(key, signature, body)  # None: it is not valid
            if batch:
                for event in batch['events']:
                    handle(event, batch['time_ms'])
                return self.answer(200)
        self.answer(401)

    def answer(self, status):
        self.send_response(status)
        self.send_header('Content-Length', '0')
        self.end_headers()


server = ThreadingHTTPServer((HOST, PORT), Handler)
print(f'http://{HOST}:{server.server_port}/', flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    pass
