"""A door in front of a tracking server, which tests shut, lock and open again."""

import contextlib
import select
import socket
import threading
import time

LOGIN_PAGE = b"<html><body>Please log in</body></html>"


class Door:
    """Passes connections on to a server as long as ``mode`` is "open".

    closed: nobody answers there. silent: it answers never. login: a page of something else, with status
    200. refuse: status 400. deaf: requests reach the server, replies are lost.
    ``once(mode, path)``: so for the next request to a path alone, then open again.
    """

    def __init__(self, port):
        self.server_port = port
        self.seen = []  # first lines of requests
        self._mode, self._path = "open", None
        self._connections = []
        self._listen(0)
        self.uri = f"http://127.0.0.1:{self.port}"

    def _listen(self, port):
        self._listener = socket.create_server(("127.0.0.1", port), reuse_port=False)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def set(self, mode):
        """Change the mode; connections under way are cut."""
        before, self._mode, self._path = self._mode, mode, None
        for connection in self._connections:
            _cut(connection)
        self._connections.clear()
        if mode == "closed":
            # Wakes the thread that waits in accept, which would keep the port.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        elif before == "closed":
            self._listen(self.port)

    def once(self, mode, path):
        self.set(mode)
        self._path = path

    def close(self):
        if self._mode != "closed":
            self.set("closed")

    def _serve(self, connection):
        try:
            while (request := _read_message(connection)) is not None:
                line = request.split(b"\r\n", 1)[0].decode()
                self.seen.append(line)
                mode = self._mode
                if self._path is not None:
                    if self._path in line:
                        self._mode, self._path = "open", None
                    else:
                        mode = "open"
                if mode == "silent":
                    while self._mode == "silent":
                        time.sleep(0.05)
                    break
                if mode in ("login", "refuse"):
                    status = b"200 OK" if mode == "login" else b"400 Bad Request"
                    head = b"Content-Type: text/html\r\nContent-Length: %d" % len(LOGIN_PAGE)
                    connection.sendall(b"HTTP/1.1 %s\r\n%s\r\n\r\n%s" % (status, head, LOGIN_PAGE))
                    continue
                reply = self._ask(request)
                if mode == "deaf":
                    break
                connection.sendall(reply)
        except OSError:
            pass
        finally:
            _cut(connection)

    def _ask(self, request):
        """The server's reply, on a connection of its own that it closes."""
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [
            line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")
        ]
        with socket.create_connection(("127.0.0.1", self.server_port), 60) as server:
            server.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
            reply = b""
            while part := server.recv(65536):
                reply += part
        return reply


def _read_message(connection):
    """One request with its body, None where the other end has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not select.select([connection], [], [], 120)[0]:
            return None
        part = connection.recv(65536)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if fields.get(b"transfer-encoding") == b"chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(65536)
    while len(body) < int(fields.get(b"content-length", 0)):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def _cut(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
