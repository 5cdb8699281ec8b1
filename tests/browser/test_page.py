"""Batches are started, watched and stopped on the page; every change comes by the stream."""

import re

from playwright.sync_api import Locator, Route, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import HubPage
from millstream.testing.stack import wait_until

LOOK_MS = 20
LOOKS_MOST = 500
STEADY = "scripted/steady"
"""Answers in the form of the recipe ``instruction``, after 0.3 s: slow enough to be watched."""


def hold_posts(hub: HubPage, path: str) -> list[Route]:
    """Keep back each POST to ``path`` until the test lets it go on."""
    held: list[Route] = []

    def on_request(route: Route) -> None:
        if route.request.method == "POST":
            held.append(route)
        else:
            route.continue_()

    hub.page.route(f"**{path}", on_request)
    return held


def only(hub: HubPage, held: list[Route]) -> Route:
    """Return the one call kept back; the browser may tell of it after the page has changed."""
    for _ in range(LOOKS_MOST):
        if held:
            break
        hub.page.wait_for_timeout(LOOK_MS)  # lets the browser's messages in
    assert len(held) == 1
    return held[0]


def start_steady(batches: Batches, target: int = 500) -> str:
    return batches.start(target, STEADY, recipe="instruction", concurrency=1)


def width(bar: Locator) -> float:
    style = bar.locator(".bar-made").get_attribute("style") or ""
    return float(re.findall(r"[\d.]+", style)[0])


def test_the_dialog_closes_at_once_and_the_batch_shows_everywhere(hub: HubPage) -> None:
    held = hold_posts(hub, "/v1/batches")
    hub.part("start-open").click()
    hub.part("start-recipe").select_option("instruction")
    hub.submit(target="40", model=STEADY, concurrency="1")
    expect(hub.part("start-dialog")).to_be_hidden()
    call = only(hub, held)  # The dialog closed before the server has answered.
    expect(hub.page.get_by_text("Starting…")).to_be_visible()
    call.continue_()
    expect(hub.part("chip")).to_have_text("Generating…")
    expect(hub.part("badge")).to_have_text("1 running")
    row = hub.part("batch-row")
    expect(row).to_have_count(1)
    expect(hub.part("progress", row)).to_contain_text("/ 40 samples")
    expect(row).to_contain_text(STEADY)
    hub.expect_state(str(row.get_attribute("data-batch")), "running")
    expect(hub.page).to_have_title("1 running · Millstream")
    expect(hub.part("start-open")).to_be_enabled()


def test_a_bad_target_is_refused_at_its_field(hub: HubPage) -> None:
    hub.outages = True  # The browser reports each 4xx answer.
    field, error = hub.part("start-target"), hub.part("start-target-error")
    for target, named in (("0", "0"), ("-5", "-5"), ("1000001", "1000001"), ("ten", "'ten'")):
        hub.submit(target=target)
        expect(error).to_have_text(
            f"target={named} is not valid: give a whole number from 1 to 1,000,000"
        )
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_value(target)
    hub.expect_running(0)


def test_a_refused_start_is_put_right_in_the_same_dialog(hub: HubPage, batches: Batches) -> None:
    hub.outages = True
    before = batches.total()
    hub.submit(target="3", model="nobody/nothing")
    error = hub.part("start-model-error")
    expect(error).to_contain_text("nobody/nothing")
    hub.submit(model="simulated/instant")
    expect(hub.part("start-dialog")).to_be_hidden()
    expect(hub.part("toast")).to_contain_text("completed")
    assert batches.total() == before + 1


def test_the_dialog_offers_steps_and_keeps_the_last_choice(hub: HubPage) -> None:
    hub.part("start-open").click()
    hub.part("start-target").fill("5")
    for step in (10, 50, 100, 500):
        hub.part(f"start-add-{step}").click()
    expect(hub.part("start-target")).to_have_value("665")
    hub.part("start-smart").uncheck()
    hub.part("start-recipe").select_option("instruction")
    hub.part("start-difficulty").select_option("easy")
    hub.part("start-sample-type").select_option("explanation")
    hub.submit(target="2", model="simulated/instant", instruction="Stay short.")
    expect(hub.part("toast")).to_contain_text("2 of 2 samples")
    hub.open()
    hub.part("start-open").click()
    expect(hub.part("start-recipe")).to_have_value("instruction")
    expect(hub.part("start-difficulty")).to_have_value("easy")
    expect(hub.part("start-model-other")).to_have_value("simulated/instant")
    expect(hub.part("start-instruction")).to_have_value("Stay short.")


def test_bar_count_and_tokens_move_by_the_stream_alone(hub: HubPage, batches: Batches) -> None:
    hub.outages = True  # Whatever the page would ask for now is refused: nothing is polled.
    hub.page.route("**/v1/**", lambda route: route.abort())
    batch_id = start_steady(batches, 60)
    row = hub.row(batch_id)
    bar = hub.part("bar", row)
    expect(hub.part("progress", row)).to_have_text(re.compile("^[3-9] / 60 samples"))
    first, tokens = width(bar), hub.part("tokens", row).inner_text()
    assert first > 0
    wait_until(lambda: width(bar) > first, 30, "a longer bar")
    expect(hub.part("tokens", row)).not_to_have_text(tokens)
    made = int(bar.get_attribute("aria-valuenow") or 0)
    assert made <= batches.view(batch_id)["counts"]["generated"]
    expect(hub.part("connection")).to_have_attribute("data-state", "live")


