"""Views of the history are kept by name, and shared by their address."""

import re

import pytest
from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.browser import REFUSE_STORAGE
from millstream.testing.hub_page import NARROW, HubPage
from millstream.testing.stack import Stack


@pytest.fixture(scope="module", autouse=True)
def two(stack: Stack) -> tuple[str, str]:
    """Ids of batches of two recipes."""
    batches = Batches(stack.url)
    ids = (
        batches.start(1, "simulated/instant"),
        batches.start(1, "simulated/instant", recipe="instruction"),
    )
    for batch_id in ids:
        batches.wait(batch_id)
    return ids


def keep_a_view(hub: HubPage, name: str) -> None:
    hub.part("history-recipe").select_option("instruction")
    hub.part("history-sort").select_option("-finished")
    hub.part("columns").click()
    hub.part("column-tokens").uncheck()
    hub.part("column-recipe").check()
    hub.part("view-open").click()
    hub.part("view-name").fill(name)
    hub.page.keyboard.press("Enter")


def expect_the_view(hub: HubPage, two: tuple[str, str]) -> None:
    other, own = two
    expect(hub.past(own)).to_be_visible()
    expect(hub.past(other)).to_have_count(0)
    expect(hub.part("history-sort")).to_have_value("-finished")
    expect(hub.part("tokens", hub.past(own))).to_have_count(0)
    expect(hub.past(own)).to_contain_text("instruction")
    expect(hub.page).to_have_url(
        re.compile(r"recipe=instruction&sort=-finished&columns=model%2Crecipe%2Cfailed%2Ccost")
    )


def test_a_view_is_kept_by_its_name_and_shown_again(hub: HubPage, two: tuple[str, str]) -> None:
    hub.open("batches")
    keep_a_view(hub, "<b>Latest</b>")
    view = hub.part("saved-view")
    expect(view).to_have_text("<b>Latest</b>")
    expect(view).to_have_attribute("aria-pressed", "true")
    expect_the_view(hub, two)
    address = hub.page.url
    hub.open("batches")
    expect(view).to_have_attribute("aria-pressed", "false")
    expect(hub.past(two[0])).to_be_visible()
    view.click()
    expect_the_view(hub, two)
    assert hub.page.url == address
    assert hub.violations() == []
    hub.part("view-plain").click()
    expect(hub.past(two[0])).to_be_visible()
    hub.part("saved-view-drop").click()
    expect(view).to_have_count(0)


def test_a_view_lasts_as_long_as_the_page_where_storage_is_refused(
    unopened: HubPage, two: tuple[str, str]
) -> None:
    unopened.page.add_init_script(REFUSE_STORAGE)
    unopened.open("batches")
    keep_a_view(unopened, "Mine")
    unopened.part("view-plain").click()
    expect(unopened.past(two[0])).to_be_visible()
    unopened.part("saved-view").click()
    expect_the_view(unopened, two)


def test_a_column_that_is_switched_on_tells_of_a_batch_that_has_ended(
    stack: Stack, hub: HubPage, two: tuple[str, str]
) -> None:
    counts = Batches(stack.url).view(two[0])["counts"]
    hub.open("batches")
    tokens = hub.part("tokens", hub.past(two[0]))
    told = f"{counts['tokens_in'] + counts['tokens_out']:,}"
    expect(tokens).to_have_text(told)
    hub.part("columns").click()
    hub.part("column-tokens").uncheck()
    expect(tokens).to_have_count(0)
    hub.part("column-tokens").check()
    expect(tokens).to_have_text(told)


def test_the_choice_of_columns_closes_by_escape_and_by_a_press_beside_it(hub: HubPage) -> None:
    hub.open("batches")
    button, choice = hub.part("columns"), hub.part("column-tokens")
    button.click()
    choice.uncheck()
    hub.page.keyboard.press("Escape")
    expect(choice).to_be_hidden()
    expect(button).to_be_focused()
    button.press("Enter")
    choice.check()
    expect(choice).to_be_visible()
    hub.page.get_by_role("heading", level=1).click()
    expect(choice).to_be_hidden()


def test_columns_are_made_wider_by_pointer_and_keys_and_stay_so(
    hub: HubPage, two: tuple[str, str]
) -> None:
    def width(name: str) -> float:
        return float(
            hub.part(f"edge-{name}").evaluate("edge => edge.parentElement.offsetWidth"),
        )

    hub.open("batches")
    expect(hub.past(two[0])).to_be_visible()
    edge = hub.part("edge-model")
    expect(edge).to_have_attribute("aria-valuetext", "automatic")
    expect(edge.locator("..")).to_have_accessible_name("Model")  # Each cell is announced with it.
    model, progress, tokens = width("model"), width("progress"), width("tokens")
    place = edge.bounding_box()
    assert place is not None
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    hub.page.mouse.move(x, y)
    hub.page.mouse.down()
    hub.page.mouse.move(x + 40, y, steps=4)
    hub.page.mouse.up()
    assert width("model") == pytest.approx(model + 40, abs=2)
    assert width("progress") == pytest.approx(progress - 40, abs=2)
    assert width("tokens") == pytest.approx(tokens, abs=2)
    edge.press("ArrowLeft")
    assert width("model") == pytest.approx(model + 24, abs=2)
    for _ in range(40):  # However far it is pushed, the other one can be seen.
        edge.press("ArrowRight")
    assert width("progress") == pytest.approx(48, abs=2)
    assert (hub.violations(), hub.overflow()) == ([], 0)
    narrowed = width("model")
    hub.open("batches")
    expect(edge).to_have_attribute("aria-valuetext", re.compile(r"^\d+ %$"))
    assert width("model") == pytest.approx(narrowed, abs=2)
    hub.part("columns").click()
    hub.part("column-recipe").check()
    expect(hub.part("edge-recipe")).to_be_visible()
    assert hub.overflow() == 0
    hub.part("widths-plain").click()
    expect(edge).to_have_attribute("aria-valuetext", "automatic")
    hub.resize(NARROW)
    expect(edge).to_be_hidden()
    assert hub.overflow() == 0
