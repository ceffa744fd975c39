"""The step-through page in a real browser: Chromium, driven by playwright. Skipped where one of the two is missing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra: pip install tinygrad-rnn[browser]")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def lstm_loss(steps: int = 2) -> tg.Tensor:
    tg.manual_seed(0)
    _, (h, _) = nn.LSTM(2, 2)(tg.Tensor(np.random.default_rng(0).normal(size=(steps, 1, 2)), dtype=np.float32, name="x"))
    return (h * h).mean().named("loss")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "bptt.html"
    tg.viz.page(lstm_loss(), path)
    return path


@pytest.fixture(scope="module")
def told() -> Any:
    return tg.viz.events(lstm_loss())


class Visit:
    """A page in the browser. What it says on the console, and what it asks the network for, is kept."""

    def __init__(self, browser: Any, file: Path, link: str = "", **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri() + link)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def event(self) -> str:
        """The event of the address, which must be that of the status, of the slider and of the marked row."""
        k = self.page.evaluate("location.hash").removeprefix("#e")
        assert re.search(rf"event {k} of", self.page.text_content("#status"))
        (row,) = self.page.query_selector_all("#events > tbody > tr.now")
        assert row.query_selector("th").text_content() == k
        return f"e{k}"

    def wait(self, selector: str, text: str) -> None:
        playwright.expect(self.page.locator(selector)).to_contain_text(text)

    def count(self, selector: str) -> int:
        return len(self.page.query_selector_all(selector))


@pytest.fixture
def visit(browser: Any, file: Path) -> Iterator[Any]:
    visits: list[Visit] = []

    def open_page(link: str = "", path: Path = file, **context: Any) -> Visit:
        visits.append(Visit(browser, path, link, **context))
        return visits[-1]

    yield open_page
    for each in visits:
        assert each.complaints == []
        assert [url.partition("#")[0] for url in each.requests] == [each.page.url.partition("#")[0]] * len(each.requests)
        each.context.close()


def test_keys_step_back_and_forth(visit, told):
    v, first, last = visit(), len(told["forward"]), len(told["forward"]) + len(told["backward"]) - 1
    assert v.event == "e0"
    v.press("ArrowLeft")
    assert v.event == "e0"
    v.press("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft")
    assert v.event == "e2"
    v.press("b")
    assert v.event == f"e{first}"
    assert v.page.text_content("#event h2 b") == "backward"
    v.press("ArrowLeft")
    assert v.page.text_content("#event h2 b") == "forward"
    v.press("End", "ArrowRight")
    assert v.event == f"e{last}"
    v.press("Home", "Shift+B")
    assert v.event == f"e{first}"
    v.press("Control+ArrowRight")
    assert v.event == f"e{first}"


def test_buttons_and_slider(visit, told):
    v = visit()
    for button, event in [("next", 1), ("next", 2), ("back", 1), ("turn", len(told["forward"])), ("first", 0)]:
        v.page.click(f"#{button}")
        assert v.event == f"e{event}"
    v.page.fill("#slider", "7")
    assert v.event == "e7"
    assert "event 7" in v.page.get_attribute("#slider", "aria-valuetext")
    v.page.focus("#next")
    v.press("Space")
    assert v.event == "e8"


def test_play_and_pause(visit, told):
    v = visit()
    v.page.select_option("#speed", "150")
    v.page.click("h1")
    v.press("Space")
    assert v.page.text_content("#play") == "Pause"
    playwright.expect(v.page.locator("#status")).not_to_contain_text("event 0 of")
    v.press("Space")
    assert v.page.text_content("#play") == "Play"
    stopped = v.event
    v.page.wait_for_timeout(250)
    assert v.event == stopped
    v.press("End", "ArrowLeft")
    v.page.click("#play")
    v.wait("#play", "Play")
    assert v.event == f"e{len(told['forward']) + len(told['backward']) - 1}"
    v.page.click("#play")
    v.press("ArrowRight")
    assert v.page.text_content("#play") == "Play"
    assert v.event == "e1"


def test_links_to_an_event(visit):
    v = visit("#e20")
    assert v.event == "e20"
    v.page.evaluate("location.hash = '#e30'")
    v.wait("#status", "event 30 ")
    assert v.event == "e30"
    assert not v.page.get_attribute("details", "open")
    assert visit("#e99999").event == "e0"


def test_a_click_on_a_box_goes_to_its_event(visit, told):
    v = visit()
    k, box = v.page.evaluate(ROW)
    v.page.click(f"#{box} text")
    assert v.event == f"e{k}"
    v.press("b")
    v.page.click(f"#{box} text")
    node = told["forward"][int(k)]["node"]
    back = next(i for i, event in enumerate(told["backward"]) if event["node"] == node)
    assert v.event == f"e{len(told['forward']) + back}"


def test_a_click_on_a_link_or_a_row_goes_there(visit):
    v = visit("#e12")
    link = v.page.query_selector("#event a.in")
    target = link.get_attribute("href")
    assert re.fullmatch(r"#e\d+", target)
    link.click()
    assert f"#{v.event}" == target
    v.page.click("summary")
    v.page.click("#events > tbody > tr:nth-child(5) > th")
    assert v.event == "e4"


def test_the_picture_shows_what_has_been_reached(visit, told):
    v = visit()
    drawn = v.count("figure .node[id]")
    assert v.count("figure .node.later") > drawn / 2
    v.press("b", "ArrowLeft")
    assert v.count("figure .node.later") == 0
    v.press("ArrowRight")
    assert v.count("figure .node.now") == 1
    assert v.page.text_content("figure .node.now b, figure .node.now text").startswith("loss")
    assert v.count("figure .node.with") == v.count("figure .edge.now") == 1
    assert v.count("figure .node.later") == drawn - 2
    v.press("End")
    titles = [box.text_content() for box in v.page.query_selector_all("figure .node.later title")]
    assert sorted(title.partition(" (")[0] for title in titles) == ["initial c", "initial h", "x[0]", "x[1]"]


def test_numbers_of_the_panel(visit, told):
    k, event = next((k, e) for k, e in enumerate(told["backward"]) if any(s["before"] for s in e["gives"]))
    v = visit(f"#e{len(told['forward']) + k}")
    share = next(s for s in event["gives"] if s["before"])

    def words(numbers: Any) -> list[str]:
        return [f"{x:.4g}" for x in numbers["values"]]

    expected = [words(event["g"]), words(share["before"]), words(share["whole"] or share["share"]), words(share["after"])]
    shown = v.page.evaluate(MATRICES)
    assert all(numbers in shown for numbers in expected)
    values = {e["node"]: e["value"] for e in [*told["given"], *told["forward"]]}
    assert all(words(values[i]) in shown for i in told["nodes"][event["node"]]["inputs"])
    assert share["rule"] in v.page.text_content("#event")


SUMS = """[
    [...document.querySelectorAll(".parameter div[data-e]")].filter(sum => sum.offsetParent).map(sum => sum.dataset.e),
    document.querySelectorAll(".parameter li:not(.later)").length,
]"""
MATRICES = "[...document.querySelectorAll('#event .m')].map(m => [...m.querySelectorAll('td')].map(d => d.textContent))"
ROW = "(row => [row.cells[0].textContent, row.dataset.now])(document.querySelectorAll('#events > tbody > tr')[9])"


def test_sums_grow_event_by_event(visit, told):
    v = visit()
    assert v.page.evaluate(SUMS) == [[], 0]
    first = len(told["forward"])
    events = {p["node"]: [t["event"] for t in p["terms"]] for p in told["parameters"]}
    done = {p["node"]: first + [e["node"] for e in told["backward"]].index(p["node"]) for p in told["parameters"]}
    v.press("b")
    for k in range(first, first + len(told["backward"])):
        expected = [max((e for e in [*events[i], done[i]] if e <= k), default=None) for i in events]
        bars = sum(e <= k for some in events.values() for e in some)
        assert v.page.evaluate(SUMS) == [[str(e) for e in expected if e is not None], bars]
        v.press("ArrowRight")
    assert v.count(".parameter .last b") == len(events) == 4


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(13, 17, 23)")])
@pytest.mark.parametrize("width", [1366, 390])
def test_both_colour_schemes_on_laptop_and_phone(visit, scheme, paper, width, tmp_path):
    v = visit("#e70", color_scheme=scheme, viewport={"width": width, "height": 800})
    v.page.screenshot(path=tmp_path / f"{scheme}-{width}.png")
    assert v.page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
    assert v.page.evaluate("document.documentElement.scrollWidth") <= width
    assert v.page.evaluate("document.querySelector('.node.now').getBoundingClientRect().top") < 800


def test_without_javascript_all_is_a_table(visit, told):
    v = visit("#e20", java_script_enabled=False)
    rows = v.page.locator("#events > tbody > tr")
    assert rows.count() == len(told["forward"]) + len(told["backward"])
    assert rows.nth(20).is_visible()
    assert rows.nth(20).bounding_box()["y"] < 300  # the link has led there
    assert not v.page.locator("nav").is_visible()
    assert not v.page.locator("#event").is_visible()
    assert v.page.locator(".parameter div[data-e]").first.is_visible()
    assert v.page.locator("figure svg").is_visible()


def test_for_screen_readers(visit):
    v = visit("#e5")
    assert v.page.get_attribute("#status", "role") == "status"
    assert v.page.get_attribute("#status", "aria-live") == "polite"
    assert v.page.text_content("#status").startswith("forward, event 5 of ")
    assert v.page.get_by_role("button", name="Backward pass").count() == 1
    assert v.page.get_by_role("slider", name="Event").count() == 1
    assert v.page.get_by_role("combobox", name="Speed").count() == 1


def test_a_window_on_a_long_sequence(visit, tmp_path):
    tg.viz.page(lstm_loss(80), tmp_path / "long.html")
    v = visit(path=tmp_path / "long.html")
    v.press("b", *["ArrowRight"] * 5)
    assert re.fullmatch(r"e\d{4}", v.event)
    assert v.count("figure .node.now") == 1


def test_a_hostile_name(visit, tmp_path):
    w = tg.Tensor([1.0, 2.0], requires_grad=True, name="</script><img src=x onerror=alert(1)>\"'\\")
    tg.viz.page((w * w).sum().named("<b>loss</b>"), tmp_path / "p.html")
    v = visit(path=tmp_path / "p.html")
    v.press("b", "End")
    assert v.page.text_content("h1") == "<b>loss</b>, step by step"
    assert v.page.text_content("#event h2 span") == w.name
    assert v.count("img") == 0
