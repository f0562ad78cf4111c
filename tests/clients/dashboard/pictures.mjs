// Takes the pictures of the documentation: the dashboard, one tenant of it, and `tollgate top` as its terminal showed it.
//
//   node pictures.mjs < ORDER
//
// ORDER is JSON: { url, token, tenant, folder, span, settle_ms, top }, where `top` is what `terminal.py` calls cells. Prints, as JSON, what is in
// the pictures: their colours, the share of the commonest one, and their text.

import { writeFileSync } from "node:fs";
import { text as all } from "node:stream/consumers";
import { crc32, deflateSync } from "node:zlib";

import { open } from "./browser.mjs";

const { url, token, tenant, folder, span, settle_ms = 15_000, top } = JSON.parse(await all(process.stdin));
const { browser, page, errors, until } = await open(30_000, ["--disable-lcd-text"]);
const beside = await browser.newPage();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
// As many charts as there should be, each with a newest value.
const hasFigures = (selector, count) => {
  const values = [...document.querySelectorAll(`${selector} figcaption b:first-of-type + span`)];
  return values.length === count && values.every((value) => /\d/.test(value.textContent));
};
const found = { pictures: {}, text: {}, errors };

// The pixels of a picture, by the browser's own decoder: width, height, and four bytes each.
async function pixels(picture) {
  const read = await beside.evaluate(async (data) => {
    const image = new Image();
    image.src = data;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
    canvas.drawImage(image, 0, 0);
    const bytes = canvas.getImageData(0, 0, image.width, image.height).data;
    const text = [];
    for (let at = 0; at < bytes.length; at += 32768) text.push(String.fromCharCode(...bytes.subarray(at, at + 32768)));
    return { width: image.width, height: image.height, bytes: btoa(text.join("")) };
  }, `data:image/png;base64,${picture}`);
  return { ...read, bytes: Buffer.from(read.bytes, "base64") };
}

// The same with the 256 commonest colours, and each other one as the nearest of them: a third of the bytes, and no eye sees it.
function indexed({ width, height, bytes }) {
  const counts = new Map();
  for (let at = 0; at < bytes.length; at += 4) {
    const colour = bytes.readUIntBE(at, 3);
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const common = [...counts].sort(([, one], [, other]) => other - one).map(([colour]) => colour);
  const palette = common.slice(0, 256);
  const parts = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];
  const away = (one, other) => parts(one).reduce((sum, part, at) => sum + (part - parts(other)[at]) ** 2, 0);
  const nearest = new Map(palette.map((colour, at) => [colour, at]));
  for (const colour of common.slice(256)) {
    nearest.set(colour, palette.reduce((best, other, at) => (away(colour, other) < away(colour, palette[best]) ? at : best), 0));
  }
  const rows = Buffer.alloc((width + 1) * height); // each begins with its filter, which is none
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) rows[y * (width + 1) + 1 + x] = nearest.get(bytes.readUIntBE(4 * (y * width + x), 3));
  }
  const chunk = (name, data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  head.set([8, 3], 8); // eight bits, of a palette (PNG 3, §11.2.1)
  const png = Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), chunk("IHDR", head), chunk("PLTE", Buffer.from(palette.flatMap(parts))),
    chunk("IDAT", deflateSync(rows, { level: 9 })), chunk("IEND", Buffer.alloc(0)),
  ]);
  return { png, colours: counts.size, ground: Math.max(...counts.values()) / (width * height) };
}

async function take(name, of) {
  await page.bringToFront();
  const picture = await of.screenshot({ encoding: "base64" });
  const { png, ...looked } = indexed(await pixels(picture));
  writeFileSync(`${folder}/${name}.png`, png);
  found.text[name] = await page.evaluate(() => document.body.innerText);
  found.pictures[name] = looked;
}

// As a terminal draws it.
function drawn(rows) {
  const escaped = (text) => text.replace(/[&<>]/g, (letter) => `&#${letter.codePointAt(0)};`);
  const kinds = (style) => style.map((word) => word.replace("colour ", "c")).join(" ");
  const lines = rows.map((runs) => runs.map(([text, style]) => `<span class="${kinds(style)}">${escaped(text)}</span>`).join(""));
  return `<!doctype html><meta charset="utf-8"><style>
    body { margin: 0; background: #10151c; width: max-content; }
    pre { margin: 0; padding: 12px 16px; color: #d5dae1; background: #10151c; font: 14px/17px "DejaVu Sans Mono", ui-monospace, monospace; }
    .bold { font-weight: 700; } .dim { opacity: .65; } .reversed { background: #d5dae1; color: #10151c; }
    .c1, .c9 { color: #ff8f87; } .c2, .c10 { color: #5fd08f; } .c3, .c11 { color: #f0bc5e; } .c4, .c12 { color: #8ab8ff; } .c5, .c13 { color: #cba6ff; } .c6, .c14 { color: #6fd3e0; }
    .c3.reversed { background: #f0bc5e; color: #10151c; }
  </style><pre>${lines.join("\n")}</pre>`;
}

try {
  await page.bringToFront(); // one that is behind another draws nothing
  await page.setViewport({ width: 1200, height: 1010 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  await page.evaluateOnNewDocument((span) => { if (location.protocol === "http:") localStorage.setItem("span", span); }, span);

  // A browser that starts keeps this machine busy, which is not what the pictures are about.
  await pause(settle_ms);
  await page.goto(`${url}#token=${token}`);
  // The page is opened now, and has a past at once.
  await until(hasFigures, "#charts figure", 4);
  await until(() => /[1-9]/.test(document.querySelector("#cards dd")?.textContent) && document.querySelectorAll("#tenants tbody tr").length > 5);
  await until(() => [...document.querySelectorAll("#tenants tbody tr")].filter((row) => /[1-9]/.test(row.cells[3].textContent)).length > 4);
  await pause(2500);
  found.charts = (await page.$$("#charts figure canvas")).length;
  found.newest = await page.$$eval("#charts figure", (figures) => Object.fromEntries(figures.map((figure) => [
    figure.getAttribute("aria-label"), figure.querySelector("figcaption span").textContent,
  ])));
  await take("dashboard", page);

  await page.setViewport({ width: 1200, height: 660 });
  await page.evaluate((tenant) => { location.hash = `#/tenants/${tenant}`; }, tenant);
  await until((tenant) => document.querySelector("#one-name").textContent === tenant && document.querySelectorAll("#quotas li").length > 1, tenant);
  await until(hasFigures, "#one-charts figure", 4);
  await pause(500);
  await page.evaluate(() => scrollTo(0, 0));
  await take("dashboard-tenant", page);

  await page.goto("about:blank");
  await page.setContent(drawn(top));
  await take("top", await page.$("pre"));
  console.log(JSON.stringify(found));
} catch (error) {
  console.error(error, errors);
  process.exitCode = 1;
} finally {
  await browser.close();
}
