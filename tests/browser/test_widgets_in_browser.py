"""Every widget in JupyterLab, Notebook and Voilà: driven by mouse and keyboard, seen in light and dark.

VS Code and Colab are untested.
"""

import re
from pathlib import Path

import nbformat
import pytest
from jupyter_app import TOKEN, browser_page, require, run_notebook, serving, shoot
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
ARABIC = "ما حالة الطقس في القاهرة؟"
CELLS = [
    """
from dataclasses import replace
from math import nan
import ipywidgets
from labkit import load
from labkit.checks.core import Exercises, Wrong
from labkit.metrics.agent_eval import Share
from labkit.metrics.levels import Level, LevelTable
from labkit.widgets import *
""",
    """ModelPicker("llamacpp", threads=1, context=512)""",
    """
row = Level("", 0, 8, 0.01, 100, nan, 20, 0, 1, Share(10, 5, 0.5, 0.2, 0.8), {})
figures = {"F16": (16e6, 0.0), "Q8_0": (8e6, 0.002), "Q4_K_M": (6e6, 0.01), "Q2_K": (3e6, 0.2)}
rows = tuple(replace(row, level=n, file_bytes=int(size), kl=kl) for n, (size, kl) in figures.items())
QuantExplorer("nano", LevelTable("made-up figures", rows, (), (), ()), threads=1)
""",
    f"""
CALL = '<tool_call>\\n{{"name": "get_weather", "arguments": {{"city": "Oslo"}}}}\\n</tool_call>'
EVIL = {EVIL!r}
LONG = " ".join(f"word{{n}}" for n in range(5_000))
def get_weather(city: str) -> str:
    "Tell the weather in a city."
    return EVIL
model = load("nano", "echo", script=[CALL, LONG, EVIL + " " + {ARABIC!r}], delay=0.02)
given, engine_stream = ipywidgets.Label("0"), model.engine.stream
given.add_class("given")
def counted(*arguments):
    for number, chunk in enumerate(engine_stream(*arguments)):
        if number % 5 == 0:
            given.value = str(number)
        yield chunk
model.engine.stream = counted
given
""",
    """Chat(model, tools=[get_weather], max_tokens=5_000)""",
    """LiveMetrics(model)""",
    """
nano = Chat(load("nano", "llamacpp", threads=1, context=512), max_tokens=24)
nano.ask("Hello! Who are you?")
nano.wait()
nano
""",
    """
short = Chat(load("nano", "echo", script=[CALL, "It rains."], delay=0.05), tools=[get_weather])
short.ask("The weather in Oslo?")
short.wait()
AgentTrace(short.exchange.trace, price="gpt-4o")
""",
    """
runners = [load("nano", "echo", script=[LONG], delay=0.02), load("pico", "echo", script=["soon done"])]
EngineRace(runners, max_tokens=50)
""",
    """Doctor()""",
    """
def positive(number):
    if number <= 0:
        raise Wrong(f"{number} is not positive")
q1 = Exercises("99").add(positive, hints=("more than nothing",), code="number = 1")
for answer in (1, -1, ...):
    q1.check(answer)
q1.hint(), q1.solution()
print("all widgets", "are shown")
""",
]
ADDRESSES = {
    "jupyterlab": f"/lab/tree/widgets.ipynb?token={TOKEN}&reset",
    "notebook": f"/notebooks/widgets.ipynb?token={TOKEN}",
    "voila": f"/voila/render/widgets.ipynb?token={TOKEN}",
}
# Roles that a screen reader announces by name; in a snapshot a name stands in quotes behind the role.
UNNAMED = re.compile(
    r"^\s*- (button|checkbox|combobox|img|log|progressbar|region|searchbox|slider|spinbutton|switch|textbox)"
    r'(?! ")(?!\w).*$',
    re.MULTILINE,
)
# WCAG's contrast of every piece of text with what is behind it; 4.5 is level AA.
FAINT = """() => {
  const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  const rgba = colour => {
    pen.clearRect(0, 0, 1, 1)
    pen.fillStyle = colour
    pen.fillRect(0, 0, 1, 1)
    return [...pen.getImageData(0, 0, 1, 1).data]
  }
  const part = x => x <= 10 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b)
  const behind = node => {
    for (let n = node; n; n = n.parentElement) {
      const colour = rgba(getComputedStyle(n).backgroundColor)
      if (colour[3] > 200) return colour
    }
    return [255, 255, 255, 255]
  }
  const found = new Set()
  for (const root of document.querySelectorAll('.labkit, .jp-OutputArea details, .jp-OutputArea [role=status]')) {
    const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT)
    while (walk.nextNode()) {
      const node = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim()
      if (!text || ['STYLE', 'OPTION', 'SCRIPT'].includes(node.tagName) || !node.checkVisibility()) continue
      const style = getComputedStyle(node)
      const [a, b] = [light(rgba(node.closest('svg') ? style.fill : style.color)), light(behind(node))]
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
      if (ratio < 4.5) found.add(`${ratio.toFixed(2)} <${node.tagName}> ${text.slice(0, 40)}`)
    }
  }
  return [...found]
}"""
MOVING = "() => document.getAnimations().filter(a => a.effect?.target?.closest('.labkit')).length"


