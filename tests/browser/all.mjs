// The client and the demo page in real browsers, against the built binary.
//
//     node --test-reporter=spec tests/browser/all.mjs [--update-docs]
//
// DORMOUSE_BIN, CHROMIUM and FIREFOX name other binaries than the usual ones. Pictures of the page
// go to tests/browser/screenshots/; with --update-docs the README's picture is taken anew, too.
// `--test-name-pattern` chooses among the tests.

import "./looks.mjs";
import "./engines.mjs";
import "./chat.mjs";
import "./company.mjs";
import "./promises.mjs";
import "./examples.mjs";
import "./refusals.mjs";
import "./strict-mode.mjs";
import "./doors.mjs";
import "./proxies.mjs";
import { run } from "./stage.mjs";

run();
