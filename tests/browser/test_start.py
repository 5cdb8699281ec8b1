"""The start dialog tells what a batch may take, bounds it, and keeps what was chosen."""

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import HubPage
from millstream.testing.service_process import ServiceProcess
from millstream.testing.stack import Stack
from millstream.testing.waiting import BOUND_S

STEADY = "scripted/steady"
"""Half a dollar for a million tokens in, two for a million out."""


def open_for(hub: HubPage, recipe: str, model: str) -> None:
    hub.part("start-open").click()
    hub.part("start-recipe").select_option(recipe)
    hub.part("start-smart").uncheck()
    hub.part("start-model").select_option(model)


def test_the_estimate_is_what_batches_alike_took(hub: HubPage, batches: Batches) -> None:
    made = batches.start(4, STEADY, recipe="instruction", concurrency=4)
    counts = batches.wait(made)["counts"]
    hub.expect_state(made, "completed")  # the page asks for an answer that knows what it has seen
    open_for(hub, "instruction", STEADY)
    hub.part("start-target").fill("400")
    estimate = hub.part("start-estimate")
    expect(estimate).to_contain_text(re.compile(r"As \d+ batch(es)? of this recipe went with this"))
    words = hub.part("estimate-tokens").inner_text().replace(",", "")
    bounds = [int(number) for number in re.findall(r"\d+", words)]
    own = 100 * (counts["tokens_in"] + counts["tokens_out"])
    assert bounds[0] <= own <= bounds[-1]
    expect(hub.part("estimate-cost")).to_have_text(re.compile(r"^(about )?\$0\.\d+"))
    expect(hub.part("estimate-time")).to_have_text(re.compile(r"\d+ (s|m|h)"))
    hub.part("start-target").fill("no number")
    for name in ("tokens", "cost", "time"):
        expect(hub.part(f"estimate-{name}")).to_have_text("—")


def test_a_budget_stops_the_batch_and_says_so(hub: HubPage, batches: Batches) -> None:
    batches.wait(batches.start(2, STEADY, recipe="instruction"))
    open_for(hub, "instruction", STEADY)
    hub.part("start-budgets").click()
    least = re.compile(r"^One call may use up to ([\d,]+) tokens and \$0\.\d+: a smaller budget is")
    expect(hub.part("start-least-budget")).to_have_text(least)
    for field in ("start-max-tokens", "start-max-cost-usd"):
        expect(hub.part(field)).to_have_accessible_description(least)
    hub.part("start-max-tokens").fill("6000")
    hub.part("start-concurrency").fill("1")
    hub.part("start-target").fill("500")
    expect(hub.part("estimate-over")).to_be_visible()
    with hub.page.expect_response(lambda got: got.request.method == "POST") as answer:
        hub.part("start-submit").click()
    batch_id = answer.value.json()["batch"]["id"]
    hub.expect_state(batch_id, "stopped")
    expect(hub.part("over-budget", hub.past(batch_id))).to_have_text("budget")
    reason = batches.view(batch_id)["stop_reason"]
    assert "budget" in reason
    expect(hub.part("toast").filter(has_text=reason)).to_have_count(1)
    hub.open(f"batches/{batch_id}")
    expect(hub.part("details")).to_contain_text(re.compile("budget", re.IGNORECASE))


@pytest.mark.parametrize(
    ("field", "wrong", "words"),
    [
        ("max-cost-usd", "-1", "budgets.max_cost_usd=-1 is not valid"),
        ("max-tokens", "many", "budgets.max_tokens='many' is not valid: give a whole number"),
        ("max-duration-s", "0", "budgets.max_duration_s=0 is not valid"),
    ],
)
def test_a_wrong_budget_is_refused_at_its_field_which_then_has_the_focus(
    hub: HubPage, field: str, wrong: str, words: str
) -> None:
    hub.outages = True  # The browser reports each 4xx answer.
    hub.part("start-open").click()
    hub.part("start-budgets").click()
    hub.part(f"start-{field}").fill(wrong)
    hub.part("start-submit").click()
    expect(hub.part(f"start-{field}-error")).to_contain_text(words)
    expect(hub.part(f"start-{field}-error")).not_to_contain_text("quotes")
    expect(hub.part(f"start-{field}")).to_have_value(wrong)
    expect(hub.part(f"start-{field}")).to_be_focused()
    expect(hub.part(f"start-{field}-error")).to_be_in_viewport()


