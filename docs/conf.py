"""The course's web site: `make site` builds it from this repository into _site/, without a network.

The source folder is the repository's root, so that pages link to each other as the files do on GitHub.
"""

import dataclasses
import json
import logging
import re
import tomllib
from pathlib import Path
from posixpath import normpath
from urllib.parse import urlsplit

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parent.parent
COURSE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]
REPOSITORY = f"https://github.com/{COURSE['repository']}"
RELEASE = COURSE["wheels"][0].split("-")[1]  # its version
ON_GITHUB = f"{REPOSITORY}/blob/main/"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"

project = "Fine-tune a small language model, step by step"
html_title = project
language = "en"

extensions = ["myst_nb"]
include_patterns = ["index.md", "README.md", "SECURITY.md", "docs/*.md", "notebooks/**.ipynb"]
include_patterns += ["benchmarks/README.md", "tests/faults/README.md"]
exclude_patterns = ["**/.ipynb_checkpoints", "**/node_modules", ".venv*", "_site", "build", "lesson_home"]
suppress_warnings = ["myst.header"]  # the glossary's terms are third-level headings; the page makes them second-level
# A part of the course may hold no page yet. (suppress_warnings does not reach this warning in Sphinx 9.)
logging.getLogger("sphinx.sphinx.directives.other").addFilter(lambda r: getattr(r, "subtype", "") != "empty_glob")

nb_execution_mode = "off"  # the pages show what is committed
nb_merge_streams = True
nb_ipywidgets_js = {}  # nothing comes from another host
myst_enable_extensions = ["dollarmath"]  # $n^2$, as in Jupyter
myst_dmath_allow_space = myst_dmath_allow_digits = False
html_math_renderer = "mathml"  # browsers draw it themselves; MathJax would come from another host
myst_heading_anchors = 4  # the anchors that GitHub makes

html_theme = "sphinx_book_theme"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False
html_domain_indices = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_provider": "github",
    "repository_branch": f"v{RELEASE}",  # Colab opens the notebooks of the release, as their own badges do
    "path_to_docs": "",
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "use_repository_button": True,
    "use_download_button": False,
    "show_navbar_depth": 2,
    "search_bar_text": "Search the course",
    "footer_content_items": [],
    "navbar_persistent": [],  # one search button is enough: the side bar's
}


def set_picture_folder(app) -> None:
    """Let myst-nb keep the notebooks' pictures beside the doctrees, not in the repository's root."""
    folder = str(Path(app.doctreedir).parent / "pictures")
    app.env.mystnb_config = dataclasses.replace(app.env.mystnb_config, output_folder=folder)


def describe_pictures(app, docname: str, text: list[str]) -> None:
    """Hand the text alternatives that notebooks keep beside their pictures (helpers/plots.py) to myst-nb."""
    if app.env.doc2path(docname).suffix != ".ipynb":
        return
    notebook = json.loads(text[0])
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            for kind, kept in output.get("metadata", {}).items():
                if kind.startswith("image/") and "alt" in kept:
                    cell["metadata"]["mystnb"] = {"image": {"alt": kept["alt"]}}
    text[0] = json.dumps(notebook)


class Links(SphinxTransform):
    """Links to files on GitHub lead to the site's own page, where it has one; links to other files, to GitHub."""

    default_priority = 200

    def apply(self, **kwargs) -> None:
        """Change this page's links."""
        folder = str(Path(self.env.docname).parent)
        for node in list(self.document.findall(nodes.reference)):
            if node.get("refuri", "").startswith(ON_GITHUB):
                address = urlsplit(node["refuri"].removeprefix(ON_GITHUB))
                if (page := self.env.path2doc(address.path)) in self.env.found_docs:
                    self.to_page(node, page, address.fragment)
        for node in list(self.document.findall(addnodes.download_reference)):
            path = normpath(f"{folder}/{node['reftarget']}")
            text = [child.deepcopy() for child in node[0].children]
            node.replace_self(nodes.reference("", "", *text, refuri=ON_GITHUB + path))

    def to_page(self, node: nodes.reference, page: str, anchor: str) -> None:
        """Replace a reference by one that myst resolves to a heading of a page."""
        wanted = {"refdomain": "doc", "reftype": "myst", "refexplicit": True, "refdoc": self.env.docname}
        link = addnodes.pending_xref("", reftarget=page, reftargetid=anchor or None, **wanted)
        link += nodes.inline("", "", *[child.deepcopy() for child in node.children], classes=["xref", "myst"])
        node.replace_self(link)


class Badges(SphinxTransform):
    """The Colab badges become buttons of text: no picture from another host."""

    default_priority = 210

    def apply(self, **kwargs) -> None:
        """Change this page's badges."""
        for image in list(self.document.findall(nodes.image)):
            if image["uri"] == BADGE:
                image.parent["classes"].append("colab")
                image.replace_self(nodes.Text(image["alt"]))


def write_formula(translator, node: nodes.Element) -> None:
    """Write a formula as MathML."""
    formula = tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block))
    translator.body.append(re.sub(r"(<mi>\w{2,}</mi>)", r'\1<mspace width="0.2em"/>', formula))  # ln p, not lnp
    raise nodes.SkipNode


def setup(app) -> dict:
    """Register what stands above."""
    app.connect("builder-inited", set_picture_folder, priority=900)
    app.connect("source-read", describe_pictures)
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
    app.add_transform(Links)
    app.add_transform(Badges)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
