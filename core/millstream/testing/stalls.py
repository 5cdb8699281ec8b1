"""Stalls as they begin, one per cause: scenes for whoever is to find them."""

from collections.abc import Callable
from typing import NamedTuple

from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.watch import BEAT_LEFT_S, Watch


class Scene(NamedTuple):
    """A stall as it has begun: who watches, which batch, and how it goes on and ends."""

    watch: Watch
    script: Script
    heal: Callable[[], object]
    each: Callable[[], None] = lambda: None
    after_s: float = 0.0
    """When the stall begins: a dead node's last beat ages, an announced wait passes."""


def working(found: Watch, made: int = 3, latency_s: float = 0.5) -> Scene:
    """A batch at work on one node, some samples of which are made."""
    found.live()
    script = found.script(spec=example_spec(16, slice_size=4))
    script.start()
    script.claim(0)
    script.claim(1)
    for slot in range(made):
        script.generate(slot, latency_ms=latency_s * 1000)
    found.look()
    return Scene(found, script, lambda: script.generate(5))


def worker_dead(found: Watch) -> Scene:
    """Worker dead."""
    return worker_dead_of(working(found))


def worker_left(found: Watch) -> Scene:
    """Worker left."""
    scene = working(found)
    scene.script.release(0)
    scene.watch.leave()
    return scene._replace(heal=scene.watch.live)


def no_worker_from_the_start(found: Watch) -> Scene:
    """No worker from the start."""
    script = found.script()
    script.start()
    return Scene(found, script, found.live)


def workers_of_another_pool_only(found: Watch) -> Scene:
    """Workers of another pool only."""
    found.live(pool="gpu")
    script = found.script()
    script.start()
    return Scene(found, script, lambda: found.live("node-2"))


def worker_dead_while_throttled(found: Watch) -> Scene:
    """Worker dead while throttled."""
    scene = working(found)
    scene.script.throttle(500)
    return worker_dead_of(scene)


def worker_dead_of(scene: Scene) -> Scene:
    """Worker dead of."""
    scene.watch.die()

    def heal() -> None:
        scene.watch.live()
        scene.script.generate(5)

    return scene._replace(heal=heal, after_s=BEAT_LEFT_S)


def model_silent(found: Watch) -> Scene:
    """Model silent."""
    return working(found)


def slow_model_silent(found: Watch) -> Scene:
    """Slow model silent."""
    return working(found, latency_s=50.0)


def slowest_model_silent(found: Watch) -> Scene:
    """Slowest model silent."""
    return working(found, latency_s=400.0)


def unknown_model_silent(found: Watch) -> Scene:
    """Unknown model silent."""
    return working(found, made=0)


def silent_on_a_full_node(found: Watch) -> Scene:
    """Its calls may wait for a turn behind those of a slower model, but no longer than one."""
    scene = working(found)
    other = scene.watch.script(spec=example_spec(100, model="sim/slower"))
    other.start()
    other.generate(0, latency_ms=50_000)
    scene.watch.live(is_full=True)
    slots = iter(range(1, 100))

    def each() -> None:
        if scene.watch.tape.now.second % 20 == 0:
            other.generate(next(slots), latency_ms=50_000)

    return scene._replace(each=each)


def model_times_out_on_every_call(found: Watch) -> Scene:
    """Model times out on every call."""
    scene = working(found)
    slots = iter(range(4, 8))

    def each() -> None:
        if scene.watch.tape.now.second % 20 == 0 and (slot := next(slots, None)) is not None:
            scene.script.fail_attempt(slot, "timeout", "the answer stalled")

    return scene._replace(each=each)


def circuit_open_for_silence(found: Watch) -> Scene:
    """Circuit open for silence."""
    scene = working(found)
    scene.script.fail_attempt(4, "timeout", "the answer stalled")
    scene.script.block(300)
    return scene


def circuit_closed_and_nothing_follows(found: Watch) -> Scene:
    """Circuit closed and nothing follows."""
    scene = working(found)
    scene.script.fail_attempt(4)
    scene.script.block(100)
    return scene._replace(after_s=100)


def throttled_and_nothing_follows(found: Watch) -> Scene:
    """Throttled and nothing follows."""
    scene = working(found)
    scene.script.throttle(120)
    return scene._replace(after_s=120)


def refused_without_end(found: Watch, each_s: int, *, block: bool = False) -> Scene:
    """Refused without end."""
    scene = working(found)
    script = scene.script
    began = scene.watch.tape.now

    def each() -> None:
        if (scene.watch.tape.now - began).total_seconds() % each_s == 1:
            script.fail_attempt(5, "rate_limit", "quota used up")
            if block:
                script.block(each_s + 5)
            else:
                script.throttle(each_s)

    return scene._replace(each=each)


def provider_refuses_without_end(found: Watch) -> Scene:
    """Provider refuses without end."""
    return refused_without_end(found, 60)


def circuit_opens_without_end(found: Watch) -> Scene:
    """Circuit opens without end."""
    return refused_without_end(found, 100, block=True)


def every_answer_is_rejected(found: Watch) -> Scene:
    """Every answer is rejected."""
    found.live()
    script = found.script(spec=example_spec(4_000, slice_size=64))
    script.start()
    script.claim(0)
    script.generate(0)
    found.look()

    def each() -> None:
        slot = 64 + int(found.tape.now.timestamp()) % 86_400
        script.reject(slot)
        script.fail(slot, "validation", "not JSON")

    return Scene(found, script, lambda: script.generate(5), each)


def queue_lost_and_no_dispatcher(found: Watch) -> Scene:
    """Queue lost and no dispatcher."""
    scene = working(found)
    scene.script.release(0)
    scene.script.release(1)
    return scene._replace(heal=lambda: scene.script.claim(2))


def never_claimed(found: Watch) -> Scene:
    """Never claimed."""
    found.live()
    script = found.script()
    script.start()
    return Scene(found, script, lambda: script.claim(0))


def store_full(found: Watch) -> Scene:
    """Store full."""
    scene = never_claimed(found)
    scene.watch.live(note="the event store is 96 % full")
    return scene


def nobody_completes(found: Watch) -> Scene:
    """Nobody completes."""
    found.live()
    script = found.script(spec=example_spec(2, slice_size=2))
    script.start()
    script.claim(0)
    script.generate(0)
    script.generate(1)
    return Scene(found, script, script.complete)


def resumed_and_forgotten(found: Watch) -> Scene:
    """Resumed and forgotten."""
    scene = working(found)
    scene.script.release(0)
    scene.script.release(1)
    scene.script.pause()
    assert scene.watch.run(500) == []
    scene.script.resume()
    return scene._replace(heal=lambda: scene.script.claim(0))


def starved_in_line(found: Watch) -> Scene:
    """Starved in line."""
    scene = never_claimed(found)
    scene.watch.live(is_full=True)
    return scene
