"""How the report's page looks: on a screen by day and by night, on a phone, and on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--panel:#f5f7f8;--ink:#16202a;--soft:#566370;--rule:#d5dce1;--c0:#1f6f8b;
--c1:#e09f3e;
--c2:#7a9e3f;--c3:#9c4f96;--c4:#2a9d8f;--c5:#bb4a33;--c6:#5c6bc0;--c7:#8d6e4a;--rest:#98a4ae;--x:#b3382c;
--dim:#b9c9d0;--mark:#16202a}
@media (prefers-color-scheme:dark){:root{--paper:#11181f;--panel:#1a242d;--ink:#e8edf1;--soft:#a3b1bd;--rule:#33414d;
--c0:#4fa9c8;
--c1:#e8b059;--c2:#9cc25b;--c3:#c583bf;--c4:#52c2b3;--c5:#e58a72;--c6:#8f9be6;--c7:#bf9d74;--rest:#6f7d89;
--x:#ef7a6d;--dim:#4b5c68;
--mark:#f4f7f9}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,"Noto Sans","DejaVu Sans",sans-serif;
overflow-wrap:anywhere}
main,header,footer{max-width:1064px;margin:0 auto;padding:0 32px}
header{padding-top:40px}
h1{font-size:30px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:23px;line-height:1.25;margin:44px 0 6px;padding-top:20px;border-top:2px solid var(--ink)}
h3{font-size:18px;line-height:1.3;margin:34px 0 4px}
p{margin:6px 0;max-width:76ch}
.soft,figcaption{color:var(--soft);font-size:14px}
figcaption{max-width:90ch;margin-bottom:8px}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:14px;margin:20px 0 8px;padding:0;list-style:none}
.cards li{background:var(--panel);border-radius:8px;padding:14px 16px}
.cards b{display:block;font-size:27px;line-height:1.25;font-weight:650;letter-spacing:-.01em}
.cards span{display:block;font-size:13.5px;color:var(--soft)}
.cards .what{color:var(--ink);font-weight:600}
figure{margin:0;min-width:0;break-inside:avoid}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:0 40px}
.plot{display:block;width:100%;height:auto;margin:4px 0 8px}
.slim{display:none;max-width:480px}
.slim .whisker{stroke-width:1}
.plot text{font-size:13px;fill:var(--soft);font-family:inherit;unicode-bidi:isolate}
.plot .name,.plot .figure{fill:var(--ink)}
.plot .name{font-weight:600}
.plot .figure,.plot .tick{font-variant-numeric:tabular-nums}
.plot .axis{font-weight:600}
.plot .mid{text-anchor:middle}
.plot .end{text-anchor:end}
.plot .inside{font-size:12.5px;font-weight:600;fill:#fff}
.plot .grid{stroke:var(--rule);stroke-width:1}
.plot .base{stroke:var(--soft);stroke-width:1}
.plot .whisker{stroke:var(--mark);stroke-width:1.4;fill:none;opacity:.62}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.plot .empty{fill:var(--panel)}
.f0{fill:var(--c0);background:var(--c0)}.f1{fill:var(--c1);background:var(--c1)}.f2{fill:var(--c2);
background:var(--c2)}
.f3{fill:var(--c3);background:var(--c3)}.f4{fill:var(--c4);background:var(--c4)}.f5{fill:var(--c5);
background:var(--c5)}
.f6{fill:var(--c6);background:var(--c6)}.f7{fill:var(--c7);background:var(--c7)}.fx{fill:var(--x);background:var(--x)}
.frest{fill:var(--rest);background:var(--rest)}.fdefault{fill:var(--dim);background:var(--dim)}
.sign{vertical-align:-1px;margin-right:7px}
.l0{stroke:var(--c0)}.l1{stroke:var(--c1);stroke-dasharray:9 4}.l2{stroke:var(--c2);stroke-dasharray:2 4}
.l3{stroke:var(--c3);stroke-dasharray:12 4 2 4}.l4{stroke:var(--c4);stroke-dasharray:5 3}
.l5{stroke:var(--c5);stroke-dasharray:9 3 2 3 2 3}
.l6{stroke:var(--c6)}.l7{stroke:var(--c7)}
.plot .o1,.plot .o2,.plot .o4,.plot .orest{fill:#16202a}
@media (prefers-color-scheme:dark){.plot .inside{fill:#11181f}}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;margin:4px 0;padding:0;list-style:none;font-size:14px}
.legend i{display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:7px;vertical-align:-1px}
.legend .bar{width:2px;height:14px;margin:0 11px 0 5px;background:var(--mark);opacity:.62;vertical-align:-2px}
.wide-table{overflow-x:auto;margin:10px 0 14px}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:4px 0 6px}
th,td{text-align:right;vertical-align:top;padding:6px 0 6px 12px;border-bottom:1px solid var(--rule);
overflow-wrap:normal}
th:first-child,td:first-child{text-align:left;padding-left:0;overflow-wrap:anywhere;min-width:9em}
thead th{color:var(--soft);font-weight:600;vertical-align:bottom;border-bottom-color:var(--soft)}
tbody th{font-weight:500}
td small,td .range{display:block;color:var(--soft);font-size:12px}
thead th{font-size:12.5px}
td b{font-weight:500}
td{white-space:nowrap}
tr.aside th,tr.aside td{color:var(--soft)}
tr.whole th,tr.whole td,tr.whole td b{font-weight:700}
dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 20px;margin:10px 0}
dt{font-weight:600}
dd{margin:0;min-width:0}
footer{padding-top:20px;padding-bottom:40px;color:var(--soft);font-size:13.5px}
@media (max-width:760px){
main,header,footer{padding-left:16px;padding-right:16px}
header{padding-top:24px}
.cards{grid-template-columns:1fr 1fr;gap:10px}
.cards b{font-size:21px}
.pair{display:block}
.wide{display:none}.slim{display:block}
dl{display:block}dd{margin-bottom:8px}
}
@media print{
:root{--paper:#fff;--panel:#f1f4f5;--ink:#000;--soft:#3c4650;--rule:#c5ccd1;--c0:#1f6f8b;--c1:#e09f3e;--c2:#7a9e3f;
--c3:#9c4f96;--c4:#2a9d8f;
--c5:#bb4a33;--c6:#5c6bc0;--c7:#8d6e4a;--rest:#98a4ae;--x:#b3382c;--dim:#b9c9d0;--mark:#000}
@page{size:A4;margin:14mm}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
body{font-size:11pt}
main,header,footer{max-width:none;padding:0}
.plot .inside{fill:#fff}.plot .o1,.plot .o2,.plot .o4,.plot .orest{fill:#16202a}
.wide{display:block}.slim{display:none}
.cards{grid-template-columns:repeat(4,1fr)}
.pair{display:grid}
table{font-size:8.5pt}
th,td{padding-left:8px}
td small,td .range{font-size:7.5pt}
.wide-table{overflow:visible}
thead{display:table-header-group}
tr,.cards li{break-inside:avoid}
h2,h3,caption{break-after:avoid}
}
"""
