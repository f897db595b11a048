// The client's close codes are the gateway's, read from its source.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { CLOSE_REASONS, CloseError, DormouseError, RequestError } from "../src/errors.js";

const read = (/** @type {string} */ path) => readFile(new URL(`../../../${path}`, import.meta.url), "utf8");

/** Rows of the gateway's table: code, reason, advice, sentence. */
async function rows() {
  const source = await read("src/protocol/close.rs");
  const found = source.matchAll(/Self::\w+ => row\((\d+), \d+, "(\w+)", (\w+), "([^"]+)"\)/g);
  return Array.from(found, ([, code, reason, advice, sentence]) => ({ code: Number(code), reason, advice: advice.toLowerCase(), sentence }));
}

test("every close reason of the gateway is known, with its advice and its sentence", async () => {
  const all = await rows();
  assert.ok(all.length >= 20, "the table was found");
  const codes = new Set(all.map(({ code }) => code));
  assert.deepEqual(new Set(Object.keys(CLOSE_REASONS).map(Number)), codes);
  for (const code of codes) {
    // Some reasons share a code; the first is what the code is called.
    const { reason, advice, sentence } = /** @type {any} */ (all.find((row) => row.code === code));
    assert.deepEqual(CLOSE_REASONS[code], [reason, advice, sentence]);
    for (const row of all.filter((row) => row.code === code)) assert.equal(row.advice, advice);
  }
});

test("errors have classes, codes and names", () => {
  const close = new CloseError(4508, "taken_over");
  assert.ok(close instanceof DormouseError && close instanceof Error);
  assert.deepEqual([close.name, close.code, close.closeCode, close.advice], ["CloseError", "taken_over", 4508, "never"]);
  assert.equal(new CloseError(4504, "invalid_utf8").code, "invalid_utf8");
  assert.deepEqual([new CloseError(4099).advice, new CloseError(4599).advice], ["later", "never"]);
  assert.ok(new RequestError("too_large", "…") instanceof DormouseError);
});

test("every code is in the page that says what to do", async () => {
  const page = await read("docs/client.md");
  const source = await Promise.all(["address", "connection", "doors", "json", "limits", "log", "outbox", "ephemerals", "room", "surroundings"].map((name) => read(`web-demo/client/src/${name}.js`)));
  const local = source.join("").matchAll(/new DormouseError\("(\w+)"/g);
  const server = await read("src/protocol/v1/server.rs");
  const requests = /pub enum ErrorCode \{([^}]*)\}/.exec(server)?.[1].matchAll(/^ {4}(\w+),/gm) ?? [];
  const slug = (/** @type {string} */ name) => name.replace(/\B[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
  const codes = [...Array.from(local, ([, code]) => code), ...Array.from(requests, ([, name]) => slug(name))];
  assert.ok(codes.length >= 15, `${codes}`);
  for (const code of codes) assert.ok(page.includes(`| \`${code}\` |`), `${code} is not in docs/client.md`);
  for (const code of Object.keys(CLOSE_REASONS)) assert.ok(page.includes(`| ${code} |`), `${code} is not in docs/client.md`);
});
