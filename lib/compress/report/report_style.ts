/** The style sheet of reports, for light and dark screens and for paper. */
export const reportStyle = `
:root{--paper:#fff;--ink:#1c2330;--quiet:#5d6878;--rule:#e1e5eb;--s0:#1f6fb2;--s1:#c25b12;--s2:#2f8f5b;--s3:#8a4fae}
@media (prefers-color-scheme:dark){:root{--paper:#14181f;--ink:#e6eaf0;--quiet:#98a3b3;--rule:#2b323d;--s0:#62a8e5;--s1:#eb9250;--s2:#5cc08b;--s3:#bd8be0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1000px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:21px;overflow-wrap:anywhere}h2{font-size:17px;margin:36px 0 10px;padding-bottom:4px;border-bottom:1px solid var(--rule)}h3{font-size:15px;margin:18px 0 6px}
.facts{display:flex;flex-wrap:wrap;gap:12px 36px;margin:14px 0}.fact b{display:block;font-size:24px}.fact span,.note{color:var(--quiet);font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:18px}
figure{margin:0}figcaption{font-weight:600;font-size:14px}svg{width:100%;height:auto;display:block}
.grid{stroke:var(--rule)}.tick,.label{fill:var(--quiet);font-size:12px}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.line.series0{stroke:var(--s0)}.line.series1{stroke:var(--s1)}.line.series2{stroke:var(--s2)}.line.series3{stroke:var(--s3)}
.dot.series0{fill:var(--s0)}.dot.series1{fill:var(--s1)}.dot.series2{fill:var(--s2)}.dot.series3{fill:var(--s3)}
.legend{margin:2px 0;font-size:13px}.legend span{margin-right:14px}.legend .series0{color:var(--s0)}.legend .series1{color:var(--s1)}.legend .series2{color:var(--s2)}.legend .series3{color:var(--s3)}
.table{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th{text-align:left;color:var(--quiet);font-weight:600}td,th{padding:3px 14px 3px 0;border-bottom:1px solid var(--rule);white-space:nowrap}
.bar{display:inline-block;width:90px;height:9px;margin-right:8px;background:var(--rule);border-radius:2px}.bar i{display:block;height:100%;border-radius:2px}.bar .series0{background:var(--s0)}.bar .series1{background:var(--s1)}
pre{background:color-mix(in srgb,var(--rule) 45%,transparent);padding:12px;overflow-x:auto;font-size:13px}
summary{cursor:pointer;color:var(--quiet)}
@media print{details:not([open])>:not(summary){display:none}}
`;
