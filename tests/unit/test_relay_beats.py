"""Who gets heartbeats."""

from collections import Counter
from unittest.mock import Mock

from millstream_api.relay.client import Client, Pipe
from millstream_api.relay.frames import NamedFrames, SeedFrames
from millstream_api.relay.hub import Hub

EPOCH = "0a1b2c3d"


def test_a_heartbeat_goes_to_who_was_sent_nothing_else() -> None:
    hub = Hub()
    silent, spoken_to = (Client(NamedFrames(EPOCH), 0, None, Mock(Pipe)) for _ in range(2))
    older = Client(SeedFrames(EPOCH), 0, None, Mock(Pipe))
    hub.look()
    for client in (silent, spoken_to, older):
        hub.join(client)
    beats: Counter[Client] = Counter()
    for _ in range(120):
        hub.note_send(spoken_to, 1)
        for client in hub.look():
            beats[client] += 1
            hub.note_send(client, len(hub.take(client)))
    assert beats == {silent: 60, older: 2}
