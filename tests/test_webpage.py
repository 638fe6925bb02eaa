"""The shell of a page: what is put in stays text, and the policy allows the page's own style."""

import base64
import hashlib
import re

from cmgan_jax.report import webpage


def test_texts_cannot_become_tags() -> None:
    page = webpage.document("<b>t", "<i>s", webpage.section("<u>h", webpage.table(["<a>"], [["<td>x"]])))
    page += webpage.notices([('"x', "<script>alert(1)</script>")])
    for raw in ("<b>t", "<i>s", "<u>h", "<a>", "<td>x<", "<script>"):
        assert raw not in page
    assert "&lt;script&gt;" in page
    assert 'class="&quot;x"' in page


def test_policy_allows_exactly_the_style() -> None:
    page = webpage.document("t", "s", "", style=".mine { color: red; }")
    style = re.search("<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    assert ".mine" in style[1]
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