def test_a_form_is_kept_as_a_preset(hub: HubPage) -> None:
    hub.part("start-open").click()
    hub.part("start-preset").select_option("A working set")
    expect(hub.part("start-target")).to_have_value("500")
    expect(hub.part("start-max-cost-usd")).to_have_value("1")
    hub.part("start-target").fill("33")
    expect(hub.part("start-preset")).to_have_value("")
    hub.part("preset-open").click()
    hub.part("preset-name").fill("Thirty-three")
    hub.page.keyboard.press("Enter")  # Keeps the preset, and sends no form.
    expect(hub.part("start-preset")).to_have_value("Thirty-three")
    hub.open()
    hub.part("start-open").click()
    hub.part("start-preset").select_option("Thirty-three")
    expect(hub.part("start-target")).to_have_value("33")
    assert hub.violations() == []


def test_a_preset_named_as_a_built_in_one_stands_in_its_place(hub: HubPage) -> None:
    hub.part("start-open").click()
    hub.part("start-target").fill("34")
    hub.part("preset-open").click()
    hub.part("preset-name").fill("A working set")
    hub.page.keyboard.press("Enter")
    hub.part("start-preset").select_option("A first look")
    hub.part("start-preset").select_option("A working set")
    expect(hub.part("start-target")).to_have_value("34")
    hub.page.get_by_role("button", name="Forget this preset").click()
    hub.part("start-preset").select_option("A working set")
    expect(hub.part("start-target")).to_have_value("500")


def test_a_budget_s_box_stays_open_while_one_types_in_it(hub: HubPage) -> None:
    hub.part("start-open").click()
    hub.part("start-budgets").click()
    field = hub.part("start-max-tokens")
    field.fill("7")
    hub.page.keyboard.press("Backspace")
    expect(field).to_have_value("")
    hub.page.keyboard.type("60")
    expect(field).to_have_value("60")
    expect(field).to_be_focused()


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
        expect(field).to_be_focused()
    hub.expect_running(0)


def test_another_model_without_a_name_is_refused_at_its_field(
    hub: HubPage, batches: Batches
) -> None:
    hub.outages = True
    before = batches.total()
    hub.submit(model="  ")
    expect(hub.part("start-model-error")).to_contain_text("'' names nothing")
    name = hub.part("start-model-other")
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(name).to_be_focused()
    assert (hub.violations(), batches.total()) == ([], before)


def test_a_form_that_is_sent_twice_at_once_starts_one_batch(hub: HubPage, batches: Batches) -> None:
    before = batches.total()
    hub.part("start-open").click()
    hub.part("start-target").fill("2")
    hub.part("start-submit").evaluate("(button) => { button.click(); button.click(); }")
    expect(hub.part("toast")).to_contain_text("2 of 2 samples")
    assert batches.total() == before + 1


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


def test_a_batch_may_go_to_one_of_several_pools(
    hub: HubPage, batches: Batches, stack: Stack, tmp_path: Path
) -> None:
    hub.part("start-open").click()
    expect(hub.part("start-concurrency")).to_be_visible()
    expect(hub.part("start-pool")).to_have_count(0)  # one pool lives: there is nothing to choose
    hub.page.keyboard.press("Escape")
    other = {"nats_url": stack.nats_url, "node": "of-gpu", "pool": "gpu"}
    with ServiceProcess("millstream_generator", tmp_path / "log", data_dir=str(tmp_path), **other):
        url = f"{batches.url}/v1/nodes"
        stack.wait_until(lambda: "of-gpu" in httpx.get(url).text, BOUND_S, "the other generator")
        hub.open()
        hub.part("start-open").click()
        hub.part("start-pool").select_option("gpu")
        with hub.page.expect_response(lambda got: got.request.method == "POST") as answer:
            hub.part("start-submit").click()
        batch = answer.value.json()["batch"]
        assert batch["pool"] == "gpu"
        hub.open(f"batches/{batch['id']}")
        expect(hub.part("details")).to_contain_text(re.compile(r"Pool\s*gpu"))
