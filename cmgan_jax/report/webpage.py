"""The frame of all HTML pages: one self-contained file, for dark and light mode, for desktops and phones.

Bodies consist of `section`s, which become cards; `div.charts` arranges charts side by side as the width allows; a table
in `div.scroll` scrolls by itself on a narrow phone; `ul.notices` holds what a reader should know first.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape

from cmgan_jax.report import charts

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #16191f; --soft: #545b69; --line: #d8dce3;
  --good: #11692f; --bad: #b3261e; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --page: #101318; --card: #181c23; --ink: #e9ecf1; --soft: #a6aebc;
  --line: #323946; --good: #7bd694; --bad: #ff9b92; --warn: #e8c268; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 24px 20px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.1rem; margin: 0 0 10px; }
.subtitle { margin: 0 0 20px; color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px;
  margin: 0 0 18px; }
p { margin: 0 0 10px; } .fine { color: var(--soft); font-size: .85rem; margin: 8px 0 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 22px 28px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; overflow-wrap: normal; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
ul.notices { list-style: none; margin: 0; padding: 0; }
ul.notices li { padding: 8px 12px; margin: 0 0 8px; border-left: 4px solid var(--line); }
ul.notices li.bad { border-color: var(--bad); } ul.notices li.warn { border-color: var(--warn); }
ul.notices li.good { border-color: var(--good); }
"""


def document(title: str, subtitle: str, body: str, style: str = "") -> str:
    """Make a complete page.

    Args:
        title: its heading, as text.
        subtitle: a line under it, as text.
        body: HTML, in which everything is already escaped.
        style: additional CSS rules, after the common ones and those of the charts.

    Returns:
        HTML with a policy that forbids all connections and scripts.
    """
    rules = STYLE + charts.STYLE + style
    digest = base64.b64encode(hashlib.sha256(rules.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{rules}</style></head><body>\n"
        f'<h1>{escape(title)}</h1><p class="subtitle">{escape(subtitle)}</p>\n{body}\n</body></html>\n'
    )


def section(title: str, content: str) -> str:
    """Make a card with a heading; `content` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n"


def chart_grid(figures: Iterable[str]) -> str:
    """Arrange charts side by side."""
    return f'<div class="charts">{"".join(figures)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table of texts; the first column is the row's name."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def notices(lines: Iterable[tuple[str, str]]) -> str:
    """Make the list of what a reader should know first: (`good`, `warn`, `bad` or empty, sentence) each."""
    items = "".join(f'<li class="{escape(kind)}">{escape(text)}</li>' for kind, text in lines)
    return f'<ul class="notices">{items}</ul>'
