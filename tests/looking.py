"""What browser tests share: pictures, the console, axe, and the ways around in Lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page

TOP = Path(__file__).resolve().parents[1]
PICTURES = TOP / "artefacts" / "pictures"
AXE = TOP / "extension" / "node_modules" / "axe-core" / "axe.min.js"
RUN = """async ({include, tags}) => {
  // everything in Lab's body is positioned absolutely: axe takes what lies in a body without a height as hidden
  document.body.style.minHeight = '100vh';
  const found = await axe.run(include.length ? {include} : document, {runOnly: {type: 'tag', values: tags}});
  const looked = [...found.passes, ...found.violations].map(rule => rule.id);
  const marks = ['nonBmp', 'shortTextContent'];  // arrows and single digits
  // axe does not know what lies behind words in a drawing: `drawn_contrast` does
  const drawn = node => document.querySelector(node.target.at(-1))?.closest('svg[role=img]');
  const unsure = found.incomplete.filter(rule => rule.id === 'color-contrast').map(rule => (
    {...rule, nodes: rule.nodes.filter(
      node => !drawn(node) && !node.any.some(one => marks.includes(one.data?.messageKey)))}));
  if (!looked.includes('color-contrast')) throw new Error('axe saw no text');
  return [...found.violations, ...unsure].flatMap(rule => rule.nodes.map(
    node => `${rule.id}: ${node.target.join(' ')}: ${node.failureSummary}`));
}"""
SETTLED = """roots => roots.every(root => [...document.querySelectorAll(root)].every(
  node => node.getAnimations({subtree: true}).every(one => one.effect.getTiming().iterations === Infinity)))"""
DRAWN = """selector => {
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...document.querySelectorAll(selector)].map(text => {
    const before = one => one.tagName === 'rect' && !one.getAttribute('fill') && text.compareDocumentPosition(one) & 2;
    const under = [...text.parentElement.children].filter(before).at(-1);
    const [a, b] = [getComputedStyle(text).fill, getComputedStyle(under).fill].map(light).sort((x, y) => y - x);
    return [text.textContent, Math.round(100 * (a + 0.05) / (b + 0.05)) / 100];
  });
}"""
WCAG_21_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


def picture(page: Page, name: str) -> None:
    """Keep what the page looks like, for people to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def accessible(page: Page, *include: str) -> None:
    """No violation of WCAG 2.1 AA that axe can find, on the page or in the parts that the selectors name."""
    assert AXE.exists(), "axe-core is not there: scripts/test installs it"
    for selector in include:
        assert page.locator(selector).count(), f"nothing to look at: {selector}"
    if not page.evaluate("typeof window.axe === 'object'"):
        # evaluated by the browser's debugger: a page's own policy would refuse a script tag
        page.evaluate(AXE.read_text() + ";0")
    settled(page, include)
    found: list[str] = page.evaluate(RUN, {"include": [[one] for one in include], "tags": WCAG_21_AA})
    assert found == [], "\n\n".join(found)


def drawn_contrast(page: Page, selector: str) -> dict[str, float]:
    """Words in a drawing, each with its contrast to the last rectangle that was painted under it."""
    found: list[tuple[str, float]] = page.evaluate(DRAWN, selector)
    return {text: min(value for other, value in found if other == text) for text, _ in found}


def settled(page: Page, include: tuple[str, ...]) -> None:
    """Wait for transitions: colours in between are nobody's choice."""
    page.wait_for_function(SETTLED, arg=list(include) or ["body"])


def console(page: Page) -> list[str]:
    """What the browser says is wrong, from now on."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(f"{message.text} {message.location.get('url', '')}")

    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


def run_command(page: Page, label: str) -> None:
    """Any command of Lab, by its palette and the keyboard alone."""
    page.keyboard.press("Control+Shift+C")
    page.locator("#modal-command-palette input, .jp-ModalCommandPalette input").first.wait_for()
    page.keyboard.type(label)
    page.locator(".lm-CommandPalette-item", has_text=label).first.wait_for()
    page.keyboard.press("Enter")
    page.locator(".jp-ModalCommandPalette").wait_for(state="hidden")


def theme(page: Page, name: str) -> None:
    """`Light` or `Dark`."""
    run_command(page, f"Theme: JupyterLab {name}")
    page.locator(f"body[data-jp-theme-name='JupyterLab {name}']").wait_for(state="attached")
    page.locator("#jupyterlab-splash").wait_for(state="detached")


def focused(page: Page) -> dict[str, Any]:
    """Which element the keyboard acts on."""
    script = "() => { const e = document.activeElement; return {tag: e.tagName, text: e.textContent, id: e.id}; }"
    found: dict[str, Any] = page.evaluate(script)
    return found


def tab_to(page: Page, text: str, most: int = 30) -> None:
    """Press Tab until the button with this text has the focus."""
    for _ in range(most):
        if focused(page)["tag"] == "BUTTON" and focused(page)["text"] == text:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"no way to {text!r} with the Tab key; now at {focused(page)}")
