"""Templates: text with holes, one file each, in `templates/`.

A name that a template uses and nobody gave is an error, never an empty
string. What is rendered for a browser (`.html`, `.svg`) is escaped; the rest
is taken as it is, so shell and mtree text quote with the filters below.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import jinja2

from linklab import paths
from linklab.errors import LabError, UsageError


def quoted_for_mtree(path: str) -> str:
    """Return a path as mtree(5) wants it: spaces, backslashes and the like in octal."""
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and chr(byte) not in "\\#" else f"\\{byte:03o}"
        for byte in path.encode()
    )


def render(name: str, folder: Path = paths.TEMPLATES, /, **values: object) -> str:
    """Return the template `name` with its holes filled.

    Raises `LabError` when the template is missing, malformed, or uses a name
    that is not among `values`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html", "svg"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shell"] = shlex.quote
    environment.filters["mtree"] = quoted_for_mtree
    try:
        return environment.get_template(name).render(values)
    except jinja2.TemplateNotFound as error:
        raise LabError(f"the template {folder / name} is missing") from error
    except jinja2.TemplateError as error:
        raise LabError(f"the template {folder / name} cannot be rendered: {error}") from error


def keep(page: str, target: Path) -> Path:
    """Write a page to where a person wants it, and return that. Raises `UsageError`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the page {target} cannot be written: {error.strerror or error}; "
            "--output names another place"
        ) from error
    return target
