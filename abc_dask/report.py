"""One page about a view: where it is from, what is in it, its tables and pictures.

The page stands alone: pictures and style lie in it, it asks for nothing from anywhere,
and says so to the browser. All text out of data is escaped.
"""

from __future__ import annotations

# What the reference workflow groups by and colours with, where the atlas has it.
_USUAL = ("neurotransmitter", "class", "region_of_interest_acronym", "parcellation_division")
_DPI = 200

_STYLE = """
:root { color-scheme: light; --ink: #1d2530; --faint: #5c6775; --line: #dde2e8; --wash: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; }
header, main, footer { max-width: 72rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-top: .5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .25rem 0 .75rem; }
.faint, figcaption, footer { color: var(--faint); font-size: .875rem; }
nav { margin: .75rem 0 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .9rem; }
a { color: #0b5cad; }
dl.sums { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0 0; }
dl.sums div { background: var(--wash); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem; }
dl.sums dt { color: var(--faint); font-size: .8rem; }
dl.sums dd { margin: 0; font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top; white-space: nowrap;
  border-top: 1px solid var(--line); }
tr:first-child > * { border-top: 0; }
thead th { background: var(--wash); border-bottom: 1px solid var(--line); font-weight: 600; }
tbody th { font-weight: 500; }
td.number, th.number { text-align: right; }
td.wide { white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
tr.missing > * { color: var(--faint); font-style: italic; }
.pictures { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; }
img { display: block; width: 100%; max-width: 34rem; height: auto; margin: 0 auto; }
details > summary { cursor: pointer; color: #0b5cad; }
footer { padding-top: 1rem; padding-bottom: 2rem; margin-top: 2.5rem; border-top: 1px solid var(--line); }
@media print { nav, details > summary { display: none; } .scroll { overflow: visible; } }
"""
