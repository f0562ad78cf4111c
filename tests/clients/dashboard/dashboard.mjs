// Drives the operators' page in a headless Chromium, as an operator would, and prints what it found as JSON.
//
//   node dashboard.mjs URL TOKEN TENANT PROCESS [FOLDER FOR PICTURES]
//
// It enters with the token, waits for figures, searches, sorts, opens TENANT, suspends and resumes it by the keyboard, stops
// the gateway's PROCESS for a while, and asks axe-core in light, dark and at a phone's width.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { open, require } from "./browser.mjs";

const [url, token, tenant, gateway, pictures] = process.argv.slice(2);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const { browser, page, errors, until } = await open(20_000);

const text = (selector) => page.$eval(selector, (found) => found.textContent);
const rows = () => page.$$eval("#tenants tbody tr", (all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));
const found = { axe: {} };

async function look(name) {
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: name !== "phone-tall" });
  // The page's CSP forbids foreign scripts, including the test's, so the debugger injects axe-core.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  found.axe[name] = violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map((node) => node.html.slice(0, 120)) }));
}

try {
  await page.setViewport({ width: 1400, height: 1000 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);

  // A wrong token is reported, and the right one opens the page.
  await page.goto(url);
  await page.type("#token", "wrong");
  await page.keyboard.press("Enter");
  await until(() => document.querySelector("#refused").textContent.includes("not the gateway's"));
  await look("enter");
  await page.type("#token", token);
  await page.keyboard.press("Enter");
  await until(() => document.querySelector("#touch").dataset.state === "live");
  await until(() => document.querySelectorAll("#tenants tbody tr").length > 0);
  await until(() => /[1-9]/.test(document.querySelector("#cards dd").textContent));
  found.cards = await page.$$eval("#cards > div", (all) => all.map((box) => box.textContent));
  found.total = await text("#found");
  await new Promise((resolve) => setTimeout(resolve, Number(process.env.WATCH_MS ?? 2500)));
  await look("light");
  // The first second that the page is told has rates: the gateway counted before somebody watched.
  assert.ok(await page.evaluate(() => state.ticks[0].requests_per_second > 0), "the first second says nothing");

  // Warnings are amber and nothing is red, wherever they are counted: on the card, in the table, and in the list.
  const amber = await page.evaluate(() => {
    const made = document.createElement("i");
    made.className = "warn";
    document.body.append(made);
    const { color } = getComputedStyle(made);
    made.remove();
    return color;
  });
  for (const place of ["#cards .warn", "#tenants tbody .warn", "#problems .warn"]) {
    await page.waitForSelector(place);
    assert.equal(await page.$eval(place, (found) => getComputedStyle(found).color), amber, place);
  }
  assert.deepEqual(await page.$$eval("#cards .bad, #tenants tbody .bad, #problems .bad", (all) => all.map((one) => one.textContent)), []);

  // The grids of cards and of charts have no hole in their last row, at any width. A chart covers the whole span from the start.
  const isFull = (selector) => {
    const rows = Map.groupBy(document.querySelectorAll(selector), (one) => Math.round(one.getBoundingClientRect().top));
    const counts = [...rows.values()].map((row) => row.length);
    return counts.length > 0 && counts.every((count) => count === counts[0]);
  };
  for (const width of [1500, 1400, 1200, 1000, 700, 500]) {
    await page.setViewport({ width, height: 1000 });
    for (const grid of ["#cards > div", "#charts figure"]) await until(isFull, grid);
  }
  await page.setViewport({ width: 1400, height: 1000 });
  for (const [span, seconds] of [["5m", 300], ["1h", 3600]]) {
    await page.click(`#whole [data-span="${span}"]`);
    assert.equal(await page.$eval(`#whole [data-span="${span}"]`, (button) => button.getAttribute("aria-pressed")), "true");
    assert.equal(await page.evaluate(() => Math.round(charts.drawn[0].scales.x.max - charts.drawn[0].scales.x.min)), seconds);
  }

  // Sort by name, both ways.
  const byName = "#tenants th[data-sort=id] button";
  await page.click(byName);
  await until(() => document.querySelector("th[data-sort=id]").getAttribute("aria-sort") === "ascending");
  await until(() => {
    const names = [...document.querySelectorAll("#tenants tbody a")].map((link) => link.textContent);
    return names.join() === names.toSorted().join();
  });
  const up = await rows();
  await page.click(byName);
  const first = up[0][0];
  await until((first) => document.querySelector("#tenants tbody a").textContent !== first, first);
  const down = await rows();
  assert.deepEqual(down.map((row) => row[0]), down.map((row) => row[0]).toSorted().toReversed());

  // Search from the keyboard. Measures how long the page takes to show the answer, in ms.
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("/");
  const before = performance.now();
  await page.keyboard.type(tenant);
  await until((tenant) => {
    const links = [...document.querySelectorAll("#tenants tbody a")];
    return links.length > 0 && links.every((link) => link.textContent.includes(tenant));
  }, tenant);
  found.search_ms = Math.round(performance.now() - before);
  assert.ok((await rows()).some((row) => row[0] === tenant));

  // Open, suspend and resume, by the keyboard alone.
  // The list may be redrawn between focus and key, which takes the focus away: then try again.
  for (let tries = 0; tries < 5; tries++) {
    await page.focus(`#tenants tbody a[href="#/tenants/${tenant}"]`);
    await page.keyboard.press("Enter");
    const opened = page.waitForFunction((hash) => location.hash === hash, { timeout: 3_000 }, `#/tenants/${tenant}`);
    if (await opened.then(() => true, () => false)) break;
  }
  await until((tenant) => document.querySelector("#one-name").textContent === tenant && document.querySelector("#steer").textContent, tenant);
  await until(() => document.querySelector("#one-name").getBoundingClientRect().top >= document.querySelector("header").getBoundingClientRect().bottom);
  await until(() => document.querySelector("#logs").textContent.length > 0);
  found.logs = (await text("#logs")).split("\n")[0];
  await look("tenant");
  for (const [button, standing] of [["Suspend", "suspended"], ["Resume", "serving"]]) {
    await until((button) => document.querySelector("#steer").textContent === button, button);
    await page.focus("#steer");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#sure[open]");
    assert.equal(await page.evaluate(() => document.activeElement.value), "no", "the harmless answer is at hand");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await until((standing) => document.querySelector("#one-standing b").textContent === standing, standing);
  }
  found.steered = await text("#steered");
  // Escape answers the question with no, whatever was answered before.
  await page.focus("#steer");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#sure[open]");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#sure:not([open])");
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(await text("#one-standing b"), "serving");
  await page.goBack();
  await until(() => !document.querySelector("#whole").hidden);
  await until((tenant) => document.querySelector("#changes").textContent.includes(`${tenant}/suspend`), tenant);

  // The dark theme, and a phone's screen.
  await page.click("#theme");
  await until(() => document.documentElement.dataset.theme === "dark");
  await page.evaluate(() => { document.querySelector("#search").value = ""; document.querySelector("#search").dispatchEvent(new Event("input")); });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await look("dark");
  await page.setViewport({ width: 390, height: 844, isMobile: true, hasTouch: true, deviceScaleFactor: 2 });
  await until(() => document.querySelectorAll("#charts canvas").length === 4);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await look("phone");
  found.phone_overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

  // What the page costs its browser: frames per second while the list is refreshed.
  found.frames = await page.evaluate(() => new Promise((resolve) => {
    let [count, worst, last] = [0, 0, performance.now()];
    const begun = last;
    const frame = (now) => {
      [worst, last] = [Math.max(worst, now - last), now];
      count += 1;
      if (now - begun < 4000) requestAnimationFrame(frame);
      else resolve({ per_second: Math.round((1000 * count) / (now - begun)), worst_ms: Math.round(worst) });
    };
    requestAnimationFrame(frame);
  }));

  // The gateway is stopped, and the page says so.
  process.kill(Number(gateway), "SIGSTOP");
  await until(() => document.querySelector("#touch").dataset.state === "lost");
  found.lost = await text("#touch");
  process.kill(Number(gateway), "SIGCONT");
  await until(() => document.querySelector("#touch").dataset.state === "live");
  found.errors = errors.filter((error) => !/401|Failed to load/.test(error));
  console.log(JSON.stringify(found));
} catch (error) {
  if (pictures) await page.screenshot({ path: `${pictures}/failed.png`, fullPage: true });
  console.error(error, errors);
  process.exitCode = 1;
} finally {
  await browser.close();
}
