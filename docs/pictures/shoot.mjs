// Takes the pictures: node shoot.mjs JAEGER_ADDRESS FILE_WITH_TERMINAL_OUTPUT FOLDER
import { readFileSync } from "node:fs";
import { join } from "node:path";
import Convert from "ansi-to-html";
import { chromium } from "playwright-core";

const [jaeger, terminal, folder] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

// The turn with most spans.
const page = await browser.newPage({ viewport: { width: 1400, height: 700 } });
const found = `${jaeger}/api/traces?service=codex-app-server&start=0&end=4102444800000000&limit=100`;
const traces = (await (await page.request.get(found)).json()).data;
const trace = traces.reduce((best, it) => (it.spans.length > best.spans.length ? it : best));
await page.goto(`${jaeger}/trace/${trace.traceID}`);
const first = page.locator(".span-row .span-name").first();
await first.waitFor();
await first.click();
const attributes = page.locator(".AccordianKeyValues--header, .AccordionAttributes--header").first();
await attributes.waitFor();
await attributes.click();
// The link that ui.json makes of a thread's id.
const link = page.locator('a[href*="gen_ai.conversation.id"]').first();
await link.waitFor();
console.log(`${traces.length} traces; the thread's link is ${await link.getAttribute("href")}`);
await first.click();
await attributes.waitFor({ state: "detached" });
await page.screenshot({ path: join(folder, "jaeger.png") });

// The prompt, and what it printed up to the advice, which has the paths of this machine.
const printed = readFileSync(terminal, "utf8").replaceAll("\r", "");
const lines = printed.split("\n");
const text = lines.slice(0, lines.findIndex((line) => line.includes("What was written"))).join("\n").trimEnd();
const html = new Convert({ escapeXML: true, fg: "#d4d4d4", bg: "#1e1e1e" }).toHtml(text);
const shown = await browser.newPage({ viewport: { width: 1100, height: 300 }, deviceScaleFactor: 1 });
await shown.setContent(`<body style="margin:0;background:#1e1e1e"><pre style="display:inline-block;margin:0;padding:16px;
  color:#d4d4d4;font:13px/1.35 'DejaVu Sans Mono',monospace"><span style="color:#8fbf6f">$</span> factline demo\n${html}</pre>`);
await shown.locator("pre").screenshot({ path: join(folder, "terminal.png") });
await browser.close();
