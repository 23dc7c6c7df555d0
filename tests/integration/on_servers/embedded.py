"""Serves the pages with a server that is a library: ``python embedded.py NAME PORT``."""

from __future__ import annotations

import sys


def serve_wsgiref(port):
    """Serve with the standard library's server."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIServer, make_server

    from pages import application

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True
        request_queue_size = 128

    make_server("127.0.0.1", port, application, Server).serve_forever()


def serve_werkzeug(port):
    """Serve with Werkzeug's development server."""
    from pages import application
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, application, threaded=True)


def serve_gevent(port):
    """Serve with gevent's server."""
    from gevent import monkey

    monkey.patch_all()
    from gevent.pywsgi import WSGIServer
    from pages import application

    WSGIServer(("127.0.0.1", port), application).serve_forever()


if __name__ == "__main__":
    serve = {"wsgiref": serve_wsgiref, "werkzeug": serve_werkzeug, "gevent": serve_gevent}
    serve[sys.argv[1]](int(sys.argv[2]))
