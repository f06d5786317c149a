"""The frame of a page: one file that asks for nothing, with its looks inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vla_data._version import __version__
from vla_data.core.findings import Section
from vla_data.report.words import escaped

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Nothing is loaded, sent or run: pictures and looks are inside of the file, and there is no script."""

_LOOKS: Final = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#566170;--paper:#fff;--card:#f5f6f8;--line:#d9dde3;
--main:#2f6db3;--other:#9c4a12;--kept:#2e7d5b;--pruned:#b8912b;--truncated:#7b6bb0;--rejected:#8b95a3;--failed:#b3403a}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#a3adba;--paper:#14181e;--card:#1d232b;
--line:#38414d;--main:#6ea8e6;--other:#e59a63;--kept:#5dba92;--pruned:#d9b75a;--truncated:#a99be0;--rejected:#76808e;
--failed:#e57a73}}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--paper:#fff;--card:#fff;--line:#bbb}nav{display:none}
section{break-inside:auto}figure,tr,.find{break-inside:avoid}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}h2{font-size:1.25rem;margin:2.2rem 0 .6rem;
border-bottom:1px solid var(--line);padding-bottom:.2rem}h3{font-size:1rem;margin:1.2rem 0 .4rem}
p,li{max-width:46rem}.soft,figcaption,dt{color:var(--soft)}
nav ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem .9rem}a{color:var(--main)}
.table{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem .2rem 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:break-word;max-width:30rem}td:first-child{min-width:8rem}td:last-child{min-width:10rem}
code{font-size:.85rem;background:var(--card);padding:.1rem .3rem;border-radius:3px}
svg{width:100%;height:auto;display:block}svg.timeline{min-width:34rem}.one{max-width:24rem}svg.flow{height:26px;border-radius:3px}
svg text{fill:var(--soft);font-size:10px}svg line{stroke:var(--line);stroke-width:2}
.histogram rect,.timeline rect{fill:var(--main)}
.curves rect{fill:var(--rejected)}.curves rect.kept{fill:var(--kept)}
.other{fill:none;stroke:var(--other);stroke-width:1.5}
.kept{fill:var(--kept);color:var(--kept)}.pruned{fill:var(--pruned);color:var(--pruned)}
.truncated{fill:var(--truncated);color:var(--truncated)}.rejected{fill:var(--rejected);color:var(--rejected)}
.failed{fill:var(--failed);color:var(--failed)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.5rem,1fr));gap:.7rem}
figure{margin:0}.card{background:var(--card);border-radius:6px;padding:.5rem .6rem}
.card figcaption{font-size:.85rem}.card b{color:var(--ink)}
dl{display:grid;grid-template-columns:auto 1fr;gap:0 .6rem;margin:.3rem 0 0;font-size:.8rem;
font-variant-numeric:tabular-nums}dd{margin:0;text-align:right}.card dd{overflow-wrap:normal}
.pair{grid-template-columns:auto 1fr 1fr}.pair dd+dd{color:var(--other)}
.facts{font-size:1rem;grid-template-columns:max-content 1fr}.facts dd{text-align:left}
.strip{margin:.6rem 0}.strip figcaption{font-size:.85rem}.film{display:flex;gap:3px;overflow-x:auto}
.film img{flex:none;height:84px;width:auto;border-radius:3px}
.film img.marked{outline:3px solid var(--kept);outline-offset:-3px}
.find{border-left:4px solid var(--rejected);padding:.1rem .8rem;margin:.7rem 0}
.find.error{border-color:var(--failed)}.find.warning{border-color:var(--pruned)}.find p{margin:.2rem 0}
@media(max-width:480px){body{padding:.7rem;font-size:15px}.grid{grid-template-columns:repeat(2,1fr)}
.film img{height:64px}.card{padding:.4rem}.card dl{font-size:.75rem;gap:0 .35rem}
.facts{grid-template-columns:1fr}.facts dt{margin-top:.3rem}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A section of the page.

    Attributes:
        id: of its anchor.
        title: plain words of ours.
        body: HTML in which everything of strangers is escaped; empty parts are left out.
    """

    id: str
    title: str
    body: str


def page(title: str, intro: str, parts: Sequence[Part]) -> str:
    """A whole HTML document.

    Args:
        title: of anybody.
        intro: HTML below the title.
        parts: in order.
    """
    told = [part for part in parts if part.body]
    links = "".join(f'<li><a href="#{part.id}">{escaped(part.title)}</a></li>' for part in told)
    bodies = "".join(
        f'<section id="{part.id}" aria-labelledby="{part.id}-title">'
        f'<h2 id="{part.id}-title">{escaped(part.title)}</h2>{part.body}</section>\n'
        for part in told
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<meta name="generator" content="vla-data {__version__}">\n'
        f"<title>{escaped(title)}</title>\n<style>{_LOOKS}</style></head>\n"
        f"<body><header><h1>{escaped(title)}</h1>{intro}</header>\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>{bodies}</main></body></html>\n'
    )


def table(section: Section, label: str) -> str:
    """A section's rows, which scroll by themselves where they are too wide."""
    return f'<div class=table tabindex=0 role=region aria-label="{escaped(label)}">{section.to_html()}</div>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values, both escaped here."""
    rows = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in pairs)
    return f"<dl class=facts>{rows}</dl>"


def sentence(text: str) -> str:
    """A paragraph of words of ours, in which what strangers named was shown already."""
    return f"<p class=soft>{escaped(text, shown=True)}</p>"
