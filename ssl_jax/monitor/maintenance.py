"""Maintenance and preemption notices of Google Cloud, from the metadata server of the machine.

https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice
"""

import http.client
import os
import socket
import threading
from collections.abc import Callable

HOST = "GCE_METADATA_HOST", "metadata.google.internal"  # the variable with which Google's libraries replace it
EVERY = 5.0  # seconds between two looks; a preemption is announced 30 seconds ahead
FLAVOR = "Metadata-Flavor", "Google"  # a header of each question and of each answer
# What each value says when the machine is about to go; a machine that migrates while it runs does not.
NOTICES = {"maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE", "preempted": "TRUE"}


def listen(heard: Callable[[str], None], done: threading.Event) -> None:
    """Calls `heard` with the first notice, and returns; at once on machines that have no metadata server."""
    host = os.environ.get(*HOST)
    try:
        socket.gethostbyname(host.partition(":")[0])
    except OSError:
        return
    while True:
        for name, value in NOTICES.items():
            if read(host, name) == value:
                heard(f"{name} {value}")
                return
        if done.wait(EVERY):
            return


def read(host: str, name: str) -> str | None:
    """Returns a value of this machine, None if the server does not answer or is another's."""
    connection = http.client.HTTPConnection(host, timeout=EVERY)
    try:
        connection.request("GET", f"/computeMetadata/v1/instance/{name}", headers=dict([FLAVOR]))
        response = connection.getresponse()
        theirs = response.status == http.HTTPStatus.OK and response.getheader(FLAVOR[0]) == FLAVOR[1]
        return response.read().decode().strip() if theirs else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