def test_the_duration_ticks_every_second(hub: HubPage, batches: Batches) -> None:
    batch_id = batches.start(10, "simulated/slow", concurrency=1)
    duration = hub.part("duration", hub.row(batch_id))
    expect(duration).to_have_text("1 s")
    for second in (2, 3, 4):
        expect(duration).to_have_text(f"{second} s")
    expect(hub.part("last-sample", hub.row(batch_id))).to_have_text(
        re.compile("last sample . s ago")
    )


def test_the_rate_and_the_time_left_are_told_and_are_true(hub: HubPage, batches: Batches) -> None:
    hub.open()
    batch_id = batches.start(300, STEADY, recipe="instruction", concurrency=1)
    row = hub.row(batch_id)
    expect(hub.part("rate", row)).to_have_text(re.compile(r"^[\d.]+/(s|min)$"))
    expect(hub.part("eta", row)).to_have_text(re.compile(r"^about .+ left$"))
    expect(hub.part("duration", row)).to_have_text("8 s")
    told = hub.part("rate", row).inner_text()
    rate = float(told.partition("/")[0]) / (60 if told.endswith("min") else 1)
    made = batches.view(batch_id)["counts"]["generated"]
    assert made / 9.5 * 0.6 <= rate <= made / 7.5 * 1.4
    batches.stop(batch_id)
    expect(hub.part("rate", row)).to_have_count(0)


def test_a_stopped_batch_is_stopping_and_then_stopped(hub: HubPage, batches: Batches) -> None:
    batch_id = start_steady(batches)
    batches.wait_samples(batch_id, 1)
    held = hold_posts(hub, "/stop")
    button = hub.part("stop", hub.row(batch_id))
    button.click()
    expect(button).to_have_text("Stopping…")
    expect(button).to_be_disabled()
    only(hub, held).continue_()
    hub.expect_state(batch_id, "stopped")
    expect(hub.part("state", hub.past(batch_id))).to_have_text("Stopped")
    expect(hub.row(batch_id)).to_have_count(0)
    expect(hub.part("chip")).to_have_count(0)
    expect(hub.part("toast")).to_have_attribute("data-kind", "info")
    view = batches.view(batch_id)
    assert view["state"] == "stopped"
    assert view["stop_reason"] == "stopped on the page"
    made = view["counts"]["generated"]
    expect(hub.part("progress", hub.past(batch_id))).to_have_text(f"{made} / 500")
    hub.submit(target="2", model="simulated/instant")
    expect(hub.part("toast").last).to_contain_text("completed")


def test_stop_all_asks_with_the_count_and_stops_all(hub: HubPage, batches: Batches) -> None:
    ids = [start_steady(batches) for _ in range(3)]
    expect(hub.part("badge")).to_have_text("3 running")
    for batch_id in ids:
        expect(hub.row(batch_id)).to_be_visible()
    hub.part("stop-all").click()
    expect(hub.part("confirm")).to_contain_text("Stop 3 batches?")
    hub.page.get_by_role("button", name="Cancel").click()
    expect(hub.part("confirm")).to_be_hidden()
    assert sorted(batches.live()) == sorted(ids)
    hub.part("stop-all").click()
    expect(hub.part("confirm-action")).to_have_text("Stop 3")
    hub.part("confirm-action").click()
    for batch_id in ids:
        hub.expect_state(batch_id, "stopped")
    hub.expect_running(0)


def test_one_of_two_batches_goes_on_when_the_other_is_stopped(
    hub: HubPage, batches: Batches
) -> None:
    one, other = (start_steady(batches) for _ in range(2))
    hub.part("stop", hub.row(one)).click()
    hub.expect_state(one, "stopped")
    expect(hub.part("chip")).to_be_visible()
    expect(hub.part("badge")).to_have_text("1 running")
    expect(hub.part("stop-all")).to_have_count(0)
    made = batches.view(other)["counts"]["generated"]
    batches.wait_samples(other, made + 2)


def test_a_completion_is_told_once_and_the_statistics_follow(
    hub: HubPage, batches: Batches
) -> None:
    total = hub.part("statistics-total")
    expect(total).to_have_text(re.compile(r"^[\d,]+$"))
    before = int(total.inner_text().replace(",", ""))
    first = batches.start(7, "simulated/fast")
    hub.expect_state(first, "completed")
    expect(total).to_have_text(f"{before + 7:,}")
    second = batches.start(5, "simulated/fast")
    hub.expect_state(second, "completed")
    expect(total).to_have_text(f"{before + 12:,}")
    assert hub.seen("toasts") == [f"batch {one[-8:]} completed" for one in (first, second)]
    expect(hub.part("toast").first).to_contain_text("7 of 7 samples")
    assert width(hub.part("bar", hub.past(first))) == 100
    expect(hub.part("state", hub.past(first))).to_have_text("Completed")
    assert hub.seen("tones") == [], "sound is off until it is switched on"


def test_the_sound_is_played_when_on_and_the_switch_is_remembered(
    hub: HubPage, batches: Batches
) -> None:
    switch = hub.part("sound")
    expect(switch).to_have_attribute("aria-pressed", "false")
    switch.click()
    rising = [523, 659, 784]
    wait_until(lambda: hub.seen("tones") == rising, 20, "the tones of the switch itself")
    hub.expect_state(batches.start(2, "simulated/instant"), "completed")
    wait_until(lambda: hub.seen("tones") == rising * 2, 20, "the tones of a completion")
    hub.open()
    expect(switch).to_have_attribute("aria-pressed", "true")
    switch.click()
    hub.open()
    expect(switch).to_have_attribute("aria-pressed", "false")