@pytest.mark.parametrize("app", list(ADDRESSES))
def test_every_widget_works_and_can_be_read(app: str, tmp_path: Path) -> None:
    require(app)
    write_notebook(tmp_path / "widgets.ipynb")
    home = tmp_path / "home"
    with serving(tmp_path, app, LABKIT_HOME=str(home)) as url, browser_page(height=5200) as page:
        page.goto(url + ADDRESSES[app], timeout=180_000)  # Voilà answers when all cells have run
        try:
            if app != "voila":
                run_notebook(page)
            expect(page.get_by_text("all widgets are shown")).to_be_visible(timeout=180_000)
            page.wait_for_timeout(1_000)  # widgets draw themselves after the cell has ended
            pick_a_model(page)
            change_the_level(page)
            chat_and_stop(page, home)
            show_probabilities(page)
            race(page)
            look(page, app, "light")
            make_dark(page, app, url)
            look(page, app, "dark")
            look_at_what_is_wrong(page)
        finally:
            shoot(page, f"widgets-{app}-last")


def write_notebook(path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def widget(page: Page, title: str) -> Locator:
    return page.locator(".labkit", has=page.get_by_text(re.compile(f"^{title}"))).first


def press(found: Locator, name: str) -> None:
    found.get_by_role("button", name=name, exact=True).click()


def pick_a_model(page: Page) -> None:
    picker = widget(page, "Pick a model")
    level = picker.get_by_label("Level")
    before = picker.inner_text()
    level.select_option(label=next(o for o in level.locator("option").all_inner_texts() if "Q8_0" in o))
    expect(level.locator("option:checked")).to_contain_text("Q8_0")
    page.wait_for_function("([e, t]) => e.innerText !== t", arg=[picker.element_handle(), before])
    press(picker, "Load")
    expect(picker.get_by_role("status")).to_contain_text("loaded: <nano Q8_0 on llamacpp", timeout=120_000)


def change_the_level(page: Page) -> None:
    explorer = widget(page, "Levels of nano")
    expect(explorer.locator("th", has_text="Q2_K")).to_be_visible()
    explorer.get_by_label("Second level").select_option("Q4_K_M")
    expect(explorer.locator("th", has_text="Q4_K_M")).to_be_visible(timeout=90_000)
    press(explorer, "Compare")
    expect(explorer.get_by_role("status")).to_contain_text("compared: ", timeout=180_000)


def chat_and_stop(page: Page, home: Path) -> None:
    chat, live = widget(page, "Chat with"), widget(page, "Live:")
    talk, status = chat.get_by_role("log", name="conversation"), chat.get_by_role("status")
    chat.get_by_label("Message").fill("The weather in Oslo?")
    page.keyboard.press("Enter")
    expect(talk).to_contain_text('→ get_weather({"city": "Oslo"})', timeout=90_000)
    expect(talk).to_contain_text("word20", timeout=90_000)
    assert page.evaluate("document.querySelectorAll('[aria-busy=true]').length") == 1
    # Metrics move while the engine writes, which it does for a minute and a half.
    moved = "([e, t]) => e.textContent !== t"
    page.wait_for_function(moved, arg=[live.element_handle(), live.text_content()], timeout=30_000)
    assert status.inner_text() == "at work: Stop ends it"
    # By keyboard: from the message Tab leads to Send, then to Stop, and the space bar presses it.
    chat.get_by_label("Message").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Stop"
    page.keyboard.press("Space")
    expect(status).to_have_text(re.compile(r"stopped after \d+ tokens; the engine is idle"), timeout=90_000)
    given = page.locator(".given").inner_text()
    page.wait_for_timeout(1_500)
    assert page.locator(".given").inner_text() == given, "the engine goes on after Stop"
    assert 0 < int(given) < 4_900
    assert page.evaluate("document.activeElement.innerText") == "Stop", "the keyboard's focus was lost"
    chat.get_by_label("Message").fill(ARABIC)
    press(chat, "Send")
    expect(status).to_contain_text("first token", timeout=90_000)
    expect(talk).to_contain_text(EVIL.split("'")[0])
    press(chat, "Good answer")
    expect(status).to_contain_text("recorded as good", timeout=90_000)
    assert (home / "verdicts.jsonl").read_text("utf-8").count("\n") == 1
    assert page.evaluate("window.hacked") is None


def show_probabilities(page: Page) -> None:
    chat = widget(page, "Chat with <nano Q4_K_M on llamacpp")
    press(chat, "Token probabilities")
    expect(chat.get_by_role("group", name="token probabilities")).to_contain_text(
        re.compile(r"\d"), timeout=90_000
    )


def race(page: Page) -> None:
    lanes = widget(page, "Race:")
    press(lanes, "Start")
    log = lanes.get_by_role("log")
    expect(log.nth(0)).to_contain_text("50 tokens in", timeout=90_000)
    expect(log.nth(1)).to_contain_text("soon done")
    press(widget(page, "What this machine has"), "Look again")


def make_dark(page: Page, app: str, url: str) -> None:
    if app == "voila":
        page.goto(f"{url}{ADDRESSES[app]}&theme=dark", timeout=180_000)
        expect(page.get_by_text("all widgets are shown")).to_be_visible(timeout=180_000)
    else:
        page.evaluate(
            "() => { jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'}) }"
        )
        page.wait_for_function("document.body.dataset.jpThemeName === 'JupyterLab Dark'", timeout=90_000)
    page.wait_for_timeout(2_000)


def look(page: Page, app: str, theme: str) -> None:
    shoot(page, f"widgets-{app}-{theme}")
    frames = page.locator(".labkit").all()
    assert len(frames) == 7
    snapshots = "\n".join(frame.aria_snapshot() for frame in frames)
    assert snapshots.count("- button") >= 15 and UNNAMED.findall(snapshots) == []
    assert page.evaluate(FAINT) == []
    assert page.evaluate(MOVING) == 0


def look_at_what_is_wrong(page: Page) -> None:
    """See that `look` would find a button without a name, faint text and what moves."""
    page.evaluate("""() => {
      const wrong = document.createElement('div')
      wrong.innerHTML = '<button></button><span style="color:#777;background:#888">faint</span>'
      document.querySelector('.labkit').append(wrong)
      wrong.animate([{opacity: 1}, {opacity: 0.9}], {duration: 1e6})
    }""")
    assert len(UNNAMED.findall(page.locator(".labkit").first.aria_snapshot())) == 1
    assert [text.split()[-1] for text in page.evaluate(FAINT)] == ["faint"]
    assert page.evaluate(MOVING) == 1
