// Pages of an origin that is not a gateway's.

import { once } from "node:events";
import { createServer } from "node:http";

/**
 * Serves a few files, `{ path: [type, body] }`, until the test `t` ends, and gives their address.
 * `headers` go with each.
 */
export async function serve(t, files, headers = {}) {
  const server = createServer(({ url }, response) => {
    const [type, body] = files[new URL(url, "http://localhost").pathname] ?? [];
    response.writeHead(body ? 200 : 404, { "content-type": type ?? "text/plain", ...headers }).end(body);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://localhost:${server.address().port}/`;
}
