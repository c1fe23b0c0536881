"""Reads the page of a report, and looks at it."""

import base64
import io
import json
import re

from PIL import Image

# Without these, Chromium asks its maker's hosts for this and that.
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def report_data(run):
    html = (run / "report.html").read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert len(found) == 1
    return json.loads(found[0])


def pictures_of(data):
    """The report's pictures, decoded."""
    images = []
    for uri in data["pictures"]:
        kind, text = re.fullmatch(r"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)", uri).groups()
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
        image.load()
        assert image.format.lower() == kind
        images.append(image)
    return images


def assert_sane_to_a_screen_reader(page):
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1 and page.get_by_role("main").count() == 1
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator("table:not(:has(caption))").count() == 0
    unnamed = page.evaluate("""[...document.querySelectorAll('section, [role], input, [tabindex]')]
        .filter((e) => !e.matches('[aria-label], [aria-labelledby], label *') && !e.labels?.length)
        .map((e) => e.outerHTML.slice(0, 80))""")
    assert unnamed == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


# The text of the lowest contrast against what is behind it (WCAG 2.1's ratio).
CONTRAST = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = channels(color).slice(0, 3).map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if ((channels(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  let worst = {ratio: 21};
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.getClientRects().length || element.closest('script, style, noscript')) continue;
    const style = getComputedStyle(element);
    const color = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(color), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = {ratio, text: element.textContent.slice(0, 40), color, behind: behind(element)};
  }
  return worst;
}"""
