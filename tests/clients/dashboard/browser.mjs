// Starts a headless Chromium with one page. CHROMIUM says which browser; TOLLGATE_DASHBOARD_MODULES is the folder of its driver.

import { createRequire } from "node:module";

export const require = createRequire(`${process.env.TOLLGATE_DASHBOARD_MODULES ?? import.meta.dirname}/`);

// Returns the browser, the page, the errors that the page reports, and `until`, which waits for something to become true in the page.
export async function open(timeout_ms, more = []) {
  const browser = await require("puppeteer-core").launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", ...more],
  });
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(`${error}`));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.setDefaultTimeout(timeout_ms);
  const until = (what, ...given) => page.waitForFunction(what, { polling: 50 }, ...given);
  return { browser, page, errors, until };
}
