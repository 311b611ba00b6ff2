"""The service of the example: GET /v1/items with a key gives two items a page. As in lists that grow
while somebody reads them, the last item of a page comes again on the next.

    python3 service.py 127.0.0.1:8470
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ITEMS = [
    {"id": "backup", "title": "Backups are encrypted", "state": "good"},
    {"id": "mfa", "title": "Administrators sign in with two factors", "state": "bad"},
    {"id": "ports", "title": "No management port is open to everybody", "state": "good"},
]


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        page = int(parse_qs(url.query).get("page", ["1"])[0])
        if self.headers["authorization"] != "Bearer key-of-acme":
            return self.answer(401, {"error": "bad-key"})
        if url.path != "/v1/items":
            return self.answer(404, {"error": "not-found"})
        items = ITEMS[page - 1 : page + 1]
        self.answer(200, {"items": items, "next": page + 1 if len(ITEMS) > page + 1 else None})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


host, port = sys.argv[1].split(":")
ThreadingHTTPServer((host, int(port)), Service).serve_forever()
