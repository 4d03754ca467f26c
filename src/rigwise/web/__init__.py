"""The same answers in a browser: a server on loopback with a JSON API."""
