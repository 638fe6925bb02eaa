"""Brings pages from outside `docs/` into the site, and fits links that work in the repository to the site's paths."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("BUILD_NOTES.md", "CHANGELOG.md", "CONTRIBUTING.md")
"""Pages in the repository's root."""
OVERVIEW, OVERVIEW_ADDRESS = "results/README.md", "results/overview/index.html"
"""The page of measured records and its file in the site, whose usual one is that of `docs/results.md`."""


def on_files(files: Files, config: Any) -> Files:
    """Add the root's pages and those of `results/`; the measured records stay in the repository alone."""
    for path in (*OUTSIDE, *(f"results/{page.name}" for page in sorted((ROOT / "results").glob("*.md")))):
        address = OVERVIEW_ADDRESS if path == OVERVIEW else None
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls, dest_uri=address))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite relative links: what lies beside `docs/` in the repository lies beside its pages in the site."""
    path = page.file.src_uri
    if path in OUTSIDE:
        return markdown.replace("](docs/", "](")
    if path.startswith("results/"):
        # Folders of records are no pages.
        markdown = re.sub(r"\[([^\]]+)\]\((?:policies|rivals)\)", r"`\1`", markdown)
        return markdown.replace("](../docs/", "](../")
    return markdown.replace("](../", "](")
