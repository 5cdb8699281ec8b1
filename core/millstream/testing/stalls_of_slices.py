"""Further stalls: slices nobody takes over, slices that kill nodes, stops without an end."""

from millstream.testing.events import Script
from millstream.testing.stalls import Scene, working
from millstream.testing.watch import BEAT_LEFT_S, Watch


def slices_of_a_dead_node(found: Watch) -> Scene:
    """Slices of a dead node."""
    scene = working(found)
    scene.watch.live("node-2")
    scene.watch.look()
    scene.watch.die()
    return scene._replace(
        heal=lambda: scene.script.claim(0, "node-2", "node-1"), after_s=BEAT_LEFT_S
    )


def slices_of_a_node_that_nobody_saw(found: Watch) -> Scene:
    """Slices of a node that nobody saw."""
    found.live("node-2")
    script = found.script()
    script.start()
    script.claim(0, "node-1")
    return Scene(found, script, lambda: script.claim(0, "node-2", "node-1"))


def slice_that_kills_its_nodes(found: Watch) -> Scene:
    """Slice that kills its nodes."""
    scene = working(found)
    for number in range(6):
        scene.script.claim(1, f"node-{number}")
    return scene


def slice_that_crashes_on_a_node_that_lives(found: Watch) -> Scene:
    """Slice that crashes on a node that lives."""
    scene, elsewhere = working(found), iter(range(8, 16))
    began = scene.watch.tape.now

    def each() -> None:
        if (scene.watch.tape.now - began).total_seconds() % 10 == 0:
            scene.script.claim(1)
            scene.script.generate(next(elsewhere))

    return scene._replace(each=each, after_s=50)


def slot_beyond_its_attempts(found: Watch) -> Scene:
    """Slot beyond its attempts."""
    scene = working(found)
    for _ in range(4):
        scene.script.fail_attempt(5, "validation", "not JSON")
    return scene


def stop_never_ends(found: Watch) -> Scene:
    """Stop never ends."""
    scene = working(found)
    scene.script.request_stop()
    return scene._replace(heal=lambda: finish(scene.script))


def stop_half_done(found: Watch) -> Scene:
    """Stop half done."""
    scene = working(found)
    scene.script.request_stop()
    scene.script.close(0)
    return scene._replace(heal=lambda: finish(scene.script))


def drain_past_its_bound(found: Watch) -> Scene:
    """Drain past its bound."""
    scene = working(found)
    scene.script.drain(30)
    return scene._replace(heal=lambda: finish(scene.script), after_s=30)


def drain_by_a_clock_an_hour_ahead(found: Watch) -> Scene:
    """Drain past its bound, asked for by an API whose clock is wrong."""
    scene = working(found)
    scene.script.drain(30, ahead_s=3600)
    return scene._replace(heal=lambda: finish(scene.script), after_s=30)


def stop_without_any_node(found: Watch) -> Scene:
    """Stop without any node."""
    scene = stop_never_ends(found)
    scene.watch.die()
    return scene


def finish(script: Script) -> None:
    """Close every slice and end the stop."""
    for index in range(script.spec.slices):
        if not script.state.slices.get(index) or not script.state.slices[index].state.closed:
            script.close(index)
    script.end_stop()
