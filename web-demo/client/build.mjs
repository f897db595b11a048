// Makes dormouse.js, the one file that is published and served, out of src/.
//
//     node build.mjs            writes it
//     node build.mjs --check    fails when it is not what the sources give, or too large
//
// Its size is what a page pays at most: the whole file, gzipped at level 9.

import { readFile, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { rolldown } from "rolldown";

const LIMIT_BYTES = 10_500;
const HERE = new URL(".", import.meta.url);
const TARGET = new URL("dormouse.js", HERE);
/** For Deno; the rest of the file is for machines. */
const HEAD = `// @ts-self-types="./dormouse.d.ts"`;

const bundle = await rolldown({ input: new URL("src/index.js", HERE).pathname, transform: { target: "es2022" } });
const { output } = await bundle.generate({ format: "esm", minify: true, comments: false });
const made = `${HEAD}\n${output[0].code}`;
const size = gzipSync(made, { level: 9 }).length;
if (size > LIMIT_BYTES) fail(`dormouse.js has ${size} bytes gzipped, ${LIMIT_BYTES} are allowed`);
if (process.argv.includes("--check")) {
  const kept = await readFile(TARGET, "utf8").catch(() => "");
  if (kept !== made) fail("dormouse.js is not what src/ gives: run `node build.mjs` in web-demo/client");
} else {
  await writeFile(TARGET, made);
}
console.log(`dormouse.js: ${made.length} bytes, ${size} gzipped`);

function fail(why) {
  console.error(why);
  process.exit(1);
}
